"""Ridge regression from products against scikit-learn on the activations."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge, RidgeCV

from fastrdm.encoding import Responses
from fastrdm.encoding.decomposition import decomposed
from fastrdm.encoding.ridge import ridge_predictions
from fastrdm.rdm import gram

ALPHAS = np.logspace(-1, 4, 6)


def layer_and_responses(n, n_channels, n_units, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    layer = rng.standard_normal((n, n_channels)) + 1
    weights = rng.standard_normal((n_channels, n_units)) / np.sqrt(n_channels)
    responses = layer @ weights + rng.standard_normal((n, n_units)) + 5
    return layer.astype(dtype), responses.astype(dtype)


def peer(layer, responses, folds, alphas):
    """Held-out predictions and penalties of scikit-learn."""
    predictions = np.empty(responses.shape)
    chosen = np.empty((folds.max() + 1, responses.shape[1]))
    for fold in range(folds.max() + 1):
        test = folds == fold
        model = RidgeCV(alphas, alpha_per_target=True)
        model.fit(np.float64(layer[~test]), np.float64(responses[~test]))
        predictions[test] = model.predict(np.float64(layer[test])).reshape(-1, responses.shape[1])
        chosen[fold] = model.alpha_
    return predictions, chosen


@settings(deadline=None, max_examples=40)
@given(
    n=st.integers(8, 40),
    n_channels=st.integers(1, 60),
    n_units=st.integers(1, 5),
    n_folds=st.integers(2, 6),
    n_alphas=st.integers(1, 6),
    dtype=st.sampled_from([np.float32, np.float64]),
    seed=st.integers(0, 2**32 - 1),
)
def test_scores_are_those_of_scikit_learn(n, n_channels, n_units, n_folds, n_alphas, dtype, seed):
    layer, responses = layer_and_responses(n, n_channels, n_units, seed, dtype)
    score = Responses(responses).score(
        gram(layer), folds=n_folds, alphas=ALPHAS[:n_alphas], seed=seed, keep_predictions=True
    )
    predictions, chosen = peer(layer, responses, score.folds, ALPHAS[:n_alphas])
    atol = 1e-9 if dtype == np.float64 else 1e-6
    assert (score.alphas[0, 0] == chosen).all()
    np.testing.assert_allclose(score.predictions[0, 0], predictions, rtol=0, atol=atol)
    for unit in range(n_units):
        y, p = np.float64(responses[:, unit]), predictions[:, unit]
        assert score.r[0, 0, unit] == pytest.approx(np.corrcoef(y, p)[0, 1], abs=atol)
        assert score.r2[0, 0, unit] == pytest.approx(
            1 - np.sum((y - p) ** 2) / np.sum((y - y.mean()) ** 2), abs=10 * atol
        )
        for fold in range(n_folds):
            y, p = (
                a[score.folds == fold]
                for a in (np.float64(responses[:, unit]), predictions[:, unit])
            )
            if len(y) > 1:
                r = score.r_folds[0, 0, fold, unit]
                assert r == pytest.approx(np.corrcoef(y, p)[0, 1], abs=atol)
                r2 = 1 - np.sum((y - p) ** 2) / np.sum((y - y.mean()) ** 2)
                assert score.r2_folds[0, 0, fold, unit] == pytest.approx(r2, rel=1e-6, abs=atol)


@settings(deadline=None, max_examples=20)
@given(n=st.integers(6, 20), n_channels=st.integers(1, 30), seed=st.integers(0, 999))
def test_leave_one_out_errors_choose_the_penalty(n, n_channels, seed):
    layer, responses = layer_and_responses(n, n_channels, 2, seed)
    train, test = np.arange(n - 2), np.arange(n - 2, n)
    fold = decomposed(gram(layer), train, test)
    _, chosen = ridge_predictions(fold, responses[train] - responses[train].mean(axis=0), ALPHAS)
    errors = np.zeros((len(ALPHAS), 2))
    for k, alpha in enumerate(ALPHAS):
        for i in train:
            rest = np.setdiff1d(train, i)
            model = Ridge(alpha).fit(layer[rest], responses[rest])
            errors[k] += (model.predict(layer[i : i + 1])[0] - responses[i]) ** 2
    np.testing.assert_array_equal(chosen, ALPHAS[errors.argmin(axis=0)])


@pytest.mark.parametrize("n_channels", [1, 5, 11, 20])
def test_both_sides_are_equal(n_channels):
    layer, responses = layer_and_responses(15, n_channels, 4)
    made = gram(layer)
    products = SimpleNamespace(
        products=made.products, features=None, n_channels=n_channels, n_conditions=15
    )
    features = SimpleNamespace(
        products=None, features=layer, n_channels=n_channels, n_conditions=15
    )
    train, test = np.arange(12), np.arange(12, 15)
    centred = responses[train] - responses[train].mean(axis=0)
    predictions = [
        ridge_predictions(decomposed(side, train, test), centred, ALPHAS)
        for side in ([products, features] if n_channels < 11 else [products, made])
    ]
    np.testing.assert_allclose(predictions[0][0], predictions[1][0], rtol=0, atol=1e-12)
    np.testing.assert_array_equal(predictions[0][1], predictions[1][1])


def test_one_penalty_is_kernel_ridge():
    layer, responses = layer_and_responses(30, 50, 3)
    score = Responses(responses).score(gram(layer), folds=3, alphas=2.5, keep_predictions=True)
    for fold in range(3):
        test = score.folds == fold
        means, mean = layer[~test].mean(axis=0), responses[~test].mean(axis=0)
        model = KernelRidge(alpha=2.5).fit(layer[~test] - means, responses[~test] - mean)
        expected = model.predict(layer[test] - means) + mean
        np.testing.assert_allclose(score.predictions[0, 0][test], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("n_channels", [2, 40])
def test_singular_layers(n_channels):
    """Equal conditions and equal channels."""
    layer, responses = layer_and_responses(24, n_channels, 3)
    layer[12:] = layer[:12]
    layer[:, 1] = layer[:, 0]
    score = Responses(responses).score(gram(layer), alphas=ALPHAS, keep_predictions=True)
    predictions, chosen = peer(layer, responses, score.folds, ALPHAS)
    assert (score.alphas[0, 0] == chosen).all()
    np.testing.assert_allclose(score.predictions[0, 0], predictions, rtol=0, atol=1e-9)


def test_three_conditions():
    layer, responses = layer_and_responses(3, 4, 2)
    score = Responses(responses).score(gram(layer), folds=3, alphas=1.0, keep_predictions=True)
    predictions, _ = peer(layer, responses, score.folds, [1.0])
    np.testing.assert_allclose(score.predictions[0, 0], predictions, rtol=0, atol=1e-12)
    assert np.isnan(score.r_folds).all()
    assert score.r[0, 0, 0] == pytest.approx(np.corrcoef(responses[:, 0], predictions[:, 0])[0, 1])


def test_default_penalties_follow_the_scale_of_the_layer():
    layer, responses = layer_and_responses(40, 60, 4)
    measured = Responses(responses)
    first, second = measured.score([gram(layer), gram(layer * 1000)]).r
    np.testing.assert_allclose(first, second, rtol=0, atol=1e-9)
    mean = np.trace(gram(layer).centred()) / 40
    powers = np.log10(measured.score(gram(layer)).alphas / mean)
    np.testing.assert_allclose(powers, powers.round(), rtol=0, atol=1e-9)
    assert powers.min() > -5.1
    assert powers.max() < 4.1


@pytest.mark.parametrize(
    ("alphas", "words"),
    [
        (0.0, "alphas must be positive and finite, not 0"),
        ([1, -2], "not -2"),
        ([1, np.nan], "not nan"),
        ([1, np.inf], "not inf"),
        ([], r"alphas has shape \(0,\)"),
        ([[1, 2]], r"alphas has shape \(1, 2\)"),
    ],
)
def test_wrong_penalties_are_refused(alphas, words):
    layer, responses = layer_and_responses(10, 4, 2)
    with pytest.raises(ValueError, match=words):
        Responses(responses).score(gram(layer), alphas=alphas)
