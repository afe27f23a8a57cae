"""Subject RDMs → noise ceiling."""

import pytest
import reference

from bench.peers import contenders as peers
from bench.tasks import rdms


@pytest.mark.benchmark(group="noise ceiling, 15 subjects, 118 conditions, spearman")
@pytest.mark.parametrize(
    "contender",
    peers.contenders(peers.fastrdm_ceiling, peers.SCIPY_CEILING, peers.RSATOOLBOX_CEILING),
    indirect=True,
)
def test_ceiling(contender, timed):
    """Both bounds as rsatoolbox defines them: ranks pooled, not squared."""
    subjects = rdms.subjects()
    truth = reference.noise_ceiling(subjects[:, None], "spearman", pool="rank", squared=False)
    timed(subjects, truth=truth, targets={"rsatoolbox": 100, "fastrdm cpp-avx2, by numba": 6})
