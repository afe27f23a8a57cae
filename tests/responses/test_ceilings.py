"""NSD's ncsnr and the correlations of subjects with each other: definitions and known answers."""

import numpy as np
import pandas as pd
import pytest

import fastrdm
from fastrdm.responses import measured


def glmsingle(array):
    """The formula of GLMsingle's example 9, for (repeats, conditions, units) without gaps."""
    noise = np.sqrt(np.mean(np.std(array, axis=0, ddof=1) ** 2, axis=0))
    total = np.std(array.reshape(-1, array.shape[2]), axis=0) ** 2
    return np.sqrt(np.maximum(total - noise**2, 0)) / noise


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ncsnr_is_that_of_nsd(dtype):
    rng = np.random.default_rng(0)
    array = (10 + rng.normal(size=(1, 30, 6)) + rng.normal(size=(3, 30, 6))).astype(dtype)
    array[:, :, 5] = rng.normal(size=(3, 30))
    (found,) = fastrdm.ncsnr([array])
    np.testing.assert_allclose(found, glmsingle(array.astype(float)), rtol=1e-9)
    np.testing.assert_array_equal(fastrdm.ncsnr(array[None]), found[None])


def test_ncsnr_with_gaps():
    rng = np.random.default_rng(0)
    array = rng.normal(size=(1, 30, 4)) + rng.normal(size=(4, 30, 4))
    array[rng.random(array.shape) < 0.4] = np.nan
    for u, found in enumerate(fastrdm.ncsnr([array])[0]):
        rows = [column[~np.isnan(column)] for column in array[:, :, u].T]
        noise = np.mean([row.var(ddof=1) for row in rows if len(row) > 1])
        total = np.concatenate(rows).var()
        assert found == pytest.approx(np.sqrt(max(0, total - noise) / noise), rel=1e-9)


def test_extreme_units():
    rng = np.random.default_rng(0)
    array = np.repeat(rng.normal(size=(1, 20, 4)), 3, axis=0)
    array[:, :, 1] = 0.1
    array[:, :, 2] = rng.normal(size=3)[:, None]
    array[1:, :, 3] = np.nan
    found = fastrdm.ncsnr([array])[0]
    assert found[0] == np.inf
    assert np.isnan(found[[1, 3]]).all()
    assert found[2] == 0
    share = fastrdm.explainable_variance(found, 3)
    np.testing.assert_array_equal(share[[0, 2]], [1, 0])
    assert np.isnan(share[[1, 3]]).all()


def test_known_ratio_and_share_are_found():
    rng = np.random.default_rng(0)
    signal = 0.7 * rng.normal(size=(1, 500, 300))
    array = signal + rng.normal(size=(3, 500, 300))
    (ratio,) = fastrdm.ncsnr([array])
    assert np.mean(ratio**2) == pytest.approx(0.49, abs=0.01)
    share = fastrdm.explainable_variance(ratio, 3)
    r = [np.corrcoef(signal[0, :, u], array[:, :, u].mean(axis=0))[0, 1] for u in range(300)]
    assert np.mean(share) == pytest.approx(np.mean(np.square(r)), abs=0.01)
    np.testing.assert_allclose(share, fastrdm.split_half_reliability([array])[0], atol=0.1)


def test_share_with_different_numbers_of_repeats():
    """The formula of Algonauts 2023 for A images of three trials, B of two and C of one."""
    ratio = np.array([0.0, 0.3, 1.5])
    a, b, c = 5, 2, 3
    right = ratio**2 / (ratio**2 + (a / 3 + b / 2 + c / 1) / (a + b + c))
    counts = [3] * a + [2] * b + [1] * c + [0]
    np.testing.assert_allclose(fastrdm.explainable_variance(ratio, counts), right, rtol=1e-12)
    each = np.array([[3, 1, 2], [1, 1, 0]])
    inverse = np.array([(1 / 3 + 1) / 2, 1, 1 / 2])
    np.testing.assert_allclose(
        fastrdm.explainable_variance(ratio, each), ratio**2 / (ratio**2 + inverse)
    )


@pytest.mark.parametrize(
    ("ratio", "counts", "message"),
    [
        ([-0.1, 1], 3, "ncsnr must not be negative, but the smallest is -0.1"),
        ([0.1, 1], [3, -1], "n_repeats must not be negative or NaN, but one is -1"),
        ([0.1, 1], 0, "n_repeats is 0 everywhere"),
        ([0.1, 1], np.ones((4, 3)), r"n_repeats has shape \(4, 3\); expected .* \(2,\) of ncsnr"),
    ],
)
def test_impossible_shares(ratio, counts, message):
    with pytest.raises(ValueError, match=message):
        fastrdm.explainable_variance(ratio, counts)


