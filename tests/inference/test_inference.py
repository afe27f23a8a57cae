import json
import sys

import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import squareform

import fastrdm
from fastrdm import (
    Bootstrap,
    Target,
    TestResult,
    bootstrap,
    compare_models,
    correct,
    max_statistic,
    permutation_test,
    subject_test,
)
from fastrdm._base import MissingExtraError, read_arrays
from fastrdm.inference import draws as random
from fastrdm.similarity import Protocol

SPEARMAN = "rsatoolbox"


def data(n=12, n_subjects=6, n_models=2, times=1, seed=0):
    rng = np.random.default_rng(seed)
    n_pairs = n * (n - 1) // 2
    common = rng.random(n_pairs)
    subjects = common + rng.random((n_subjects, times, n_pairs))
    return subjects, common + rng.random((n_models, n_pairs))


def protocol(method, pool="rank", squared=False):
    return Protocol("own", method, squared, pool, "lower", "here")


def indices(n_draws, subjects, conditions, seed=1):
    rng = np.random.default_rng(seed)
    return {
        "subjects": rng.integers(subjects, size=(n_draws, subjects)),
        "conditions": rng.integers(conditions, size=(n_draws, conditions)),
    }


@pytest.mark.parametrize("method", reference.METHODS)
@pytest.mark.parametrize("pool, squared", [("rank", False), ("raw", True)])
def test_a_bootstrap_over_both_equals_the_oracle(method, pool, squared):
    if method.endswith("_cov"):
        pytest.skip(
            "the oracle has no covariance of repeated conditions; rsatoolbox has, see below"
        )
    subjects, models = data(n=10, n_subjects=4, times=2)
    drawn = indices(4, 4, 10)
    result = bootstrap(subjects, models, draws=drawn, protocol=protocol(method, pool, squared))
    power = 2 if squared else 1
    for d in range(4):
        times, counts = (
            np.bincount(drawn[name][d], minlength=n)
            for name, n in (("subjects", 4), ("conditions", 10))
        )
        ones = np.ones(10, int)
        kinds = [(counts, times), (ones, times), (counts, np.ones(4, int))]
        for kind, (c, t) in enumerate(kinds):
            similarity = np.mean(
                [
                    [
                        [
                            reference.METHODS[method](
                                reference.written(m, c), reference.written(s, c)
                            )
                            for s in row
                        ]
                        for m in models
                    ]
                    for row in subjects.transpose(1, 0, 2)
                ],
                axis=0,
            )
            expected = (similarity**power * t).sum(axis=1) / 4
            np.testing.assert_allclose(result.evaluations[kind, d], expected, atol=1e-12)
            bounds = np.mean(
                [
                    reference.resampled_ceiling(row, c, t, method, pool)
                    for row in subjects.transpose(1, 0, 2)
                ],
                axis=0,
            )
            np.testing.assert_allclose(
                result.ceilings[kind, d], np.nanmean(bounds**power, axis=1), atol=1e-12
            )
    expected = reference.noise_ceiling(subjects, method, pool, squared)
    np.testing.assert_allclose(result.ceiling, expected, atol=1e-12)


@pytest.mark.parametrize("method", ["spearman", "rho-a", "tau-a", "tau-b"])
@pytest.mark.parametrize("over", ["subjects", "conditions", "both"])
def test_bootstrapped_ceilings_do_not_depend_on_the_unit(method, over):
    rng = np.random.default_rng(0)
    subjects = rng.integers(-2, 5, size=(5, 2, 36)).astype(float)
    drawn = {k: v for k, v in indices(3, 5, 9).items() if over in (k, "both")}
    for average in (False, True):
        custom = Protocol("own", method, False, "raw", "lower", "here", average)
        one, *others = (
            bootstrap(subjects / unit, rng.random(36), over, draws=drawn, protocol=custom)
            for unit in (1, 10, 7)
        )
        for other in others:
            np.testing.assert_allclose(other.ceilings, one.ceilings, atol=1e-12)
            np.testing.assert_allclose(other.ceiling, one.ceiling, atol=1e-12)


