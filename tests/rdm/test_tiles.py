"""RDMs within a bound of memory."""

import contextlib
import os
import re
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
import reference
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist
from scipy.stats import rankdata

from fastrdm import calc_rdm, square
from fastrdm.rdm import tiles

N_CHANNELS = 300
PRECISION = np.diag(np.linspace(0.5, 2, N_CHANNELS))
METHODS = {
    "correlation": {},
    "cosine": {},
    "sqeuclidean": {},
    "euclidean": {},
    "spearman": {},
    "mahalanobis": {"precision": PRECISION},
    "crossnobis": {"folds": np.repeat(np.arange(3), 31)},
}
methods = pytest.mark.parametrize("method, options", METHODS.items(), ids=METHODS)


def activations(shape, seed=0, dtype=np.float32):
    x = np.random.default_rng(seed).standard_exponential(shape)
    return (x * 100 if np.dtype(dtype).kind == "i" else x > 1 if dtype is bool else x).astype(dtype)


def least(x, method, **options):
    with pytest.raises(ValueError, match="is too small for") as error:
        calc_rdm(x, method, max_memory=1, **options)
    return int(re.search(r"the minimum is (\d+) bytes", str(error.value))[1])


@contextlib.contextmanager
def of_height(height):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "_height", lambda source, *_: min(height, source.n_conditions))
        yield


@methods
def test_the_bound_does_not_change_the_answer(kernels, method, options):
    x = activations((93, N_CHANNELS))
    expected = calc_rdm(x, method, **options)
    lowest = least(x, method, **options)
    for bound in (lowest + 300_000, lowest + 2_000_000, "2 GiB"):
        found = calc_rdm(x, method, max_memory=bound, **options)
        np.testing.assert_array_equal(found, expected)


def test_the_minimum_suffices():
    x = activations((40, N_CHANNELS))
    for method in ("correlation", "euclidean", "spearman"):
        found = calc_rdm(x, method, max_memory=least(x, method))
        np.testing.assert_allclose(found, calc_rdm(x, method), rtol=1e-6, atol=1e-6)


@methods
@pytest.mark.parametrize(
    "dtype", [np.float16, ml_dtypes.bfloat16, np.float64, ">f4", np.int16, bool]
)
def test_every_type(method, options, dtype):
    x = activations((93, N_CHANNELS), 1, dtype)
    expected = calc_rdm(x, method, **options)
    with of_height(40):
        found = calc_rdm(x, method, max_memory="1GB", **options)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


ORACLES = {
    "correlation": reference.calc_rdm,
    "cosine": lambda x: pdist(x, "cosine"),
    "sqeuclidean": lambda x: pdist(x, "sqeuclidean"),
    "euclidean": pdist,
    "spearman": lambda x: reference.calc_rdm(rankdata(x, axis=1)),
}


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.sampled_from(sorted(ORACLES)),
    st.integers(2, 60),
    st.integers(2, 900),
    st.integers(1, 61),
    st.sampled_from("CF"),
    st.integers(0, 9999),
)
def test_tiles_and_stripes_do_not_change_the_answer(kernels, method, n, c, height, order, seed):
    x = np.asarray(activations((n, c), seed) + 5, order=order)
    with of_height(height):
        found = calc_rdm(x, method, max_memory="1GB")
    np.testing.assert_allclose(found, ORACLES[method](x.astype(np.float64)), rtol=2e-5, atol=2e-6)


def test_near_conditions_keep_their_digits_across_tiles(kernels):
    x = activations((20, 900), 2) + 100
    x[17] = x[3]
    x[18, 5] = x[3, 5] + 1e-3
    x[18, :5], x[18, 6:] = x[3, :5], x[3, 6:]
    with of_height(6):
        rdm = square(calc_rdm(x, "euclidean", max_memory="1GB"))
    assert rdm[3, 17] == 0
    np.testing.assert_allclose(rdm[3, 18], np.float64(x[18, 5]) - x[3, 5], rtol=1e-6)


@pytest.mark.parametrize("method", ["correlation", "cosine"])
@pytest.mark.parametrize(
    "dtype, scales", [(np.float32, (1e-38, 1, 1e30)), (np.float64, (1e-300, 1, 1e300))]
)
def test_tiles_of_any_scale(kernels, method, dtype, scales):
    x = activations((12, 300), 3, np.float64)
    scaled = (x * np.repeat(scales, 4)[:, None]).astype(dtype)
    with of_height(4):
        found = calc_rdm(scaled, method, max_memory="1GB")
    np.testing.assert_allclose(found, ORACLES[method](x), atol=2e-6)


