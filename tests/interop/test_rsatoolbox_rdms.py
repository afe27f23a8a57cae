"""RDMs and similarities with rsatoolbox's signatures: rsatoolbox is the oracle."""

import importlib
import subprocess
import sys
import warnings
from contextlib import nullcontext

import numpy as np
import pytest

pytest.importorskip("rsatoolbox")
import rsatoolbox

from fastrdm.interop.rsatoolbox import accelerate, accelerated, calc_rdm, compare
from fastrdm.interop.rsatoolbox.originals import original

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning:(numpy|scipy)"),
]
N, FOLDS, CHANNELS = 9, 3, 14


@pytest.fixture(scope="module")
def dataset():
    """Shuffled measurements, each condition once in every fold, with a category that is kept."""
    rng = np.random.default_rng(3)
    order = rng.permutation(N * FOLDS)
    conditions = np.array([f"s{i * 4 % N}" for i in range(N)] * FOLDS)[order]
    return rsatoolbox.data.Dataset(
        rng.gamma(2.0, 1.0, (N * FOLDS, CHANNELS)),
        descriptors={"subject": "a"},
        obs_descriptors={
            "condition": conditions,
            "run": np.repeat(np.arange(FOLDS), N)[order],
            "category": np.array([f"c{int(name[1]) // 3}" for name in conditions]),
        },
    )


@pytest.fixture(scope="module")
def precision():
    root = np.random.default_rng(4).normal(size=(CHANNELS, CHANNELS))
    return root @ root.T / CHANNELS


def same_rdms(found, expected):
    np.testing.assert_allclose(found.dissimilarities, expected.dissimilarities, 1e-9, 1e-9)
    assert found.dissimilarity_measure == expected.dissimilarity_measure
    for kind in ("descriptors", "rdm_descriptors", "pattern_descriptors"):
        ours, theirs = getattr(found, kind), getattr(expected, kind)
        assert list(ours) == list(theirs)
        for name in ours:
            np.testing.assert_array_equal(np.asarray(ours[name]), np.asarray(theirs[name]))


def own_calc_rdm(*args, **kwargs):
    return original("rdm.calc", "calc_rdm")(*args, **kwargs)


@pytest.mark.parametrize("as_list", [False, True])
@pytest.mark.parametrize("remove_mean", [False, True])
@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("euclidean", {}),
        ("euclidean", {"descriptor": "condition"}),
        ("correlation", {}),
        ("correlation", {"descriptor": "condition"}),
        ("mahalanobis", {"descriptor": "condition"}),
        ("mahalanobis", {"descriptor": "condition", "noise": "one"}),
        ("crossnobis", {"descriptor": "condition"}),
        ("crossnobis", {"descriptor": "condition", "cv_descriptor": "run", "noise": "one"}),
        ("crossnobis", {"descriptor": "condition", "cv_descriptor": "run", "noise": "each"}),
        ("poisson", {"descriptor": "condition", "prior_lambda": 2.0, "prior_weight": 0.3}),
        ("poisson_cv", {"descriptor": "condition", "cv_descriptor": "run"}),
    ],
)
def test_rdms_are_those_of_rsatoolbox(dataset, precision, method, options, remove_mean, as_list):
    noise = {
        None: None,
        "one": precision,
        "each": [precision + k * np.eye(CHANNELS) for k in range(FOLDS)],
    }[options.get("noise")]
    if as_list and isinstance(noise, list):
        pytest.skip("rsatoolbox cannot merge the RDMs of datasets with noise of each fold")
    if as_list and noise is not None:
        noise = [noise, noise]
    options = {**options, "noise": noise, "remove_mean": remove_mean}
    data = [dataset, dataset] if as_list else dataset
    same_rdms(calc_rdm(data, method, **options), own_calc_rdm(data, method, **options))


@pytest.mark.parametrize("method", ["crossnobis", "poisson_cv"])
def test_folds_with_several_measurements_of_some_conditions(dataset, method):
    more = dataset.subset_obs("run", [0]).subset_obs("condition", ["s1", "s4"])
    data = rsatoolbox.data.ops.merge_datasets([dataset, more])
    options = {"descriptor": "condition", "cv_descriptor": "run"}
    same_rdms(calc_rdm(data, method, **options), own_calc_rdm(data, method, **options))


