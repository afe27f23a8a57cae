"""RDMs with squares outside float64 have the same similarities as in other units."""

import itertools
import warnings

import numpy as np
import pytest

import fastrdm
from fastrdm.inference import subject_intervals
from fastrdm.similarity import in_range
from fastrdm.similarity.numerics import differ, summable
from fastrdm.similarity.table import SIMILARITIES

RNG = np.random.default_rng(0)
SUBJECTS = RNG.random((6, 45)) + RNG.random(45) / 2
MODELS = RNG.random((3, 45)) + SUBJECTS[:1] / 3
MIXED = np.array([1e-200, 1.0, 1e200, 1e-100, 1e100, 1e-5])[:, None]
UNITS = {"1e-200": 1e-200, "1e200": 1e200, "1e-290": 1e-290, "1e306": 1e306}
ALL_UNITS = {**UNITS, "mixed": MIXED}
methods = pytest.mark.parametrize("method", SIMILARITIES)
pools = pytest.mark.parametrize("pool", ["raw", "rank"])
policies = pytest.mark.parametrize("nan_policy", ["raise", "omit", "propagate"])
close = {"rtol": 0, "atol": 1e-12}


@pytest.fixture(autouse=True)
def _no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def protocol(method, pool):
    return fastrdm.Protocol("test", method, squared=False, pool=pool, bound="upper", source="")


def units(unit, pool):
    """Return the units of subjects; they differ between subjects only if the pool does not depend on units."""
    return 2.0**900 if unit == "mixed" and pool == "raw" else ALL_UNITS[unit]


def with_gaps(rdms, nan_policy, row):
    rdms = rdms.copy()
    if nan_policy != "raise":
        rdms[row, 7] = np.nan
    return rdms


@methods
@policies
def test_similarities(method, nan_policy):
    subjects, models = with_gaps(SUBJECTS, nan_policy, 2), with_gaps(MODELS, nan_policy, 1)
    expected = fastrdm.compare(models, subjects, method, nan_policy=nan_policy)
    for unit, other in itertools.product(ALL_UNITS.values(), UNITS.values()):
        scaled_result = fastrdm.compare(
            models * other, subjects * unit, method, nan_policy=nan_policy
        )
        np.testing.assert_allclose(scaled_result, expected, **close)


@methods
@pytest.mark.parametrize("unit", [1e-30, 1e30])
def test_similarities_of_float32(method, unit):
    subjects, models = SUBJECTS.astype(np.float32), MODELS.astype(np.float32)
    unit = np.float32(2.0 ** np.round(np.log2(unit)))
    expected = fastrdm.compare(models, subjects, method)
    np.testing.assert_allclose(fastrdm.compare(models * unit, subjects, method), expected, **close)
    np.testing.assert_allclose(fastrdm.compare(models, subjects * unit, method), expected, **close)


@methods
@pools
@policies
@pytest.mark.parametrize("unit", ALL_UNITS)
def test_ceilings_and_targets(method, pool, nan_policy, unit):
    rdms = with_gaps(SUBJECTS, nan_policy, 2)
    scaled = rdms * units(unit, pool)
    expected, scaled_result = (
        fastrdm.noise_ceiling(r, method, pool=pool, nan_policy=nan_policy) for r in (rdms, scaled)
    )
    np.testing.assert_allclose(scaled_result.lower_per_subject, expected.lower_per_subject, **close)
    np.testing.assert_allclose(scaled_result.upper_per_subject, expected.upper_per_subject, **close)
    first, second = (
        fastrdm.Target(r, protocol(method, pool), nan_policy=nan_policy) for r in (rdms, scaled)
    )
    np.testing.assert_allclose(second.ceiling, first.ceiling, **close)
    np.testing.assert_allclose(second.score(MODELS * 1e-200).rho, first.score(MODELS).rho, **close)


def expected_bounds(rdms, method, mean):
    """Return bounds by their definition, with a mean for each pool."""
    bounds = []
    for s in range(len(rdms)):
        others = np.delete(rdms, s, axis=0)
        bounds.append(
            [
                fastrdm.compare(rdms[s], mean(pool), method, nan_policy="omit")[0, 0]
                for pool in (others, rdms)
            ]
        )
    return np.array(bounds)


@methods
@pytest.mark.parametrize("nan_policy", ["raise", "omit"])
def test_raw_pools_of_mixed_units_lose_no_subject(method, nan_policy):
    rdms = with_gaps(SUBJECTS, nan_policy, 2) * MIXED
    ceiling = fastrdm.noise_ceiling(rdms, method, squared=False, nan_policy=nan_policy)
    expected = expected_bounds(rdms, method, lambda pool: np.nanmean(pool, axis=0))
    np.testing.assert_allclose(ceiling.lower_per_subject, expected[:, 0], **close)
    np.testing.assert_allclose(ceiling.upper_per_subject, expected[:, 1], **close)


