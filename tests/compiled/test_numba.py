"""Jitted functions: the answers of the functions for Python, from jitted code, threads and other processes."""

import runpy
import sys
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pytest
import scipy.stats
from conftest import ROOT

import fastrdm
import fastrdm.numba as jitted

METHODS = ("correlation", "cosine", "sqeuclidean", "euclidean", "spearman")
SIMILARITIES = {
    "spearman": jitted.spearman,
    "corr": jitted.pearson,
    "cosine": jitted.cosine,
    "tau-a": jitted.tau_a,
    "tau-b": jitted.tau_b,
    "rho-a": jitted.rho_a,
}


def layers(dtype):
    rng = np.random.default_rng(0)
    yield rng.standard_normal((40, 700)).astype(dtype)
    yield (rng.standard_normal((20, 300)) + 100).astype(dtype)
    yield (rng.standard_normal(300) + 1e-3 * rng.standard_normal((20, 300))).astype(dtype)
    yield rng.integers(0, 4, (20, 100)).astype(dtype)
    yield (rng.integers(0, 4, (20, 100)) + 1000).astype(dtype)
    odd = rng.standard_normal((20, 300)).astype(dtype)
    odd[3], odd[4], odd[5] = odd[7], 0, 2.5
    yield odd
    yield odd[:2, :1]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    ("method", "dtype"),
    # Each pair compiles for some seconds.
    [(method, "float64") for method in METHODS]
    + [("correlation", "float32"), ("sqeuclidean", "float32")],
)
def test_rdms_are_those_of_calc_rdm(method, dtype):
    for x in layers(dtype):
        found = getattr(jitted, f"{method}_rdm")(x)
        expected = fastrdm.calc_rdm(x, method)
        size = 1 if method in ("correlation", "cosine", "spearman") else np.max(expected)
        within = 1e-9 if dtype == "float64" else 1e-6
        np.testing.assert_allclose(found, expected, rtol=0, atol=within * size)
    x = next(layers(dtype))
    order = np.random.default_rng(1).permutation(len(x))
    permuted = getattr(jitted, f"{method}_rdm")(x[order])
    whole = jitted.square(getattr(jitted, f"{method}_rdm")(x))
    np.testing.assert_array_equal(permuted, jitted.condense(whole[np.ix_(order, order)]))


@pytest.mark.parametrize("method", ["correlation", "sqeuclidean"])
def test_pairs_of_conditions_with_nan_or_infinity_alone_are_nan(method):
    function = getattr(jitted, f"{method}_rdm")
    x = np.random.default_rng(0).standard_normal((6, 30))
    whole = function(x)
    x[1, 3], x[4, 7] = np.nan, np.inf
    first, second = np.triu_indices(6, 1)
    lacking = np.isin(first, (1, 4)) | np.isin(second, (1, 4))
    found = function(x)
    np.testing.assert_array_equal(np.isnan(found), lacking)
    np.testing.assert_allclose(found[~lacking], whole[~lacking], rtol=1e-12)
    assert function(x[:0]).shape == function(x[:1]).shape == (0,)


@pytest.mark.parametrize("method", ["correlation", "sqeuclidean"])
def test_integers_have_the_ties_of_calc_rdm(method):
    for x in [*layers("float32")][3:4]:
        found = getattr(jitted, f"{method}_rdm")(x)
        expected = fastrdm.calc_rdm(x, method)
        assert len(np.unique(found)) == len(np.unique(expected))
        np.testing.assert_array_equal(scipy.stats.rankdata(found), scipy.stats.rankdata(expected))


