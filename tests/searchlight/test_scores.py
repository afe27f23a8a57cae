"""Similarities of places to models are those of their RDMs."""

import numpy as np
import pytest

import fastrdm


@pytest.fixture
def light():
    rng = np.random.default_rng(0)
    neighbours = [rng.choice(20, 6, replace=False) for _ in range(9)]
    return (
        rng.random((7, 20, 12)),
        neighbours,
        [range(t, t + 5) for t in range(8)],
        rng.random((3, 21)),
    )


@pytest.mark.parametrize(
    "similarity", ["spearman", "pearson", "tau-a", "tau-b", "rho-a", "cosine", "corr_cov"]
)
def test_scores_are_similarities_of_the_rdms(light, similarity):
    data, neighbours, windows, models = light
    rdms = fastrdm.calc_rdm_searchlight(data, neighbours, windows=windows)
    scores = fastrdm.score_searchlight(
        data, neighbours, models, similarity=similarity, windows=windows
    )
    oracle = fastrdm.compare(rdms.reshape(-1, 21), models, similarity).reshape(9, 8, 3)
    np.testing.assert_allclose(scores, oracle, atol=1e-12)
    movie = fastrdm.score_movie(data, windows, models, similarity=similarity)
    oracle = fastrdm.compare(fastrdm.calc_rdm_movie(data, windows), models, similarity)
    np.testing.assert_allclose(movie, oracle, atol=1e-12)


def test_blocks_change_no_bit_and_results_go_to_out(light):
    data, neighbours, windows, models = light
    scores = fastrdm.score_searchlight(data, neighbours, models, windows=windows)
    out, calls = np.empty((9, 8, 3)), []
    fastrdm.score_searchlight(
        data, neighbours, models, windows=windows, out=out, max_memory=2 * 8 * 21 * 3, n_threads=1,
        progress=lambda *at: calls.append(at),
    )  # fmt: skip
    np.testing.assert_array_equal(scores, out)
    assert calls[-1] == (72, 72)
    assert len(calls) == 27


def test_a_target_scores_each_place(light):
    data, neighbours, windows, _ = light
    target = fastrdm.Target(np.random.default_rng(1).random((5, 21)))
    rdms = fastrdm.calc_rdm_searchlight(data, neighbours, windows=windows)
    oracle = target.score(rdms.reshape(-1, 21))
    score = fastrdm.score_searchlight(data, neighbours, target, windows=windows)
    assert score.rho.shape == (9, 8, 5)
    for name, value in vars(oracle).items():
        np.testing.assert_allclose(getattr(score, name).reshape(value.shape), value, atol=1e-12)
    scores = fastrdm.score_movie(data, windows, {"V1": target, "IT": target})
    assert list(scores) == ["V1", "IT"]
    assert scores["IT"].r2.shape == (8,)


def test_places_without_an_rdm_are_nan_with_one_warning():
    rng = np.random.default_rng(2)
    data, neighbours = rng.random((6, 10)), [range(5), range(5, 10)]
    data[2, :5] = 1
    target = fastrdm.Target(rng.random((4, 15)))
    with pytest.warns(RuntimeWarning, match="1 of 2 places") as caught:
        scores = fastrdm.score_searchlight(data, neighbours, rng.random(15))
    assert len(caught) == 1
    np.testing.assert_array_equal(np.isnan(scores), [[True], [False]])
    with pytest.warns(RuntimeWarning, match="without a score: NaN in the results of 1 of 2 places"):
        score = fastrdm.score_searchlight(data, neighbours, target)
    np.testing.assert_array_equal(np.isnan(score.value), [True, False])
    with pytest.warns(RuntimeWarning, match="1 of 1 places"):
        nothing = fastrdm.score_searchlight(data, neighbours[:1], target)
    assert np.isnan(nothing.rho).all()
    omitted = fastrdm.score_searchlight(data, neighbours, rng.random(15), nan_policy="omit")
    assert not np.isnan(omitted).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"models": np.ones((2, 4))}, r"models have shape \(2, 4\), and data have 4 conditions"),
        ({"models": np.array([1, 2, 3, 4, 5, np.nan])}, "models"),
        ({"similarity": "manhattan"}, "manhattan"),
        ({"nan_policy": "ignore"}, "ignore"),
        ({"models": fastrdm.Target(np.random.default_rng(0).random((3, 10)))}, "has 5 conditions, and data have 4"),
        ({"models": fastrdm.Target(np.random.default_rng(0).random((3, 6))), "similarity": "corr"}, "similarity was"),
    ],
)  # fmt: skip
def test_a_misuse_is_one_sentence(change, message):
    rng = np.random.default_rng(0)
    arguments = {
        "data": rng.random((4, 8)),
        "neighbours": [[0, 1, 2]],
        "models": rng.random((2, 6)),
    }
    with pytest.raises(ValueError, match=message) as error:
        fastrdm.score_searchlight(**(arguments | change))
    assert "\n" not in str(error.value)