def test_datasets_with_different_conditions_are_brought_together(dataset):
    data = [dataset, dataset.subset_obs("condition", ["s1", "s3", "s8"])]
    found = calc_rdm(data, "correlation", "condition")
    same_rdms(found, own_calc_rdm(data, "correlation", "condition"))
    assert np.isnan(found.dissimilarities).any()


def test_a_movie_calls_the_function_in_place():
    rng = np.random.default_rng(0)
    data = rsatoolbox.data.TemporalDataset(rng.normal(size=(6, 5, 4)))
    expected = rsatoolbox.rdm.calc_rdm_movie(data, method="correlation")
    with accelerate():
        found = rsatoolbox.rdm.calc_rdm_movie(data, method="correlation")
    same_rdms(found, expected)


@pytest.mark.parametrize(
    "change", ["nan", "negative rates", "asymmetric noise", "fold without a condition"]
)
def test_what_the_kernels_do_not_know_goes_on_to_rsatoolbox(dataset, precision, change):
    data = dataset.copy()
    method, options = "crossnobis", {"descriptor": "condition", "cv_descriptor": "run"}
    if change == "nan":
        data.measurements[3, 2] = np.nan
    elif change == "negative rates":
        method, options = "poisson", {"descriptor": "condition"}
        data.measurements -= 3
    elif change == "asymmetric noise":
        method, options = "mahalanobis", {"noise": np.triu(precision)}
    else:
        data = data.subset_obs("condition", [f"s{i}" for i in range(8)])
        data = rsatoolbox.data.ops.merge_datasets([data, dataset.subset_obs("run", [0, 1])])
        data.obs_descriptors["run"] = np.asarray(data.obs_descriptors["run"])
    with np.errstate(all="ignore"):
        results = []
        for function in (calc_rdm, own_calc_rdm):
            try:
                results.append(function(data, method, **options))
            except Exception as error:
                results.append(repr(error))
    if isinstance(results[1], str):
        assert results[0] == results[1]
    else:
        same_rdms(*results)


@pytest.mark.parametrize("kind", ["f4", "i2"])
@pytest.mark.parametrize("method", ["euclidean", "correlation", "mahalanobis", "poisson"])
def test_rdms_have_rsatoolboxs_type(dataset, precision, method, kind):
    data = rsatoolbox.data.Dataset((8 * dataset.measurements).astype(kind))
    noise = precision.astype("f4") if method == "mahalanobis" else None
    found, expected = (f(data, method, noise=noise) for f in (calc_rdm, own_calc_rdm))
    assert found.dissimilarities.dtype == expected.dissimilarities.dtype
    np.testing.assert_allclose(found.dissimilarities, expected.dissimilarities, 1e-4, 1e-5)


def test_noise_of_another_shape_is_said_first(dataset):
    for function in (calc_rdm, own_calc_rdm):
        with pytest.raises(AssertionError):
            function(dataset, "crossnobis", "unknown", noise=np.eye(3), cv_descriptor="unknown")
        with pytest.raises(KeyError, match="no conditions"):
            function(dataset, "crossnobis", "no conditions", cv_descriptor="no folds")


def test_errors_of_datasets(dataset):
    with pytest.raises(NotImplementedError, match="method 'manhattan' is unknown; rsatoolbox has"):
        calc_rdm(dataset, "manhattan")
    with pytest.raises(ValueError, match="descriptor must be a string"):
        calc_rdm(dataset, "crossnobis")
    with pytest.raises(KeyError, match="unknown"):
        calc_rdm(dataset, "euclidean", "unknown")


METHODS = [
    *("cosine", "spearman", "corr", "kendall", "tau-b", "tau-a", "rho-a", "corr_cov", "cosine_cov"),
    *("bures", "bures_metric"),
]


@pytest.fixture(scope="module")
def rdms():
    rng = np.random.default_rng(1)
    first, second = rng.random((3, 28)), rng.random((4, 28))
    first[2] = rng.integers(1, 4, 28)
    return rsatoolbox.rdm.RDMs(first), rsatoolbox.rdm.RDMs(second)


