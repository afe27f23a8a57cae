"""Large RDMs: the scores and ceilings of small ones, in little memory."""

import subprocess
import sys
import textwrap

import h5py
import numpy as np
import pytest
import reference

from fastrdm import Protocol, Target, noise_ceiling, square
from fastrdm.similarity import numerics

PAIRS = 190
rng = np.random.default_rng(0)
RDMS = rng.random((5, PAIRS)) + rng.random(PAIRS)
RDMS[:, 11:15] = RDMS[:, 10:11]
MODELS = rng.random((3, PAIRS))


def custom(method, pool="raw", **options):
    options = {"squared": True, "bound": "upper", "source": "here"} | options
    return Protocol("mine", method, pool=pool, **options)


def with_gaps(rdms, policy):
    rdms = rdms.copy()
    if policy != "raise":
        rdms[1, ..., 5:9] = rdms[2, ..., 0] = np.nan
    return rdms


@pytest.fixture
def large(monkeypatch):
    """Treat all RDMs as large from a call on."""
    return lambda: monkeypatch.setattr(numerics, "_LARGE", 0)


def results(rdms, protocol, policy):
    target = Target(rdms, protocol, nan_policy=policy)
    models = with_gaps(MODELS, policy)
    ceiling = target.noise_ceiling
    return target.score(models).rho, ceiling.lower_per_subject, ceiling.upper_per_subject


@pytest.mark.parametrize("policy", ["raise", "omit", "propagate"])
@pytest.mark.parametrize("pool", ["raw", "rank"])
@pytest.mark.parametrize("method", reference.METHODS)
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_large_rdms_have_the_results_of_small_ones(large, kind, method, pool, policy):
    rdms = with_gaps(RDMS, policy).astype(kind)
    small = results(rdms, custom(method, pool), policy)
    large()
    exact = kind is np.float64 and "cov" not in method
    for one, other in zip(small, results(rdms, custom(method, pool), policy), strict=True):
        np.testing.assert_allclose(other, one, rtol=0, atol=0 if exact else 1e-14)


@pytest.mark.parametrize("method", ["spearman", "kendall", "corr"])
@pytest.mark.parametrize("average", [False, True])
def test_several_times(large, method, average):
    rdms = np.stack([RDMS, RDMS[::-1] + RDMS], axis=1)
    protocol = custom(method, average_times=average)
    small = results(rdms, protocol, "raise")
    large()
    for one, other in zip(small, results(rdms, protocol, "raise"), strict=True):
        np.testing.assert_array_equal(other, one)


@pytest.mark.parametrize("method", ["spearman", "kendall", "corr", "cosine"])
def test_a_constant_subject_of_a_ceiling(large, method):
    rdms = RDMS.copy()
    rdms[2] = 0
    for pool in ("raw", "rank"):
        with pytest.warns(RuntimeWarning, match="the first is subject 2"):
            small = noise_ceiling(rdms, method, pool=pool)
        with pytest.MonkeyPatch.context() as patch, pytest.warns(RuntimeWarning, match="subject 2"):
            patch.setattr(numerics, "_LARGE", 0)
            found = noise_ceiling(rdms, method, pool=pool)
        np.testing.assert_array_equal(found.lower_per_subject, small.lower_per_subject)
        np.testing.assert_array_equal(found.upper_per_subject, small.upper_per_subject)


@pytest.mark.parametrize("scale", [1e300, 1e-300])
def test_extreme_numbers(large, scale):
    for method in ("spearman", "corr", "cosine"):
        for pool in ("raw", "rank"):
            small = results(RDMS * scale, custom(method, pool), "raise")
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(numerics, "_LARGE", 0)
                again = results(RDMS * scale, custom(method, pool), "raise")
            for one, other in zip(small, again, strict=True):
                np.testing.assert_allclose(other, one, rtol=0, atol=1e-15)


def forms(folder, rdms):
    """The same RDMs in every form that is read without a copy of all."""
    np.save(folder / "rdms.npy", rdms)
    with h5py.File(folder / "rdms.h5", "w") as file:
        file["rdms"] = rdms
        file.create_dataset("chunks", data=rdms, chunks=True, compression="gzip")
    file = h5py.File(folder / "rdms.h5")
    return {
        "memory": rdms,
        "a map": np.load(folder / "rdms.npy", mmap_mode="r"),
        "a map for changes": np.load(folder / "rdms.npy", mmap_mode="r+"),
        "a private map": np.load(folder / "rdms.npy", mmap_mode="c"),
        "HDF5": file["rdms"],
        "HDF5 in chunks": file["chunks"],
        "a list": list(rdms),
        "square": square(rdms),
    }


@pytest.mark.parametrize("method", ["spearman", "corr"])
def test_every_form_has_the_same_results(large, tmp_path, method):
    rdms = RDMS.astype(np.float32)
    large()
    expected = Target(rdms, custom(method)).score(MODELS).rho
    for form, given in forms(tmp_path, rdms).items():
        target = Target(given, custom(method))
        np.testing.assert_array_equal(target.score(MODELS).rho, expected, err_msg=form)
        assert not np.may_share_memory(target.subject_rdms, np.asarray(given)), form


def test_changes_of_a_private_map_are_kept(large, tmp_path):
    np.save(tmp_path / "rdms.npy", RDMS)
    private = np.load(tmp_path / "rdms.npy", mmap_mode="c")
    private[0, 0] = 7.0
    large()
    Target(private, custom("spearman"))
    assert private[0, 0] == 7.0


@pytest.mark.parametrize("method", reference.METHODS)
def test_large_targets_are_saved(large, tmp_path, method):
    large()
    target = Target(RDMS.astype(np.float32), custom(method))
    target.save(tmp_path / "t")
    loaded = Target.load(tmp_path / "t")
    assert loaded.subject_rdms.dtype == np.float32
    assert loaded.sha256 == target.sha256 == Target(RDMS.astype(np.float32)).sha256
    np.testing.assert_array_equal(loaded.score(MODELS).rho, target.score(MODELS).rho)


PEAK = """
    import sys
    import numpy as np
    from fastrdm import Protocol, Target

    def resident(field):
        with open("/proc/self/status") as file:
            return next(1024 * int(line.split()[1]) for line in file if line.startswith(field))

    path, method, policy = sys.argv[1:]
    protocol = Protocol("mine", method, squared=True, pool="raw", bound="upper", source="here")
    rdms = np.load(path, mmap_mode="r")
    # Imports, threads and buffers that do not depend on the size.
    Target(np.array(rdms[:, : 1450 * 1449 // 2]), protocol, nan_policy=policy)
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    before = resident("VmRSS")
    Target(rdms, protocol, nan_policy=policy)
    print(resident("VmHWM") - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read as Linux counts it")
@pytest.mark.parametrize("method", ["spearman", "corr"])
@pytest.mark.parametrize("policy", ["raise", "omit"])
def test_a_target_takes_at_most_two_and_a_half_times_its_input(tmp_path, method, policy):
    generator = np.random.default_rng(0)
    rdms = generator.random((4, 2200 * 2199 // 2), np.float32)
    rdms += rdms[:1]
    if policy == "omit":
        rdms[1, 3:50] = np.nan
    np.save(tmp_path / "rdms.npy", rdms)
    run = [sys.executable, "-c", textwrap.dedent(PEAK), tmp_path / "rdms.npy", method, policy]
    peak = int(subprocess.run(run, capture_output=True, text=True, check=True).stdout)
    # Threads, the allocator and blocks of columns take a share of so small an input.
    assert peak < 2.5 * rdms.nbytes + (20 << 20)
