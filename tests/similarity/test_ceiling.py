import warnings

import numpy as np
import pytest
import reference
from scipy import stats

from fastrdm import compare, noise_ceiling, square


def subjects(n=6, times=1, pairs=45, seed=0):
    rng = np.random.default_rng(seed)
    return rng.random((n, times, pairs)) + rng.random((1, times, pairs))


@pytest.mark.parametrize("method", reference.METHODS)
@pytest.mark.parametrize("pool", ["raw", "rank"])
@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("times", [1, 3])
def test_equals_the_oracle(kernels, method, pool, squared, times):
    rdms = subjects(times=times)
    ceiling = noise_ceiling(rdms, method, pool=pool, squared=squared)
    expected = reference.noise_ceiling(rdms, method, pool, squared)
    np.testing.assert_allclose([ceiling.lower, ceiling.upper], expected, atol=1e-12)
    assert ceiling.lower_per_subject.shape == ceiling.upper_per_subject.shape == (6,)


@pytest.mark.parametrize("method", reference.METHODS)
@pytest.mark.parametrize("pool", ["raw", "rank"])
def test_omit_equals_the_oracle(kernels, method, pool):
    rdms = subjects(times=2)
    rdms[1, 0, 3:7] = rdms[2:4, 1, 9] = rdms[:, 1, 40] = np.nan
    ceiling = noise_ceiling(rdms, method, pool=pool, nan_policy="omit")
    expected = reference.noise_ceiling(rdms, method, pool)
    np.testing.assert_allclose([ceiling.lower, ceiling.upper], expected, atol=1e-12)


@pytest.mark.parametrize("method", reference.METHODS)
def test_propagate_excludes_subjects_with_nan(kernels, method):
    rdms = subjects()
    rdms[2, 0, 7] = np.nan
    rest = [0, 1, 3, 4, 5]
    ceiling = noise_ceiling(rdms, method, nan_policy="propagate")
    others = noise_ceiling(rdms[rest], method)
    for bound in ("lower_per_subject", "upper_per_subject"):
        values = getattr(ceiling, bound)
        assert np.isnan(values[2])
        np.testing.assert_allclose(values[rest], getattr(others, bound), atol=1e-14)
    assert np.isnan(ceiling.lower) and np.isnan(ceiling.upper)


def test_omit_excludes_a_subject_that_is_nan_throughout():
    rdms = subjects()
    rdms[2] = np.nan
    rest = [0, 1, 3, 4, 5]
    values = noise_ceiling(rdms, nan_policy="omit").upper_per_subject
    assert np.isnan(values[2])
    np.testing.assert_allclose(values[rest], noise_ceiling(rdms[rest]).upper_per_subject)


ORDINAL = ["spearman", "rho-a", "tau-a", "tau-b"]


def tied(n=5, pairs=45, low=1, seed=0):
    """Integers from a small range, so that their means often tie."""
    return np.random.default_rng(seed).integers(low, 6, size=(n, pairs)).astype(float)


@pytest.mark.parametrize("method", ORDINAL)
@pytest.mark.parametrize("low", [1, -5])
def test_pools_are_ranked_like_the_exact_mean_in_any_unit(kernels, method, low):
    rdms = tied(low=low)
    expected = reference.exact_ceiling(rdms, method)
    for unit in (1, 10, 7, 3e5, 1e-3):
        ceiling = noise_ceiling(rdms / unit, method, squared=False)
        bounds = [ceiling.lower_per_subject, ceiling.upper_per_subject]
        np.testing.assert_allclose(bounds, expected, atol=1e-13)


def test_pools_of_float32_are_ranked_with_the_float32_bound(kernels):
    rdms = tied()
    expected = reference.exact_ceiling(rdms)
    ceiling = noise_ceiling((rdms / 10).astype(np.float32), squared=False)
    np.testing.assert_allclose(ceiling.lower_per_subject, expected[0], atol=1e-13)