@pytest.mark.parametrize("method", ["spearman", "corr", "cosine", "tau-a", "cosine_cov"])
@pytest.mark.parametrize("pool", ["raw", "rank"])
def test_an_extreme_subject_costs_bootstrapped_ceilings_no_digits(method, pool):
    subjects, models = data(n=8)
    subjects[0] *= 1e17
    drawn = {"subjects": np.array([[0, 1, 1, 2, 3, 3], [0, 0, 1, 2, 4, 5]])}
    custom = protocol(method, pool)
    ceilings = bootstrap(subjects, models, "subjects", draws=drawn, protocol=custom).ceilings[0]
    for d in range(2):
        times = np.bincount(drawn["subjects"][d], minlength=6)
        # In the oracle the subject is scaled back, because the scale of its RDM does not matter.
        near = subjects[:, 0].copy()
        near[0] /= 1e17
        lower = reference.resampled_ceiling(near, np.ones(8, int), times, method, pool)[0]
        if pool == "raw":
            upper = reference.resampled_ceiling(subjects[:, 0], np.ones(8, int), times, method)[1]
            far = reference.resampled_ceiling(
                subjects[:, 0], np.ones(8, int), times, method, "raw"
            )[0]
            lower = np.where(np.arange(6) == 0, lower, far)
            assert np.isfinite(upper[times > 0]).all()
        np.testing.assert_allclose(ceilings[d, 0], np.nanmean(lower), atol=1e-9)


def test_bootstrapped_ceilings_average_over_time_as_the_protocol_says():
    subjects, models = data(times=3)
    custom = Protocol("own", "spearman", True, "raw", "lower", "here", average_times=True)
    for over in EVALUATIONS:
        ours = bootstrap(subjects, models, over, n_draws=5, protocol=custom)
        averaged = bootstrap(subjects.mean(axis=1), models, over, n_draws=5, protocol=custom)
        np.testing.assert_allclose(ours.ceilings, averaged.ceilings, atol=1e-12)
        separate = bootstrap(
            subjects, models, over, n_draws=5, protocol=protocol("spearman", "raw", True)
        )
        np.testing.assert_array_equal(ours.evaluations, separate.evaluations)
        assert not np.allclose(ours.ceilings, separate.ceilings)


def test_squared_scores_are_shown_with_the_mean_similarity(monkeypatch):
    subjects, models = data()
    models[1] *= -1
    result = bootstrap(subjects, models, "subjects", n_draws=39, protocol="algonauts2019")
    rho = reference.compare(models, subjects[:, 0]).mean(axis=1)
    assert rho[1] < 0 < rho[0]
    np.testing.assert_allclose([row["mean rho"] for row in result.rows()], rho)
    np.testing.assert_allclose(result.mean_rho, rho)
    assert "mean rho" in str(result)
    assert "mean rho" not in str(bootstrap(subjects, models, "subjects", n_draws=39))
    old = result.to_dict()
    del old["mean_rho"]
    again = Bootstrap.from_dict(old)
    assert again.value.tolist() == result.value.tolist() and "mean rho" not in str(again)


def test_draws_of_one_factor_are_part_of_both():
    subjects, models = data()
    both = bootstrap(subjects, models, n_draws=50, seed=3)
    for kind, over in ((1, "subjects"), (2, "conditions")):
        one = bootstrap(subjects, models, over, n_draws=50, seed=3)
        np.testing.assert_array_equal(one.evaluations[0], both.evaluations[kind])
        np.testing.assert_array_equal(one.ceilings[0], both.ceilings[kind])


@pytest.fixture
def challenge_rdms(challenge):
    """Return real subjects, IT for the 92 images, and two models: the means of EVC and of three subjects."""
    arrays = read_arrays(challenge / "Training_Data" / "92_Image_Set" / "target_fmri.mat")
    it, evc = (
        np.array([squareform(r, checks=False) for r in arrays[k]]) for k in ("IT_RDMs", "EVC_RDMs")
    )
    return it, np.stack([evc.mean(axis=0), it[:3].mean(axis=0)])


def of_rsatoolbox(monkeypatch, function, subjects, models, method, drawn):
    """Return the result of an rsatoolbox evaluation on the same draws."""
    inference = pytest.importorskip("rsatoolbox.inference")
    from rsatoolbox.model import ModelFixed
    from rsatoolbox.rdm import RDMs

    order = {"eval_bootstrap_rdm": ("subjects",), "eval_bootstrap_pattern": ("conditions",)}
    names = order.get(function, ("subjects", "conditions"))
    n_draws = len(drawn["subjects"])
    queue = iter([drawn[name][d] for d in range(n_draws) for name in names])
    monkeypatch.setattr(np.random, "randint", lambda low, high, size: next(queue))
    fixed = [ModelFixed(str(i), RDMs(model[None])) for i, model in enumerate(models)]
    result = getattr(inference, function)(fixed, RDMs(subjects), method=method, N=n_draws)
    assert next(queue, None) is None
    return result


