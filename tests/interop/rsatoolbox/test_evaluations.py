"""Evaluations of rsatoolbox's models: the values, random draws and objects of rsatoolbox itself."""

import importlib
import inspect
import warnings

import numpy as np
import pytest

from fastrdm.interop import rsatoolbox as ours
from fastrdm.interop.rsatoolbox.evaluation_table import EVALUATIONS
from fastrdm.interop.rsatoolbox.originals import original
from fastrdm.interop.rsatoolbox.second_moments import whitening

rsatoolbox = pytest.importorskip("rsatoolbox")
pytest.importorskip("rsatoolbox.util.searchlight")
pytestmark = pytest.mark.filterwarnings("ignore")

N = 12
PAIRS = N * (N - 1) // 2
METHODS = ["cosine", "corr", "cosine_cov", "corr_cov", "spearman", "rho-a", "tau-a", "tau-b"]
CATEGORIES = list("aabbccddeeff")


@pytest.fixture(autouse=True)
def no_progress(monkeypatch):
    from rsatoolbox.inference import evaluate

    monkeypatch.setattr(evaluate.tqdm, "trange", range)


def vectors(n, seed, ties=False):
    rng = np.random.default_rng(seed)
    values = np.random.default_rng(99).random(PAIRS) + rng.random((n, PAIRS))
    return np.round(values * 4) if ties else values


def rdms(n, seed, ties=False, **descriptors):
    return rsatoolbox.rdm.RDMs(
        vectors(n, seed, ties), pattern_descriptors={"category": CATEGORIES}, **descriptors
    )


def fixed(ties=False):
    return [rsatoolbox.model.ModelFixed(f"m{i}", rdms(1, 10 + i, ties)) for i in range(2)]


def flexible():
    model = rsatoolbox.model
    return [
        model.ModelSelect("select", rdms(3, 20)),
        model.ModelWeighted("weighted", rdms(2, 21)),
        model.ModelInterpolate("interpolate", rdms(3, 22)),
        *fixed()[:1],
    ]


def data(ties=False):
    return rdms(5, 0, ties, rdm_descriptors={"site": list("abacc")})


def both(name, *args, module=None, **options):
    """Call rsatoolbox's function and ours from one random state, which both must leave alike."""
    found = []
    for holder in (module or rsatoolbox.inference, ours):
        np.random.seed(3)  # noqa: NPY002
        found.append(getattr(holder, name)(*args, **options))
        found.append(np.random.rand())  # noqa: NPY002
    assert found[1] == found[3]
    return found[0], found[2]


def check(theirs, mine, within=1e-9):
    assert type(mine) is type(theirs)
    for name in ("evaluations", "noise_ceiling", "variances", "model_var", "noise_ceil_var"):
        expected, value = getattr(theirs, name), getattr(mine, name)
        if expected is None:
            assert value is None
        else:
            assert np.shape(value) == np.shape(expected)
            np.testing.assert_allclose(value, expected, rtol=0, atol=within, err_msg=name)
    for name in ("dof", "n_rdm", "n_pattern", "cv_method", "method", "n_bootstraps"):
        assert getattr(mine, name) == getattr(theirs, name), name
    assert mine.models == theirs.models


@pytest.mark.parametrize(("module", "name"), EVALUATIONS)
def test_signatures_are_rsatoolboxs(module, name):
    theirs = inspect.signature(original(module, name)).parameters.values()
    mine = inspect.signature(getattr(ours, name)).parameters.values()
    assert [(p.name, p.default) for p in mine] == [(p.name, p.default) for p in theirs]


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("eval_bootstrap", {}),
        ("eval_bootstrap", {"rdm_descriptor": "site", "pattern_descriptor": "category"}),
        ("eval_bootstrap_pattern", {"rdm_descriptor": "site"}),
        ("eval_bootstrap_rdm", {}),
        ("eval_bootstrap_rdm", {"rdm_descriptor": "site", "boot_noise_ceil": False}),
    ],
)
def test_bootstraps_equal_rsatoolboxs_draw_by_draw(name, options, method, ties):
    check(*both(name, fixed(ties), data(ties), method=method, N=5, **options))


@pytest.mark.parametrize("method", METHODS)
def test_dual_bootstrap_equals_rsatoolboxs(method):
    check(*both("eval_dual_bootstrap", fixed(), data(), method=method, N=5))


