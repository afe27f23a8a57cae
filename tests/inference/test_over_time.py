"""Tests of each time point and of clusters over time, against oracles that take every flip by itself."""

import itertools

import numpy as np
import pytest
import reference
import xarray
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fastrdm import ClusterTest, Latencies, Target, TimeTest, cluster_test, latencies, time_test
from fastrdm.inference import max_statistic

TIMES = [-100, 0, 100, 150, 200, 300]


def values(models=3, times=6, subjects=7, seed=0, effect=0.0):
    rho = np.random.default_rng(seed).normal(0, 0.1, (models, times, subjects))
    rho[-1, 2:5] += effect
    return rho


def all_signs(n):
    return np.array(list(itertools.product([1, -1], repeat=n)))


@pytest.mark.parametrize("alternative", ["greater", "less", "two-sided"])
@pytest.mark.parametrize("jointly", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_clusters_and_p_values_are_those_of_the_oracle(alternative, jointly, seed):
    rho = values(seed=seed, effect=-0.1 if alternative == "less" else 0.1)
    result = cluster_test(rho, threshold=1.2, alternative=alternative, jointly=jointly)
    expected = reference.cluster_test(rho, all_signs(7), 1.2, alternative, jointly)
    found = zip(result.model, result.first, result.last, result.mass, result.p, strict=True)
    assert len(expected) == len(result.mass)
    for got, wanted in zip(found, expected, strict=True):
        assert got[:3] == wanted[:3]
        np.testing.assert_allclose(got[3:], wanted[3:], rtol=1e-9)
    assert result.exact and result.seed is None and result.n_resamples == 128


@pytest.mark.parametrize("alternative", ["greater", "less", "two-sided"])
def test_random_flips_are_those_of_the_oracle(alternative):
    from fastrdm.inference.draws import draw_signs

    rho = values(2, 5, 18, effect=-0.1)
    result = cluster_test(rho, threshold=1.0, alternative=alternative, n_permutations=99, seed=3)
    signs = draw_signs(3, 99, 18)
    expected = reference.cluster_test(rho, signs, 1.0, alternative, True, exact=False)
    np.testing.assert_allclose(result.p, [row[4] for row in expected], rtol=1e-12)
    assert not result.exact and result.seed == 3


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(1, 7), st.integers(2, 6))
def test_any_shape_has_the_oracles_p_values(seed, models, times, subjects):
    # Rounded values have ties, zeros, and time points without any variance.
    rho = np.round(np.random.default_rng(seed).normal(0.3, 1, (models, times, subjects)))
    result = cluster_test(rho, threshold=1.0, alternative="two-sided")
    expected = reference.cluster_test(rho, all_signs(subjects), 1.0, "two-sided", True)
    np.testing.assert_allclose(result.p, [row[4] for row in expected], rtol=1e-12)
    np.testing.assert_allclose(result.mass, [row[3] for row in expected], rtol=1e-9)


@pytest.mark.parametrize("alternative, tail", [("greater", 0.05), ("two-sided", 0.025)])
def test_the_default_threshold_is_the_t_of_its_p(alternative, tail):
    result = cluster_test(values(), alternative=alternative)
    assert result.threshold == pytest.approx(stats.t.isf(tail, 6), rel=1e-12)


def test_time_points_are_corrected_jointly_or_for_each_model():
    rho = values(effect=0.15)
    joint, each = time_test(rho), time_test(rho, jointly=False)
    np.testing.assert_array_equal(joint.p_corrected.ravel(), max_statistic(rho)[1])
    for i, rows in enumerate(rho):
        np.testing.assert_array_equal(each.p_corrected[i], max_statistic(rows)[1])
    np.testing.assert_array_equal(joint.p, each.p)
    np.testing.assert_allclose(joint.statistic, stats.ttest_1samp(rho, 0, axis=2).statistic)
    np.testing.assert_array_equal(joint.estimate, rho.mean(axis=2))


