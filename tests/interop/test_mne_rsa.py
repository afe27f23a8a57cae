"""fastrdm's functions with mne-rsa's signatures give mne-rsa's values, also inside mne-rsa."""

import sys
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from fastrdm._base import MissingExtraError

mne = pytest.importorskip("mne")
mne_rsa = pytest.importorskip("mne_rsa")

from fastrdm.interop import mne_rsa as ours  # noqa: E402
from fastrdm.interop.mne_rsa import peer, places  # noqa: E402

mne.set_log_level("ERROR")
N, SERIES, SAMPLES = 8, 6, 12
PAIRS = N * (N - 1) // 2
RNG = np.random.default_rng(0)
DATA = RNG.normal(size=(N, SERIES, SAMPLES))
DISTANCES = np.abs(np.subtract.outer(np.arange(SERIES), np.arange(SERIES))) / 10
MODELS = list(RNG.random((3, PAIRS)))
FOLDS = {"y": [0, 1, 2, 3] * 2, "n_folds": 2}
METRICS = ["spearman", "pearson", "kendall-tau-a", "partial", "partial-spearman", "regression"]
# mne-rsa warns of constant RDMs and models in its own ways.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::UserWarning")

THEIRS = {name: peer.original(name) for name in peer.REPLACED}


def searchlight(pattern, shape=DATA.shape):
    return {
        "none": lambda: None,
        "space": lambda: mne_rsa.searchlight(shape, DISTANCES, 0.15),
        "time": lambda: mne_rsa.searchlight(shape, temporal_radius=2, sel_series=[1, 3]),
        "both": lambda: mne_rsa.searchlight(shape, DISTANCES, 0.15, 2),
        "listed": lambda: mne_rsa.searchlight(
            shape, None, [[0, 1], [0, 1], [2, 5]], 1, samples_from=3, samples_to=9
        ),
        "tuples": lambda: ((slice(None), [k, 2], slice(k, k + 4)) for k in range(3)),
    }[pattern]()


PATTERNS = ["none", "space", "time", "both", "listed", "tuples"]


def with_gaps(models):
    models = [model.copy() for model in models]
    models[0][3] = models[2][:2] = np.nan
    return models


