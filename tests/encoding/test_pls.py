"""Partial least squares from products against scikit-learn on the activations."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cross_decomposition import PLSRegression

from fastrdm.encoding import Responses
from fastrdm.encoding.pls import pls_predictions, side_of
from fastrdm.rdm import gram


def layer_and_responses(n, n_channels, n_units, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    layer = rng.standard_normal((n, n_channels)) + 1
    weights = rng.standard_normal((n_channels, n_units)) / np.sqrt(n_channels)
    responses = layer @ weights + rng.standard_normal((n, n_units)) + 5
    return layer.astype(dtype), responses.astype(dtype)


@settings(deadline=None, max_examples=30)
@given(
    n=st.integers(10, 40),
    n_channels=st.integers(1, 60),
    n_units=st.integers(1, 50),
    n_folds=st.integers(2, 4),
    n_components=st.integers(1, 4),
    dtype=st.sampled_from([np.float32, np.float64]),
    seed=st.integers(0, 2**32 - 1),
)
def test_predictions_are_those_of_scikit_learn(
    n, n_channels, n_units, n_folds, n_components, dtype, seed
):
    layer, responses = layer_and_responses(n, n_channels, n_units, seed, dtype)
    n_components = min(n_components, n_channels)
    score = Responses(responses).score(
        gram(layer), "pls", n_components=n_components, folds=n_folds, keep_predictions=True
    )
    assert score.alphas is None
    for fold in range(n_folds):
        test = score.folds == fold
        model = PLSRegression(n_components, scale=False).fit(
            np.float64(layer[~test]), np.float64(responses[~test])
        )
        expected = model.predict(np.float64(layer[test])).reshape(-1, n_units)
        atol = 1e-9 if dtype == np.float64 else 1e-6
        np.testing.assert_allclose(score.predictions[0, 0][test], expected, rtol=0, atol=atol)


@pytest.mark.parametrize("n_channels", [10, 100])
def test_each_number_of_components(n_channels):
    layer, responses = layer_and_responses(40, n_channels, 60)
    train, test = np.arange(30), np.arange(30, 40)
    side = side_of(gram(layer), train, test)
    centred = responses[train] - responses[train].mean(axis=0)
    for k, predictions in enumerate(pls_predictions(side, centred, 8), 1):
        model = PLSRegression(k, scale=False).fit(layer[train], responses[train])
        expected = model.predict(layer[test]) - responses[train].mean(axis=0)
        np.testing.assert_allclose(predictions, expected, rtol=0, atol=1e-10)


def test_an_exhausted_layer_keeps_its_last_prediction():
    layer, responses = layer_and_responses(20, 3, 4)
    wide = layer @ np.random.default_rng(1).standard_normal((3, 30))
    measured = Responses(responses)
    three, more = (
        measured.score(gram(wide), "pls", n_components=k, keep_predictions=True).predictions
        for k in (3, 8)
    )
    np.testing.assert_allclose(more, three, rtol=0, atol=1e-9)


def test_exhausted_responses_keep_their_last_prediction():
    layer, _ = layer_and_responses(20, 30, 1)
    score = Responses(np.stack([layer[:, 0], 2 * layer[:, 0]], axis=1)).score(
        gram(layer), "pls", n_components=15, keep_predictions=True
    )
    assert np.isfinite(score.predictions).all()


def test_more_components_than_possible_are_refused():
    layer, responses = layer_and_responses(20, 5, 3)
    measured = Responses(responses)
    with pytest.raises(ValueError, match="n_components is 6, but layer 0 has 5 channels"):
        measured.score(gram(layer), "pls", n_components=6)
    with pytest.raises(ValueError, match="16 training conditions, which allow at most 15"):
        measured.score(gram(np.tile(layer, 9)), "pls", n_components=16)
    with pytest.raises(ValueError, match="n_components must be at least 1"):
        measured.score(gram(layer), "pls", n_components=0)
    assert measured.score(gram(layer), "pls").r.shape == (1, 1, 3)


def test_options_of_the_other_method_are_refused():
    layer, responses = layer_and_responses(20, 5, 3)
    measured = Responses(responses)
    with pytest.raises(ValueError, match="method 'pls' takes no alphas"):
        measured.score(gram(layer), "pls", alphas=[1.0])
    with pytest.raises(ValueError, match="method 'ridge' takes no n_components"):
        measured.score(gram(layer), n_components=3)
