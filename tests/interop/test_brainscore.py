"""Metrics with Brain-Score's interface against its formulas, written with NumPy, SciPy and scikit-learn."""

import sys
import types

import numpy as np
import pytest

from fastrdm.interop import brainscore

xr = pytest.importorskip("xarray")
selection = pytest.importorskip("sklearn.model_selection")

N, REPEATS, UNITS = 40, 4, 6
RNG = np.random.default_rng(3)
STIMULI = [f"im{i:02d}" for i in range(N)]
OBJECTS = [("face", "car", "chair", "dog")[i % 4] for i in range(N)]
LAYER = RNG.standard_normal((N, 30))
TRUTH = LAYER @ RNG.standard_normal((30, UNITS)) / 5
TRIALS = TRUTH + RNG.standard_normal((REPEATS, N, UNITS))
MEANS = TRIALS.mean(axis=0)


def target(order=range(N)):
    """Return trials as an assembly whose stimuli first occur in an order."""
    rows = [(i, k) for k in range(REPEATS) for i in order]
    coords = {
        "stimulus_id": ("presentation", [STIMULI[i] for i, _ in rows]),
        "object_name": ("presentation", [OBJECTS[i] for i, _ in rows]),
        "repetition": ("presentation", [k for _, k in rows]),
        "neuroid_id": ("neuroid", [f"n{i}" for i in range(UNITS)]),
        "animal": ("neuroid", ["Chabo", "Tito"] * 3),
    }
    values = np.stack([TRIALS[k, i] for i, k in rows])
    return xr.DataArray(values, coords, ("presentation", "neuroid"))


def model(order=range(N), **coordinates):
    order = list(order)
    return brainscore.activations_assembly(
        LAYER[order], [STIMULI[i] for i in order], layer="conv", **coordinates
    )


def rdm_similarity(first, second):
    from scipy.stats import spearmanr

    upper = np.triu_indices(len(first), 1)
    return spearmanr(1 - np.corrcoef(first)[upper], 1 - np.corrcoef(second)[upper])[0]


def cka_similarity(first, second, unbiased=True):
    def hsic(k, other):
        n = len(k)
        if not unbiased:
            h = np.eye(n) - 1 / n
            return np.sum((h @ k @ h) * (h @ other @ h))
        k, other = (each - np.diag(np.diag(each)) for each in (k, other))
        whole = (k * other).sum() + k.sum() * other.sum() / ((n - 1) * (n - 2))
        return (whole - 2 / (n - 2) * (k @ other).sum()) / (n * (n - 3))

    k, other = first @ first.T, second @ second.T
    return hsic(k, other) / np.sqrt(hsic(k, k) * hsic(other, other))


METRICS = {
    "rdm": (brainscore.RdmMetric, rdm_similarity),
    "cka": (brainscore.CkaMetric, cka_similarity),
    "cka biased": (
        lambda **options: brainscore.CkaMetric(False, **options),
        lambda a, b: cka_similarity(a, b, False),
    ),
}


@pytest.mark.parametrize("name", METRICS)
def test_similarities(name):
    metric, oracle = METRICS[name]
    shuffled = np.random.default_rng(0).permutation(N)
    found = metric()(model(shuffled), target())
    assert isinstance(found, xr.DataArray)
    assert float(found) == pytest.approx(oracle(LAYER, MEANS), abs=1e-9)


@pytest.mark.parametrize("stratify", ["object_name", None])
@pytest.mark.parametrize("name", ["rdm", "cka"])
def test_cross_validated_similarities(name, stratify):
    metric, oracle = METRICS[name]
    found = metric(crossvalidated=True, stratify=stratify)(model(), target())
    kind = selection.StratifiedShuffleSplit if stratify else selection.ShuffleSplit
    splits = kind(10, test_size=0.9, random_state=1).split(np.zeros(N), OBJECTS)
    raw = [oracle(LAYER[test], MEANS[test]) for _, test in splits]
    np.testing.assert_allclose(found.attrs["raw"], raw, atol=1e-9)
    assert float(found) == pytest.approx(np.mean(raw), abs=1e-9)
    assert float(found.attrs["error"]) == pytest.approx(np.std(raw) / np.sqrt(10))


@pytest.mark.parametrize("regression", ["pls", "ridge"])
@pytest.mark.parametrize("stratify", ["object_name", None])
def test_predictivity(regression, stratify):
    from sklearn.cross_decomposition import PLSRegression
    from sklearn.linear_model import Ridge

    # The splits depend on the order of the target, and not on that of the model.
    order = np.random.default_rng(1).permutation(N)
    metric = brainscore.PredictivityMetric(regression, n_components=5, stratify=stratify)
    found = metric(model(), target(order))
    oracle = Ridge(alpha=1) if regression == "ridge" else PLSRegression(5, scale=False)
    kind = selection.StratifiedShuffleSplit if stratify else selection.ShuffleSplit
    splitter = kind(10, train_size=0.9, random_state=1)
    x, y = LAYER[order], MEANS[order]
    raw = []
    for train, test in splitter.split(x, np.array(OBJECTS)[order]):
        predicted = oracle.fit(x[train], y[train]).predict(x[test])
        raw.append([np.corrcoef(predicted[:, i], y[test, i])[0, 1] for i in range(UNITS)])
    assert found.attrs["raw"].dims == ("split", "neuroid")
    assert found.attrs["raw"].animal.values.tolist() == ["Chabo", "Tito"] * 3
    np.testing.assert_allclose(found.attrs["raw"], raw, atol=1e-6)
    medians = np.median(raw, axis=1)
    assert float(found) == pytest.approx(np.mean(medians), abs=1e-6)
    assert float(found.attrs["error"]) == pytest.approx(np.std(medians) / np.sqrt(10), abs=1e-6)