def same(found, expected):
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    assert_allclose(found, expected, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize(
    "metric",
    [
        "correlation",
        "cosine",
        "euclidean",
        "sqeuclidean",
        "cityblock",
        lambda a, b: abs(a - b).sum(),
    ],
)
def test_rdms_are_those_of_mne_rsa(metric):
    same(ours.compute_rdm(DATA, metric), THEIRS["compute_rdm"](DATA, metric))
    for folds in (DATA.reshape(2, 4, -1), DATA.reshape(2, 4, -1).astype(np.float16)):
        same(ours.compute_rdm_cv(folds, metric), THEIRS["compute_rdm_cv"](folds, metric))


def test_a_mahalanobis_rdm_with_a_precision():
    data = DATA[:, :, 0]
    inverse = np.linalg.inv(np.cov(RNG.normal(size=(SERIES, 50))))
    inverse = (inverse + inverse.T) / 2
    for matrix in (inverse, inverse + np.triu(inverse) / 9):
        same(
            ours.compute_rdm(data, "mahalanobis", VI=matrix),
            THEIRS["compute_rdm"](data, "mahalanobis", VI=matrix),
        )
    same(
        ours.compute_rdm_cv(data.reshape(2, 4, -1), "mahalanobis", VI=inverse),
        THEIRS["compute_rdm_cv"](data.reshape(2, 4, -1), "mahalanobis", VI=inverse),
    )


@settings(max_examples=15, deadline=None)
@given(
    st.integers(2, 6),
    st.integers(2, 9),
    st.sampled_from(["correlation", "cosine", "euclidean", "sqeuclidean"]),
    st.sampled_from([np.float32, np.float64, np.int16]),
    st.integers(0, 99),
)
def test_rdms_of_any_data(n, channels, metric, dtype, seed):
    data = (np.random.default_rng(seed).normal(size=(n, channels)) * 50).astype(dtype)
    assert_allclose(
        ours.compute_rdm(data, metric), THEIRS["compute_rdm"](data, metric), rtol=1e-6, atol=1e-6
    )


def test_what_the_kernels_do_not_know_goes_to_mne_rsa():
    gaps = DATA.copy()
    gaps[1, 0, 0] = np.nan
    same(ours.compute_rdm(gaps), THEIRS["compute_rdm"](gaps))
    same(ours.compute_rdm(DATA, "minkowski", p=3), THEIRS["compute_rdm"](DATA, "minkowski", p=3))
    for name in ("compute_rdm", "compute_rdm_cv"):
        data = DATA[:, :1, 0] if name == "compute_rdm" else DATA[:, :, :1]
        with pytest.raises(ValueError, match="only a single feature"):
            getattr(ours, name)(data)
    with pytest.raises(ValueError, match="Unknown"):
        ours.compute_rdm(DATA, "nothing")
    patches = [(slice(0, 5), slice(None), slice(k, k + 3)) for k in range(3)]
    model = RNG.random(10)
    same(ours.rsa_array(DATA, model, patches), THEIRS["rsa_array"](DATA, model, patches))
    for some in ([1, 2], None, [[0, 1], [2, 3]], Ellipsis):
        patches = [(slice(None), some, slice(k, k + 3)) for k in range(2)]
        same(ours.rsa_array(DATA, MODELS, patches), THEIRS["rsa_array"](DATA, MODELS, patches))


@pytest.mark.parametrize("ignore_nan", [False, True])
@pytest.mark.parametrize("metric", METRICS)
def test_similarities_are_those_of_mne_rsa(metric, ignore_nan):
    models = with_gaps(MODELS) if ignore_nan else MODELS
    rdms = list(RNG.random((5, PAIRS)))
    if ignore_nan:
        rdms[1][7] = rdms[3][0] = np.nan
    expected = THEIRS["rsa"](rdms, models, metric, ignore_nan)
    same(ours.rsa(rdms, models, metric, ignore_nan), expected)
    same(ours.rsa(iter(rdms), models, metric, ignore_nan), expected)
    same(list(ours.rsa_gen(rdms, models, metric, ignore_nan)), expected)
    same(list(ours.rsa_gen(iter(rdms), models, metric, ignore_nan)), expected)
    same(
        ours.rsa(rdms, models, metric, ignore_nan, n_jobs=2),
        [next(THEIRS["rsa_gen"]([rdm], models, metric, ignore_nan)) for rdm in rdms],
    )
    if not metric.startswith("partial"):
        square = mne_rsa.squareform(rdms[0])
        same(
            ours.rsa(square, models[1], metric, ignore_nan),
            THEIRS["rsa"](square, models[1], metric, ignore_nan),
        )


@pytest.mark.parametrize("metric", METRICS)
def test_similarities_of_difficult_rdms(metric):
    constant, ties = np.ones(PAIRS), np.repeat([1.0, 2, 3, 4], PAIRS // 4)
    for models in ([ties, MODELS[0]], [MODELS[0], constant], [ties, 2 * ties + 1]):
        if metric.startswith("partial") and models[0] is ties and models[1] is not MODELS[0]:
            continue  # Partial correlations of models that depend on each other are rounding.
        for rdm in (constant, ties[::-1], MODELS[1]):
            expected = THEIRS["rsa"](rdm.copy(), models, metric)
            same(ours.rsa(rdm.copy(), models, metric), expected)


@pytest.mark.parametrize("metric", METRICS)
def test_as_many_rdms_as_pairs_are_no_square_rdm(metric):
    models = list(1.0 - np.eye(3)) if not metric.startswith("partial") else list(RNG.random((2, 3)))
    for rdms in (list(1.0 - np.eye(3)), list(np.zeros((3, 3)))):
        same(ours.rsa(rdms, models, metric), THEIRS["rsa"](rdms, models, metric))
    same(
        ours.rsa_array(DATA[:3], models, searchlight("both", DATA[:3].shape), rsa_metric=metric),
        THEIRS["rsa_array"](
            DATA[:3], models, searchlight("both", DATA[:3].shape), rsa_metric=metric
        ),
    )


@pytest.mark.parametrize(
    "models",
    [
        [MODELS[0], MODELS[1], MODELS[0] + MODELS[1]],
        [MODELS[0] * 1e-13, MODELS[1], MODELS[2] + 1e3],
        [MODELS[0].astype(np.float32), MODELS[1].astype(np.float32) + 1000],
        [MODELS[0] > 0.5, np.full(PAIRS, 0.1)],
        list(RNG.random((PAIRS + 2, PAIRS))),
    ],
    ids=["dependent", "scales", "single precision", "constant", "more than pairs"],
)
def test_regressions_on_difficult_models(models):
    rdms = list(RNG.random((40, PAIRS)))
    expected = THEIRS["rsa"](rdms, models, "regression")
    assert_allclose(ours.rsa(rdms, models, "regression"), expected, rtol=1e-9, atol=1e-9)


def test_partial_correlations_do_not_depend_on_units():
    options = {"data_rdm_metric": "sqeuclidean", "rsa_metric": "partial"}
    found = ours.rsa_array(1e-13 * DATA, MODELS, searchlight("both"), **options)
    same(found, THEIRS["rsa_array"](DATA, MODELS, searchlight("both"), **options))


@pytest.mark.filterwarnings("always::RuntimeWarning")
def test_rdms_without_similarity_are_named():
    with pytest.warns(RuntimeWarning, match="rdm_data: 1 of 2 RDMs have no similarity"):
        ours.rsa([MODELS[0], np.ones(PAIRS)], MODELS[1])
    data = DATA.copy()
    data[:, :, 0] = 1
    with pytest.warns(RuntimeWarning, match="X: 1 of 12 RDMs have no similarity"):
        ours.rsa_array(data, MODELS, mne_rsa.searchlight(DATA.shape, temporal_radius=0))


def test_a_generator_is_compared_rdm_by_rdm():
    seen = []

    def rdms():
        for k in range(3):
            seen.append(k)
            yield MODELS[k]

    values = ours.rsa_gen(rdms(), MODELS[0])
    assert_allclose(next(values), 1)
    assert seen == [0]


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("metric", METRICS)
def test_searchlights_are_those_of_mne_rsa(metric, pattern):
    # Half of the cases for each pair, so that each is tried with three metrics and three patterns.
    even = (METRICS.index(metric) + PATTERNS.index(pattern)) % 2 == 0
    for folds, ignore_nan in ((False, even), (True, not even)):
        models = with_gaps(MODELS) if ignore_nan else MODELS
        if folds:
            models = [model[:6] for model in MODELS]
        options = {"rsa_metric": metric, "ignore_nan": ignore_nan, **(FOLDS if folds else {})}
        same(
            ours.rsa_array(DATA, models, searchlight(pattern), **options),
            THEIRS["rsa_array"](DATA, models, searchlight(pattern), **options),
        )


@pytest.mark.parametrize(
    "metric", ["correlation", "cosine", "euclidean", "sqeuclidean", "cityblock"]
)
def test_searchlights_of_each_distance(metric):
    options = {"data_rdm_metric": metric}
    same(
        ours.rsa_array(DATA, MODELS[0], searchlight("both"), **options),
        THEIRS["rsa_array"](DATA, MODELS[0], searchlight("both"), **options),
    )
    for folds in ({}, FOLDS):
        found = ours.rdm_array(DATA, searchlight("both"), metric, **folds)
        expected = THEIRS["rdm_array"](DATA, searchlight("both"), metric, **folds)
        assert found.shape == expected.shape
        assert len(found) == len(expected)
        same(next(found), next(expected))
        same(list(found), list(expected)[-len(found) :])


@pytest.mark.parametrize("pattern", ["both", "listed"])
def test_places_of_a_searchlight_are_those_of_its_patches(pattern):
    found = places.places_of(searchlight(pattern), DATA.shape)
    expected = places.places_of(list(searchlight(pattern)), DATA.shape)
    for name in ("neighbours", "windows"):
        for one, other in zip(getattr(found, name), getattr(expected, name), strict=True):
            np.testing.assert_array_equal(one, other)
    # Windows after the end of the data are empty, which is mne-rsa's to refuse.
    longer = searchlight("both", (N, SERIES, 2 * SAMPLES))
    assert places.places_of(longer, DATA.shape) is None


def test_a_searchlight_of_an_array_of_series():
    def patches():
        series = np.array([[0, 1], [2, 5]])
        return mne_rsa.searchlight(DATA.shape, spatial_radius=series, temporal_radius=1)

    same(ours.rsa_array(DATA, MODELS, patches()), THEIRS["rsa_array"](DATA, MODELS, patches()))


def test_data_without_time_and_without_space():
    flat = DATA[:, :, 0]
    for patches in (
        lambda: mne_rsa.searchlight(flat.shape, DISTANCES, 0.25),
        lambda: mne_rsa.searchlight(flat.shape, temporal_radius=1),
    ):
        same(ours.rsa_array(flat, MODELS, patches()), THEIRS["rsa_array"](flat, MODELS, patches()))
    same(
        ours.rsa_array(DATA.astype(np.float32), MODELS, searchlight("both")),
        THEIRS["rsa_array"](DATA.astype(np.float32), MODELS, searchlight("both")),
    )


@pytest.mark.parametrize("metric", METRICS)
def test_patches_that_are_constant_or_not_finite(metric):
    data = DATA.copy()
    data[:, :3] = 1
    models = MODELS if metric.startswith("partial") else MODELS[:1]
    if metric in ("partial", "partial-spearman", "regression"):
        # NaN has no inverse there.
        data[1:, :3] = RNG.normal(size=(N - 1, 3, SAMPLES))
    options = {"rsa_metric": metric, "ignore_nan": metric not in ("spearman", "kendall-tau-a")}
    options["data_rdm_metric"] = "euclidean" if metric == "kendall-tau-a" else "correlation"
    if metric == "pearson":
        # Nothing is left of constant patches: mne-rsa ends there.
        data[1:, :3] = RNG.normal(size=(N - 1, 3, SAMPLES))
    same(
        ours.rsa_array(data, models, searchlight("both"), **options),
        THEIRS["rsa_array"](data, models, searchlight("both"), **options),
    )


def test_blocks_change_nothing(monkeypatch):
    whole = list(ours.rdm_array(DATA, searchlight("both")))
    scores = ours.rsa_array(DATA, MODELS, searchlight("both"), rsa_metric="regression")
    for size in (1, 2000):
        monkeypatch.setattr(places, "_BLOCK", size)
        np.testing.assert_array_equal(list(ours.rdm_array(DATA, searchlight("both"))), whole)
        same(ours.rsa_array(DATA, MODELS, searchlight("both"), rsa_metric="regression"), scores)
    monkeypatch.setattr(places, "_WINDOWS", 1)
    same(list(ours.rdm_array(DATA, searchlight("both"))), whole)


def test_labels_bring_items_into_the_order_of_the_models():
    if "labels_X" not in peer.inspect.signature(THEIRS["rsa_array"]).parameters:
        pytest.skip("this mne-rsa has no labels")
    options = {"labels_X": list("hgfedcba"), "labels_rdm_model": list("abcdefgh")}
    found = ours.rsa_array(DATA, MODELS, searchlight("time"), **options)
    same(found, THEIRS["rsa_array"](DATA, MODELS, searchlight("time"), **options))
    same(found, ours.rsa_array(DATA[::-1], MODELS, searchlight("time")))
    with pytest.raises(ValueError, match="not present"):
        ours.rsa_array(DATA, MODELS, labels_X=list("xgfedcba"), labels_rdm_model=list("abcdefgh"))


def test_rdms_of_other_items_are_refused():
    with pytest.raises(ValueError, match="rdm_data has an RDM of 15 pairs .* RDMs of 28"):
        ours.rsa(RNG.random(15), MODELS)
    with pytest.raises(TypeError, match="should be a NumPy array"):
        ours.rsa(MODELS, "model")
    with pytest.raises(ValueError, match="Invalid RSA metric"):
        ours.rsa(MODELS, MODELS, "nothing")
    with pytest.raises(ValueError, match="more than one model"):
        ours.rsa(MODELS, MODELS[:1], "partial")
    with pytest.raises(ValueError, match="rdm_data has an RDM of complex128"):
        ours.rsa(MODELS[0] + 1j, MODELS)


def test_accelerate_replaces_functions_everywhere_and_restores_them():
    from importlib import import_module

    import mne_rsa.sensor_level

    def functions():
        return {
            (module.__name__, name): vars(module)[name]
            for module in peer.modules()
            for name in peer.REPLACED
            if name in vars(module) and callable(vars(module)[name])
        }

    before = functions()
    with ours.accelerate() as outer:
        assert mne_rsa.compute_rdm is ours.compute_rdm
        assert "mne_rsa.rsa.rsa_array" in ours.accelerated()
        assert import_module("mne_rsa.rsa").compute_rdm_cv is ours.compute_rdm_cv
        assert mne_rsa.sensor_level.rsa_array is not THEIRS["rsa_array"]
        with pytest.raises(KeyError), ours.accelerate():
            raise KeyError
        assert mne_rsa.compute_rdm is ours.compute_rdm
        same(mne_rsa.compute_rdm(DATA), THEIRS["compute_rdm"](DATA))
        assert all(function is not THEIRS[name] for (_, name), function in functions().items())
    outer.restore()
    assert functions() == before
    plain = ours.accelerate()
    assert mne_rsa.rsa is ours.rsa
    plain.restore()
    assert functions() == before
    assert ours.accelerated() == ()


def test_evokeds_and_epochs_with_acceleration():
    info = mne.create_info(SERIES, 100.0, "mag")
    for k, channel in enumerate(info["chs"]):
        channel["loc"][:3] = [k / 10, 0, 0]
    events = np.column_stack([np.arange(N), np.zeros(N, int), np.arange(N)])
    epochs = mne.EpochsArray(DATA * 1e-12, info, events=events)
    evokeds = [epochs[k].average() for k in range(N)]
    calls = [
        lambda: mne_rsa.rsa_epochs(epochs, MODELS, spatial_radius=0.15, temporal_radius=0.02),
        lambda: mne_rsa.rsa_evokeds(evokeds, MODELS[0], temporal_radius=0.02, rsa_metric="pearson"),
        lambda: mne_rsa.rdm_epochs(epochs, spatial_radius=0.15, temporal_radius=0.02),
    ]
    if "labels_evokeds" not in peer.inspect.signature(mne_rsa.rsa_evokeds).parameters:
        del calls[1]  # mne-rsa 0.9.1 cannot read its own models there.
    for call in calls:
        expected = arrays(call())
        with ours.accelerate():
            found = arrays(call())
        same(found, expected)


def arrays(found):
    found = [found] if hasattr(found, "data") else found
    return [getattr(each, "data", each) for each in found]


def test_arguments_come_in_the_order_of_the_installed_version():
    def older(X, rdm_model, patches=None, n_folds=1, labels_X=None):
        raise AssertionError

    call = peer.with_signature_of(older, lambda **arguments: arguments)
    assert call(1, 2, None, 4) == {"X": 1, "rdm_model": 2, "patches": None, "n_folds": 4}


def test_an_unknown_version_is_named(monkeypatch):
    monkeypatch.setattr(mne_rsa, "__version__", "7.5")
    for call in (ours.accelerate, lambda: ours.compute_rdm(DATA)):
        with pytest.raises(
            ImportError, match=r"mne-rsa 7\.5 is not known to fastrdm.*0\.9 and 1\.0"
        ):
            call()


def test_mne_rsa_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "mne_rsa", None)
    with pytest.raises(MissingExtraError, match=r"fastrdm\[mne\]"):
        ours.accelerate()


def test_older_versions_have_no_labels(monkeypatch):
    from importlib import import_module

    monkeypatch.delattr(import_module("mne_rsa.folds"), "_match_order", raising=False)
    with pytest.raises(TypeError, match="labels are an argument of mne-rsa 1.0"):
        ours.rsa_array(DATA, MODELS, labels_X=list("abcdefgh"))
    # The models are the last axis there.
    assert ours.rsa_array(DATA, MODELS, searchlight("time")).shape == (8, 3)


def test_a_progress_bar(capsys):
    pytest.importorskip("tqdm")
    ours.rsa_array(DATA, MODELS, searchlight("both"), verbose=True)
    assert "48/48" in capsys.readouterr().err
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours.rsa(MODELS, MODELS, verbose=True)
    assert "3/3" in capsys.readouterr().err
