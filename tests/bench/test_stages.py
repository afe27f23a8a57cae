"""The functions whose time the benches of whole paths measure exist under these names."""

import pytest

from bench.peers import measures, paths


@pytest.mark.parametrize("places", [paths.FASTRDM_STAGES, measures.STAGES])
def test_each_stage_is_a_function(places):
    assert all(callable(getattr(owner, name)) for owner, name in places)