def test_ceiling_and_explained_variance():
    found = brainscore.internal_consistency(target())
    splitter = selection.ShuffleSplit(10, train_size=0.5, random_state=1)
    raw = []
    for halves in splitter.split(np.zeros(REPEATS)):
        first, second = (TRIALS[half].mean(axis=0) for half in halves)
        r = np.array([np.corrcoef(first[:, i], second[:, i])[0, 1] for i in range(UNITS)])
        raw.append(2 * r / (1 + r))
    np.testing.assert_allclose(found.attrs["raw"], raw, atol=1e-9)
    assert float(found) == pytest.approx(np.median(raw, axis=1).mean())
    score = brainscore.PredictivityMetric("ridge")(model(), target())
    share = brainscore.explained_variance(score, found)
    assert float(share) == pytest.approx(float(score) ** 2 / float(found))
    assert share.attrs["ceiling"] is found
    assert share.attrs["raw"] is score
    assert share.attrs["error"] is score.attrs["error"]
    assert float(brainscore.explained_variance(0.5, 0.5)) == 0.5


def test_unbiased_cka_without_similarity_is_zero():
    constant = brainscore.activations_assembly(np.ones((N, 3)), STIMULI)
    assert float(brainscore.CkaMetric()(constant, target())) == 0


def test_errors():
    metric = brainscore.RdmMetric()
    with pytest.raises(ValueError, match="assembly1 is a ndarray with no named axes; expected an"):
        metric(LAYER, target())
    with pytest.raises(ValueError, match=r"assembly2 is a DataArray with the axes \(event\)"):
        metric(model(), xr.DataArray(np.zeros(3), dims="event"))
    with pytest.raises(ValueError, match="differ in their stimuli: assembly2 alone has im00"):
        metric(model(range(1, N)), target())
    twice = xr.concat([target(), target()], "time_bin")
    with pytest.raises(ValueError, match=r"axes \(time_bin 2, presentation 160, neuroid 6\)"):
        metric(model(), twice)
    with pytest.raises(ValueError, match="assembly2 has no coordinate 'category' to balance"):
        brainscore.PredictivityMetric(stratify="category")(model(), target())
    with pytest.raises(ValueError, match="train_size = 2 must be between 0 and 1"):
        brainscore.PredictivityMetric(train_size=2)
    with pytest.raises(ValueError, match="regression"):
        brainscore.PredictivityMetric("lasso")
    with pytest.raises(ValueError, match="has one repeat of each stimulus"):
        brainscore.internal_consistency(model())
    lacking = target()
    lacking[lacking.stimulus_id == "im03", 2] = np.nan
    with pytest.raises(ValueError, match="assembly2 has no response of neuroid 2 to stimulus 3"):
        metric(model(), lacking)
    with pytest.raises(ValueError, match="stimuli has 3 values, but activations have 40 rows"):
        brainscore.activations_assembly(LAYER, STIMULI[:3])
    with pytest.raises(ValueError, match="activations have shape"):
        brainscore.activations_assembly(LAYER[0], STIMULI)


def fake_core(monkeypatch, **classes):
    """Put a package in place of brainscore_core, which needs older versions of xarray and NumPy."""
    for name in ("", ".metrics", ".supported_data_standards", ".supported_data_standards.brainio"):
        monkeypatch.setitem(sys.modules, f"brainscore_core{name}", types.ModuleType("core"))
    module = types.ModuleType("assemblies")
    name = "brainscore_core.supported_data_standards.brainio.assemblies"
    monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(brainscore.importlib.util, "find_spec", lambda name: object())
    for key, value in classes.items():
        holder = module if key == "NeuroidAssembly" else sys.modules["brainscore_core.metrics"]
        setattr(holder, key, value)


def test_classes_of_brainscore_are_returned(monkeypatch):
    class Score(xr.DataArray):
        __slots__ = ()

    class NeuroidAssembly(xr.DataArray):
        __slots__ = ()

    fake_core(monkeypatch, Score=Score, NeuroidAssembly=NeuroidAssembly)
    source = model()
    assert type(source) is NeuroidAssembly
    found = brainscore.PredictivityMetric("ridge")(source, target())
    assert type(found) is type(found.attrs["raw"]) is Score


def test_an_unknown_version_of_brainscore(monkeypatch):
    fake_core(monkeypatch)
    with pytest.raises(ValueError, match="this version of brainscore_core is not known: it has no"):
        model()
