"""Objects of other libraries that are no arrays are refused with what to pass in their place."""

from types import SimpleNamespace

import numpy as np
import pytest

import fastrdm
from fastrdm._base import as_floats


def objects():
    """Return names of what holds the numbers, and objects as the libraries have them."""
    yield "x.dissimilarities", SimpleNamespace(dissimilarities=1, pattern_descriptors={})
    yield "x.measurements", SimpleNamespace(measurements=1, obs_descriptors={})
    yield "x.to_df", SimpleNamespace(X=1, obs=1, var_names=[])
    yield "fastrdm.searchlight.from_volume", SimpleNamespace(dataobj=1, affine=np.eye(4))
    yield "x.get_data", SimpleNamespace(get_data=1, info={})
    yield "x.rdm", fastrdm.gram(np.eye(3))
    yield "x.rdms", fastrdm.StoredRdms(np.ones((1, 3)))


@pytest.mark.parametrize(("advice", "given"), list(objects()), ids=lambda each: str(each)[:30])
def test_an_object_is_named_with_what_to_pass(advice, given):
    message = rf"^x is an object of type {type(given).__name__} \(.*\), not an array; pass {advice}"
    with pytest.raises(ValueError, match=message):
        as_floats(given, "x")
    with pytest.raises(ValueError, match=r"^x\[0\] is an object of type"):
        as_floats([given, given], "x")


def test_a_real_object_of_rsatoolbox():
    rsatoolbox = pytest.importorskip("rsatoolbox")
    rdms = rsatoolbox.rdm.RDMs(np.ones((2, 3)))
    with pytest.raises(ValueError, match="type RDMs .rsatoolbox., not an array; pass rdms1.dissim"):
        fastrdm.compare(rdms, np.arange(3))


def test_a_path_is_refused(tmp_path):
    for path in ("layer.npy", tmp_path / "layer.npy"):
        with pytest.raises(
            ValueError, match=r"^activations is '.*layer.npy', not an array; read a"
        ):
            fastrdm.calc_rdm(path)