@pytest.mark.parametrize(
    "options", [{"rdm_descriptor": "site"}, {"pattern_descriptor": "category"}]
)
def test_dual_bootstrap_of_groups_equals_rsatoolboxs(options):
    check(*both("eval_dual_bootstrap", fixed(), data(), N=5, **options))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_fixed_evaluations_and_ceilings_equal_rsatoolboxs(method, ties):
    check(*both("eval_fixed", fixed(ties), data(ties), method=method))
    theirs, mine = both("boot_noise_ceiling", data(ties), method=method, rdm_descriptor="site")
    np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_ceilings_of_resampled_conditions_equal_rsatoolboxs(method):
    sample = data().subsample_pattern("index", [0, 1, 1, 2, 4, 4, 4, 7, 9, 10, 11])
    theirs, mine = both("boot_noise_ceiling", sample, method=method)
    np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_cross_validation_equals_rsatoolboxs(method):
    train, test, ceiling = folds()
    options = {"method": method, "ceil_set": ceiling}
    check(*both("crossval", flexible(), data(), train, test, **options))


@pytest.mark.parametrize("options", [{}, {"calc_noise_ceil": False}])
def test_cross_validation_without_a_set_for_ceilings_equals_rsatoolboxs(options):
    train, test, _ = folds()
    check(*both("crossval", flexible()[:1], data(), train, test, **options))


def folds():
    return rsatoolbox.inference.sets_k_fold(data(), k_rdm=2, k_pattern=2, random=False)


@pytest.mark.parametrize("fitter", ["fit_optimize_positive", "fit_regress", "fit_regress_nn"])
def test_other_fitters_equal_rsatoolboxs(fitter):
    model = [flexible()[1]]
    train, test, _ = folds()
    function = getattr(rsatoolbox.model.fitter, fitter)
    check(*both("crossval", model, data(), train, test, fitter=function))


@pytest.mark.parametrize("kind", ["ModelSelect", "ModelInterpolate"])
def test_fitters_of_other_models_are_rsatoolboxs(kind):
    values = rdms(3, 22)
    values.dissimilarities -= 2 * data().dissimilarities[0]
    model = getattr(rsatoolbox.model, kind)("m", values)
    train, test, _ = folds()
    arguments = model, data(), train[:1], test[:1]
    options = {"fitter": rsatoolbox.model.fitter.fit_optimize}
    if kind == "ModelSelect":
        for module in (rsatoolbox.inference, ours):
            with pytest.raises(IndexError, match="must be of integer"):
                module.crossval(*arguments, **options)
    else:
        # Its predictions have no negative weights.
        check(*both("crossval", *arguments, **options))