def plain_ceiling(means):
    """(subjects, conditions, units) → lower and upper, with missing conditions left out of each correlation."""
    with np.errstate(invalid="ignore"):
        scores = (means - np.nanmean(means, 1, keepdims=True)) / np.nanstd(means, 1, keepdims=True)
    out = np.full((2, len(means), means.shape[2]), np.nan)
    for k in range(len(means)):
        for u in range(means.shape[2]):
            rest = np.delete(scores[:, :, u], k, axis=0)
            keep = ~np.isnan(scores[k, :, u]) & ~np.isnan(rest).all(axis=0)
            mine, rest = scores[k, keep, u], rest[:, keep]
            both = np.vstack([mine[None], rest])
            out[0, k, u] = np.corrcoef(mine, np.nanmean(rest, axis=0))[0, 1]
            out[1, k, u] = np.corrcoef(mine, np.nanmean(both, axis=0))[0, 1]
    return out


@pytest.mark.parametrize("gaps", [False, True])
def test_bounds_are_correlations_with_means_of_subjects(gaps):
    rng = np.random.default_rng(0)
    cube = (
        rng.normal(size=(1, 1, 15, 4))
        + rng.normal(size=(4, 2, 15, 4)) * np.arange(1, 5)[:, None, None, None]
    )
    if gaps:
        cube[rng.random(cube.shape) < 0.4] = np.nan
    means = np.stack(measured(cube).means())
    found = fastrdm.subject_ceiling(cube)
    lower, upper = plain_ceiling(means)
    np.testing.assert_allclose(found.lower, lower, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.upper, upper, rtol=1e-9, atol=1e-12)
    assert (found.upper.mean(axis=0) > found.lower.mean(axis=0)).all()


def test_no_model_exceeds_the_upper_bound():
    rng = np.random.default_rng(0)
    cube = rng.normal(size=(1, 40, 10)) + rng.normal(size=(5, 40, 10))
    upper = fastrdm.subject_ceiling(cube).upper.mean(axis=0)
    for model in [cube[0], cube.mean(axis=0), *rng.normal(size=(5, 40, 10))]:
        r = [[np.corrcoef(model[:, u], each[:, u])[0, 1] for u in range(10)] for each in cube]
        assert (np.mean(r, axis=0) <= upper + 1e-12).all()


def test_constant_units_and_few_conditions_are_nan():
    cube = np.random.default_rng(0).normal(size=(3, 10, 2))
    cube[0, :, 0] = 0.1
    found = fastrdm.subject_ceiling(cube)
    assert np.isnan(found.lower[0, 0])
    assert np.isfinite(found.lower[1:]).all()
    few = fastrdm.subject_ceiling(cube[:, :2])
    assert np.isnan(few.lower).all()
    assert repr(few) == "SubjectCeiling(3 subjects, 2 units: median lower nan, upper nan)"


def test_subjects_need_the_same_units():
    with pytest.raises(ValueError, match="responses has one subject"):
        fastrdm.subject_ceiling(np.ones((1, 5, 2)))
    with pytest.raises(ValueError, match=r"responses\[1\] has 3 units and responses\[0\] 2"):
        fastrdm.subject_ceiling([np.ones((5, 2)), np.ones((5, 3))])
    tables = [pd.DataFrame(np.eye(4), columns=list(order)) for order in ("abcd", "abdc")]
    with pytest.raises(ValueError, match="the same unit labels in another order"):
        fastrdm.subject_ceiling(tables)


@pytest.mark.parametrize("scale", [2.0**-900, 2.0**900])
def test_extreme_scales_change_nothing(scale):
    rng = np.random.default_rng(0)
    cube = rng.normal(size=(1, 1, 12, 3)) + rng.normal(size=(2, 3, 12, 3))
    for function in (fastrdm.ncsnr, fastrdm.split_half_reliability):
        np.testing.assert_array_equal(function(scale * cube), function(cube))
    found, right = fastrdm.subject_ceiling(scale * cube), fastrdm.subject_ceiling(cube)
    np.testing.assert_array_equal(found.lower, right.lower)
    for scored, plain in zip(
        measured(scale * cube).zscored().arrays, measured(cube).zscored().arrays, strict=True
    ):
        np.testing.assert_array_equal(scored, plain)
