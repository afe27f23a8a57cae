"""RDMs on a device: similarities and scores of the host; here the CPU is the device."""

import pickle
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastrdm
from fastrdm.similarity import device_sides
from tests import reference
from tests.shared_array import SharedArray

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.usefixtures("as_device")

ON_DEVICE = ("spearman", "rho-a", "corr", "pearson", "cosine")
RNG = np.random.default_rng(0)
RDMS, OTHERS = RNG.random((5, 91)), RNG.random((4, 91))


@pytest.fixture
def computed(monkeypatch):
    """The shapes of RDMs that the device prepared."""
    shapes, prepare = [], device_sides._prepared

    def recorded(method, rows, *arguments):
        shapes.append(tuple(rows.shape))
        return prepare(method, rows, *arguments)

    monkeypatch.setattr(device_sides, "_prepared", recorded)
    return shapes


@pytest.mark.parametrize("method", ON_DEVICE)
def test_similarities_are_right(method, computed):
    name = {"pearson": "corr"}.get(method, method)
    expected = [[reference_of(name)(a, b) for b in OTHERS] for a in RDMS]
    for first, second in (
        (torch.tensor(RDMS), torch.tensor(OTHERS)),
        (torch.tensor(RDMS), OTHERS),
        (RDMS, torch.tensor(OTHERS)),
        (SharedArray(RDMS), SharedArray(OTHERS)),
    ):
        found = fastrdm.compare(first, second, method)
        np.testing.assert_allclose(found, expected, atol=1e-13)
        assert computed == [(4, 91), (5, 91)]
        computed.clear()
    one = fastrdm.compare(torch.tensor(RDMS[0]), torch.tensor(OTHERS), method)
    np.testing.assert_allclose(one, expected[:1], atol=1e-13)


def reference_of(method):
    """A plain similarity of two RDMs."""
    if method in ("rho-a", "cosine"):
        return {"rho-a": reference.rho_a, "cosine": reference.cosine}[method]
    return lambda a, b: reference.compare(a[None], b[None], method)[0, 0]


