"""Cross-validation against a plain loop over folds; what is held out has no influence; results and errors."""

import numpy as np
import pytest
from scipy.optimize import nnls
from scipy.stats import rankdata, spearmanr, t

import fastrdm
from fastrdm import FixedRdm, InterpolatedRdm, SelectedRdm, WeightedRdm, cross_validate
from fastrdm.fitting.folds import random_folds

N, S = 18, 6
ROWS, COLUMNS = np.triu_indices(N, 1)


def make(n=N, n_subjects=S, seed=0):
    rng = np.random.default_rng(seed)
    rdms = {f"layer{i}": rng.random(n * (n - 1) // 2) for i in range(4)}
    subjects = 0.6 * rdms["layer1"] + 0.4 * rdms["layer2"]
    return rdms, subjects + 0.5 * rng.random((n_subjects, n * (n - 1) // 2))


def within(conditions):
    return conditions[ROWS] & conditions[COLUMNS]


def centred_ranks(rows):
    return np.array([rankdata(row) - (len(row) + 1) / 2 for row in rows])


def weigh(stack, subjects):
    return nnls(centred_ranks(stack).T, centred_ranks(subjects).mean(axis=0))[0]


def select(stack, subjects):
    scores = [np.mean([spearmanr(x, y).statistic for y in subjects]) for x in stack]
    return np.eye(len(stack))[np.argmax(scores)]


@pytest.mark.parametrize(("model", "fit"), [(WeightedRdm(), weigh), (SelectedRdm(), select)])
def test_values_are_those_of_a_plain_loop(model, fit):
    rdms, subjects = make()
    stack = np.stack(list(rdms.values()))
    conditions, groups = np.arange(N) % 3, np.array([0, 0, 1, 1, 2, 2])
    result = cross_validate(model, rdms, subjects, conditions, groups)
    for k in range(3):
        held_in, held_out = within(conditions != k), within(conditions == k)
        for s in range(S):
            training = groups != groups[s]
            weights = fit(stack[:, held_in], subjects[training][:, held_in])
            prediction = weights @ centred_ranks(stack[:, held_out])
            expected = spearmanr(prediction, subjects[s, held_out]).statistic
            assert result.values[k, s] == pytest.approx(expected, abs=1e-9)
            lower, upper = result.ceilings[:, k, s]
            pools = [centred_ranks(subjects[who][:, held_out]) for who in (training, slice(None))]
            pools = [
                spearmanr(pool.mean(axis=0), subjects[s, held_out]).statistic for pool in pools
            ]
            assert [lower, upper] == pytest.approx(pools, abs=1e-9)
    assert result.score == pytest.approx(result.values.mean())
    np.testing.assert_allclose(
        result.per_fold, result.values.reshape(3, 3, 2).mean(axis=2), rtol=1e-12
    )
    assert result.weights.shape == (3, 3, 4)
    assert result.percent_nc == pytest.approx(100 * result.score / result.ceilings[0].mean())


@pytest.mark.filterwarnings("ignore:no layer is similar")
@pytest.mark.parametrize("model", [WeightedRdm([0.0, 0.5]), SelectedRdm(), InterpolatedRdm()])
def test_held_out_data_and_mixed_pairs_have_no_influence_on_a_fit(model):
    rdms, subjects = make()
    conditions, groups = np.arange(N) % 3, np.arange(S) % 2
    result = cross_validate(model, rdms, subjects, conditions, groups)
    rng = np.random.default_rng(1)
    spoilt = {name: rdm.copy() for name, rdm in rdms.items()}
    noisy = subjects.copy()
    outside = ~within(conditions != 0)
    for rdm in spoilt.values():
        rdm[outside] = rng.random(outside.sum())
    noisy[:, outside] = rng.random((S, outside.sum()))
    noisy[groups == 1] = rng.random(noisy[groups == 1].shape)
    again = cross_validate(model, spoilt, noisy, conditions, groups)
    np.testing.assert_array_equal(again.weights[0, 1], result.weights[0, 1])
    mixed = ~(within(conditions == 0) | within(conditions != 0))
    noisy = subjects.copy()
    noisy[:, mixed] = rng.random((S, mixed.sum()))
    again = cross_validate(model, rdms, noisy, conditions, groups)
    np.testing.assert_array_equal(again.values[0], result.values[0])


def test_a_fixed_layer_is_the_mean_similarity_of_the_parts():
    rdms, subjects = make()
    conditions = np.arange(N) % 3
    result = cross_validate(FixedRdm("layer1"), rdms, subjects, conditions)
    for k in range(3):
        part = within(conditions == k)
        expected = fastrdm.compare(rdms["layer1"][part], subjects[:, part])[0]
        np.testing.assert_allclose(result.values[k], expected, rtol=1e-12)
    assert result.chosen == {"layer1": 3 * S}


def test_one_factor_alone_can_be_held_out():
    rdms, subjects = make()
    only_subjects = cross_validate(SelectedRdm(), rdms, subjects, None)
    assert only_subjects.values.shape == (1, S)
    bound = fastrdm.noise_ceiling(subjects, pool="rank", squared=False)
    np.testing.assert_allclose(only_subjects.ceilings[0, 0], bound.lower_per_subject)
    only_conditions = cross_validate(SelectedRdm(), rdms, subjects, 3, None)
    assert only_conditions.weights.shape == (3, 1, 4)
    assert only_conditions.per_fold.shape == (3, 1)
    fold = only_conditions.condition_folds == 0
    bound = fastrdm.noise_ceiling(subjects[:, within(fold)], pool="rank", squared=False)
    np.testing.assert_allclose(only_conditions.ceilings[1, 0], bound.upper_per_subject)


def test_one_subject_is_judged_on_other_conditions():
    rdms, subjects = make(n_subjects=1)
    result = cross_validate(WeightedRdm(), rdms, subjects, 3, None)
    assert np.isfinite(result.score)
    assert np.isnan(result.ceilings).all()
    assert np.isnan(result.percent_nc)
    assert result.interval() == result.interval(over="conditions")
    with pytest.raises(ValueError, match="one subject cannot be held out"):
        cross_validate(WeightedRdm(), rdms, subjects)


def test_the_target_decides_how_rdms_are_compared():
    rdms, subjects = make()
    target = fastrdm.Target(subjects, fastrdm.PROTOCOLS["algonauts2019"])
    result = cross_validate(WeightedRdm(), rdms, target, 3, 2)
    assert (result.method, result.bound) == ("spearman", "upper")
    squared_alike = cross_validate(WeightedRdm(), rdms, subjects, 3, 2)
    np.testing.assert_array_equal(result.values, squared_alike.values)
    for method in ("corr", "cosine_cov", "tau-a"):
        assert cross_validate(WeightedRdm(), rdms, target, 3, method=method).score > 0.2


def test_folds_follow_from_the_seed():
    rdms, subjects = make()
    one, same, other = (
        cross_validate(WeightedRdm([0.0, 1.0]), rdms, subjects, 3, 3, seed=s) for s in (0, 0, 1)
    )
    np.testing.assert_array_equal(one.values, same.values)
    assert (one.condition_folds != other.condition_folds).any()
    sizes = np.bincount(random_folds(4, 18, 0, 0))
    assert sizes.max() - sizes.min() <= 1


def test_missing_pairs_are_left_out():
    rdms, subjects = make()
    subjects[0, 5] = np.nan
    rdms["layer3"][20] = np.nan
    result = cross_validate(WeightedRdm(), rdms, subjects, 3, nan_policy="omit")
    assert np.isfinite(result.values).all()
    assert np.isfinite(result.ceilings).all()


def test_the_interval_is_that_of_a_crossed_random_design():
    rdms, subjects = make()
    result = cross_validate(SelectedRdm(), rdms, subjects, 3)
    values = result.values
    over_subjects = values.mean(axis=0)
    half = t.ppf(0.95, S - 1) * over_subjects.std(ddof=1) / np.sqrt(S)
    assert result.interval(0.9, "subjects") == pytest.approx(
        (result.score - half, result.score + half)
    )
    k, s = values.shape
    rest = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0) + values.mean()
    mk, ms = s * values.mean(axis=1).var(ddof=1), k * over_subjects.var(ddof=1)
    mr = (rest**2).sum() / ((k - 1) * (s - 1))
    total = max(mk + ms - mr, mk, ms)
    dof = total**2 / (mk**2 / (k - 1) + ms**2 / (s - 1) + mr**2 / ((k - 1) * (s - 1)))
    if total == mk:
        dof = k - 1
    elif total == ms:
        dof = s - 1
    half = t.ppf(0.975, dof) * np.sqrt(total / (k * s))
    assert result.interval() == pytest.approx((result.score - half, result.score + half))


def test_the_result_shows_the_biased_score_beside_the_held_out_one():
    rdms, subjects = make()
    result = cross_validate(SelectedRdm(), rdms, subjects, 3, 2, seed=5)
    lines = str(result).splitlines()
    assert lines[0].startswith(f"selected RDM, spearman: {result.score:.4f} held out [")
    assert lines[0].endswith("3 folds of conditions, 2 folds of subjects, seed 5")
    assert lines[1] == f"on the data of the fit: {result.same_data:.4f}, biased upwards"
    assert lines[2].startswith("largest weight in 6 fits: layer1")
    best = fastrdm.compare(np.stack(list(rdms.values())), subjects).mean(axis=1).max()
    assert result.same_data == pytest.approx(best)


def test_folds_without_a_similar_layer_count_as_zero():
    rdms, _ = make()
    opposite = -sum(rdms.values()) + 0.1 * np.random.default_rng(0).random((4, 153))
    with pytest.warns(RuntimeWarning, match="similar to the training subjects in 12 of 12 folds"):
        result = cross_validate(WeightedRdm(), rdms, opposite, 3)
    assert result.score == 0
    assert result.chosen == {}


def test_constant_held_out_parts_are_named():
    rdms, subjects = make()
    conditions = np.arange(N) % 3
    subjects[2, within(conditions == 1)] = 1
    with pytest.warns(RuntimeWarning, match="the first is condition fold 1, subject 2"):
        result = cross_validate(WeightedRdm(), rdms, subjects, conditions)
    assert np.isnan(result.score)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"condition_folds": None, "subject_folds": None}, "nothing would be held out"),
        ({"condition_folds": 7}, "condition_folds=7 needs at least 21 conditions, 3 for each fold"),
        ({"condition_folds": 1}, "condition_folds must be at least 2"),
        ({"condition_folds": [0, 1]}, r"a label for each of 18 conditions, got shape \(2,\)"),
        ({"condition_folds": ["a"] * 18}, "condition_folds has one label, a"),
        ({"condition_folds": ["a"] * 2 + ["b"] * 16}, "fold a has 2 of 18 conditions"),
        ({"subject_folds": 7}, "subject_folds=7 needs at least 7 subjects"),
        ({"subject_folds": "all"}, "subject_folds 'all' is neither a number"),
        ({"seed": 0.5}, "seed must be an integer"),
        ({"inner_folds": 0}, "inner_folds must be at least 2"),
    ],
)
def test_folds_that_cannot_be_are_refused(change, message):
    rdms, subjects = make()
    with pytest.raises(ValueError, match=message):
        cross_validate(SelectedRdm(), rdms, subjects, **change)


def test_intervals_need_two_of_what_they_generalise_to():
    rdms, subjects = make()
    result = cross_validate(SelectedRdm(), rdms, subjects, None)
    with pytest.raises(ValueError, match="over both needs at least two, and there is one fold"):
        result.interval(over="both")
    with pytest.raises(ValueError, match="over 'all' is not one of"):
        result.interval(over="all")
    with pytest.raises(ValueError, match="level must be between 0 and 1"):
        result.interval(95)
