"""Many small RDMs: each is the RDM of its place."""

import tracemalloc

import numpy as np
import pytest
from scipy.sparse import coo_array, csr_array

import fastrdm

METHODS = ("correlation", "cosine", "euclidean", "sqeuclidean", "spearman")
WITHIN = {"float32": 1e-6, "float64": 1e-9}


def places(rng, n_channels, n=7):
    return [rng.choice(n_channels, rng.integers(2, 9), replace=False) for _ in range(n)]


def expected(data, neighbours, method, windows=None):
    if windows is None:
        return np.stack([fastrdm.calc_rdm(data[:, k], method) for k in neighbours])
    return np.stack(
        [[fastrdm.calc_rdm(data[:, k][..., w], method) for w in windows] for k in neighbours]
    )


@pytest.mark.parametrize("dtype", WITHIN)
@pytest.mark.parametrize("method", METHODS)
def test_each_rdm_is_that_of_its_channels(method, dtype):
    rng = np.random.default_rng(0)
    data = rng.normal(3, 1, (11, 30)).astype(dtype)
    neighbours = places(rng, 30)
    rdms = fastrdm.calc_rdm_searchlight(data, neighbours, method)
    assert rdms.dtype == np.float64
    np.testing.assert_allclose(
        rdms, expected(data, neighbours, method), rtol=1e-5, atol=WITHIN[dtype]
    )


@pytest.mark.parametrize("dtype", WITHIN)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("step", [1, 3, 7])
def test_each_rdm_is_that_of_its_channels_and_samples(method, dtype, step):
    rng = np.random.default_rng(1)
    data = rng.normal(3, 1, (11, 9, 40)).astype(dtype)
    neighbours, windows = places(rng, 9, 4), [range(t, t + 8) for t in range(0, 33, step)]
    rdms = fastrdm.calc_rdm_searchlight(data, neighbours, method, windows=windows)
    oracle = expected(data, neighbours, method, windows)
    np.testing.assert_allclose(rdms, oracle, rtol=1e-5, atol=WITHIN[dtype])
    movie = fastrdm.calc_rdm_movie(data, windows, method)
    everything = expected(data, [np.arange(9)], method, windows)[0]
    np.testing.assert_allclose(movie, everything, rtol=1e-5, atol=WITHIN[dtype])


def test_without_windows_a_place_has_all_samples():
    rng = np.random.default_rng(2)
    data, neighbours = rng.random((6, 8, 5)), [[0, 3], [7]]
    rdms = fastrdm.calc_rdm_searchlight(data, neighbours)
    np.testing.assert_allclose(rdms, expected(data, neighbours, "correlation"), atol=1e-9)


def test_a_movie_without_channels_has_one():
    rng = np.random.default_rng(3)
    data, windows = rng.random((6, 20)), [range(t, t + 5) for t in range(16)]
    rdms = fastrdm.calc_rdm_movie(data, windows)
    np.testing.assert_array_equal(rdms, fastrdm.calc_rdm_movie(data[:, None], windows))


def test_threads_blocks_and_neighbours_change_no_bit():
    rng = np.random.default_rng(4)
    data, neighbours = rng.random((20, 50)), places(rng, 50, 40)
    rdms = fastrdm.calc_rdm_searchlight(data, neighbours)
    small = fastrdm.calc_rdm_searchlight(data, neighbours, n_threads=1, max_memory=2 * 8 * 190)
    np.testing.assert_array_equal(rdms, small)
    np.testing.assert_array_equal(rdms[3:4], fastrdm.calc_rdm_searchlight(data, neighbours[3:4]))


@pytest.mark.parametrize("method", METHODS)
def test_equal_conditions_are_equal_to_the_bit(method):
    rng = np.random.default_rng(5)
    data = rng.normal(100, 1, (8, 30))
    data[5] = data[2]
    for rdm in fastrdm.calc_rdm_searchlight(data, places(rng, 30), method):
        square = fastrdm.square(rdm)
        assert square[2, 5] == 0
        others = [0, 1, 3, 4, 6, 7]
        np.testing.assert_array_equal(square[2, others], square[5, others])


