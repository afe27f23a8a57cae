"""Searchlights of whitened and of cross-validated patterns: each RDM is that of its channels and their noise."""

import itertools

import numpy as np
import pytest

import fastrdm

N, FOLDS, CHANNELS = 7, 3, 20
RNG = np.random.default_rng(0)
NEIGHBOURS = [RNG.choice(CHANNELS, size, replace=False) for size in (1, 5, 8, 6)]
DATA = RNG.normal(3, 1, (FOLDS * N, CHANNELS))
NOISE = RNG.normal(0, 1, (60, CHANNELS)) @ RNG.normal(0, 1, (CHANNELS, CHANNELS))
RUNS = np.repeat([1, 2, 3], N)


def distances(patterns, precision):
    """Return the mean over pairs of folds of the products of differences, for patterns (folds, n, channels)."""
    folds = list(itertools.permutations(range(len(patterns)), 2)) or [(0, 0)]
    pairs = itertools.combinations(range(patterns.shape[1]), 2)
    differences = np.array([patterns[:, i] - patterns[:, j] for i, j in pairs])
    return np.mean(
        [np.einsum("pc,cd,pd->p", differences[:, f], precision, differences[:, g]) for f, g in folds],
        axis=0,
    )  # fmt: skip


@pytest.mark.parametrize("noisy", [False, True])
def test_crossnobis_is_the_mean_product_of_folds(noisy):
    options = {"residuals": NOISE, "estimator": "full"} if noisy else {}
    found = fastrdm.calc_rdm_searchlight(DATA, NEIGHBOURS, "crossnobis", folds=RUNS, **options)
    for rdm, k in zip(found, NEIGHBOURS, strict=True):
        covariance = np.cov(NOISE[:, k].T).reshape(len(k), -1)
        precision = np.linalg.inv(covariance) if noisy else np.eye(len(k))
        expected = distances(DATA[:, k].reshape(FOLDS, N, -1), precision)
        np.testing.assert_allclose(rdm, expected, rtol=1e-8, atol=1e-9 * np.abs(expected).max())


@pytest.mark.parametrize("estimator", [None, "shrinkage_eye", "diag"])
def test_noise_is_estimated_in_each_place(estimator):
    options = {"residuals": NOISE, "estimator": estimator}
    neighbours = NEIGHBOURS[1:]
    found = fastrdm.calc_rdm_searchlight(DATA[:N], neighbours, "mahalanobis", **options)
    for rdm, k in zip(found, neighbours, strict=True):
        options["residuals"] = NOISE[:, k]
        expected = fastrdm.calc_rdm(DATA[:N, k], "mahalanobis", **options)
        np.testing.assert_allclose(rdm, expected, rtol=1e-9)


def test_a_precision_is_that_of_the_covariance_of_the_channels():
    covariance = np.cov(NOISE.T)
    precision = np.linalg.inv(covariance)
    found = fastrdm.calc_rdm_searchlight(DATA[:N], NEIGHBOURS, "mahalanobis", precision=precision)
    for rdm, k in zip(found, NEIGHBOURS, strict=True):
        expected = distances(DATA[None, :N, k], np.linalg.inv(covariance[np.ix_(k, k)]))
        np.testing.assert_allclose(rdm**2, expected, rtol=1e-8)


@pytest.mark.parametrize("step", [1, 4])
def test_channels_are_whitened_at_each_sample(step):
    data, windows = RNG.random((FOLDS * N, 6, 20)), [range(t, t + 8) for t in range(0, 12, step)]
    noise = NOISE[:, :6]
    options = {"folds": RUNS, "residuals": noise, "estimator": "full"}
    lower = np.linalg.cholesky(np.cov(noise.T))
    white = np.linalg.solve(lower, data.transpose(1, 0, 2).reshape(6, -1)).reshape(6, -1, 20)
    expected = [
        fastrdm.calc_rdm(white[..., w].transpose(1, 0, 2).reshape(len(data), -1), "crossnobis", folds=RUNS)
        for w in windows
    ]  # fmt: skip
    found = fastrdm.calc_rdm_movie(data, windows, "crossnobis", **options)
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-9)
    found = fastrdm.calc_rdm_searchlight(data, [range(6)], "crossnobis", windows=windows, **options)
    np.testing.assert_allclose(found[0], expected, rtol=1e-8, atol=1e-9)