EVALUATIONS = {
    "subjects": "eval_bootstrap_rdm",
    "conditions": "eval_bootstrap_pattern",
    "both": "eval_dual_bootstrap",
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("over", EVALUATIONS)
@pytest.mark.parametrize("method", ["spearman", "rho-a", "corr", "cosine", "cosine_cov", "tau-a"])
def test_the_same_draws_equal_rsatoolbox(monkeypatch, challenge_rdms, over, method):
    subjects, models = challenge_rdms
    keep, n_draws = (92, 12) if method == "spearman" else (20, 5)
    subjects, models = (
        np.array([squareform(squareform(r)[:keep, :keep]) for r in rdms])
        for rdms in (subjects, models)
    )
    drawn = indices(n_draws, len(subjects), keep)
    peer = of_rsatoolbox(monkeypatch, EVALUATIONS[over], subjects, models, method, drawn)
    wanted = {k: v for k, v in drawn.items() if over in (k, "both")}
    ours = bootstrap(subjects, models, over, draws=wanted, protocol=protocol(method))
    kinds = peer.evaluations.reshape(n_draws, len(models), -1).transpose(2, 0, 1)
    ceilings = peer.noise_ceiling.reshape(2, n_draws, -1).transpose(2, 1, 0)
    np.testing.assert_allclose(ours.evaluations, kinds, atol=1e-9)
    np.testing.assert_allclose(ours.ceilings, ceilings, atol=1e-9)
    np.testing.assert_allclose(ours.variance, peer.model_var, atol=1e-9)
    assert ours.dof == peer.dof
    pairs = ours.compare_models(correction=None)
    np.testing.assert_allclose((pairs.estimate / pairs.statistic) ** 2, peer.diff_var, atol=1e-9)
    low, high = ours.interval(0.5, dof=peer.dof).T
    half = (peer.get_ci(0.5)[1] - peer.get_ci(0.5)[0]) / 2
    np.testing.assert_allclose((high - low) / 2, half, atol=1e-9)
    if over != "both":  # whose percentiles rsatoolbox takes of the mean of the three kinds
        expected = np.stack(peer.get_ci(0.5, "bootstrap"), axis=-1).reshape(len(models), 2)
        np.testing.assert_allclose(ours.interval(0.5, "percentile"), expected, atol=1e-9)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("over", EVALUATIONS)
def test_other_draws_equal_rsatoolbox_within_monte_carlo_error(monkeypatch, challenge_rdms, over):
    subjects, models = challenge_rdms
    subjects, models = (
        np.array([squareform(squareform(r)[:24, :24]) for r in rdms[:8]])
        for rdms in (subjects, models)
    )
    n_draws = 150
    peer = of_rsatoolbox(
        monkeypatch,
        EVALUATIONS[over],
        subjects,
        models,
        "spearman",
        indices(n_draws, len(subjects), 24, seed=7),
    )
    ours = bootstrap(subjects, models, over, n_draws=4000, seed=8)
    # The variance of n draws has a relative standard error of about √(2/n). Allow three standard errors, and more over
    # both, a difference of three variances.
    tolerance = 3 * np.sqrt(2 / n_draws) * (2 if over == "both" else 1)
    np.testing.assert_allclose(ours.variance, peer.model_var, rtol=tolerance)
    low, high = (
        np.quantile(peer.evaluations.reshape(n_draws, len(models), -1)[..., 0], q, axis=0)
        for q in (0.1, 0.9)
    )
    spread = np.sqrt(peer.evaluations.reshape(n_draws, len(models), -1)[..., 0].var(axis=0))
    np.testing.assert_allclose(
        ours.interval(0.8, "percentile").T,
        [low, high],
        atol=float(5 * spread.max() / np.sqrt(n_draws)),
    )


@pytest.mark.parametrize("method", ["spearman", "corr", "tau-a"])
@pytest.mark.parametrize("over", EVALUATIONS)
def test_threads_change_no_bit(kernels, method, over):
    subjects, models = data()
    one, eight = (
        bootstrap(
            subjects, models, over, n_draws=20, seed=5, n_threads=n, protocol=protocol(method)
        )
        for n in (1, 8)
    )
    assert one == eight
    one, eight = (
        permutation_test(
            subjects, models, n_permutations=99, seed=5, n_threads=n, protocol=protocol(method)
        )
        for n in (1, 8)
    )
    assert one == eight


def test_over_both_t_has_the_degrees_of_freedom_of_a_sum_of_variances():
    subjects, models = data(n_models=3)
    result = bootstrap(subjects, models, n_draws=200)
    pairs = result.compare_models(correction=None)
    differences = result.evaluations[:, :, [0, 0, 1]] - result.evaluations[:, :, [1, 2, 2]]
    _, of_subjects, of_conditions = differences.var(axis=1, ddof=1)
    a, b = of_subjects * 6 / 5, of_conditions * 12 / 11
    dof = (a + b) ** 2 / (a**2 / 5 + b**2 / 11)
    np.testing.assert_allclose(pairs.p, 2 * stats.t.sf(np.abs(pairs.statistic), dof), rtol=1e-9)
    half = np.diff(pairs.interval)[:, 0] / 2
    error = pairs.estimate / pairs.statistic
    np.testing.assert_allclose(half, stats.t.ppf(0.975, dof) * error, rtol=1e-9)
    value, error = result.value, result.standard_error
    _, of_subjects, of_conditions = result.evaluations.var(axis=1, ddof=1)
    a, b = of_subjects * 6 / 5, of_conditions * 12 / 11
    dof = (a + b) ** 2 / (a**2 / 5 + b**2 / 11)
    half = np.diff(result.interval())[:, 0] / 2
    np.testing.assert_allclose(half, stats.t.ppf(0.975, dof) * error, rtol=1e-9)
    p = result.test(correction=None).p
    np.testing.assert_allclose(p, stats.t.sf(value / error, dof), rtol=1e-9)
    alike = bootstrap(subjects, models[[0, 0]], n_draws=20).compare_models()
    assert alike.p == 1


def test_seeds_and_lengths():
    subjects, models = data()
    short, long = (bootstrap(subjects, models, n_draws=n, seed=2) for n in (10, 30))
    np.testing.assert_array_equal(short.evaluations, long.evaluations[:, :10])
    assert bootstrap(subjects, models, n_draws=10, seed=1) != short
    assert random.draw_indices(3, 0, 5, 7).tolist() == random.draw_indices(3, 0, 9, 7)[:5].tolist()


@given(st.integers(2, 1000), st.integers(0, 2**64 - 1))
def test_draws_follow_from_the_random_words(n, seed):
    words = np.random.Philox(key=np.array([seed, 1], np.uint64)).random_raw(6)
    expected = [(int(word) >> 32) * n >> 32 for word in words]
    assert (
        random.draw_indices(seed, 1, 1, n)[0, :6].tolist() == expected[:n]
    )  # one in four million is rejected


def test_rejected_words_are_replaced(monkeypatch):
    # With n = 3 the word 0 is rejected, because 2**32 % 3 is 1.
    streams = {0: [0, 1 << 63, (1 << 64) - 1], 1: [1 << 63]}
    monkeypatch.setattr(
        random, "_words", lambda seed, stream, attempt, n: np.array(streams[attempt][:n], np.uint64)
    )
    assert random.draw_indices(0, 0, 1, 3).tolist() == [[1, 1, 2]]


def test_draws_are_uniform():
    counts = random.count(random.draw_indices(0, 1, 20_000, 10), 10).sum(axis=0)
    assert stats.chisquare(counts).pvalue > 0.001
    permutations = random.draw_permutations(0, 24_000, 4)
    codes = np.unique(permutations @ [64, 16, 4, 1], return_counts=True)[1]
    assert len(codes) == 24 and stats.chisquare(codes).pvalue > 0.001
    signs = random.draw_signs(0, 10_000, 5)
    assert set(signs.ravel()) == {-1, 1} and abs(signs.mean()) < 0.02
    assert len({tuple(row) for row in random.all_signs(5)}) == 32
    assert len({tuple(row) for row in random.all_permutations(4)}) == 24


def test_a_target_brings_its_protocol_and_names_its_models():
    subjects, models = data(times=2)
    target = Target(subjects, "algonauts2019")
    ours = bootstrap(target, models, "subjects", n_draws=20, names=["a", "b"])
    assert ours.squared and ours.pool == "raw" and ours.names == ("a", "b")
    np.testing.assert_allclose(ours.value, target.score(models).value)
    np.testing.assert_allclose(
        ours.ceiling, [target.noise_ceiling.lower, target.noise_ceiling.upper]
    )
    same = bootstrap(squareform_all(subjects), squareform_all(models), "subjects", n_draws=20,
                     names=["a", "b"], protocol="algonauts2019")  # fmt: skip
    assert same == ours


def squareform_all(rdms):
    return fastrdm.square(rdms)


def test_nan_is_omitted_or_refused():
    subjects, models = data()
    subjects[1, 0, 5] = models[0, 7] = np.nan
    with pytest.raises(
        ValueError,
        match="subject_rdms has a value that is not finite: NaN at subject 1, time 0, pair 5",
    ):
        bootstrap(subjects, models)
    drawn = indices(3, 6, 12)
    result = bootstrap(subjects, models, draws=drawn, nan_policy="omit")
    counts = np.bincount(drawn["conditions"][0], minlength=12)
    times = np.bincount(drawn["subjects"][0], minlength=6)
    expected = [
        sum(
            t * reference.compare_omitting([reference.written(m, counts)], [reference.written(s, counts)])[0, 0]
            for s, t in zip(subjects[:, 0], times, strict=True)
        ) / 6
        for m in models
    ]  # fmt: skip
    np.testing.assert_allclose(result.evaluations[0, 0], expected, atol=1e-12)
    assert np.isfinite(result.ceilings).all()
    alone = bootstrap(subjects, models, draws=drawn, nan_policy="propagate")
    assert np.isnan(alone.value).all()


def test_draws_with_too_few_conditions_are_nan_and_excluded():
    subjects, models = data()
    drawn = indices(30, 6, 12)
    drawn["conditions"][4] = [0] * 11 + [1]
    result = bootstrap(subjects, models, draws=drawn)
    assert np.isnan(result.evaluations[:, 4]).all() and np.isnan(result.ceilings[:, 4]).all()
    rest = {name: np.delete(array, 4, axis=0) for name, array in drawn.items()}
    np.testing.assert_allclose(result.variance, bootstrap(subjects, models, draws=rest).variance)
    assert np.isfinite(result.interval(0.8, "bca")).all()


def test_intervals_equal_scipy():
    rng = np.random.default_rng(0)
    subjects, models = data(n_subjects=20)
    ours = bootstrap(subjects, models, "subjects", n_draws=20_000, ceiling=False)
    values = fastrdm.compare(models, subjects[:, 0])
    for kind, name in (("percentile", "percentile"), ("bca", "BCa")):
        peer = stats.bootstrap(
            (values,), np.mean, axis=1, n_resamples=20_000, method=name, rng=rng
        ).confidence_interval
        np.testing.assert_allclose(ours.interval(kind=kind).T, [peer.low, peer.high], atol=3e-3)
    assert np.isnan(ours.ceiling).all()


def test_t_over_subjects_approximates_a_t_test():
    subjects, models = data(n_subjects=10)
    values = fastrdm.compare(models, subjects[:, 0])
    result = bootstrap(subjects, models, "subjects", n_draws=20_000).compare_models()
    peer = stats.ttest_rel(*values)
    np.testing.assert_allclose(result.statistic, peer.statistic, rtol=0.03)
    exact = compare_models(values)
    np.testing.assert_allclose([exact.statistic[0], exact.p[0]], [peer.statistic, peer.pvalue])


def test_subject_tests_equal_scipy():
    values = np.random.default_rng(0).normal(0.3, 1, (4, 9))
    bound = np.random.default_rng(1).normal(0.3, 1, 9)
    for alternative in ("greater", "less", "two-sided"):
        t = subject_test(values, bound, test="t-test", alternative=alternative, correction=None)
        peer = stats.ttest_rel(values, bound[None], axis=1, alternative=alternative)
        np.testing.assert_allclose([t.statistic, t.p], [peer.statistic, peer.pvalue])
        ranks = subject_test(
            values, 0.1, test="wilcoxon", alternative=alternative, correction="holm"
        )
        peer = stats.wilcoxon(values - 0.1, axis=1, alternative=alternative)
        np.testing.assert_allclose(ranks.p, peer.pvalue)
        flips = subject_test(values, alternative=alternative, correction=None)
        peer = [
            stats.permutation_test((row,), np.mean, permutation_type="samples", alternative=alternative,
                                   n_resamples=np.inf).pvalue
            for row in values
        ]  # fmt: skip
        np.testing.assert_allclose(flips.p, peer)
        assert flips.exact and flips.n_resamples == 512 and flips.seed is None


def test_random_flips_approximate_all_flips():
    values = np.random.default_rng(0).normal(0.2, 1, (3, 20))
    result = subject_test(values, n_permutations=20_000, seed=4)
    assert not result.exact and result.seed == 4
    expected = stats.ttest_1samp(values, 0, axis=1, alternative="greater").pvalue
    np.testing.assert_allclose(result.p, expected, atol=0.02)
    assert (result.p_corrected >= result.p).all()


def test_the_maximum_corrects_over_all_arrays():
    rng = np.random.default_rng(0)
    first, second = rng.normal(0.4, 1, (3, 2, 8)), rng.normal(0.4, 1, (4, 6))
    p, corrected = max_statistic([first, second])
    assert p.shape == corrected.shape == (10,)
    rows = [*first.reshape(6, 8), *second]
    t = lambda x: stats.ttest_1samp(x, 0).statistic  # noqa: E731
    observed = np.array([t(row) for row in rows])
    null = np.array([[t(row * s[: len(row)]) for row in rows] for s in random.all_signs(8)])
    np.testing.assert_allclose(p, (null >= observed - 1e-9).mean(axis=0))
    np.testing.assert_allclose(
        corrected, (null.max(axis=1)[:, None] >= observed - 1e-9).mean(axis=0)
    )
    np.testing.assert_array_equal(max_statistic(second)[1], subject_test(second).p_corrected)


@pytest.mark.parametrize("method", ["spearman", "corr", "cosine_cov", "tau-b"])
def test_mantel_of_few_conditions_takes_every_order(kernels, method):
    subjects, models = data(n=5, n_subjects=3)
    result = permutation_test(subjects, models, protocol=protocol(method))
    null = []
    for p in random.all_permutations(5):
        moved = [squareform(squareform(m)[np.ix_(p, p)]) for m in models]
        null.append(reference.compare(moved, subjects[:, 0], method).mean(axis=1))
    null = np.array(null)
    np.testing.assert_allclose(result.p, (null >= null[0] - 1e-9).mean(axis=0))
    np.testing.assert_allclose(
        result.p_corrected, (null.max(axis=1)[:, None] >= null[0] - 1e-9).mean(axis=0)
    )
    assert result.exact and result.n_resamples == 120


def test_mantel_of_many_conditions_draws():
    subjects, models = data(n=12)
    noise = np.random.default_rng(5).random(66)
    result = permutation_test(subjects, [models[0], noise], n_permutations=999, correction=None)
    assert result.p[0] == 1 / 1000 and result.p[1] > 0.01 and not result.exact


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_corrections(p):
    p = np.array(p)
    fdr, holm, bonferroni = (correct(p, name) for name in ("fdr_bh", "holm", "bonferroni"))
    np.testing.assert_allclose(fdr, stats.false_discovery_control(p))
    assert (
        (p <= fdr + 1e-15).all()
        and (fdr <= holm + 1e-12).all()
        and (holm <= bonferroni + 1e-12).all()
    )
    order = np.sort(p)
    stepwise = [max(min(1, (len(p) - k) * order[k]) for k in range(i + 1)) for i in range(len(p))]
    np.testing.assert_allclose(np.sort(holm), stepwise)
    np.testing.assert_array_equal(correct(p, None), p)


def test_corrections_ignore_nan():
    np.testing.assert_array_equal(correct([0.01, np.nan, 0.02], "bonferroni"), [0.02, np.nan, 0.04])


def test_results_print_and_convert():
    subjects, models = data()
    result = bootstrap(subjects, models, n_draws=50, names=["early", "late"])
    tests = result.compare_models(kind="bootstrap", level=0.8)
    text = str(result)
    assert "bootstrap over both, 50 draws, seed 0: spearman, 6 subjects, 12 conditions" in text
    assert "early" in text and f"{result.value[1]:.4f}" in text
    assert "early - late" in str(tests) and "corrected: fdr_bh" in str(tests)
    for one in (result, tests, bootstrap(subjects, models, "subjects", n_draws=5, ceiling=False)):
        again = type(one).from_json(one.to_json())
        assert again == one and str(again) == str(one) if one is not result else again == one
        json.loads(one.to_json(), parse_constant=pytest.fail)
    assert (
        result.made_by["kernels"].startswith("cpp-")
        and result.made_by["fastrdm"] == fastrdm.__version__
    )
    frame = result.to_dataframe()
    assert list(frame["model"]) == ["early", "late"] and frame.attrs["seed"] == 0
    np.testing.assert_array_equal(frame["value"], result.value)
    assert list(tests.to_dataframe()["p corrected"]) == tests.p_corrected.tolist()


def test_a_frame_needs_pandas(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(
        MissingExtraError, match="pandas is needed to make a DataFrame.*fastrdm.table"
    ):
        subject_test(np.eye(3)).to_dataframe()


@pytest.mark.parametrize("method", reference.METHODS)
def test_permutations_omit_nan_like_the_oracle(method):
    subjects, models = data(n=5, n_subjects=3, n_models=3, times=2)
    subjects[1, 0, 2] = subjects[2, 1, [0, 5]] = models[0, 7] = np.nan
    rows = subjects.reshape(-1, 10)
    first, second = np.triu_indices(5, 1)
    null = np.array(
        [
            reference.compare_omitting(
                fastrdm.square(models)[:, order[first], order[second]], rows, method
            ).mean(axis=1)
            for order in random.all_permutations(5)
        ]
    )
    for alternative, turned in (("greater", null), ("less", -null), ("two-sided", np.abs(null))):
        result = permutation_test(
            subjects, models, protocol=protocol(method), alternative=alternative, nan_policy="omit"
        )
        np.testing.assert_allclose(result.estimate, null[0], atol=1e-12)
        np.testing.assert_allclose(result.p, np.mean(turned >= turned[0] - 1e-9, axis=0))
        highest = turned.max(axis=1, keepdims=True)
        np.testing.assert_allclose(result.p_corrected, np.mean(highest >= turned[0] - 1e-9, axis=0))


def test_permutations_without_a_common_pair_count_as_extreme():
    subjects, models = data(n=4, n_subjects=2, n_models=1)
    subjects[0, 0, :4] = np.nan
    models[0, :3] = np.nan
    result = permutation_test(subjects, models, nan_policy="omit", correction=None)
    first, second = np.triu_indices(4, 1)
    orders = random.all_permutations(4)
    moved = fastrdm.square(models)[:, orders[:, first], orders[:, second]].reshape(-1, 6)
    both = (~np.isnan(moved) & ~np.isnan(subjects[0, 0])).sum(axis=1)
    assert (both < 2).any() and result.p[0] >= np.mean(both < 2)


def test_permutations_propagate_nan_only_to_the_model(kernels):
    subjects, models = data(n=7, n_models=3)
    models[1, 4] = np.nan
    with pytest.warns(RuntimeWarning, match="p is NaN for models .*subjects: b$"):
        ours = permutation_test(subjects, models, nan_policy="propagate", names=["a", "b", "c"])
    others = permutation_test(subjects, models[[0, 2]], names=["a", "c"])
    assert np.isnan([ours.estimate[1], ours.p[1], ours.p_corrected[1]]).all()
    np.testing.assert_allclose(ours.p[[0, 2]], others.p)
    np.testing.assert_allclose(ours.p_corrected[[0, 2]], others.p_corrected)


def test_permutations_refuse_nan_by_default_and_use_the_policy_of_a_target():
    subjects, models = data(n=5)
    models[0, 3] = np.nan
    with pytest.raises(ValueError, match="rdms has a value that is not finite: NaN at model 0"):
        permutation_test(subjects, models)
    with pytest.raises(ValueError, match="nan_policy 'drop' is not one of"):
        permutation_test(subjects, models, nan_policy="drop")
    target = Target(subjects, SPEARMAN, nan_policy="omit")
    assert permutation_test(target, models) == permutation_test(subjects, models, nan_policy="omit")


def test_wrong_json_is_refused():
    values = subject_test(np.eye(3)).to_dict()
    with pytest.raises(ValueError, match="values of a TestResult, not of a Bootstrap"):
        Bootstrap.from_dict(values)
    del values["p"]
    with pytest.raises(ValueError, match="missing from a TestResult, or unknown there: p"):
        TestResult.from_dict(values)


def test_results_stored_under_the_former_class_name_can_be_read():
    result = subject_test(np.eye(3))
    assert result.to_dict()["kind"] == "TestResult"
    assert TestResult.from_dict({**result.to_dict(), "kind": "Tests"}) == result


SUBJECTS, MODELS = data()
WRONG = {
    "over 'time' is not one of": lambda: bootstrap(SUBJECTS, MODELS, "time"),
    "n_draws must be at least 2, not 1": lambda: bootstrap(SUBJECTS, MODELS, n_draws=1),
    "seed must be an integer from 0": lambda: bootstrap(SUBJECTS, MODELS, seed=-1),
    "rdms has shape .2, 65.; subject_rdms has 12": lambda: bootstrap(SUBJECTS, MODELS[:, 1:]),
    "there are 2 models but 1 names": lambda: bootstrap(SUBJECTS, MODELS, names=["a"]),
    "model 1 of rdms is constant": lambda: bootstrap(SUBJECTS, [MODELS[0], np.ones(66)]),
    "subject 2 is constant": lambda: bootstrap(
        np.where(np.arange(6)[:, None] == 2, 1.0, SUBJECTS[:, 0]), MODELS
    ),
    "resampling subjects needs at least 2 subjects, not 1": lambda: bootstrap(
        SUBJECTS[:1], MODELS, "subjects"
    ),
    "over=.both. needs draws of subjects and conditions, got subjects": lambda: bootstrap(
        SUBJECTS, MODELS, draws={"subjects": [[0] * 6] * 2}
    ),
    "draws of subjects must be integers .draws, 6.": lambda: bootstrap(
        SUBJECTS, MODELS, "subjects", draws={"subjects": [[0] * 5] * 2}
    ),
    "draws of subjects must be from 0 to 5, got 0 to 6": lambda: bootstrap(
        SUBJECTS, MODELS, "subjects", draws={"subjects": [[6, 0, 0, 0, 0, 0]] * 2}
    ),
    "as many draws of subjects as of conditions": lambda: bootstrap(
        SUBJECTS, MODELS, draws={"subjects": [[0] * 6] * 2, "conditions": [[0] * 12] * 3}
    ),
    "kind 'z' is not one of: t, percentile, bca": lambda: bootstrap(
        SUBJECTS, MODELS, n_draws=5
    ).interval(kind="z"),
    "level must be between 0 and 1": lambda: bootstrap(SUBJECTS, MODELS, n_draws=5).interval(95),
    "5 draws are too few": lambda: bootstrap(SUBJECTS, MODELS, n_draws=5).interval(
        kind="percentile"
    ),
    "squared similarities are never below 0": lambda: bootstrap(
        SUBJECTS, MODELS, n_draws=5, protocol="algonauts2019"
    ).test(),
    "no ceilings were bootstrapped": lambda: bootstrap(
        SUBJECTS, MODELS, n_draws=5, ceiling=False
    ).test("ceiling"),
    "comparing models needs at least two models": lambda: bootstrap(
        SUBJECTS, MODELS[0], n_draws=5
    ).compare_models(),
    "alternative 'more' is not one of": lambda: permutation_test(
        SUBJECTS, MODELS, alternative="more"
    ),
    "correction 'tukey' is not one of": lambda: permutation_test(
        SUBJECTS, MODELS, correction="tukey"
    ),
    "n_permutations must be at least 1, not 0": lambda: permutation_test(
        SUBJECTS, MODELS, n_permutations=0
    ),
    "values have shape .3, 1.; expected": lambda: subject_test(np.ones((3, 1))),
    "values are not finite for model 0, subject 1": lambda: subject_test([[1, np.nan, 2]]),
    "against must be a number or one for each of 3": lambda: subject_test(np.eye(3), [1, 2]),
    "test 'anova' is not one of: sign-flip, t-test, wilcoxon": lambda: subject_test(
        np.eye(3), test="anova"
    ),
    "correction 'max' needs test 'sign-flip'": lambda: subject_test(np.eye(3), test="t-test"),
    "p values must be between 0 and 1": lambda: correct([2.0], "holm"),
}


@pytest.mark.parametrize("message", WRONG)
def test_errors(message):
    with pytest.raises(ValueError, match=message):
        WRONG[message]()