def test_tiles_whose_means_the_sample_misses(kernels):
    x = activations((12, 5000), 3)
    x[6:, 2000:2100] += 1e5
    with of_height(6):
        np.testing.assert_allclose(calc_rdm(x, max_memory="1GB"), reference.calc_rdm(x), atol=1e-6)


def test_constant_conditions_of_all_tiles_are_named_once():
    x = activations((9, 50))
    x[1], x[7] = 2, 0
    with (
        of_height(3),
        pytest.warns(RuntimeWarning, match="constant over channels.*: 1, 7$") as caught,
    ):
        rdm = square(calc_rdm(x, max_memory="1GB"))
    assert len(caught) == 1
    assert np.isnan(rdm[1, [0, 2, 7]]).all() and np.isnan(rdm).sum() == 30


def test_a_stack_keeps_to_the_limit():
    x = activations((9, 50))
    x[4] = 1
    with pytest.warns(RuntimeWarning, match=r"activations\[1\]: .*: 4$"):
        found = calc_rdm([x[:, :1] * np.arange(1, 4) + np.eye(9)[:, :3], x], max_memory="100MB")
    assert found.shape == (2, 36) and np.isnan(found[1]).sum() == 8


@methods
def test_nan_is_located_in_every_tile(method, options):
    x = activations((93, N_CHANNELS))
    x[70, 200] = np.nan
    row = "measurement" if method == "crossnobis" else "condition"
    with of_height(10), pytest.raises(ValueError, match=f"NaN at {row} 70, channel 200"):
        calc_rdm(x, method, max_memory="1GB", **options)


def test_distances_beyond_float64():
    x = activations((6, 9), 0, np.float64)
    x[4:] *= 1e200
    with of_height(2), pytest.raises(ValueError, match="squares leave the range of float64"):
        calc_rdm(x, "euclidean", max_memory="1GB")


def test_axes_that_need_a_copy_are_refused_with_a_limit():
    x = activations((9, 4, 5))
    expected = calc_rdm(x)
    np.testing.assert_allclose(calc_rdm(x, max_memory="9MB"), expected)
    np.testing.assert_allclose(calc_rdm(np.asfortranarray(x)), expected)
    with pytest.raises(
        ValueError, match=r"shape \(9, 4, 5\) and strides .* need a copy of the whole array"
    ):
        calc_rdm(np.asfortranarray(x), max_memory="9MB")


def test_files_in_files_out(tmp_path):
    x = activations((70, 300))
    np.save(tmp_path / "x.npy", x)
    out = np.lib.format.open_memmap(tmp_path / "rdm.npy", "w+", np.float64, (70 * 69 // 2,))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert calc_rdm(mapped, out=out, max_memory="4MB") is out
    out.flush()
    np.testing.assert_allclose(np.load(tmp_path / "rdm.npy"), reference.calc_rdm(x), atol=1e-6)
    read_only = np.load(tmp_path / "rdm.npy", mmap_mode="r")
    with pytest.raises(ValueError, match="out is read-only; open a memory map with mode 'r\\+'"):
        calc_rdm(mapped, out=read_only, max_memory="4MB")


GROWTH = """
import resource, sys
import numpy as np
from fastrdm import calc_rdm

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

method, dtype, bound, n_rows = sys.argv[1], sys.argv[2], int(sys.argv[3]), 1200
rng = np.random.default_rng(0)
n_channels = 600 if method == "mahalanobis" else 8_000
options = {}
if method == "mahalanobis":
    options["precision"] = np.eye(n_channels)
if method == "crossnobis":
    options["folds"] = np.repeat([1, 2], n_rows // 2)
x = np.empty((n_rows, n_channels), dtype)
for row in x:
    row[:] = rng.random(n_channels)
n = n_rows // 2 if method == "crossnobis" else n_rows
out = np.ones(n * (n - 1) // 2)
calc_rdm(rng.random((8, 64)), "spearman")
before = peak()
calc_rdm(x, method, out=out, max_memory=bound, n_threads=2, **options)
assert np.isfinite(out).all()
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read as Linux counts it")
@pytest.mark.parametrize(
    "method, dtype, bound",
    [
        ("correlation", "f4", 8 << 20),
        ("correlation", "f2", 12 << 20),
        ("euclidean", "f4", 8 << 20),
        ("spearman", "f4", 20 << 20),
        ("mahalanobis", "f4", 48 << 20),
        ("crossnobis", "f8", 20 << 20),
    ],
)
def test_memory_stays_within_the_bound(method, dtype, bound):
    """Return the growth of a separate process after input and output exist."""
    result = subprocess.run(
        [sys.executable, "-c", GROWTH, method, dtype, str(bound)],
        env=os.environ | {"FASTRDM_KERNELS": "cpp"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    # 2 MiB: what the allocator keeps, and the stacks of threads.
    assert int(result.stdout) <= bound + (2 << 20)