def test_places_are_indices_masks_ranges_and_sparse_matrices():
    data = np.random.default_rng(6).random((5, 12))
    mask = np.zeros((3, 12), bool)
    mask[0, :4] = mask[1, 3:8] = mask[2, ::2] = True
    lists = [np.flatnonzero(row) for row in mask]
    with_zero = csr_array(np.ones((3, 12)))
    with_zero.data[:] = mask.ravel()
    rdms = fastrdm.calc_rdm_searchlight(data, lists)
    for neighbours in (
        mask,
        coo_array(mask),
        with_zero,
        list(mask),
        [slice(0, 4), range(3, 8), lists[2]],
    ):
        np.testing.assert_array_equal(rdms, fastrdm.calc_rdm_searchlight(data, neighbours))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rdms_go_to_a_memory_map(tmp_path, dtype):
    rng = np.random.default_rng(7)
    data, neighbours = rng.random((6, 30)), places(rng, 30)
    out = np.lib.format.open_memmap(tmp_path / "rdms.npy", "w+", dtype, (7, 15))
    assert fastrdm.calc_rdm_searchlight(data, neighbours, out=out) is out
    rdms = fastrdm.calc_rdm_searchlight(data, neighbours)
    np.testing.assert_array_equal(np.load(tmp_path / "rdms.npy"), rdms.astype(dtype))


def test_progress_is_told_and_can_stop_it():
    data, calls = np.random.default_rng(8).random((6, 30)), []
    neighbours = [[k, k + 1, k + 2] for k in range(20)]
    fastrdm.calc_rdm_searchlight(
        data,
        neighbours,
        max_memory=2 * 8 * 15 * 8,
        n_threads=1,
        progress=lambda *at: calls.append(at),
    )
    assert calls == [(8, 20), (16, 20), (20, 20)]

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fastrdm.calc_rdm_searchlight(data, neighbours, progress=stop)


@pytest.mark.parametrize("method", ["correlation", "spearman", "cosine"])
def test_constant_conditions_are_nan_with_one_warning(method):
    data = np.random.default_rng(9).random((6, 10))
    data[2, :5] = 0
    with pytest.warns(RuntimeWarning, match="NaN in the RDMs of 1 of 2 places") as caught:
        rdms = fastrdm.calc_rdm_searchlight(data, [range(5), range(5, 10)], method)
    assert len(caught) == 1
    nan = np.isnan(fastrdm.square(rdms[0]))
    assert nan[2, [0, 1, 3, 4, 5]].all()
    assert nan.sum() == 10
    assert not np.isnan(rdms[1]).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": np.ones(4)}, r"data have shape \(4,\); expected"),
        ({"data": np.ones((1, 4))}, r"data have shape \(1, 4\); expected"),
        ({"data": np.array([[1.0, np.nan], [1, 2]])}, "data"),
        ({"neighbours": []}, "neighbours is empty"),
        ({"neighbours": [[0], []]}, r"neighbours\[1\] has shape \(0,\)"),
        ({"neighbours": [[0], [1, 8]]}, r"neighbours\[1\] holds index 8, and data have 8 channels"),
        ({"neighbours": [[-1]]}, r"neighbours\[0\] holds index -1"),
        ({"neighbours": np.ones((2, 5), bool)}, r"neighbours is a mask of shape \(2, 5\) for 8 channels"),
        ({"neighbours": coo_array(np.eye(3, 5))}, r"neighbours is a mask of shape \(3, 5\) for 8"),
        ({"neighbours": np.eye(3, 8, dtype=int)}, r"neighbours holds 0 and 1 in shape \(3, 8\)"),
        ({"neighbours": np.ones((2, 2, 2), bool)}, r"neighbours has shape \(2, 2, 2\); expected lists"),
        ({"neighbours": [np.ones(5, bool)]}, r"neighbours\[0\] is a mask of shape \(5,\) for 8"),
        (
            {"neighbours": fastrdm.searchlight.sensor_neighbours(np.eye(9, 3), k=2)},
            r"neighbours are of 9 channels, and data have 8: shape \(4, 8\)",
        ),
        ({"data": np.full((4, 8), 1e80)}, r"data reach 1e\+80"),
        ({"windows": [[0]]}, r"windows need data of shape \(conditions, channels, samples\)"),
        ({"method": "crossnobis"}, "method 'crossnobis' needs folds"),
        ({"method": "manhattan"}, "manhattan"),
        ({"out": np.empty((2, 7))}, r"out has shape \(2, 7\) of float64; expected \(2, 6\)"),
        ({"out": np.empty((2, 6), int)}, "of int64; expected"),
        ({"max_memory": 20}, "one RDM of 4 conditions needs"),
    ],
)  # fmt: skip
def test_a_misuse_is_one_sentence(change, message):
    arguments = {
        "data": np.random.default_rng(0).random((4, 8)),
        "neighbours": [[0, 1, 2], [3, 4, 5]],
    }
    with pytest.raises(ValueError, match=message) as error:
        fastrdm.calc_rdm_searchlight(**(arguments | change))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"neighbours": 3}, "neighbours is a int; expected a list"),
        ({"neighbours": [[0.5, 1.0]]}, r"neighbours\[0\] holds float64; expected integers"),
        ({"out": [1]}, "out is a list"),
    ],
)
def test_a_wrong_type_is_one_sentence(change, message):
    arguments = {"data": np.random.default_rng(0).random((4, 8)), "neighbours": [[0, 1, 2]]}
    with pytest.raises(TypeError, match=message):
        fastrdm.calc_rdm_searchlight(**(arguments | change))