def own_compare(*args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return original("rdm.compare", "compare")(*args, **kwargs)


@pytest.mark.parametrize("method", METHODS)
def test_similarities_are_those_of_rsatoolbox(rdms, method):
    first, second = rdms
    expected = own_compare(first, second, method)
    np.testing.assert_allclose(compare(first, second, method), expected, rtol=0, atol=1e-7)
    found = compare(first.dissimilarities[0], second.dissimilarities, method)
    np.testing.assert_allclose(found, expected[:1], rtol=0, atol=1e-7)


@pytest.mark.parametrize("method", METHODS[:-2])
def test_pairs_that_are_missing_everywhere_are_left_out(rdms, method):
    first, second = (each.dissimilarities.copy() for each in rdms)
    first[:, [4, 11]] = second[:, [4, 11]] = np.nan
    expected = own_compare(first, second, method)
    np.testing.assert_allclose(compare(first, second, method), expected, rtol=0, atol=1e-9)
    second[:, 4] = 1
    with pytest.raises(ValueError, match="different nan positions"):
        compare(first, second, method)


@pytest.mark.parametrize("value", [0.0, 2.0])
@pytest.mark.parametrize("method", METHODS[:-2])
def test_constant_rdms_have_the_values_of_rsatoolbox(rdms, method, value):
    constant = np.full((1, 28), value)
    expected = own_compare(constant, rdms[1], method)
    found = compare(constant, rdms[1], method)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-7)
    if method not in ("kendall", "tau-b") and (value == 0 or "cos" not in method):
        assert (found == 0).all()
    # Other RDMs keep their similarities.
    both = np.concatenate([constant, rdms[0].dissimilarities])
    rest = compare(rdms[0], rdms[1], method)
    np.testing.assert_allclose(compare(both, rdms[1], method)[1:], rest, rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", ["corr_cov", "cosine_cov"])
def test_covariance_of_patterns(rdms, method):
    root = np.random.default_rng(5).normal(size=(8, 16))
    covariance = root @ root.T / 16
    for sigma_k, tolerance in ((np.diag(covariance).copy(), 1e-9), (covariance, 1e-4)):
        expected = own_compare(*rdms, method, sigma_k)
        found = compare(*rdms, method, sigma_k)
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)
    # rsatoolbox's iterations stop early; solving its own equations does not.
    v = importlib.import_module("rsatoolbox.rdm.compare")._get_v(8, covariance).toarray()
    a, b = (each.dissimilarities for each in rdms)
    if method == "corr_cov":
        a, b = (rows - rows.mean(axis=1, keepdims=True) for rows in (a, b))
    product = a @ np.linalg.solve(v, b.T)
    squares = [np.einsum("ij,ji->i", rows, np.linalg.solve(v, rows.T)) for rows in (a, b)]
    exact = product / np.sqrt(np.outer(*squares))
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_as_many_rdms_as_pairs_are_not_taken_for_a_square_one(method):
    basis, others = np.eye(6), np.random.default_rng(6).random((6, 6))
    for pair in ((basis, others), (others, basis), (basis, basis)):
        expected = own_compare(*pair, method)
        np.testing.assert_allclose(compare(*pair, method), expected, rtol=0, atol=1e-7)


def test_other_comparisons_go_on_to_rsatoolbox(rdms):
    first, second = (each.dissimilarities.copy() for each in rdms)
    first[0, 0] = np.inf
    with np.errstate(all="ignore"):
        expected = own_compare(first, second, "corr")
        np.testing.assert_array_equal(compare(first, second, "corr"), expected)
    with pytest.raises(ValueError, match="equal shape"):
        compare(first[:, :21], second)
    with pytest.raises(ValueError, match="Unknown RDM comparison method"):
        compare(first, second, "manhattan")
    singular = np.ones((8, 8))
    expected = own_compare(*rdms, "cosine_cov", singular)
    np.testing.assert_array_equal(compare(*rdms, "cosine_cov", singular), expected)
    points = np.random.default_rng(2).normal(size=(2, 5, 9))
    distances = [
        rsatoolbox.rdm.calc_rdm(rsatoolbox.data.Dataset(each)).dissimilarities for each in points
    ]
    expected = own_compare(*distances, "neg_riem_dist")
    np.testing.assert_array_equal(compare(*distances, "neg_riem_dist"), expected)