@pytest.mark.parametrize("method", ["spearman", "rho-a"])
@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    n=st.integers(3, 40),
    n_values=st.sampled_from([2, 3, 30, 10**6]),
    dtype=st.sampled_from(["float64", "float32", "int32"]),
    seed=st.integers(0, 10**6),
)
def test_similarities_of_ranks_have_the_bits_of_the_host(method, n, n_values, dtype, seed):
    rng = np.random.default_rng(seed)
    shape = (2, n * (n - 1) // 2)
    first, second = (rng.integers(-n_values, n_values, shape).astype(dtype) for _ in range(2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = fastrdm.compare(first, second, method)
        found = fastrdm.compare(torch.tensor(first), torch.tensor(second), method)
    np.testing.assert_array_equal(found, expected)


def test_signed_zeros_tie():
    rdm = np.array([[0.0, -0.0, 1, 2, -1, 3]])
    other = RNG.random((1, 6))
    expected = fastrdm.compare(rdm, other)
    np.testing.assert_array_equal(fastrdm.compare(torch.tensor(rdm), other), expected)


@pytest.mark.parametrize("method", ["tau-a", "tau-b", "corr_cov", "cosine_cov"])
def test_other_methods_are_computed_on_the_host(method, computed):
    expected = fastrdm.compare(RDMS, OTHERS, method)
    found = fastrdm.compare(torch.tensor(RDMS), torch.tensor(OTHERS), method)
    np.testing.assert_array_equal(found, expected)
    assert not computed


@pytest.mark.parametrize("method", ["spearman", "corr", "cosine"])
@pytest.mark.parametrize("nan_policy", ["omit", "propagate"])
def test_missing_values_are_left_to_the_host(method, nan_policy):
    bad = RDMS.copy()
    bad[1, 3] = np.nan
    expected = fastrdm.compare(bad, OTHERS, method, nan_policy=nan_policy)
    found = fastrdm.compare(torch.tensor(bad), OTHERS, method, nan_policy=nan_policy)
    np.testing.assert_array_equal(found, expected)


def test_errors_and_warnings_are_those_of_the_host():
    bad = RDMS.copy()
    bad[1, 3] = np.nan
    with pytest.raises(ValueError, match=r"^rdms2 has a value .*: NaN at RDM 1, pair 3$"):
        fastrdm.compare(torch.tensor(OTHERS), torch.tensor(bad))
    bad[1, 3] = np.inf
    with pytest.raises(ValueError, match=r"^rdms1 has a value .*: infinity at RDM 1, pair 3$"):
        fastrdm.compare(torch.tensor(bad), torch.tensor(OTHERS), "corr")
    with pytest.raises(ValueError, match=r"^rdms1 has 91 pairs .* and rdms2 78"):
        fastrdm.compare(torch.tensor(RDMS), torch.tensor(OTHERS[:, :78]))
    with pytest.raises(ValueError, match="not a condensed RDM"):
        fastrdm.compare(torch.tensor(RDMS[:, :90]), torch.tensor(OTHERS[:, :90]))
    square = fastrdm.square(RDMS[0])
    with pytest.raises(ValueError, match=r"rdms1 with shape .* looks like one square RDM"):
        fastrdm.compare(torch.tensor(square), torch.tensor(square))
    constant = RDMS.copy()
    constant[2] = 0.3
    with pytest.warns(RuntimeWarning, match=r"NaN where an RDM is constant \(rdms1: RDM 2\)"):
        found = fastrdm.compare(torch.tensor(constant), torch.tensor(OTHERS))
    assert np.isnan(found[2]).all() and not np.isnan(found[[0, 1, 3, 4]]).any()


@pytest.mark.parametrize("factor", [1e-300, 1e300, 1e307])
@pytest.mark.parametrize("method", ["corr", "cosine"])
def test_extreme_numbers(method, factor):
    expected = fastrdm.compare(RDMS, OTHERS, method)
    found = fastrdm.compare(torch.tensor(RDMS * factor), torch.tensor(OTHERS), method)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_blocks_change_nothing(monkeypatch):
    expected = fastrdm.compare(torch.tensor(RDMS), torch.tensor(OTHERS), "spearman")
    blocks = device_sides.blocks_of
    monkeypatch.setattr(device_sides, "blocks_of", lambda n, size: blocks(n, size, 2 * size))
    found = fastrdm.compare(torch.tensor(RDMS), torch.tensor(OTHERS), "spearman")
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("protocol", ["algonauts2019", "rsatoolbox"])
@pytest.mark.parametrize("nan_policy", ["raise", "omit"])
def test_scores_on_a_device(protocol, nan_policy, computed):
    target = fastrdm.Target(RNG.random((6, 91)), protocol, nan_policy=nan_policy, ceiling=0.4)
    expected = target.score(RDMS)
    for models in (torch.tensor(RDMS), torch.tensor(RDMS).float(), SharedArray(RDMS)):
        score = target.score(models)
        assert computed == [(5, 91)]
        computed.clear()
        for name, values in vars(score).items():
            wanted = getattr(target.score(RDMS.astype(np.float32)), name)
            if getattr(models, "dtype", None) is not torch.float32:
                wanted = getattr(expected, name)
            np.testing.assert_array_equal(values, wanted)
    one = target.score(torch.tensor(RDMS[0]))
    np.testing.assert_array_equal(one.rho, expected.rho[:1])
    assert pickle.loads(pickle.dumps(target)).ceiling == target.ceiling


def test_scores_over_time_on_a_device():
    target = fastrdm.Target(RNG.random((6, 3, 91)))
    for over_time in ("mean", "each"):
        expected = target.score(RDMS, over_time=over_time)
        found = target.score(torch.tensor(RDMS), over_time=over_time)
        np.testing.assert_array_equal(found.rho, expected.rho)
        np.testing.assert_array_equal(found.percent_nc, expected.percent_nc)


def test_models_that_the_host_scores(computed):
    subjects = RNG.random((6, 91))
    target = fastrdm.Target(subjects, ceiling=0.4)
    squares = fastrdm.square(RDMS)
    expected = target.score(RDMS)
    np.testing.assert_array_equal(target.score(torch.tensor(squares)).rho, expected.rho)
    named = {name: torch.tensor(rdm) for name, rdm in zip("abcde", RDMS, strict=True)}
    np.testing.assert_array_equal(target.score(named).rho, expected.rho)
    with pytest.raises(ValueError, match=r"rdms has shape \(5, 78\); the target has 14 conditions"):
        target.score(torch.tensor(RDMS[:, :78]))
    lacking = subjects.copy()
    lacking[0, 0] = np.nan
    target = fastrdm.Target(lacking, ceiling=0.4, nan_policy="omit")
    expected = target.score(RDMS).rho
    np.testing.assert_array_equal(target.score(torch.tensor(RDMS)).rho, expected)
    assert not computed


def test_a_device_without_enough_memory(monkeypatch):
    def fail(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setitem(device_sides._PREPARE, "spearman", fail)
    message = r"^cpu has too little memory for rdms2; pass rdms2\.cpu\(\)$"
    with pytest.raises(MemoryError, match=message):
        fastrdm.compare(RDMS, torch.tensor(OTHERS))


def test_measures_of_shape_copy_products_to_the_host():
    x = RNG.random((8, 30))
    products = x @ x.T
    for measure in (fastrdm.procrustes, fastrdm.bures_similarity, fastrdm.cca):
        expected = measure(products, products[::-1, ::-1].copy())
        found = measure(torch.tensor(products), SharedArray(products[::-1, ::-1].copy()))
        np.testing.assert_array_equal(found, expected)