def test_an_out_that_is_read_only_is_refused():
    out = np.empty((1, 6))
    out.flags.writeable = False
    with pytest.raises(ValueError, match="out is read-only"):
        fastrdm.calc_rdm_searchlight(np.random.default_rng(0).random((4, 8)), [[0, 1, 2]], out=out)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", WITHIN)
def test_integers_have_the_ties_of_calc_rdm(method, dtype):
    rng = np.random.default_rng(10)
    data = rng.integers(0, 4, (12, 9, 30)).astype(dtype)
    windows = [range(t, t + 12) for t in range(19)]
    neighbours = places(rng, 9, 3)
    rdms = fastrdm.calc_rdm_searchlight(data, neighbours, method, windows=windows)
    np.testing.assert_array_equal(
        fastrdm.rank(rdms.reshape(-1, 66)),
        fastrdm.rank(expected(data, neighbours, method, windows).reshape(-1, 66)),
    )


def test_windows_do_not_depend_on_other_windows():
    rng = np.random.default_rng(11)
    data, windows = rng.random((9, 6, 40)), [range(t, t + 8) for t in range(33)]
    rdms = fastrdm.calc_rdm_movie(data, windows)
    np.testing.assert_array_equal(
        rdms, fastrdm.calc_rdm_movie(data, windows, max_memory=2 * 8 * 36 * 5)
    )


def test_windows_of_drifting_data_keep_their_digits():
    """Where the mean of a window is far from that of its neighbours, its products are computed again."""
    rng = np.random.default_rng(12)
    data = rng.normal(0, 1, (8, 5, 60)) + 1e5 * (np.arange(60) // 15)
    windows = [range(t, t + 10) for t in range(51)]
    rdms = fastrdm.calc_rdm_movie(data, windows)
    np.testing.assert_allclose(
        rdms, expected(data, [np.arange(5)], "correlation", windows)[0], atol=1e-9
    )


def test_near_conditions_keep_their_digits():
    rng = np.random.default_rng(13)
    common = rng.normal(0, 1, (1, 40))
    data = common + 1e-6 * rng.normal(0, 1, (6, 40))
    for method in ("correlation", "cosine", "sqeuclidean"):
        rdms = fastrdm.calc_rdm_searchlight(data, [range(40), range(20)], method)
        np.testing.assert_allclose(rdms, expected(data, [range(40), range(20)], method), rtol=1e-6)


def test_scores_take_twice_the_memory_of_the_data():
    rng = np.random.default_rng(14)
    data = rng.random((92, 20_000), np.float32)
    neighbours = [np.arange(k, k + 20) for k in range(0, 19_000, 100)]
    fastrdm.score_searchlight(data, neighbours[:2], rng.random((3, 4186)))
    tracemalloc.start()
    try:
        fastrdm.score_searchlight(data, neighbours, rng.random((3, 4186)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # The data themselves were there before.
    assert peak < 2 * data.nbytes