@pytest.mark.parametrize("method", ORDINAL)
def test_pools_with_missing_pairs_tie_in_any_unit(kernels, method):
    rdms = tied(6)
    rdms[1, 3:9] = rdms[2, 5] = np.nan
    one, other = (noise_ceiling(r, method, nan_policy="omit") for r in (rdms, rdms / 10))
    np.testing.assert_allclose(other.lower_per_subject, one.lower_per_subject, atol=1e-13)
    np.testing.assert_allclose(other.upper_per_subject, one.upper_per_subject, atol=1e-13)


@pytest.mark.parametrize("method", ORDINAL)
def test_the_order_of_subjects_changes_no_rank(kernels, method):
    rdms, order = tied() / 10, [3, 1, 4, 0, 2]
    one, other = noise_ceiling(rdms, method), noise_ceiling(rdms[order], method)
    np.testing.assert_array_equal(other.lower_per_subject, one.lower_per_subject[order])
    np.testing.assert_array_equal(other.upper_per_subject, one.upper_per_subject[order])


@pytest.mark.parametrize("method", reference.METHODS)
@pytest.mark.parametrize("distance", [1e17, 1e40, -1e25])
def test_an_extreme_subject_costs_the_others_no_digits(method, distance):
    rdms = subjects()[:, 0]
    before = noise_ceiling(rdms, method, squared=False).lower_per_subject[2]
    rdms[2] *= distance
    after = noise_ceiling(rdms, method, squared=False).lower_per_subject[2]
    np.testing.assert_allclose(after, before * np.sign(distance), rtol=1e-12)


def test_extreme_subjects_that_cancel_do_not_change_the_others():
    rdms = tied()
    far = np.random.default_rng(1).integers(1, 9, size=45) * 2.0**40
    ceiling = noise_ceiling(np.concatenate([rdms, [far, -far]]), squared=False)
    expected = reference.exact_ceiling(np.concatenate([rdms, [far, -far]]))[:, :5]
    np.testing.assert_allclose(ceiling.lower_per_subject[:5], expected[0], atol=1e-13)
    np.testing.assert_allclose(ceiling.upper_per_subject[:5], expected[1], atol=1e-13)


def test_the_rdms_of_subjects_are_ranked_as_they_are(kernels):
    near = np.arange(1.0, 46.0)
    near[1] = near[0] * (1 + 2.0**-45)
    far = np.random.default_rng(0).permutation(np.arange(45.0))
    ceiling = noise_ceiling(np.stack([near, far]), squared=False)
    pool = near.copy()
    pool[1] = pool[0]
    # The first subject's RDM has 45 ranks. As the pool for the second subject, it is a computed mean with a tie.
    expected = [stats.spearmanr(near, far).statistic, stats.spearmanr(pool, far).statistic]
    np.testing.assert_allclose(ceiling.lower_per_subject, expected, atol=1e-14)


@pytest.mark.parametrize("method", reference.METHODS)
@pytest.mark.parametrize("pool", ["raw", "rank"])
@pytest.mark.parametrize("policy", ["raise", "omit"])
def test_ceilings_of_rdms_averaged_over_time(kernels, method, pool, policy):
    rdms = subjects(times=3)
    if policy == "omit":
        rdms[1, 0, 3:7] = rdms[2, :, 9] = np.nan
    ceiling = noise_ceiling(rdms, method, pool=pool, average_times=True, nan_policy=policy)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        averaged = np.nanmean(rdms, axis=1, keepdims=True)
    expected = reference.noise_ceiling(averaged, method, pool)
    np.testing.assert_allclose([ceiling.lower, ceiling.upper], expected, atol=1e-12)


@pytest.mark.parametrize("method", ORDINAL)
def test_averages_over_time_tie_like_exact_averages(kernels, method):
    rdms = tied(20).reshape(5, 4, 45)
    expected = reference.exact_ceiling(rdms.sum(axis=1), method)
    for unit in (1, 10, 7):
        ceiling = noise_ceiling(rdms / unit, method, squared=False, average_times=True)
        np.testing.assert_allclose(ceiling.lower_per_subject, expected[0], atol=1e-13)
        np.testing.assert_allclose(ceiling.upper_per_subject, expected[1], atol=1e-13)


