"""Banded and stacked ridge regression against scikit-learn and SciPy on the activations."""

import numpy as np
import pytest
from scipy.optimize import nnls
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.model_selection import LeaveOneOut, cross_val_predict

import fastrdm
from fastrdm.encoding import several_layers

ALPHAS = np.logspace(-2, 2, 5)


def data(n=24, widths=(50, 40), n_units=5, seed=0, noise=0.5):
    rng = np.random.default_rng(seed)
    layers = [rng.standard_normal((n, width)) * 3 + 1 for width in widths]
    responses = noise * rng.standard_normal((n, n_units))
    for unit in range(n_units):
        layer = layers[unit % len(layers)]
        responses[:, unit] += layer @ rng.standard_normal(layer.shape[1]) / layer.shape[1]
    return layers, fastrdm.gram({f"l{k}": each for k, each in enumerate(layers)}), responses


def scaled(layers):
    """Layers whose centred Gram matrices have the mean eigenvalue 1."""
    return [each / np.sqrt(each.var(axis=0).sum()) for each in layers]


@pytest.mark.parametrize("widths", [(50, 40), (3, 5), (2, 60), (4, 5, 6)])
@pytest.mark.parametrize("kept", [1 << 30, 0])
def test_banded_is_the_best_weighted_ridge(widths, kept, monkeypatch):
    monkeypatch.setattr(several_layers, "_KEPT", kept)
    layers, grams, responses = data(widths=widths)
    weights = np.random.default_rng(1).dirichlet(np.ones(len(widths)), 4)
    weights[0], weights[1] = np.eye(len(widths))[:2]
    score = fastrdm.Responses(responses).score(
        grams, "banded", folds=3, alphas=ALPHAS, weights=2 * weights, keep_predictions=True
    )
    assert score.names == (" + ".join(grams),)
    assert score.layers == tuple(grams)
    assert score.weights.shape == (len(widths), 1, 3, 5)
    for fold in range(3):
        test = score.folds == fold
        best, expected = np.full(5, -np.inf), np.empty((test.sum(), 5))
        chosen, penalties = np.empty((len(widths), 5)), np.empty(5)
        for weight in weights:
            joined = np.hstack(
                [x * np.sqrt(w) for x, w in zip(scaled(layers), weight, strict=True)]
            )
            model = RidgeCV(ALPHAS, alpha_per_target=True).fit(joined[~test], responses[~test])
            better = model.best_score_ > best
            best[better] = model.best_score_[better]
            expected[:, better] = model.predict(joined[test])[:, better]
            chosen[:, better], penalties[better] = weight[:, None], model.alpha_[better]
        found = score.predictions[0, 0][test]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
        np.testing.assert_allclose(score.weights[:, 0, fold], chosen, rtol=0, atol=1e-12)
        np.testing.assert_array_equal(score.alphas[0, 0, fold], penalties)


def test_one_layer_banded_is_ridge():
    layers, grams, responses = data()
    measured = fastrdm.Responses(responses)
    scale = layers[0].var(axis=0).sum()
    banded = measured.score(grams["l0"], "banded", alphas=ALPHAS)
    ridge = measured.score(grams["l0"], alphas=ALPHAS * scale)
    np.testing.assert_allclose(banded.r, ridge.r, rtol=0, atol=1e-9)
    np.testing.assert_allclose(
        measured.score(grams["l0"], "banded").r, measured.score(grams["l0"]).r, rtol=0, atol=1e-9
    )