def test_scores_of_a_target_bring_their_times_and_names():
    rng = np.random.default_rng(0)
    rdms = {"conv1": rng.random(190), "fc": rng.random(190)}
    subjects = rng.random((6, 4, 190)) + [[[0], [0], [2], [2]]] * rdms["fc"]
    score = Target(subjects, over_time="each", times=[0, 50, 100, 150]).score(rdms)
    result = cluster_test(score)
    assert result.names == ("conv1", "fc") and result.times.tolist() == [0, 50, 100, 150]
    best = result.rows()[int(np.argmax(result.mass))]
    assert best["model"] == "fc" and best["start"] <= 100 and best["end"] == 150
    np.testing.assert_array_equal(result.p_of_times[1, 2:], best["p"])
    assert time_test(score).names == result.names
    np.testing.assert_array_equal(time_test(score).p, time_test(score.rho).p)


def test_labels_of_the_time_axis_are_the_times():
    rho = values(effect=0.3)
    labelled = xarray.DataArray(rho, dims=("model", "time", "subject"), coords={"time": TIMES})
    assert cluster_test(labelled).times.tolist() == TIMES
    assert cluster_test(labelled, times=range(6)).times.tolist() == list(range(6))
    named = labelled.assign_coords(time=list("abcdef"))
    with pytest.raises(ValueError, match="time axis of values are not numbers"):
        time_test(named)


def test_the_unit_of_values_changes_nothing():
    rho = values(effect=0.1)
    for test in (time_test, cluster_test, latencies):
        expected = test(rho).to_dict()
        expected.pop("estimate", None)
        for unit in (1e-170, 1e170):
            got = test(rho * unit).to_dict()
            got.pop("estimate", None)
            assert got.keys() == expected.keys()
            for name, value in got.items():
                if isinstance(value, dict) and "values" in value:
                    a, b = (np.array(v["values"], float) for v in (value, expected[name]))
                    np.testing.assert_allclose(a, b, rtol=1e-9)


def test_latencies_of_a_known_effect():
    rho = values(2, 6, 20, effect=0.5)
    result = latencies(rho, times=TIMES, names=["none", "strong"], n_draws=200)
    assert np.isnan(result.onset[0]) and np.isnan(result.onset_interval[0]).all()
    assert result.onset[1] == 100 and result.share[1] == 1 and 100 <= result.peak[1] <= 200
    assert result.onset_interval[1, 0] <= 100 <= result.onset_interval[1, 1]
    first = cluster_test(rho, times=TIMES)
    significant = [row for row in first.rows() if row["p"] <= 0.05]
    assert significant[0]["start"] == result.onset[1]


@pytest.mark.parametrize("jointly", [True, False])
@pytest.mark.parametrize("n", [8, 20])
def test_onsets_are_the_starts_of_significant_clusters(jointly, n):
    rho = values(4, 12, n, seed=5)
    rho[0, 3:8] += 0.15
    rho[2, 6:9] += 0.1
    clusters = cluster_test(rho, jointly=jointly)
    onsets = latencies(rho, jointly=jointly, n_draws=50).onset
    for model, onset in enumerate(onsets):
        own = (clusters.model == model) & (clusters.p <= 0.05)
        first = clusters.first[own].min() if own.any() else np.nan
        np.testing.assert_equal(onset, float(first))


def test_results_print_and_travel():
    rho = values(effect=0.3)
    names = ["conv1", "block2", "fc"]
    results = (
        time_test(rho, times=TIMES, names=names),
        cluster_test(rho, times=TIMES, names=names),
        latencies(rho, times=TIMES, names=names, n_draws=50),
    )
    for result, kind in zip(results, (TimeTest, ClusterTest, Latencies), strict=True):
        assert kind.from_json(result.to_json()) == result
        assert "fc" in str(result)
        frame = result.to_dataframe()
        assert list(frame) == list(result.rows()[0]) and len(frame) == len(result.rows())
    times, clusters, onsets = map(str, results)
    assert "100 to 200" in times and len(times.splitlines()) == 5
    assert clusters.splitlines()[0].startswith(
        "clusters of t > 1.9432 over time, largest mass over"
    )
    assert clusters.splitlines()[1].split() == ["model", "start", "end", "peak", "mass", "p"]
    assert "95 % intervals of 50 draws of subjects" in onsets
    assert "; no cluster" in str(cluster_test(rho, threshold=1e6))
    many = cluster_test(values(30, 40), threshold=0.5)
    assert len(many.mass) > 20 and len(str(many).splitlines()) == 22