def test_propagate_excludes_a_subject_with_nan_at_one_time():
    rdms = subjects(times=3)
    rdms[2, 1, 7] = np.nan
    rest = [0, 1, 3, 4, 5]
    ceiling = noise_ceiling(rdms, average_times=True, nan_policy="propagate")
    others = noise_ceiling(rdms[rest], average_times=True)
    assert np.isnan(ceiling.upper_per_subject[2])
    np.testing.assert_allclose(ceiling.upper_per_subject[rest], others.upper_per_subject)


def test_every_form_of_subject_rdms_has_the_same_ceiling():
    rdms = subjects()
    forms = [rdms, rdms[:, 0], square(rdms), square(rdms[:, 0])]
    assert len({noise_ceiling(form).upper for form in forms}) == 1


def test_a_constant_subject_is_named(kernels):
    rdms = subjects(times=2)
    rdms[3, 1] = 0.5
    with pytest.warns(
        RuntimeWarning, match="1 subjects are NaN.*constant; the first is subject 3, time 1"
    ):
        ceiling = noise_ceiling(rdms)
    np.testing.assert_array_equal(np.isnan(ceiling.upper_per_subject), np.arange(6) == 3)


def test_bounds_are_read_only():
    with pytest.raises(ValueError, match="read-only"):
        noise_ceiling(subjects()).lower_per_subject[0] = 1


def test_threads_change_nothing(kernels):
    one, other = (noise_ceiling(subjects(15, 2), n_threads=n) for n in (1, 5))
    np.testing.assert_array_equal(one.lower_per_subject, other.lower_per_subject)
    np.testing.assert_array_equal(one.upper_per_subject, other.upper_per_subject)


def test_the_upper_bound_exceeds_the_lower_bound():
    ceiling = noise_ceiling(subjects(12, pairs=190), squared=False)
    assert ceiling.lower < ceiling.upper


def test_no_model_beats_the_upper_bound_of_pooled_cosines():
    rdms = subjects(8)
    upper = noise_ceiling(rdms, "cosine", pool="rank", squared=False).upper
    models = np.random.default_rng(1).random((200, 45))
    assert compare(models, rdms[:, 0], "cosine").mean(axis=1).max() <= upper


@pytest.mark.parametrize(
    "key, set_name, constant",
    [
        ("EVC_RDMs", "92", 0.1589),
        ("IT_RDMs", "92", 0.3075),
        ("EVC_RDMs", "118", 0.1048),
        ("IT_RDMs", "118", 0.0728),
    ],
)
def test_published_constants_of_the_challenge(kernels, challenge, key, set_name, constant):
    import h5py

    path = challenge / "Training_Data" / f"{set_name}_Image_Set" / "target_fmri.mat"
    with h5py.File(path) as file:
        rdms = np.transpose(file[key])
    assert round(noise_ceiling(rdms).upper, 4) == constant


@pytest.mark.parametrize(
    "rdms, message",
    [
        (np.zeros(45), r"shape \(45,\); expected \(subjects, n, n\)"),
        (np.zeros((2, 2, 2, 5, 5)), "expected"),
        (1 - np.eye(6), r"looks like one square RDM.*rdm\[None\]"),
        (np.zeros((3, 44)), "44 pairs"),
        (np.ones((1, 45)), "at least two subjects"),
        (np.zeros((0, 45)), "none of them empty"),
        (np.triu(np.ones((3, 6, 6))), "not symmetric"),
        (np.full((3, 45), np.nan), "NaN at subject 0, pair 0"),
    ],
)
def test_bad_subjects(rdms, message):
    with pytest.raises(ValueError, match=message):
        noise_ceiling(rdms)


def test_unknown_pool():
    with pytest.raises(ValueError, match="pool 'mean' is not one of: raw, rank"):
        noise_ceiling(subjects(), pool="mean")