def test_models_and_targets_are_matched_with_labelled_data_by_name():
    xarray = pytest.importorskip("xarray")
    rng, names = np.random.default_rng(4), list("abcdef")
    table, features = (
        xarray.DataArray(rng.random((6, n)), {"stimulus": names}, ("stimulus", "channel"))
        for n in (20, 30)
    )
    places = [range(k, k + 6) for k in range(14)]
    model = fastrdm.calc_rdm(features)
    other = fastrdm.calc_rdm(features[[3, 0, 5, 1, 4, 2]])
    expected = fastrdm.score_searchlight(table.values, places, model.values)
    with pytest.warns(RuntimeWarning, match="models has its conditions in another order than data"):
        found = fastrdm.score_searchlight(table, places, other)
    np.testing.assert_array_equal(found, expected)
    with pytest.warns(RuntimeWarning, match=r"models\['b'\] has its conditions in another order"):
        found = fastrdm.score_searchlight(table, places, {"a": model, "b": other})
    np.testing.assert_array_equal(found, expected[:, [0, 0]])
    with pytest.warns(RuntimeWarning, match="data has its conditions in another order than"):
        score = fastrdm.score_searchlight(
            table, places, fastrdm.Target(other.expand_dims("subject"), ceiling=1.0)
        )
    np.testing.assert_allclose(score.value, expected[:, 0] ** 2, rtol=1e-12)
    strange = fastrdm.calc_rdm(features.assign_coords(stimulus=list("uvwxyz")))
    with pytest.raises(ValueError, match="only in models: 'u'"):
        fastrdm.score_searchlight(table, places, strange)
    with pytest.raises(ValueError, match="only in data: 'f'"):
        fastrdm.score_searchlight(table, places, fastrdm.calc_rdm(features[:5]))


@pytest.mark.parametrize(
    ("dims", "message"),
    [
        (("time", "condition", "channel"), r"conditions come first, so pass data.transpose\('cond"),
        (
            ("condition", "time", "channel"),
            r"samples come last, so pass data.transpose\(..., 'time'",
        ),
    ],
)
def test_labelled_axes_in_another_order_are_refused(light, dims, message):
    xarray = pytest.importorskip("xarray")
    data = xarray.DataArray(light[0], dims=("condition", "channel", "time"))
    with pytest.raises(ValueError, match=message):
        fastrdm.score_searchlight(data.transpose(*dims), [[0, 1, 2]], light[3])


def test_targets_beside_rdms_are_refused(light):
    data, neighbours, _, models = light
    target = fastrdm.Target(models)
    for mixed in ([target, target], {"V1": target, "model": models[0]}):
        with pytest.raises(TypeError, match="models holds Targets; pass one Target"):
            fastrdm.score_searchlight(data, neighbours, mixed)


def test_as_many_places_as_pairs_are_not_taken_for_a_square_rdm():
    data = np.zeros((4, 2, 3))
    data[0, 0] = 1
    models = np.random.default_rng(0).random((6, 6))
    models = models + models.T - 2 * np.diag(np.diag(models))
    windows = [[t] for t in (0, 0, 1, 1, 2, 2)]
    scores = fastrdm.score_searchlight(data, [[0, 1]], models, "euclidean", windows=windows)
    rdm = fastrdm.calc_rdm(data[:, :, 0], "euclidean")
    expected = [fastrdm.compare(rdm, model)[0, 0] for model in models]
    np.testing.assert_allclose(scores[0], np.tile(expected, (6, 1)), atol=1e-12)


def test_an_array_for_three_conditions_may_be_their_square_rdm():
    data = np.random.default_rng(1).random((3, 8))
    square = fastrdm.square(fastrdm.calc_rdm(data))
    with pytest.raises(ValueError, match="looks like one square RDM"):
        fastrdm.score_searchlight(data, [[0, 1, 2]], square)
    assert fastrdm.score_searchlight(data, [[0, 1, 2]], list(square)).shape == (1, 3)