@pytest.mark.parametrize("widths", [(50, 40), (3, 5), (4, 50, 6)])
def test_stacked_is_non_negative_least_squares_on_leave_one_out_predictions(widths):
    layers, grams, responses = data(widths=widths)
    score = fastrdm.Responses(responses).score(
        grams, "stacked", folds=3, alphas=ALPHAS, keep_predictions=True
    )
    assert score.alphas is None
    assert score.weights.shape == (len(widths), 1, 3, 5)
    for fold in range(3):
        test = score.folds == fold
        mean = responses[~test].mean(axis=0)
        for unit in range(5):
            y, inner, outer = responses[~test, unit], [], []
            for layer in layers:
                model = Ridge(RidgeCV(ALPHAS).fit(layer[~test], y).alpha_)
                inner.append(cross_val_predict(model, layer[~test], y, cv=LeaveOneOut()))
                outer.append(model.fit(layer[~test], y).predict(layer[test]))
            weights, _ = nnls(np.transpose(inner) - mean[unit], y - mean[unit])
            expected = mean[unit] + (np.transpose(outer) - mean[unit]) @ weights
            np.testing.assert_allclose(score.weights[:, 0, fold, unit], weights, atol=1e-9)
            found = score.predictions[0, 0][test, unit]
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("method", ["banded", "stacked"])
def test_each_unit_gets_its_layer(method):
    _, grams, responses = data(n=80, widths=(20, 30), n_units=6, noise=0.02)
    grams["flat"] = fastrdm.gram(np.full((80, 4), 0.1))
    measured = fastrdm.Responses([responses, responses[:, :3]])
    score = measured.score(grams, method)
    for weights in score.weights:
        assert (weights[:2].mean(axis=1).argmax(axis=0) == np.arange(weights.shape[2]) % 2).all()
    alone = measured.score({"l0": grams["l0"], "l1": grams["l1"]}).median
    assert score.median[0, 0] > alone[:, 0].max() + 0.3


def test_r_is_zero_without_weights():
    """A layer that predicts nothing must not disappear from the median over units."""
    rng = np.random.default_rng(3)
    responses = np.hstack([rng.standard_normal((40, 6)), np.ones((40, 1))])
    measured = fastrdm.Responses(responses)
    with pytest.warns(RuntimeWarning, match="units 6 of subject 0, with constant responses"):
        score = measured.score(fastrdm.gram(rng.standard_normal((40, 5))), "stacked", folds=4)
    nothing = (score.weights[0, 0] == 0)[:, :6]
    assert nothing.any()
    assert (score.r_folds[0, 0][:, :6][nothing] == 0).all()
    np.testing.assert_array_equal(score.r[0, 0, :6] == 0, nothing.all(axis=0))
    assert np.isnan(score.r[0, 0, 6])


def test_weights_are_seeded():
    draws = several_layers.candidate_weights(3, None, 7)
    assert draws.shape == (24, 3)
    np.testing.assert_allclose(draws.sum(axis=1), 1)
    np.testing.assert_array_equal(draws, several_layers.candidate_weights(3, None, 7))
    assert (draws[4:] != several_layers.candidate_weights(3, None, 8)[4:]).all()
    assert several_layers.candidate_weights(2, 0, None).tolist() == [[1, 0], [0, 1], [0.5, 0.5]]
    assert several_layers.candidate_weights(1, None, 0).tolist() == [[1]]


def test_permutations_take_several_layers():
    _, grams, responses = data()
    result = fastrdm.response_test(
        fastrdm.Responses(responses), grams, n_permutations=9, method="banded", weights=2
    )
    assert result.names == ("l0 + l1",)


@pytest.mark.parametrize(
    ("method", "options", "words"),
    [
        ("banded", {"weights": [[1, 2, 3]]}, r"weights has shape \(1, 3\); pass \(candidates, 2\)"),
        ("banded", {"weights": [[1, -1]]}, "weights must not be negative"),
        ("banded", {"weights": [[0, 0]]}, "one must be positive"),
        ("banded", {"weights": -1}, "weights must be at least 0"),
        ("stacked", {"weights": 3}, "method 'stacked' takes no weights; 'banded' does"),
        ("banded", {"alphas": 0}, "alphas must be positive"),
        ("stacked", {"n_components": 3}, "method 'stacked' takes no n_components"),
    ],
)
def test_wrong_options_are_refused(method, options, words):
    _, grams, responses = data()
    with pytest.raises(ValueError, match=words):
        fastrdm.Responses(responses).score(grams, method, **options)
