"""Intervals and tests of predictions of responses."""

import numpy as np
import pytest

import fastrdm
from fastrdm.inference import draws

ALPHAS = [1.0, 10.0, 100.0]


def data(n_subjects=5, n=40, n_units=8, noise=1.0, seed=0):
    rng = np.random.default_rng(seed)
    layer, other = rng.standard_normal((2, n, 30))
    weights = rng.standard_normal((n_subjects, 30, n_units)) / np.sqrt(30)
    responses = layer @ weights + noise * rng.standard_normal((n_subjects, n, n_units))
    grams = {"layer": fastrdm.gram(layer), "other": fastrdm.gram(other)}
    return fastrdm.Responses(responses), grams, responses


@pytest.mark.parametrize("over", ["subjects", "conditions", "both", "units"])
def test_draws_are_those_of_an_oracle(over):
    measured, grams, responses = data()
    result = fastrdm.response_bootstrap(measured, grams, over, n_draws=20, alphas=ALPHAS, seed=3)
    score = measured.score(grams, alphas=ALPHAS, keep_predictions=True, seed=3)
    n_subjects, n = responses.shape[:2]
    subjects = draws.draw_indices(3, draws.SUBJECTS, 20, n_subjects)
    conditions = draws.draw_indices(3, draws.CONDITIONS, 20, n)

    def r_of(model, subject, rows):
        pairs = zip(responses[subject].T, score.predictions[model, subject].T, strict=True)
        return np.array([np.corrcoef(y[rows], p[rows])[0, 1] for y, p in pairs])

    expected = np.empty((20, 2))
    for draw in range(20):
        rows = conditions[draw] if over in ("conditions", "both") else np.arange(n)
        chosen = subjects[draw] if over in ("subjects", "both") else np.arange(n_subjects)
        for model in range(2):
            values = []
            for subject in chosen:
                r = r_of(model, subject, rows)
                if over == "units":
                    stream = draws.UNITS + 8 * subject
                    r = r[draws.draw_indices(3, stream, 20, len(r))[draw]]
                values.append(np.median(r))
            expected[draw, model] = np.mean(values)
    np.testing.assert_allclose(result.evaluations[0], expected, rtol=0, atol=1e-10)
    np.testing.assert_allclose(result.value, score.median.mean(axis=1), rtol=0, atol=1e-12)
    assert len(result.evaluations) == (3 if over == "both" else 1)
    assert result.n_units == 8
    interval = result.interval(0.8)
    assert ((interval[:, 0] < result.value) & (result.value < interval[:, 1])).all()
    assert result.interval(0.8, "bca").shape == (2, 2)
    assert result.compare_models().p.shape == (1,)
    assert type(result).from_json(result.to_json()) == result
    assert "median r of ridge" in str(result)


def test_draws_of_conditions_omit_what_is_lacking():
    _, grams, responses = data()
    responses[1, :5, 2] = np.nan
    measured = fastrdm.Responses(responses, nan_policy="omit")
    result = fastrdm.response_bootstrap(measured, grams, "conditions", n_draws=5)
    assert np.isfinite(result.evaluations).all()


def test_units_may_differ_between_subjects():
    _, grams, responses = data()
    measured = fastrdm.Responses([responses[0], responses[1][:, :3]])
    for over in ("subjects", "conditions", "units"):
        result = fastrdm.response_bootstrap(measured, grams, over, n_draws=5)
        assert result.evaluations.shape == (1, 5, 2)
        assert np.isfinite(result.evaluations).all()


def test_the_layer_that_responses_come_from_is_found():
    measured, grams, _ = data(noise=0.5)
    result = fastrdm.response_test(measured, grams, n_permutations=99, alphas=ALPHAS)
    assert result.names == ("layer", "other")
    assert result.p[0] == result.p_corrected[0] == 0.01
    assert result.p[1] > 0.05
    np.testing.assert_allclose(
        result.estimate, measured.score(grams, alphas=ALPHAS).median.mean(axis=1)
    )