def test_mahalanobis_and_crossnobis():
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((60, 12))
    precision = np.linalg.inv(noise.T @ noise / 60)
    x = rng.standard_normal((3, 8, 12))
    expected = fastrdm.calc_rdm(x[0], "mahalanobis", precision=precision)
    np.testing.assert_allclose(jitted.mahalanobis_rdm(x[0], precision), expected, rtol=1e-9)
    folds = np.repeat([0, 1, 2], 8)
    expected = fastrdm.calc_rdm(x.reshape(24, 12), "crossnobis", folds=folds, precision=precision)
    whitened = np.stack([jitted.whiten(fold, precision) for fold in x])
    np.testing.assert_allclose(jitted.crossnobis_rdm(whitened), expected, atol=1e-9)
    assert np.isnan(jitted.crossnobis_rdm(x[:1])).all()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_similarities_and_ranks_are_those_of_compare():
    rng = np.random.default_rng(0)
    rdms = rng.random((4, 105))
    rdms[1], rdms[2] = np.round(rdms[1], 1), 3
    for method, similarity in SIMILARITIES.items():
        expected = fastrdm.compare(rdms, rdms, method)
        found = [[similarity(a, b) for b in rdms] for a in rdms]
        np.testing.assert_allclose(found, expected, atol=1e-14, err_msg=method)
        lacking = rdms[0].copy()
        lacking[5] = np.nan
        assert np.isnan(similarity(lacking, rdms[0]))
        with pytest.raises(ValueError, match="differ in length"):
            similarity(rdms[0], rdms[0][:-1])
    np.testing.assert_array_equal(jitted.rank(rdms[1]), scipy.stats.rankdata(rdms[1]))
    assert np.isnan(jitted.rank(lacking)).all()


@pytest.mark.parametrize("method", ["spearman", "corr", "tau-b"])
def test_noise_ceilings_are_those_of_the_function_for_python(method):
    rng = np.random.default_rng(0)
    subjects = np.round(rng.random((5, 105)) + rng.random(105), 1)
    lower, upper = jitted.noise_ceiling(subjects, SIMILARITIES[method])
    expected = fastrdm.noise_ceiling(subjects, method, squared=False)
    np.testing.assert_allclose(lower, expected.lower_per_subject, atol=1e-14)
    np.testing.assert_allclose(upper, expected.upper_per_subject, atol=1e-14)
    if method == "spearman":
        narrow = subjects.astype(np.float32)
        lower, _ = jitted.noise_ceiling(narrow, jitted.spearman)
        expected = fastrdm.noise_ceiling(narrow, squared=False)
        np.testing.assert_allclose(lower, expected.lower_per_subject, atol=1e-14)
    with pytest.raises(ValueError, match="at least two subjects"):
        jitted.noise_ceiling(subjects[:1], SIMILARITIES[method])


@numba.njit(parallel=True)
def scores(layers, brain):
    out = np.empty(len(layers))
    for i in numba.prange(len(layers)):
        out[i] = jitted.spearman(jitted.correlation_rdm(layers[i]), brain)
    return out


def test_functions_are_called_within_prange_and_from_threads():
    rng = np.random.default_rng(0)
    layers = rng.standard_normal((12, 15, 80))
    brain = rng.random(105)
    rdms = np.stack([fastrdm.calc_rdm(layer) for layer in layers])
    expected = fastrdm.compare(rdms, brain[None])[:, 0]
    np.testing.assert_array_equal(scores(layers, brain), scores(layers, brain))
    np.testing.assert_allclose(scores(layers, brain), expected, atol=1e-12)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(jitted.correlation_rdm, layers))
    np.testing.assert_allclose(found, rdms, atol=1e-12)


def test_forms():
    rdm = np.random.default_rng(0).random(15)
    np.testing.assert_array_equal(jitted.square(rdm), fastrdm.square(rdm))
    np.testing.assert_array_equal(jitted.condense(jitted.square(rdm)), rdm)
    assert jitted.n_pairs(6) == 15
    with pytest.raises(ValueError, match="not condensed"):
        jitted.square(rdm[:4])
    with pytest.raises(ValueError, match="not square"):
        jitted.condense(np.zeros((3, 4)))


@pytest.mark.parametrize("name", jitted.__all__)
def test_functions_are_jitted_release_the_gil_and_are_documented(name):
    function = getattr(jitted, name)
    assert isinstance(function, numba.core.dispatcher.Dispatcher)
    assert function.targetoptions["nogil"] and function.__doc__.endswith("\n    ")
    for section in ("Parameters\n", "Returns\n"):
        assert section in function.__doc__
    assert (
        f"`{name}`" in (ROOT / "docs" / "compiled.md").read_text()
        or f"{name}(" in (ROOT / "docs" / "compiled.md").read_text()
    )


def test_the_example_runs(capsys):
    path = ROOT / "examples" / "numba" / "score.py"
    if not path.exists():
        pytest.skip("not a checkout")
    runpy.run_path(str(path), run_name="__main__")
    assert "noise ceiling" in capsys.readouterr().out
    assert "fastrdm.numba" in sys.modules
