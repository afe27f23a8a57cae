"""Responses: forms, missing values, names, ceilings, and what is refused."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest

import fastrdm
from fastrdm.encoding import held_out

ALPHAS = [1.0, 10.0, 100.0]


def data(n_subjects=3, n=30, n_units=6, n_channels=50, seed=0):
    rng = np.random.default_rng(seed)
    layer = rng.standard_normal((n, n_channels))
    weights = rng.standard_normal((n_subjects, n_channels, n_units)) / np.sqrt(n_channels)
    return fastrdm.gram(layer), layer @ weights + 0.5 * rng.standard_normal(
        (n_subjects, n, n_units)
    )


def test_several_layers_and_subjects():
    made, responses = data()
    other = fastrdm.gram(np.random.default_rng(1).standard_normal((30, 10)))
    score = fastrdm.Responses(responses, name="V4").score({"a": made, "b": other}, alphas=ALPHAS)
    assert score.names == ("a", "b")
    assert score.r.shape == score.r2.shape == (2, 3, 6)
    assert score.r_folds.shape == score.r2_folds.shape == score.alphas.shape == (2, 3, 5, 6)
    assert score.predictions is None
    np.testing.assert_allclose(score.median, np.median(score.r, axis=2))
    np.testing.assert_allclose(score.mean, score.r.mean(axis=2))
    np.testing.assert_allclose(score.median_r2, np.median(score.r2, axis=2))
    np.testing.assert_allclose(score.mean_r2, score.r2.mean(axis=2))
    assert str(score).splitlines()[0].startswith("ridge, 5 folds, 3 subjects, 6 units")
    assert len(str(score).splitlines()) == 3
    for form in (other, [other], (other,)):
        alone = fastrdm.Responses(responses).score(form, alphas=ALPHAS)
        assert alone.names == ("0",)
        np.testing.assert_allclose(alone.r[0], score.r[1], rtol=0, atol=1e-12)


def test_blocks_of_units_change_nothing(monkeypatch):
    made, responses = data()
    whole = fastrdm.Responses(responses).score(made, alphas=ALPHAS, keep_predictions=True)
    monkeypatch.setattr(held_out, "_BLOCK", 60)
    blocks = fastrdm.Responses(responses).score(made, alphas=ALPHAS, keep_predictions=True)
    for name in ("r", "r_folds", "r2", "r2_folds", "alphas", "predictions"):
        np.testing.assert_allclose(getattr(blocks, name), getattr(whole, name), rtol=0, atol=1e-11)


def test_repeats_are_averaged_and_may_be_lacking():
    made, responses = data()
    rng = np.random.default_rng(2)
    repeats = responses[:, None] + 0.3 * rng.standard_normal((3, 4, 30, 6))
    repeats[rng.random(repeats.shape) < 0.2] = np.nan
    repeats[:, 0] = np.where(np.isnan(repeats).all(axis=1), 0, repeats[:, 0])
    score = fastrdm.Responses(repeats).score(made, alphas=ALPHAS)
    means = fastrdm.Responses(np.nanmean(repeats, axis=1)).score(made, alphas=ALPHAS)
    np.testing.assert_allclose(score.r, means.r, rtol=0, atol=1e-12)


def test_units_that_differ_between_subjects():
    made, responses = data()
    several = {"one": responses[0], "two": responses[1][:, :4], "three": responses[2][:, :1]}
    score = fastrdm.Responses(several).score({"a": made, "b": made}, keep_predictions=True)
    whole = fastrdm.Responses(responses).score(made)
    assert score.subjects == ("one", "two", "three")
    assert [r.shape for r in score.r] == [(2, 6), (2, 4), (2, 1)]
    assert [r.shape for r in score.r_folds] == [(2, 5, 6), (2, 5, 4), (2, 5, 1)]
    assert [p.shape for p in score.predictions] == [(2, 30, 6), (2, 30, 4), (2, 30, 1)]
    for subject, r in enumerate(score.r):
        np.testing.assert_allclose(r[0], whole.r[0, subject][: r.shape[1]], rtol=0, atol=1e-12)
    assert score.median.shape == (2, 3)
    assert "1 to 6 units" in str(score)


def test_a_unit_is_fitted_on_the_conditions_that_it_has():
    _, responses = data(n_subjects=2)
    layer = np.random.default_rng(5).standard_normal((30, 50))
    responses[0, :7] = np.nan
    responses[1, 3, 2] = responses[1, 4, 2:4] = np.nan
    folds = np.arange(30) % 4
    with pytest.raises(ValueError, match=r"responses\[0\] is NaN in all repeats of condition 0"):
        fastrdm.Responses(responses)
    measured = fastrdm.Responses(responses, nan_policy="omit")
    score = measured.score(fastrdm.gram(layer), folds=folds, alphas=ALPHAS, keep_predictions=True)
    for subject, unit in [(0, 0), (1, 0), (1, 2), (1, 3)]:
        present = ~np.isnan(responses[subject, :, unit])
        alone = fastrdm.Responses(responses[subject][present][:, [unit]]).score(
            fastrdm.gram(layer[present]), folds=folds[present], alphas=ALPHAS, keep_predictions=True
        )
        np.testing.assert_allclose(
            score.r_folds[0, subject, :, unit], alone.r_folds[0, 0, :, 0], rtol=0, atol=1e-12
        )
        assert score.r[0, subject, unit] == pytest.approx(alone.r[0, 0, 0], abs=1e-12)
        predictions = score.predictions[0, subject, :, unit]
        assert np.isnan(predictions[~present]).all()
        np.testing.assert_allclose(
            predictions[present], alone.predictions[0, 0, :, 0], rtol=0, atol=1e-12
        )
    with pytest.raises(ValueError, match=r"units of responses\[1\] lack different conditions"):
        measured.score(fastrdm.gram(layer), "pls")
    one = fastrdm.Responses(responses[0], nan_policy="omit").score(fastrdm.gram(layer), "pls")
    assert np.isfinite(one.r).all()


def test_constant_responses_and_layers_have_no_r():
    made, responses = data()
    responses[1, :, 2] = 0.1
    responses[2, :, 4:] = 0
    flat = fastrdm.gram(np.full((30, 7), 0.3))
    with pytest.warns(RuntimeWarning) as caught:
        score = fastrdm.Responses(responses).score({"a": made, "flat": flat})
    assert len(caught) == 1
    assert str(caught[0].message) == (
        "r is NaN for units 2 of subject 1, with constant responses or too few; units 4, 5 of subject 2, with"
        " constant responses or too few; layer flat, which predicts the same for all conditions"
    )
    assert np.isnan(score.r[0]).sum() == 3
    assert np.isnan(score.r[1]).all()
    assert np.isfinite(score.median[0]).all()
    assert np.isnan(score.median[1]).all()


def test_a_perfect_model_reaches_the_ceiling():
    rng = np.random.default_rng(3)
    layer, other = rng.standard_normal((2, 300, 20))
    signal = layer @ rng.standard_normal((20, 40)) / np.sqrt(20)
    repeats = signal + 1.5 * rng.standard_normal((2, 4, 300, 40))
    measured = fastrdm.Responses(repeats)
    score = measured.score({"other": fastrdm.gram(other), "layer": fastrdm.gram(layer)})
    truth = 1 / (1 + 1.5**2 / 4 / signal.var(axis=0))
    np.testing.assert_allclose(measured.reliability.mean(), truth.mean(), rtol=0, atol=0.02)
    np.testing.assert_allclose(measured.ceiling, np.sqrt(measured.reliability))
    assert np.median(score.normalised[1]) == pytest.approx(1, abs=0.07)
    assert np.median(np.abs(score.normalised[0])) < 0.15
    np.testing.assert_allclose(score.normalised, score.r / measured.ceiling)
    np.testing.assert_allclose(score.normalised_squared, score.normalised**2)
    differing = fastrdm.Responses([repeats[0], repeats[1][:, :, :3]])
    assert [c.shape for c in differing.ceiling] == [(40,), (3,)]
    normalised = differing.score(fastrdm.gram(layer)).normalised
    assert [n.shape for n in normalised] == [(1, 40), (1, 3)]


def test_a_ceiling_needs_repeats():
    made, responses = data()
    score = fastrdm.Responses(responses).score(made)
    with pytest.raises(ValueError, match="repeat"):
        _ = score.normalised


def test_labels_of_conditions_must_agree():
    _, responses = data(n_subjects=1)
    names = [f"image{i}" for i in range(30)]
    table = pd.DataFrame(responses[0], index=names)
    layer = pd.DataFrame(np.random.default_rng(0).standard_normal((30, 5)), index=names)
    measured = fastrdm.Responses(table)
    assert measured.labels.values == tuple(names)
    assert measured.score(fastrdm.gram(layer)).r.shape == (1, 1, 6)
    with pytest.warns(RuntimeWarning, match="layer 0 has its conditions in another order"):
        score = measured.score(fastrdm.gram(layer[::-1]))
    np.testing.assert_array_equal(score.r, measured.score(fastrdm.gram(layer)).r)
    with pytest.raises(ValueError, match="only in layer fc: 'b'; only in the responses: 'image0'"):
        measured.score({"fc": fastrdm.gram(layer.rename({"image0": "b"}))})


def test_responses_cannot_be_changed_and_can_be_pickled():
    made, responses = data()
    measured = fastrdm.Responses(responses, name="V4")
    with pytest.raises(AttributeError, match="name cannot be set"):
        measured.name = "IT"
    with pytest.raises(AttributeError, match="name cannot be deleted"):
        del measured.name
    score = pickle.loads(pickle.dumps(measured.score(made)))
    np.testing.assert_array_equal(score.r, measured.score(made).r)
    assert repr(measured).startswith("Responses(V4: ")
    assert (measured.n_subjects, measured.n_conditions, measured.n_units) == (3, 30, (6, 6, 6))
    assert measured.n_repeats == (1, 1, 1)
    assert measured.means[0].shape == (30, 6)


@pytest.mark.parametrize(
    ("grams", "options", "words"),
    [
        (np.zeros((30, 5)), {}, "grams is of type ndarray; make a Gram of activations"),
        ({"a": np.zeros((30, 5))}, {}, r"grams\['a'\] is of type ndarray"),
        ([], {}, "grams is empty"),
        ({}, {}, "grams is empty"),
        (None, {"method": "lasso"}, "method 'lasso' is not one of: ridge, pls, banded, stacked"),
        (20, {}, "layer 0 has 20 conditions and V4 30"),
        (None, {"folds": [0] * 29 + [1]}, "holds out 29 of 30 conditions"),
    ],
)
def test_wrong_arguments_are_refused(grams, options, words):
    made, responses = data()
    if isinstance(grams, int):
        grams = fastrdm.gram(np.zeros((grams, 5)))
    with pytest.raises(ValueError, match=words):
        fastrdm.Responses(responses, name="V4").score(made if grams is None else grams, **options)


def test_wrong_responses_are_refused():
    with pytest.raises(ValueError, match="nan_policy 'propagate' is not one of: raise, omit"):
        fastrdm.Responses(np.zeros((2, 5, 3)), nan_policy="propagate")
    with pytest.raises(ValueError, match="responses of V4 has shape"):
        fastrdm.Responses(np.zeros(5), name="V4")


def test_units_with_too_few_conditions_have_no_r():
    made, responses = data()
    responses[0, 1:, 0] = np.nan
    responses[0, 2:, 1] = np.nan
    with pytest.warns(RuntimeWarning, match="units 0, 1 of subject 0"):
        score = fastrdm.Responses(responses, nan_policy="omit").score(made)
    assert np.isnan(score.r[0, 0]).tolist() == [True, True, False, False, False, False]


def test_nothing_is_warned_of_usual_data():
    made, responses = data()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fastrdm.Responses(responses).score(made)
        fastrdm.Responses(responses).score(made, "pls")