def test_permuted_scores_are_those_of_permuted_responses():
    measured, grams, responses = data()
    orders = np.random.default_rng(1).permuted(np.tile(np.arange(40), (2, 1)), axis=1)
    for method in ("ridge", "pls"):
        found = measured.score_permuted(grams, orders, method)
        for k, order in enumerate(orders):
            expected = fastrdm.Responses(responses[:, order]).score(grams, method).median
            np.testing.assert_allclose(found[k], expected, rtol=0, atol=1e-9)
    with pytest.raises(ValueError, match=r"orders has shape \(1, 40\); each must be a permutation"):
        measured.score_permuted(grams, np.zeros((1, 40), int))


def test_conditions_are_exchanged_within_folds():
    measured, grams, responses = data(n_subjects=1)
    folds = np.arange(40) // 8
    # Without the differences between folds, nothing remains to be exchanged.
    flat = fastrdm.Responses(responses - responses + folds[:, None] + np.arange(8))
    result = fastrdm.response_test(
        flat, grams["layer"], n_permutations=19, folds=folds, within_folds=True
    )
    assert result.p[0] == 1
    again = [
        fastrdm.response_test(measured, grams, n_permutations=9, folds=folds, within_folds=w).p
        for w in (True, False)
    ]
    assert np.shape(again) == (2, 2)
    with pytest.raises(ValueError, match="no fold has two conditions to exchange"):
        fastrdm.response_test(
            measured, grams, n_permutations=9, folds=np.arange(40), within_folds=True
        )


def test_layers_without_r_have_no_p():
    measured, grams, _ = data()
    grams["flat"] = fastrdm.gram(np.ones((40, 3)))
    with pytest.warns(RuntimeWarning) as caught:
        result = fastrdm.response_test(measured, grams, n_permutations=9)
    assert "p is NaN for layers without r: flat" in str(caught[-1].message)
    assert np.isnan(result.p).tolist() == [False, False, True]


def test_functions_for_rdms_take_responses():
    measured, grams, _ = data()
    first = fastrdm.bootstrap(measured, grams, "subjects", n_draws=5, seed=2)
    second = fastrdm.response_bootstrap(measured, grams, "subjects", n_draws=5, seed=2)
    np.testing.assert_array_equal(first.evaluations, second.evaluations)
    one = fastrdm.permutation_test(measured, grams, n_permutations=4, seed=2)
    two = fastrdm.response_test(measured, grams, n_permutations=4, seed=2)
    np.testing.assert_array_equal(one.p, two.p)
    with pytest.raises(ValueError, match="protocol is an option for RDMs"):
        fastrdm.bootstrap(measured, grams, protocol="rsatoolbox")
    with pytest.raises(ValueError, match="names is an option for RDMs"):
        fastrdm.permutation_test(measured, grams, names=["a", "b"])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda r, g: fastrdm.response_bootstrap(r, g, "voxels"), "over 'voxels' is not one of"),
        (lambda r, g: fastrdm.response_bootstrap(r, g, n_draws=1), "n_draws must be at least 2"),
        (lambda r, g: fastrdm.response_bootstrap(r, g, seed=-1), "seed must be an integer"),
        (lambda r, g: fastrdm.response_bootstrap(r, g), "at least 2 subjects, not 1"),
        (lambda r, g: fastrdm.response_bootstrap(r, g, "units"), "at least 2 units"),
        (lambda r, g: fastrdm.response_test(r, g, alternative="up"), "alternative 'up'"),
        (lambda r, g: fastrdm.response_test(r, g, n_permutations=0), "n_permutations"),
        (lambda r, g: fastrdm.response_test(r, g, correction="fwe"), "correction 'fwe'"),
        (lambda r, g: fastrdm.response_test(r, g, method="lasso"), "method 'lasso'"),
    ],
)
def test_wrong_arguments_are_refused(call, words):
    measured, grams, _ = data(n_subjects=1, n_units=1)
    with pytest.raises(ValueError, match=words):
        call(measured, grams)