@pytest.mark.parametrize("method", ["spearman", "corr", "cosine", "tau-b", "corr_cov"])
def test_bootstrapped_raw_pools_of_mixed_units_lose_no_subject(method):
    rdms = SUBJECTS * MIXED
    made_by = protocol(method, "raw")
    result = fastrdm.bootstrap(rdms, MODELS, n_draws=3, protocol=made_by)
    expected = expected_bounds(rdms, method, lambda pool: pool.mean(axis=0)).mean(axis=0)
    np.testing.assert_allclose(result.ceiling, expected, **close)
    assert np.isfinite(result.ceilings).all()


@pools
@pytest.mark.parametrize("method", ["spearman", "rho-a", "corr", "cosine", "tau-b", "cosine_cov"])
@pytest.mark.parametrize("unit", ALL_UNITS)
def test_bootstraps(method, pool, unit):
    arguments = {"n_draws": 4, "protocol": protocol(method, pool)}
    expected = fastrdm.bootstrap(SUBJECTS, MODELS, **arguments)
    scaled_result = fastrdm.bootstrap(SUBJECTS * units(unit, pool), MODELS * MIXED[:3], **arguments)
    for part in ("value", "ceiling", "evaluations", "ceilings", "acceleration"):
        np.testing.assert_allclose(getattr(scaled_result, part), getattr(expected, part), **close)


@pools
@pytest.mark.parametrize("method", ["spearman", "corr"])
def test_bootstraps_on_every_kernel_set(kernels, method, pool):
    arguments = {"n_draws": 4, "protocol": protocol(method, pool)}
    expected = fastrdm.bootstrap(SUBJECTS, MODELS, **arguments)
    scaled_result = fastrdm.bootstrap(SUBJECTS * 1e306, MODELS * 1e-200, **arguments)
    np.testing.assert_allclose(scaled_result.evaluations, expected.evaluations, **close)
    np.testing.assert_allclose(scaled_result.ceilings, expected.ceilings, **close)


@methods
@pytest.mark.parametrize("unit", ALL_UNITS)
def test_permutations(method, unit):
    arguments = {"n_permutations": 40, "protocol": protocol(method, "raw")}
    expected = fastrdm.permutation_test(SUBJECTS, MODELS, **arguments)
    scaled_result = fastrdm.permutation_test(
        SUBJECTS * ALL_UNITS[unit], MODELS * MIXED[:3], **arguments
    )
    np.testing.assert_allclose(scaled_result.estimate, expected.estimate, **close)
    np.testing.assert_array_equal(scaled_result.p, expected.p)
    np.testing.assert_array_equal(scaled_result.p_corrected, expected.p_corrected)


VALUES = RNG.standard_normal((3, 8)) + 0.3


@pytest.mark.parametrize("test", ["sign-flip", "t-test", "wilcoxon"])
@pytest.mark.parametrize("unit", [1e-200, 1e200, MIXED[:3]])
def test_subject_tests(test, unit):
    expected = fastrdm.subject_test(VALUES, test=test, correction=None)
    scaled_result = fastrdm.subject_test(VALUES * unit, test=test, correction=None)
    for part in ("p", "statistic"):
        np.testing.assert_allclose(
            getattr(scaled_result, part), getattr(expected, part), rtol=1e-12
        )
    np.testing.assert_allclose(scaled_result.interval, expected.interval * unit, rtol=1e-12)
    np.testing.assert_allclose(
        scaled_result.estimate, expected.estimate * np.ravel(unit), rtol=1e-12
    )


@pytest.mark.parametrize("test", ["sign-flip", "t-test", "wilcoxon", "bootstrap"])
@pytest.mark.parametrize("unit", [1e-200, 1e200])
def test_comparisons_of_models(test, unit):
    expected = fastrdm.compare_models(VALUES, test=test)
    scaled_result = fastrdm.compare_models(VALUES * unit, test=test)
    np.testing.assert_allclose(scaled_result.p, expected.p, rtol=1e-12)
    np.testing.assert_allclose(scaled_result.interval, expected.interval * unit, rtol=1e-12)


@pytest.mark.parametrize("unit", [1e-200, 1e200, MIXED[:3]])
def test_max_statistic(unit):
    expected, scaled_result = fastrdm.max_statistic(VALUES), fastrdm.max_statistic(VALUES * unit)
    np.testing.assert_array_equal(scaled_result, expected)
    np.testing.assert_allclose(
        subject_intervals(VALUES * unit), subject_intervals(VALUES) * unit, rtol=1e-12
    )


def test_rows_in_range_are_not_scaled():
    rows = RNG.random((4, 9)) * np.array([1e-80, 1, 1e3, 1e80])[:, None]
    assert in_range(rows)[0] is rows and summable(rows) is rows
    assert not differ(rows[1:3]) and differ(rows) and not differ(np.zeros((3, 4)))


def test_scaling_changes_no_digit():
    rows = RNG.random((4, 9)) * MIXED[:4]
    scaled, exponent = in_range(rows)
    np.testing.assert_array_equal(np.ldexp(scaled, exponent), rows)
    assert np.isfinite(np.sum(scaled**2)) and (scaled**2 > 0).all()
