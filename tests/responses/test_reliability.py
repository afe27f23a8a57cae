"""Split-half reliability: its definition, known answers of simulations, and real neurons."""

import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

import fastrdm
from fastrdm.responses import ceiling_of, ceilings, measured, reliability

reliability_of = fastrdm.split_half_reliability


def simulated(n_repeats, *, ratio, shape, seed=0):
    """Signal of variance 1, and responses with noise of variance `ratio`; `n_repeats` of each condition."""
    rng = np.random.default_rng(seed)
    signal = rng.normal(size=shape)
    n_repeats = np.broadcast_to(n_repeats, shape[0])
    noise = rng.normal(scale=np.sqrt(ratio), size=(n_repeats.max(), *shape))
    noise[np.arange(len(noise))[:, None] >= n_repeats] = np.nan
    return signal, signal + noise


def corrected(r, first, second, whole):
    """Solve the expected correlation of two parts for the ratio of noise to signal."""
    if r <= 0:
        return np.nan
    x = brentq(lambda x: (1 + x * first) * (1 + x * second) - 1 / r**2, 0, 1e9)
    return 1 / (1 + x * whole)


def plain(array, n_splits, seed):
    """The definition, unit by unit and split by split, on the same splits."""
    n_repeats, n_conditions, n_units = array.shape
    rng = np.random.default_rng(seed)
    orders = rng.random((n_splits, n_repeats, n_conditions), np.float32).argsort(axis=1)
    out = np.full(n_units, np.nan)
    for u in range(n_units):
        present = [np.flatnonzero(~np.isnan(array[:, c, u])) for c in range(n_conditions)]
        used = [c for c in range(n_conditions) if len(present[c]) > 1]
        if len(used) < 3:
            continue
        rs = []
        for order in orders:
            halves = []
            for c in used:
                mine = [k for k in order[:, c] if k in present[c]]
                half = len(mine) // 2
                halves.append((array[mine[:half], c, u].mean(), array[mine[half:], c, u].mean()))
            rs.append(np.corrcoef(np.array(halves).T)[0, 1])
        n = np.array([len(present[c]) for c in used])
        first, second = np.mean(1 / (n // 2)), np.mean(1 / (n - n // 2))
        whole = np.mean([1 / len(p) for p in present if len(p)])
        out[u] = corrected(np.mean(rs), first, second, whole)
    return out


@pytest.mark.parametrize("gaps", ["none", "shared", "each"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_it_is_the_corrected_mean_correlation_of_halves(gaps, dtype):
    _, array = simulated(5, ratio=0.5, shape=(12, 4))
    rng = np.random.default_rng(3)
    if gaps == "shared":
        array[rng.random((5, 12)) < 0.3] = np.nan
        array[1:, 4] = np.nan
        array[:, 7] = np.nan
    if gaps == "each":
        array[rng.random(array.shape) < 0.3] = np.nan
    array = array.astype(dtype)
    (found,) = reliability_of([array], n_splits=7, seed=5)
    np.testing.assert_allclose(found, plain(array.astype(float), 7, 5), rtol=1e-9)


@given(seed=st.integers(0, 1000), scale=st.floats(1e-3, 1e3), shift=st.floats(-1e3, 1e3))
@settings(max_examples=25, deadline=None)
def test_scale_shift_and_units_around_do_not_matter(seed, scale, shift):
    rng = np.random.default_rng(seed)
    _, array = simulated(rng.integers(1, 6, 9), ratio=1, shape=(9, 3), seed=seed)
    (found,) = reliability_of([array], n_splits=5)
    np.testing.assert_allclose(
        reliability_of([scale * array + shift], n_splits=5)[0], found, rtol=1e-6
    )
    np.testing.assert_allclose(
        reliability_of([array[..., 1:2]], n_splits=5)[0], found[1:2], rtol=1e-9
    )


def test_two_repeats_follow_spearman_and_brown():
    """With two repeats, the two halves of a split are the repeats, exchanged in some conditions."""
    _, array = simulated(2, ratio=1, shape=(400, 5))
    (found,) = reliability_of([array], n_splits=200)
    r = np.array([np.corrcoef(array[:, :, u])[0, 1] for u in range(5)])
    np.testing.assert_allclose(found, 2 * r / (1 + r), atol=0.02)


@pytest.mark.parametrize(
    ("n_repeats", "ratio"),
    [
        (2, 1),
        (3, 3),
        (3, 0.2),
        (5, 1),
        (10, 10),
        (np.arange(400) % 5 + 2, 2),
        (np.arange(400) % 3 + 1, 1),
    ],
)
def test_known_reliability_is_found_without_bias(n_repeats, ratio):
    signal, array = simulated(n_repeats, ratio=ratio, shape=(400, 400))
    known = 1 / (1 + ratio * np.mean(1 / np.broadcast_to(n_repeats, 400)))
    (found,) = reliability_of([array], n_splits=20)
    error = found.std() / np.sqrt(len(found))
    # Ratios have a bias of the order of one divided by the number of conditions.
    assert abs(found.mean() - known) < 4 * error + 2 / 400
    # A model that predicts the true responses reaches the ceiling.
    mean = np.nanmean(array, axis=0)
    r = np.array([np.corrcoef(signal[:, u], mean[:, u])[0, 1] for u in range(400)])
    assert abs(r.mean() - np.sqrt(known)) < 4 * r.std() / 20 + 2 / 400
    assert abs(np.median(ceiling_of(found)) - np.median(r)) < 0.02


def test_without_signal_it_is_around_zero():
    noise = np.random.default_rng(0).normal(size=(4, 200, 500))
    (found,) = reliability_of([noise], n_splits=20)
    assert abs(found.mean()) < 0.03
    assert 0.3 < np.mean(found < 0) < 0.6
    ceiling = ceiling_of(found)
    assert np.array_equal(np.isnan(ceiling), found <= 0)
    np.testing.assert_allclose(ceiling[found > 0] ** 2, found[found > 0])


def test_equal_repeats_are_perfectly_reliable():
    mean = np.random.default_rng(0).normal(size=(1, 20, 3))
    np.testing.assert_allclose(reliability_of([np.repeat(mean, 4, axis=0)])[0], 1, rtol=1e-12)


def test_units_without_reliability_are_nan():
    _, array = simulated(3, ratio=1, shape=(10, 5))
    array[:, :, 0] = 0.1
    array[1:, 2:, 1] = np.nan
    array[:, :, 2] = np.nan
    array[2, :, 3] = np.nan
    found = reliability_of([array])[0]
    assert np.isnan(found).tolist() == [True, True, True, False, False]


def test_conditions_without_halves_have_no_influence_on_r():
    _, array = simulated(4, ratio=1, shape=(12, 3))
    (found,) = reliability_of([array])
    changed = np.concatenate([array, np.full((4, 1, 3), np.nan)], axis=1)
    np.testing.assert_array_equal(reliability_of([changed[:, :12]])[0], found)
    changed[0, 12] = 1e9
    n = np.append(np.full(12, 4), 1)
    x = (1 / found - 1) * 4
    # The splits differ, because the random numbers are those of 13 conditions.
    np.testing.assert_allclose(
        reliability_of([changed], n_splits=2000)[0], 1 / (1 + x * np.mean(1 / n)), atol=0.03
    )


def test_the_form_of_the_responses_is_kept():
    cube = np.random.default_rng(0).normal(size=(2, 3, 20, 4))
    found = reliability_of(cube)
    assert found.shape == (2, 4)
    for k, each in enumerate(reliability_of(list(cube))):
        np.testing.assert_array_equal(each, found[k])
    named = reliability_of({"anna": cube[0], "ben": cube[1][..., :2]})
    assert list(named) == ["anna", "ben"]
    np.testing.assert_array_equal(named["anna"], found[0])
    assert isinstance(reliability_of(measured(cube)), list)
    assert not np.array_equal(reliability_of(cube, seed=1), found)


@pytest.mark.parametrize("function", [reliability_of, fastrdm.ncsnr])
def test_a_subject_without_repeats_is_refused(function):
    cube = np.ones((2, 10, 3))
    with pytest.raises(
        ValueError, match=r"responses\[0\] has one repeat of 10 conditions and 3 units"
    ):
        function(cube)


@pytest.mark.parametrize(("name", "value"), [("n_splits", 0), ("n_splits", 1.5), ("seed", -1)])
def test_options_are_checked(name, value):
    with pytest.raises(ValueError, match=f"{name} must be"):
        reliability_of(np.ones((1, 2, 5, 2)), **{name: value})


def test_v4_neurons_have_the_known_reliability(data_root):
    path = data_root / "responses" / "cowley2023_v4" / "responses_210325.npy"
    if not path.exists():
        pytest.skip(f"no V4 responses at {path}")
    array = np.load(path).transpose(2, 1, 0)
    (found,) = reliability_of([array])
    assert np.median(found) == pytest.approx(0.764, abs=0.002)
    # The share of explainable variance estimates the same from variances.
    (ratio,) = fastrdm.ncsnr([array])
    share = fastrdm.explainable_variance(ratio, measured([array]).counts()[0])
    np.testing.assert_allclose(share, found, atol=0.03)


@pytest.mark.parametrize("module", [reliability, ceilings])
def test_examples(module):
    assert doctest.testmod(module).failed == 0