def test_one_time_point_is_a_subject_test():
    rho = values(1, 1, 9, effect=0)
    p = max_statistic(rho[:, 0])[0]
    assert time_test(rho).p_corrected.tolist() == [p.tolist()]
    assert time_test(rho[0]).p.tolist() == [p.tolist()]


@pytest.mark.parametrize("test", [time_test, cluster_test, latencies])
def test_errors(test):
    rho = values()
    for wrong in (rho[0, 0], rho[..., :1], rho[:, :0], rho[None]):
        with pytest.raises(ValueError, match=r"expected \(models, times, subjects\)"):
            test(wrong)
    broken = rho.copy()
    broken[1, 2, 3] = np.nan
    with pytest.raises(ValueError, match="not finite for model fc, time 2, subject 3"):
        test(broken, names=["a", "fc", "b"])
    with pytest.raises(ValueError, match="3 models but 2 names"):
        test(rho, names=["a", "b"])
    with pytest.raises(ValueError, match="times of values have shape"):
        test(rho, times=[1, 2])
    with pytest.raises(ValueError, match="must increase, got 2, then 1"):
        test(rho, times=[0, 1, 2, 1, 3, 4])
    with pytest.raises(ValueError, match="seed"):
        test(rho, seed=-1)
    with pytest.raises(ValueError, match="n_permutations"):
        test(rho, n_permutations=0)
    if test is not latencies:
        with pytest.raises(ValueError, match="alternative"):
            test(rho, alternative="both")
    if test is not time_test:
        with pytest.raises(ValueError, match="threshold must be a positive number, got -1"):
            test(rho, threshold=-1)
        with pytest.raises(ValueError, match="threshold_p"):
            test(rho, threshold_p=1.5)
    if test is latencies:
        with pytest.raises(ValueError, match="alpha"):
            test(rho, alpha=0)
        with pytest.raises(ValueError, match="level"):
            test(rho, level=2)
        with pytest.raises(ValueError, match="too few"):
            test(rho, n_draws=10)


def noise(rng, models, times, subjects):
    """Similar layers, and smooth over time."""
    common = rng.normal(size=(1, times + 4, subjects))
    rough = common + rng.normal(size=(models, times + 4, subjects))
    return np.lib.stride_tricks.sliding_window_view(rough, 5, axis=1).mean(axis=-1)


@pytest.mark.parametrize("n", [150, pytest.param(3000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("alternative", ["greater", "two-sided"])
def test_false_positives_are_as_many_as_the_level_says(alternative, n):
    """Of simulations without an effect, 5 % have a p of at most 0.05; p is exact, so only the simulation has noise."""
    rng = np.random.default_rng(7)
    hits = np.zeros(2)
    for _ in range(n):
        rho = noise(rng, 2, 12, 8)
        clusters = cluster_test(rho, alternative=alternative)
        hits += (
            time_test(rho, alternative=alternative).p_corrected.min() <= 0.05,
            clusters.p.min(initial=1) <= 0.05,
        )
    # Four standard errors.
    assert (np.abs(hits / n - 0.05) < 4 * np.sqrt(0.05 * 0.95 / n)).all()


@pytest.mark.slow
def test_intervals_of_latencies_cover_the_truth():
    rng = np.random.default_rng(3)
    effect = np.zeros(60)
    effect[20:28], effect[28:45] = np.linspace(0, 1, 9)[1:], np.linspace(1, 0, 18)[1:]
    hits = np.zeros(2)
    for _ in range(300):
        rho = noise(rng, 1, 60, 20) + effect[:, None]
        found = latencies(rho, n_draws=400)
        intervals = found.peak_interval[0], found.onset_interval[0]
        hits += [low <= true <= high for (low, high), true in zip(intervals, (27, 20), strict=True)]
    assert (np.abs(hits / 300 - 0.95) < 0.05).all()


def test_clusters_find_long_weak_effects_that_the_largest_t_misses():
    rng = np.random.default_rng(1)
    found = np.zeros(2)
    for _ in range(40):
        rho = noise(rng, 1, 40, 10)
        rho[0, 10:30] += 0.55
        found += time_test(rho).p_corrected.min() <= 0.05, cluster_test(rho).p.min() <= 0.05
    assert found[1] > found[0]
