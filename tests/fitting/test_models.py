"""Fits on one part of the data, against plain NumPy, SciPy and rsatoolbox; scores on another."""

import numpy as np
import pytest
import reference
from scipy.optimize import minimize_scalar, nnls
from scipy.spatial.distance import squareform
from scipy.stats import rankdata

import fastrdm
from fastrdm import FixedRdm, InterpolatedRdm, SelectedRdm, WeightedRdm

N = 20
METHODS = ("spearman", "corr", "cosine", "corr_cov", "cosine_cov", "tau-a", "rho-a")


def make(n=N, n_layers=4, n_subjects=5, seed=0):
    """Layers by name, and subjects that mix the second and the third layer."""
    rng = np.random.default_rng(seed)
    rdms = {f"layer{i}": rng.random(n * (n - 1) // 2) for i in range(n_layers)}
    mixture = 0.7 * rdms["layer1"] + 0.3 * rdms["layer2"]
    return rdms, mixture + 0.3 * rng.random((n_subjects, n * (n - 1) // 2))


def pooled_ranks(subjects):
    return np.mean([rankdata(row) for row in subjects], axis=0)


def unit(weights):
    return weights / np.linalg.norm(weights)


def test_weights_of_ranks_are_non_negative_least_squares():
    rdms, subjects = make()
    ranks = np.array([rankdata(rdm) for rdm in rdms.values()])
    y = pooled_ranks(subjects)
    expected = nnls((ranks - ranks.mean(axis=1, keepdims=True)).T, y - y.mean())[0]
    fitted = WeightedRdm().fit(rdms, subjects)
    np.testing.assert_allclose(fitted.weights, unit(expected), atol=1e-9)
    assert fitted.layers == tuple(rdms)
    assert fitted.layer == "layer1"
    assert fitted.is_ranked
    np.testing.assert_allclose(fitted.predict(rdms), fitted.weights @ ranks / 190, rtol=1e-9)


@pytest.mark.parametrize("method", ["corr", "cosine", "corr_cov", "cosine_cov"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_weights_are_those_of_rsatoolbox(method, dtype):
    from rsatoolbox.model import ModelWeighted
    from rsatoolbox.model.fitter import fit_regress_nn
    from rsatoolbox.rdm import RDMs

    rdms, subjects = make(n=12)
    rdms = {name: rdm.astype(dtype) for name, rdm in rdms.items()}
    stack = np.stack([rdm.astype(np.float64) for rdm in rdms.values()])
    found = fit_regress_nn(ModelWeighted("", RDMs(stack)), RDMs(subjects), method=method)
    fitted = WeightedRdm().fit(rdms, subjects, method=method)
    # rsatoolbox solves with V iteratively, with an error of the residual of 1e-5.
    np.testing.assert_allclose(fitted.weights, found, atol=1e-3 if "_cov" in method else 1e-9)
    assert not fitted.is_ranked


@pytest.mark.parametrize("method", ["corr_cov", "cosine_cov"])
def test_whitened_weights_are_least_squares_with_the_inverse_covariance(method):
    rdms, subjects = make(n=12)
    centre = method == "corr_cov"
    stack = np.stack([rdm - centre * rdm.mean() for rdm in rdms.values()])
    base = subjects - centre * subjects.mean(axis=1, keepdims=True)
    pool = (base / np.sqrt((base**2).mean(axis=1, keepdims=True))).mean(axis=0)
    root = np.linalg.cholesky(reference.inverse_covariance((True,) * 66)).T
    expected = nnls(root @ stack.T, root @ pool)[0]
    fitted = WeightedRdm().fit(rdms, subjects, method=method)
    np.testing.assert_allclose(fitted.weights, unit(expected), atol=1e-9)


def test_no_other_weights_correlate_better():
    rdms, subjects = make()
    stack = np.stack(list(rdms.values()))
    fitted = WeightedRdm().fit(rdms, subjects, method="corr")
    best = fastrdm.compare(fitted.predict(rdms), subjects, "corr").mean()
    rng = np.random.default_rng(0)
    others = np.abs(fitted.weights + rng.normal(0, 0.1, (200, 4)))
    assert best >= fastrdm.compare(others @ stack, subjects, "corr").mean(axis=1).max()


def test_a_penalty_is_that_of_augmented_least_squares():
    rdms, subjects = make()
    stack = np.stack(list(rdms.values()))
    x = stack - stack.mean(axis=1, keepdims=True)
    z = (subjects - subjects.mean(axis=1, keepdims=True)) / subjects.std(axis=1, keepdims=True)
    penalty = 0.5 * (x**2).sum(axis=1).mean()
    augmented = np.concatenate([x.T, np.sqrt(penalty) * np.eye(4)])
    expected = nnls(augmented, np.concatenate([z.mean(axis=0), np.zeros(4)]))[0]
    fitted = WeightedRdm(0.5).fit(rdms, subjects, method="corr")
    np.testing.assert_allclose(fitted.weights, unit(expected), atol=1e-9)


def test_inner_folds_choose_among_penalties():
    rdms, subjects = make()
    several = WeightedRdm([0.0, 1e6]).fit(rdms, subjects)
    each = [WeightedRdm(penalty).fit(rdms, subjects).weights for penalty in (0.0, 1e6)]
    np.testing.assert_allclose(several.weights, each[0])
    with pytest.raises(ValueError, match="5 training conditions are too few to choose a setting"):
        WeightedRdm([0.0, 1.0]).fit(rdms, subjects, conditions=range(5))


@pytest.mark.parametrize("method", METHODS)
def test_interpolation_is_the_best_weight_on_a_line(method):
    rdms, subjects = make()
    fitted = InterpolatedRdm().fit(rdms, subjects, method=method)
    assert fitted.weights[[0, 3]].tolist() == [0, 0]
    assert fitted.weights.sum() == pytest.approx(1)
    ordinal = method in ("spearman", "tau-a", "rho-a")
    transform = (lambda rows: np.array([rankdata(row) for row in rows])) if ordinal else np.asarray
    first, second = transform([rdms["layer1"], rdms["layer2"]])
    kind = "corr" if ordinal else method
    pool = pooled_ranks(subjects) if ordinal else None
    if pool is None:
        base = subjects - subjects.mean(axis=1, keepdims=True) * method.startswith("corr")
        pool = (base / np.sqrt((base**2).mean(axis=1, keepdims=True))).mean(axis=0)

    def loss(w):
        return -fastrdm.compare(w * first + (1 - w) * second, pool, kind)[0, 0]

    best = minimize_scalar(loss, bounds=(0, 1), method="bounded", options={"xatol": 1e-9}).x
    assert fitted.weights[1] == pytest.approx(best, abs=1e-5)


def test_interpolation_ends_at_a_layer():
    rdms, _ = make()
    fitted = InterpolatedRdm().fit(rdms, np.stack([rdms["layer3"]] * 2), method="corr")
    np.testing.assert_allclose(fitted.weights, [0, 0, 0, 1], atol=1e-7)
    with pytest.raises(ValueError, match="at least two layers, got one"):
        InterpolatedRdm().fit({"a": rdms["layer0"]}, make()[1])


def test_the_selected_layer_has_the_highest_score():
    rdms, subjects = make()
    target = fastrdm.Target(subjects)
    score = target.score(rdms)
    fitted = SelectedRdm().fit(rdms, target)
    assert fitted.layer == "layer1"
    assert fitted.same_data == pytest.approx(score.value.max())
    np.testing.assert_array_equal(fitted.predict(rdms), rdms["layer1"])
    assert fitted.score(rdms, target).value == pytest.approx(score.value.max())
    assert FixedRdm("layer3").fit(rdms, target).same_data == pytest.approx(score.value[3])
    assert "layer1 1.000" in str(fitted)


def test_a_fit_uses_pairs_of_training_conditions_and_subjects_alone():
    rdms, subjects = make()
    chosen, who = np.array([1, 4, 5, 7, 8, 11, 13, 19]), np.array([0, 3])
    inside = np.isin(np.arange(N), chosen)
    squares = squareform(subjects[0] * 0 + 1) * np.outer(inside, inside) > 0
    pairs = squareform(squares.astype(float)) > 0
    part = {name: rdm[pairs] for name, rdm in rdms.items()}
    expected = WeightedRdm().fit(part, subjects[who][:, pairs])
    spoilt = subjects.copy()
    spoilt[:, ~pairs] = np.random.default_rng(1).random((5, (~pairs).sum()))
    for conditions in (chosen, inside):
        fitted = WeightedRdm().fit(rdms, spoilt, conditions, who)
        np.testing.assert_allclose(fitted.weights, expected.weights, atol=1e-12)


def test_indices_in_another_order_give_the_same_fit():
    rdms, subjects = make()
    fits = [
        WeightedRdm().fit(rdms, subjects, conditions=c).weights
        for c in ([2, 3, 7, 9], [9, 2, 7, 3])
    ]
    np.testing.assert_allclose(*fits, atol=1e-12)


def test_a_score_on_other_conditions_and_subjects_is_that_of_their_part():
    rdms, subjects = make()
    target = fastrdm.Target(subjects)
    fitted = WeightedRdm().fit(rdms, target, conditions=range(10), subjects=[0, 1, 2])
    found = fitted.score(rdms, target, conditions=range(10, 20), subjects=[3, 4])
    rows, columns = np.triu_indices(N, 1)
    pairs = (rows >= 10) & (columns >= 10)
    prediction = fitted.predict({name: rdm[pairs] for name, rdm in rdms.items()})
    rho = fastrdm.compare(prediction, subjects[3:, pairs])
    np.testing.assert_allclose(found.rho, rho, atol=1e-12)
    # Protocol algonauts2019: the upper bound is the similarity to the mean of all subjects, squared.
    bound = fastrdm.compare(subjects[:, pairs].mean(axis=0), subjects[3:, pairs])
    np.testing.assert_allclose(found.ceiling, (bound**2).mean())
    np.testing.assert_allclose(found.percent_nc, 100 * (rho**2).mean() / (bound**2).mean())


def test_weights_fitted_on_one_study_predict_another():
    first, second = make(20), make(15, seed=1)
    fitted = WeightedRdm().fit(first[0], fastrdm.Target(first[1]))
    more = {**dict(reversed(second[0].items())), "another": np.zeros(105)}
    ranks = np.array([rankdata(rdm) for rdm in second[0].values()]) / 105
    np.testing.assert_allclose(fitted.predict(more), fitted.weights @ ranks)
    np.testing.assert_allclose(
        fitted.predict(squareform_each(second[0])), fitted.weights @ ranks, atol=1e-12
    )
    target = fastrdm.Target(second[1])
    assert fitted.score(more, target).value == target.score(fitted.weights @ ranks).value


def squareform_each(rdms):
    return np.stack([squareform(rdm) for rdm in rdms.values()])


def test_a_fit_on_several_studies_uses_all_of_them():
    first, second = make(20), make(15, seed=1)
    targets = [fastrdm.Target(first[1]), fastrdm.Target(second[1])]
    rdms = [first[0], second[0]]
    fitted = SelectedRdm().fit(rdms, targets)
    shares = [t.score(r).percent_nc / 100 for r, t in zip(rdms, targets, strict=True)]
    assert fitted.weights.argmax() == np.mean(shares, axis=0).argmax()
    assert fitted.same_data == pytest.approx(np.mean(shares, axis=0).max())
    centred = [[(rankdata(x) - (len(x) + 1) / 2) / len(x) ** 1.5 for x in r.values()] for r in rdms]
    pools = [pooled_ranks(s) for s in (first[1], second[1])]
    # Each pooled RDM has length 1, whether its subjects agree or not.
    ys = [(p - p.mean()) / np.linalg.norm(p - p.mean()) for p in pools]
    expected = nnls(np.concatenate(centred, axis=1).T, np.concatenate(ys))[0]
    weighted = WeightedRdm([0.0, 1e9]).fit(rdms, targets)
    np.testing.assert_allclose(weighted.weights, unit(expected), atol=1e-9)


def test_subjects_who_agree_do_not_outweigh_another_study():
    """Copies of one subject have the longest pooled RDM."""
    (rdms, subjects), (more, others) = make(20), make(20, seed=1)
    copies = np.repeat(subjects[:1], len(subjects), axis=0)
    one = fastrdm.Target(subjects[:1], ceiling=1)
    alone = WeightedRdm().fit([rdms, more], [one, fastrdm.Target(others)])
    agree = WeightedRdm().fit([rdms, more], [fastrdm.Target(copies), fastrdm.Target(others)])
    np.testing.assert_allclose(alone.weights, agree.weights, atol=1e-12)


def test_pairs_that_a_layer_or_all_subjects_lack_are_left_out():
    rdms, subjects = make()
    rdms["layer0"][3] = np.nan
    subjects[:, 7] = np.nan
    subjects[1, 9] = np.nan
    for method in METHODS[:3]:
        fitted = WeightedRdm().fit(rdms, subjects, nan_policy="omit", method=method)
        left = np.ones(190, bool)
        left[[3, 7]] = False
        ranks = {
            "spearman": lambda x: rankdata(x) - (len(x) + 1) / 2,
            "corr": lambda x: x - x.mean(),
            "cosine": lambda x: x,
        }[method]
        pool = np.zeros(190)
        for row in subjects:
            present = ~np.isnan(row)
            values = rankdata(row[present]) if method == "spearman" else row[present]
            if method == "corr":
                values = (values - values.mean()) / values.std()
            if method == "cosine":
                values = values / np.sqrt((values**2).mean())
            pool[present] += values
        pool = (pool / np.maximum(1, (~np.isnan(subjects)).sum(axis=0)))[left]
        pool -= 0 if method == "cosine" else pool.mean()
        expected = nnls(np.stack([ranks(rdm[left]) for rdm in rdms.values()]).T, pool)[0]
        np.testing.assert_allclose(fitted.weights, unit(expected), atol=1e-9)
    assert np.flatnonzero(np.isnan(fitted.predict(rdms))).tolist() == [3]
    with pytest.raises(ValueError, match="layer 'layer0' has NaN; a fit leaves out such pairs"):
        WeightedRdm().fit(rdms, subjects, nan_policy="propagate")


def test_time_points_are_pooled():
    rdms, subjects = make(n_subjects=6)
    fitted = WeightedRdm().fit(rdms, subjects)
    np.testing.assert_allclose(
        WeightedRdm().fit(rdms, subjects.reshape(3, 2, 190)).weights, fitted.weights, atol=1e-12
    )


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_the_unit_of_rdms_does_not_matter(scale):
    rdms, subjects = make()
    scaled = {name: rdm * scale for name, rdm in rdms.items()}
    for method in METHODS:
        one, other = (WeightedRdm().fit(x, subjects, method=method) for x in (rdms, scaled))
        np.testing.assert_allclose(one.weights, other.weights, atol=1e-9)


def test_a_target_unlike_all_layers_gets_no_weights():
    rdms, _ = make()
    opposite = -sum(rdms.values()) + np.zeros((2, 1))
    with pytest.warns(RuntimeWarning, match="no layer is similar to the target"):
        fitted = WeightedRdm().fit(rdms, opposite, method="corr")
    assert not fitted.weights.any()
    assert fitted.same_data == 0
    assert "no layer" in str(fitted)


def test_equal_layers_and_three_conditions_are_defined():
    rng = np.random.default_rng(0)
    rdm = rng.random(3)
    fitted = WeightedRdm().fit([rdm, rdm], rng.random((4, 3)) + 5 * rdm)
    np.testing.assert_allclose(fitted.weights, [1, 0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rdms": {"a": np.ones(190)}}, r"rdms\['a'\] is constant"),
        ({"rdms": np.ones((1, 190))}, "model 0 of rdms is constant"),
        ({"rdms": np.random.default_rng(0).random((2, 10))}, r"rdms has shape \(2, 10\)"),
        ({"conditions": [0, 1]}, "conditions must be at least 3, got 2"),
        ({"conditions": [0, 1, 1, 2]}, "conditions holds an index twice"),
        ({"conditions": [0, 1, 20]}, "conditions must be from 0 to 19, got 0 to 20"),
        ({"conditions": [0.5, 1, 2]}, "conditions must be indices from 0 to 19 or a mask"),
        ({"subjects": []}, "subjects must be indices"),
        ({"subjects": [5]}, "subjects must be from 0 to 4, got 5 to 5"),
        ({"method": "nothing"}, "method 'nothing' is not one of"),
        ({"protocol": "nothing"}, "protocol 'nothing' is not one of"),
        ({"seed": -1}, "seed must be an integer"),
        ({"inner_folds": 1}, "inner_folds must be at least 2"),
    ],
)
def test_what_cannot_be_fitted_is_refused(change, message):
    rdms, subjects = make()
    with pytest.raises(ValueError, match=message):
        SelectedRdm().fit(**{"rdms": rdms, "target": subjects} | change)


def test_studies_that_do_not_match_are_refused():
    rdms, subjects = make()
    target = fastrdm.Target(subjects)
    with pytest.raises(ValueError, match="lists 2 studies, so rdms must list"):
        SelectedRdm().fit([rdms], [target, target])
    with pytest.raises(ValueError, match=r"rdms\[1\] and rdms\[0\] differ in their layers"):
        SelectedRdm().fit([rdms, dict(reversed(rdms.items()))], [target, target])
    with pytest.raises(ValueError, match=r"target\[1\] and target\[0\] differ in their protocol"):
        SelectedRdm().fit([rdms, rdms], [target, fastrdm.Target(subjects, "rsatoolbox")])
    with pytest.raises(ValueError, match="conditions and subjects are for a fit on one study"):
        SelectedRdm().fit([rdms, rdms], [target, target], conditions=range(5))


def test_a_fitted_model_refuses_other_layers():
    rdms, subjects = make()
    fitted = SelectedRdm().fit(rdms, subjects)
    with pytest.raises(ValueError, match="rdms lacks layers of the fitted model: layer0"):
        fitted.predict({"layer1": rdms["layer1"]})
    with pytest.raises(ValueError, match="rdms has 3 layers, but the model was fitted on 4"):
        fitted.predict(np.ones((3, 190)))
    with pytest.raises(ValueError, match="expected RDMs of the layers"):
        fitted.predict(np.ones(190))
    with pytest.raises(ValueError, match="there is no layer 'x'; rdms has layer0"):
        FixedRdm("x").fit(rdms, subjects)
    with pytest.raises(ValueError, match="ridge_weight must be one or several numbers"):
        WeightedRdm(-1.0)


def test_one_subject_has_a_score_without_a_ceiling():
    rdms, subjects = make(n_subjects=1)
    fitted = WeightedRdm().fit(rdms, subjects)
    score = fitted.score(rdms, subjects, conditions=range(10))
    assert np.isfinite(score.value).all()
    assert np.isnan(score.percent_nc).all()