def test_repetitions_are_averaged_and_conditions_sorted():
    names = np.tile(list("gfedcba"), FOLDS)
    data, runs = np.concatenate([DATA, DATA + 1]), np.tile(RUNS, 2)
    options = {"folds": runs, "conditions": np.tile(names, 2)}
    found = fastrdm.calc_rdm_searchlight(data, NEIGHBOURS, "crossnobis", **options)
    oracle = [fastrdm.calc_rdm(data[:, k], "crossnobis", **options) for k in NEIGHBOURS]
    np.testing.assert_allclose(found, oracle, rtol=1e-9, atol=1e-9)


def test_threads_and_blocks_change_no_bit_and_equal_conditions_are_equal():
    data = DATA.copy()
    data[RUNS == 2] = data[RUNS == 2][[0, 1, 0, 3, 4, 5, 6]]
    data[3], data[2 * N + 3] = data[1], data[2 * N + 1]
    options = {"folds": RUNS, "residuals": NOISE}
    found = fastrdm.calc_rdm_searchlight(data, NEIGHBOURS, "crossnobis", n_threads=2, **options)
    options |= {"n_threads": 1, "max_memory": 2 * 8 * 21}
    again = fastrdm.calc_rdm_searchlight(data, NEIGHBOURS, "crossnobis", **options)
    np.testing.assert_array_equal(found, again)
    equal = fastrdm.calc_rdm_searchlight(
        data[N : 2 * N], NEIGHBOURS, "mahalanobis", residuals=NOISE
    )
    square = fastrdm.square(equal)
    assert (square[:, 0, 2] == 0).all()
    np.testing.assert_array_equal(square[:, 0], square[:, 2])


def test_scores_are_those_of_the_rdms():
    models, options = RNG.random((2, 21)), {"folds": RUNS, "residuals": NOISE}
    rdms = fastrdm.calc_rdm_searchlight(DATA, NEIGHBOURS, "crossnobis", **options)
    found = fastrdm.score_searchlight(DATA, NEIGHBOURS, models, "crossnobis", "cosine", **options)
    np.testing.assert_allclose(found, fastrdm.compare(rdms, models, "cosine"))
    movie, windows = RNG.random((FOLDS * N, 10)), [range(4), range(3, 10)]
    rdms = fastrdm.calc_rdm_movie(movie, windows, "crossnobis", folds=RUNS)
    found = fastrdm.score_movie(movie, windows, models, "crossnobis", folds=RUNS)
    np.testing.assert_allclose(found, fastrdm.compare(rdms, models))


def test_conditions_of_folds_are_matched_by_name():
    pd = pytest.importorskip("pandas")
    names = list("abcdefg")
    models = fastrdm.calc_rdm(pd.DataFrame(DATA[:N], names))
    options = {"folds": RUNS, "conditions": np.tile(names, FOLDS)}
    found = fastrdm.score_searchlight(DATA, NEIGHBOURS, models, "crossnobis", **options)
    moved = fastrdm.calc_rdm(pd.DataFrame(DATA[:N], names)[::-1])
    with pytest.warns(RuntimeWarning, match="models has its conditions in another order than cond"):
        again = fastrdm.score_searchlight(DATA, NEIGHBOURS, moved, "crossnobis", **options)
    pd.testing.assert_frame_equal(found, again)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "mahalanobis"}, "method 'mahalanobis' needs precision or residuals"),
        ({"method": "cosine", "residuals": NOISE}, "method 'cosine' takes no residuals; 'mahalan"),
        ({"residuals": NOISE[:, :5]}, r"residuals have shape \(60, 5\); data have 20 channels, so"),
        ({"residuals": [NOISE] * 3}, r"residuals have shape \(3, 60, 20\); data have 20 channels"),
        ({"residuals": np.ones((9, CHANNELS))}, "residuals are constant, .* at channels: 0, 1, 2"),
        ({"residuals": np.full((9, CHANNELS), np.nan)}, "residuals"),
        ({"residuals": NOISE[:4], "estimator": "full"}, r"neighbours\[1\], 5 channels: residuals"),
        ({"precision": np.zeros((CHANNELS, CHANNELS))}, "precision is singular"),
        ({"folds": RUNS[1:]}, r"folds have shape \(20,\); data hold 21 measurements"),
        (
            {"conditions": np.array([*"abcdefg"] * 2 + [*"abcdefa"])},
            "fold 3 lacks condition 'g', and a searchlight needs all conditions in all folds",
        ),
    ],
)
def test_a_misuse_is_one_sentence(change, message):
    options = {"method": "crossnobis", "folds": RUNS} | change
    if options["method"] != "crossnobis":
        del options["folds"]
    with pytest.raises(ValueError, match=message) as error:
        fastrdm.calc_rdm_searchlight(DATA, NEIGHBOURS, **options)
    assert "\n" not in str(error.value)