@pytest.mark.parametrize("missing", [0, 2])
@pytest.mark.parametrize("n", [5, 20, 100])
def test_whitening_has_rsatoolboxs_rounding(n, missing):
    rng = np.random.default_rng(n)
    pairs = np.ones(n * (n - 1) // 2, bool)
    pairs[:missing] = False
    values = rng.random((2, pairs.sum()))
    whiten = whitening(pairs)
    own = importlib.import_module("rsatoolbox.rdm.compare")._cov_weighting
    if n == 100 and missing:
        assert whiten is None
        with pytest.raises(TypeError):
            own(values, pairs)
    else:
        for rows in (values, values[:1]):
            np.testing.assert_array_equal(whiten(rows), own(rows, pairs))


def test_optimisers_that_stop_early_stop_where_rsatoolboxs_do():
    """From positive weights to a model that needs negative ones, where BFGS ends in different places by rounding."""
    values = np.random.default_rng(19).random((2, PAIRS)) - vectors(1, 0)
    model = rsatoolbox.model.ModelWeighted("m", rsatoolbox.rdm.RDMs(values))
    train, test, _ = folds()
    options = {"method": "corr_cov", "calc_noise_ceil": False}
    check(*both("crossval", model, data(), train[:1], test[:1], **options), within=1e-12)


@pytest.mark.parametrize("name", ["eval_dual_bootstrap", "bootstrap_crossval"])
def test_bootstrapped_cross_validation_equals_rsatoolboxs(name):
    options = {"method": "corr", "N": 3, "k_rdm": 2, "k_pattern": 2}
    check(*both(name, [flexible()[0], fixed()[0]], data(), **options))
    from rsatoolbox.inference import evaluate

    assert evaluate.crossval.__module__ == "rsatoolbox.inference.evaluate"


def test_few_patterns_give_nan():
    small = data().subset_pattern("index", [0, 2, 4])
    models = [
        rsatoolbox.model.ModelFixed("m", fixed()[0].rdm_obj.subset_pattern("index", [0, 2, 4]))
    ]
    small.pattern_descriptors["index"] = np.arange(3)
    theirs, mine = both("eval_bootstrap_pattern", models, small, method="spearman", N=20)
    assert np.isnan(mine.evaluations).any()
    assert np.isfinite(mine.evaluations).any()
    check(theirs, mine)


@pytest.mark.parametrize("method", ["spearman", "rho-a", "tau-a", "cosine", "cosine_cov"])
def test_constant_rdms_have_rsatoolboxs_similarities(method):
    values = vectors(4, 5)
    # Only the last: rsatoolbox gives RDMs after a constant one the similarities of others.
    values[-1] = 0.5
    constant = rsatoolbox.rdm.RDMs(values)
    check(*both("eval_fixed", fixed(), constant, method=method))
    check(*both("eval_bootstrap_pattern", fixed(), constant, method=method, N=4))


def test_rdms_after_a_constant_one_keep_their_similarities():
    values = vectors(4, 5)
    values[1] = 0.5
    found = ours.eval_fixed(fixed(), rsatoolbox.rdm.RDMs(values), method="spearman").evaluations
    single = [
        rsatoolbox.inference.eval_fixed(fixed(), rsatoolbox.rdm.RDMs(row[None]), method="spearman")
        for row in values
    ]
    expected = np.concatenate([result.evaluations for result in single], axis=2)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    assert not found[0, :, 1].any()


def by_places(first, second):
    """Cosines as rsatoolbox computes them, but for RDMs that have none: only their own are 0."""
    lengths = [np.sqrt(np.einsum("ij,ij->i", rows, rows)) for rows in (first, second)]
    used = [length > 0 for length in lengths]
    found = np.zeros((len(first), len(second)))
    products = np.einsum("ij,kj->ik", first[used[0]], second[used[1]])
    found[np.ix_(*used)] = products / lengths[0][used[0], None] / lengths[1][used[1]]
    return found


def test_rdms_that_are_constant_in_a_fold_are_the_one_difference_with_ties(monkeypatch):
    """Rounded RDMs are constant among the few conditions of a fold, after which rsatoolbox's similarities shift."""
    measured = rsatoolbox.rdm.RDMs(np.round(vectors(4, 10) * 1.2))
    models = [rsatoolbox.model.ModelFixed("m", np.round(vectors(1, 2)[0]))]
    arguments = "eval_dual_bootstrap", models, measured
    options = {"method": "spearman", "N": 3, "k_pattern": 2}
    theirs, mine = both(*arguments, **options)
    assert not np.allclose(theirs.evaluations, mine.evaluations, equal_nan=True)
    compare = importlib.import_module("rsatoolbox.rdm.compare")
    monkeypatch.setattr(compare, "_cosine", by_places)
    check(*both(*arguments, **options))


def test_numbers_beside_text_are_left_to_rsatoolbox():
    """A bootstrap of rsatoolbox finds only the text among them, as NumPy makes all of them text."""
    measured = rdms(5, 0, rdm_descriptors={"site": ["a", 1, "a", 1, "a"]})
    theirs, mine = both("boot_noise_ceiling", measured, rdm_descriptor="site")
    np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-12)
    for module in (rsatoolbox.inference, ours):
        with pytest.raises(ValueError, match="cannot reshape array of size 0"):
            module.eval_bootstrap_rdm(fixed(), measured, N=20, rdm_descriptor="site")


@pytest.mark.parametrize("method", METHODS)
def test_ceilings_are_numpys_numbers_as_rsatoolboxs(method):
    for value in ours.boot_noise_ceiling(data(), method=method):
        assert type(value) is np.float64


def test_results_have_the_models_as_they_were_given():
    models = tuple(fixed())
    theirs, mine = both("eval_bootstrap_rdm", models, data(), N=3)
    assert theirs.models is mine.models is models


@pytest.mark.parametrize("method", ["cosine", "spearman"])
@pytest.mark.parametrize("name", ["eval_bootstrap", "eval_bootstrap_rdm"])
def test_no_rdms_and_no_models_have_rsatoolboxs_errors(name, method):
    none = rsatoolbox.rdm.RDMs(np.empty((0, PAIRS)))
    messages = []
    for module in (rsatoolbox.inference, ours):
        with pytest.raises(ValueError, match="nan positions|cannot reshape") as error:
            getattr(module, name)(fixed(), none, method=method, N=3)
        with pytest.raises(TypeError, match="has no len") as other:
            module.eval_dual_bootstrap(3, data(), method=method, N=3)
        messages.append((str(error.value), str(other.value)))
    assert messages[0] == messages[1]


def test_models_in_another_order_of_conditions_are_left_to_rsatoolbox():
    models = fixed()
    models[0].rdm_obj.pattern_descriptors["category"] = CATEGORIES[::-1]
    options = {"pattern_descriptor": "category", "N": 3}
    for module in (rsatoolbox.inference, ours):
        with pytest.raises(ValueError, match="different nan positions"):
            module.eval_bootstrap_pattern(models, data(), **options)