HOLDERS = {
    "rsatoolbox.rdm": ["calc_rdm", "compare", "compare_spearman", "calc_rdm_crossnobis"],
    "rsatoolbox.rdm.calc": ["calc_rdm", "calc_rdm_poisson"],
    "rsatoolbox.rdm.compare": ["compare", "compare_kendall_tau_a"],
    "rsatoolbox.inference.evaluate": ["compare"],
    "rsatoolbox.inference.noise_ceiling": ["compare"],
    "rsatoolbox.model.fitter": ["compare"],
    "rsatoolbox.util.searchlight": ["calc_rdm"],
}


def held():
    return {
        (module, name): getattr(importlib.import_module(module), name)
        for module, names in HOLDERS.items()
        for name in names
    }


def test_functions_are_put_in_place_and_taken_out():
    before = held()
    assert accelerated() == ()
    with accelerate() as outer:
        within = held()
        assert all(f.__module__.startswith("fastrdm.") for f in within.values())
        assert rsatoolbox.inference.evaluate.compare is compare
        assert {"rsatoolbox.rdm.calc.calc_rdm", "rsatoolbox.rdm.compare.compare"} <= {
            *accelerated()
        }
        with accelerate():
            assert held() == within
        assert held() == within
        outer.restore()
        assert held() == before
    assert held() == before
    assert accelerated() == ()


def test_functions_are_taken_out_after_an_error():
    before = held()
    with pytest.raises(ZeroDivisionError), accelerate():
        1 / 0  # noqa: B018
    assert held() == before
    acceleration = accelerate()
    assert held() != before
    acceleration.restore()
    acceleration.restore()
    assert held() == before
    with pytest.raises(RuntimeError, match=r"^this acceleration has ended; call accelerate\(\)"):
        acceleration.__enter__()


@pytest.mark.parametrize("method", METHODS[:-2])
def test_fits_of_models_have_rsatoolboxs_parameters(method):
    """Also where BFGS stops early and the last bit decides where."""
    rng = np.random.default_rng(19)
    base = rng.random(15)
    data = rsatoolbox.rdm.RDMs(base + rng.random((3, 15)))
    model = rsatoolbox.model.ModelWeighted("m", rsatoolbox.rdm.RDMs(rng.random((2, 15)) - base))
    found = []
    for accelerated_too in (False, True):
        np.random.seed(0)  # noqa: NPY002
        with accelerate() if accelerated_too else nullcontext():
            found.append(model.fit(data, method=method))
    np.testing.assert_array_equal(*found)


def test_modules_that_are_imported_meanwhile_are_restored_too(monkeypatch):
    own = rsatoolbox.rdm.compare
    with accelerate():
        late = type(sys)("rsatoolbox.late")
        monkeypatch.setitem(sys.modules, "rsatoolbox.late", late)
        late.compare = rsatoolbox.rdm.compare
        assert late.compare is compare
    assert late.compare is own


def test_an_unknown_version_is_refused(monkeypatch):
    acceleration = "fastrdm.interop.rsatoolbox.acceleration"
    monkeypatch.setattr(f"{acceleration}.version", lambda _: "0.9.2")
    before = held()
    with pytest.raises(ImportError, match=r"^rsatoolbox 0\.9\.2 is not known .* of 0\.3; install"):
        accelerate()
    monkeypatch.undo()
    monkeypatch.setattr("rsatoolbox.rdm.calc.calc_rdm", lambda data: None)
    with pytest.raises(ImportError, match=r"calc_rdm takes \(data\), which is not known"):
        accelerate()
    monkeypatch.undo()
    assert held() == before


def test_importing_auto_accelerates_the_program(monkeypatch):
    own = rsatoolbox.rdm.compare
    monkeypatch.delitem(sys.modules, "fastrdm.interop.rsatoolbox.auto", raising=False)
    auto = importlib.import_module("fastrdm.interop.rsatoolbox.auto")
    try:
        assert rsatoolbox.rdm.compare is compare
    finally:
        auto.restore()
    assert rsatoolbox.rdm.compare is own


def test_importing_the_package_does_not_import_rsatoolbox():
    code = "import sys, fastrdm.interop.rsatoolbox; print('rsatoolbox' in sys.modules)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