def test_other_similarities_are_left_to_rsatoolbox():
    for module in (rsatoolbox.inference, ours):
        with pytest.raises(ValueError, match="Unknown RDM comparison method"):
            module.eval_fixed(fixed(), data(), method="bures")
        with pytest.raises(ValueError, match="Unknown RDM comparison method"):
            module.eval_bootstrap(fixed(), data(), method="nonsense", N=3)


@pytest.mark.parametrize("method", ["tau-b", "kendall"])
def test_draws_without_an_rdm_that_has_no_coefficient_have_means(method):
    values = vectors(4, 0)
    values[1] = 0.5
    measured = rsatoolbox.rdm.RDMs(values)
    theirs, mine = both("eval_bootstrap_rdm", fixed(), measured, method=method, N=12)
    found = np.isfinite(mine.evaluations)
    assert found.any()
    assert not found.all()
    check(theirs, mine)


@pytest.mark.parametrize("method", ["cosine", "spearman", "rho-a", "tau-a", "tau-b"])
def test_two_conditions_are_left_to_rsatoolbox(method):
    model = rsatoolbox.model.ModelFixed("m", np.array([0.5]))
    measured = rsatoolbox.rdm.RDMs(np.array([[0.2], [0.4], [0.9]]))
    check(*both("eval_fixed", model, measured, method=method))
    check(*both("eval_bootstrap_rdm", model, measured, method=method, N=3))


def test_errors_are_rsatoolboxs():
    with pytest.raises(ValueError, match=r"rsatoolbox\.model\.Model or a list"):
        ours.eval_bootstrap(3, data(), N=3)
    with pytest.raises(KeyError):
        ours.eval_bootstrap(fixed(), data(), N=3, rdm_descriptor="nowhere")
    with pytest.raises(AssertionError, match="same length"):
        ours.crossval(fixed(), data(), [1], [])


def test_tau_warns_about_its_pool():
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with pytest.warns(UserWarning, match="averaged ranks"):
            ours.boot_noise_ceiling(data(), method="tau-a")


@pytest.mark.parametrize("method", ["correlation", "euclidean", "mahalanobis"])
def test_searchlights_equal_rsatoolboxs(method):
    rng = np.random.default_rng(0)
    values = rng.random((15, 40))
    events = np.repeat(np.array(list("zbcay")), 3)[rng.permutation(15)]
    neighbours = [rng.choice(40, size, replace=False) for size in rng.integers(4, 9, 12)]
    centres = np.arange(12) + 7
    theirs, mine = both(
        "get_searchlight_RDMs",
        values,
        centres,
        neighbours,
        events,
        method=method,
        module=rsatoolbox.util.searchlight,
    )
    np.testing.assert_allclose(mine.dissimilarities, theirs.dissimilarities, rtol=0, atol=1e-12)
    assert str(mine.rdm_descriptors) == str(theirs.rdm_descriptors)
    assert str(mine.pattern_descriptors) == str(theirs.pattern_descriptors)
    assert mine.dissimilarity_measure == theirs.dissimilarity_measure


@pytest.mark.parametrize("first", [[-1, -2, -3], slice(2, 6)])
def test_channels_that_are_no_indices_from_zero_on_are_left_to_rsatoolbox(first):
    values = np.random.default_rng(0).random((6, 9))
    place = rsatoolbox.util.searchlight
    arguments = values, [4, 5], [first, [0, 1, 2]], list("abcabc")
    theirs, mine = both("get_searchlight_RDMs", *arguments, method="euclidean", module=place)
    np.testing.assert_allclose(mine.dissimilarities, theirs.dissimilarities, rtol=0, atol=1e-12)
    with pytest.raises(IndexError):
        ours.get_searchlight_RDMs(values, [4], [[0, 9]], list("abcabc"))
    mask = np.arange(9) < 3
    for module in (place, ours):
        with pytest.raises(AttributeError, match="mismatched dimension"):
            module.get_searchlight_RDMs(values, [4], [mask], list("abcabc"), method="euclidean")


@pytest.mark.parametrize("method", METHODS)
def test_searchlights_are_evaluated_as_by_rsatoolbox(method):
    centres = rdms(6, 3, ties=True)
    function = rsatoolbox.inference.eval_fixed
    place = rsatoolbox.util.searchlight
    options = {"method": method, "module": place}
    theirs, mine = both("evaluate_models_searchlight", centres, fixed(), function, **options)
    assert len(mine) == len(theirs) == 6
    for expected, value in zip(theirs, mine, strict=True):
        check(expected, value, within=1e-12)


def test_searchlights_of_other_functions_call_them():
    found = ours.evaluate_models_searchlight(
        rdms(2, 3), fixed(), lambda models, x, method, theta: (len(models), x.n_rdm, method)
    )
    assert found == [(2, 1, "corr")] * 2
