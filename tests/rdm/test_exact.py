"""Equal dissimilarities are equal to the bit, wherever the conditions stand and however they are read."""

import itertools

import ml_dtypes
import numpy as np
import pytest
import reference
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from fastrdm import RdmAccumulator, Target, calc_rdm, compare, condense, square
from fastrdm.rdm import tiles

quick = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
STREAMED = ("correlation", "cosine", "sqeuclidean", "euclidean")
METHODS = (*STREAMED, "spearman", "mahalanobis", "crossnobis")
DTYPES = (np.float32, np.float64, np.float16, ml_dtypes.bfloat16)


@st.composite
def rows(draw, most=60_000):
    """2 … 300 conditions × 1 … 20,000 channels, some of them equal, of any floating-point type."""
    n = draw(st.integers(2, 300))
    c = draw(st.integers(1, max(1, min(20_000, most // n))))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    x = rng.standard_exponential((n, c)) * draw(st.sampled_from([1.0, 30.0]))
    x += draw(st.sampled_from([0.0, 10.0])) + draw(st.sampled_from([0.0, 3.0])) * rng.random(c)
    x[rng.integers(n, size=n // 3)] = x[rng.integers(n, size=n // 3)]
    return x.astype(draw(st.sampled_from(DTYPES)))


def options_of(method, x):
    if method == "mahalanobis":
        filters = np.random.default_rng(0).standard_normal((x.shape[1], x.shape[1]))
        return {"precision": filters.T @ filters}
    return {}


def taken(x, method, order=None, **options):
    """The RDM of rows in an order; crossnobis of two folds, the second being the first in float64 plus noise."""
    order = np.arange(len(x)) if order is None else order
    options = options_of(method, x) | options
    if method != "crossnobis":
        return calc_rdm(x[order], method, **options)
    other = x.astype(np.float64) + np.roll(x, 1, axis=1).astype(np.float64)
    both = np.concatenate([x[order].astype(np.float64), other[order]])
    folds, conditions = np.repeat([0, 1], len(x)), np.tile(np.arange(len(x)), 2)
    return calc_rdm(both, method, folds=folds, conditions=conditions, **options)


@pytest.mark.filterwarnings("ignore:conditions:RuntimeWarning")
@pytest.mark.parametrize("method", METHODS)
@quick
@given(st.data(), st.integers(0, 99))
def test_permuted_conditions_have_the_permuted_rdm(kernels, method, data, seed):
    x = data.draw(rows(6_000 if method in {"mahalanobis", "crossnobis"} else 60_000))
    x = x[:, :200] if method == "mahalanobis" else x
    order = np.random.default_rng(seed).permutation(len(x))
    whole = square(taken(x, method))
    expected = condense(whole[np.ix_(order, order)])
    for n_threads in (1, 2, 7):
        np.testing.assert_array_equal(taken(x, method, order, n_threads=n_threads), expected)
    with pytest.MonkeyPatch.context() as patch:
        height = max(1, len(x) // 3)
        patch.setattr(tiles, "_height", lambda source, *_: min(height, source.n_conditions))
        found = taken(x, method, order, max_memory="1GB")
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("method", STREAMED)
@pytest.mark.parametrize("n_channels", [4_097, 6_628, 20_000])
def test_near_pairs_of_many_channels_do_not_depend_on_tiles(
    kernels, method, n_channels, monkeypatch
):
    """Differences of near rows are summed in several calls for whole RDMs, in one for small tiles."""
    x = np.random.default_rng(n_channels).normal(12, 1, (20, 2, n_channels))
    whole = [calc_rdm(pair, method) for pair in x]
    monkeypatch.setattr(tiles, "_height", lambda source, *_: 1)
    np.testing.assert_array_equal([calc_rdm(pair, method, max_memory="1GB") for pair in x], whole)


@pytest.mark.filterwarnings("ignore:conditions:RuntimeWarning")
@pytest.mark.parametrize("method", METHODS)
@quick
@given(st.data())
def test_equal_conditions_have_equal_dissimilarities(kernels, method, data):
    x = data.draw(rows(6_000 if method in {"mahalanobis", "crossnobis"} else 60_000))
    x = x[:, :200] if method == "mahalanobis" else x
    x[-1] = x[0]
    rdm = square(taken(x, method))
    if np.isnan(rdm[0]).any() and np.isnan(rdm[0, 1:]).all():
        return
    assert rdm[0, -1] == 0
    np.testing.assert_array_equal(rdm[0, 1:-1], rdm[-1, 1:-1])


@pytest.mark.filterwarnings("ignore:conditions:RuntimeWarning")
@pytest.mark.parametrize("method", STREAMED)
@quick
@given(rows(), st.integers(1, 5), st.integers(0, 99))
def test_accumulated_blocks_do_not_depend_on_the_order_of_conditions(
    kernels, method, x, n_blocks, seed
):
    rng = np.random.default_rng(seed)
    x[-1] = x[0]
    order = rng.permutation(len(x))
    edges = np.sort(rng.integers(0, x.shape[1] + 1, n_blocks - 1))

    def rdm(order, halves):
        sums = [RdmAccumulator(len(x), method) for _ in range(2)]
        blocks = [b for b in np.split(x[order], edges, axis=1) if b.shape[1]]
        for k, block in enumerate(blocks):
            sums[k % 2 if halves else 0].update(block)
        return square((sums[0] + sums[1] if halves else sums[0]).rdm())

    for halves in (False, True):
        whole = rdm(np.arange(len(x)), halves)
        np.testing.assert_array_equal(rdm(order, halves), whole[np.ix_(order, order)])
        assert whole[0, -1] == 0 or np.isnan(whole[0, -1])
        np.testing.assert_array_equal(whole[0, 1:-1], whole[-1, 1:-1])


@pytest.mark.parametrize("method", ["correlation", "sqeuclidean"])
def test_a_pair_does_not_depend_on_other_conditions(kernels, method):
    x = np.random.default_rng(0).standard_exponential((60, 4000)).astype(np.float32)
    x[50] = 3
    x[51] *= 1e30
    x[52, :] += 1e6
    with pytest.warns(RuntimeWarning) if method == "correlation" else pytest.MonkeyPatch.context():
        whole = square(calc_rdm(x, method))
    few = np.r_[0:20, 52, 30:40]
    np.testing.assert_array_equal(square(calc_rdm(x[few], method)), whole[np.ix_(few, few)])
    np.testing.assert_array_equal(
        calc_rdm([x[:50], x[:50, :77], x[:50]], method)[2], condense(whole[:50, :50])
    )


CATEGORIES = [2, 3, 5, 7, 8, 23, 46]


@pytest.mark.parametrize("method", STREAMED)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int8, bool], ids=str)
@pytest.mark.parametrize("cyclic", [False, True])
@pytest.mark.parametrize("n_categories", CATEGORIES)
def test_a_category_model_is_its_ideal_rdm(kernels, method, dtype, cyclic, n_categories):
    place = np.arange(92)
    category = place % n_categories if cyclic else place * n_categories // 92
    features = (category[:, None] == np.arange(n_categories)).astype(dtype)
    ideal = condense((category[:, None] != category).astype(float))
    rdm = calc_rdm(features, method)
    assert set(np.unique(rdm)) == {0.0, rdm.max()}
    assert compare(rdm, ideal)[0, 0] == 1
    if method == "sqeuclidean":
        np.testing.assert_array_equal(rdm, 2 * ideal)
    if method == "euclidean":
        np.testing.assert_array_equal(rdm, np.sqrt(2 * ideal))


def exact_ranks(values):
    """Average ranks of numbers that Python compares exactly."""
    order = sorted(range(len(values)), key=lambda i: values[i])
    ranks = np.empty(len(values))
    for _, group in itertools.groupby(enumerate(order), key=lambda pair: values[pair[1]]):
        places, members = zip(*group, strict=True)
        ranks[list(members)] = np.mean(places) + 1
    return ranks


def exact_rdm(x, method):
    """Numbers in the order of the dissimilarities of integers: squared distances, or signed squares of −r."""
    x = [[int(v) for v in row] for row in x]
    c = len(x[0])
    return [reference.exact(a, b, c, method) for a, b in itertools.combinations(x, 2)]


@pytest.mark.parametrize("method", STREAMED)
@pytest.mark.parametrize("scale", [1, 0.1, 0.3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape, top", [((60, 40), 1), ((60, 12), 4), ((40, 300), 1), ((92, 3), 9)])
def test_attribute_models_tie_where_they_are_equal(kernels, method, scale, dtype, shape, top):
    rng = np.random.default_rng(shape[1])
    whole = rng.integers(0, top + 1, shape)
    whole[:, 0] += 1 - whole.max(axis=1)  # no row is zero
    whole[:, 0] = np.abs(whole[:, 0])
    whole = whole[(whole.min(axis=1) < whole.max(axis=1))]
    rdm = calc_rdm((whole * scale).astype(dtype), method)
    expected = exact_ranks(exact_rdm(whole, method))
    other = rng.random((4, len(rdm)))
    found = compare(rdm, other)[0]
    # Values such as 0.1 are themselves rounded in float32: its bound may miss a tie or join two neighbours.
    atol = 1e-12 if scale == 1 or dtype == np.float64 else 1e-4
    np.testing.assert_allclose(found, [spearmanr(expected, o)[0] for o in other], atol=atol)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int8, bool])
def test_category_models_score_as_their_exact_rdms_do(challenge, dtype):
    h5py = pytest.importorskip("h5py")
    with h5py.File(challenge / "Training_Data/92_Image_Set/target_fmri.mat") as file:
        subjects = np.transpose(file["IT_RDMs"][()])
    target = Target(subjects, ceiling=0.3075)
    for n_categories, cyclic in itertools.product(range(2, 47, 4), (False, True)):
        place = np.arange(92)
        category = place % n_categories if cyclic else place * n_categories // 92
        features = (category[:, None] == np.arange(n_categories)).astype(dtype)
        ideal = condense((category[:, None] != category).astype(float))
        expected = [spearmanr(ideal, condense(s))[0] for s in subjects]
        for method in STREAMED:
            rho = target.score(calc_rdm(features, method)).rho[0]
            np.testing.assert_allclose(rho, expected, atol=1e-12)


@pytest.mark.parametrize("shift", [0, 1e6, -7.5])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_whole_numbers_far_from_zero_stay_exact(kernels, shift, dtype):
    whole = np.random.default_rng(0).integers(0, 30, (50, 90))
    x = (whole + shift).astype(dtype)
    expected = condense(((whole[:, None] - whole) ** 2).sum(axis=2).astype(float))
    np.testing.assert_array_equal(calc_rdm(x, "sqeuclidean"), expected)
    np.testing.assert_array_equal(calc_rdm(x, "euclidean"), np.sqrt(expected))
    blocks = RdmAccumulator(50, "sqeuclidean")
    for start in range(0, 90, 40):
        blocks.update(x[:, start : start + 40])
    np.testing.assert_array_equal(blocks.rdm(), expected)


@pytest.mark.parametrize("method", ["correlation", "cosine"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64], ids=str)
def test_angles_of_whole_numbers_far_from_zero(kernels, method, dtype):
    whole = np.random.default_rng(0).integers(0, 60, (20, 900)) + 1_000_000
    unit = whole.astype(np.longdouble)
    if method == "correlation":
        unit -= unit.mean(axis=1, keepdims=True)
    unit /= np.sqrt((unit**2).sum(axis=1, keepdims=True))
    pairs = itertools.combinations(unit, 2)
    expected = np.array([float(((a - b) ** 2).sum() / 2) for a, b in pairs])
    found = calc_rdm(whole.astype(dtype), method)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    blocks = RdmAccumulator(20, method)
    for start in range(0, 900, 250):
        blocks.update(whole[:, start : start + 250].astype(dtype))
    if method == "correlation":
        np.testing.assert_allclose(blocks.rdm(), expected, rtol=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("far", [1e9, 1e15])
def test_one_distant_condition_does_not_affect_the_others(kernels, dtype, far):
    x = np.array([[0, 0], [1, 0], [0, 3], [far, 0]], dtype)
    np.testing.assert_array_equal(calc_rdm(x, "sqeuclidean")[[0, 1, 3]], [1, 9, 10])
    wide = np.random.default_rng(0).random((30, 700)).astype(dtype)
    wide[7] *= far
    rdm = square(calc_rdm(wide, "sqeuclidean"))
    others = np.delete(np.arange(30), 7)
    expected = np.square(wide[others][:, None].astype(float) - wide[others]).sum(axis=2)
    np.testing.assert_allclose(rdm[np.ix_(others, others)], expected, rtol=2e-6)
    np.testing.assert_array_equal(
        rdm[np.ix_(others, others)], square(calc_rdm(wide[others], "sqeuclidean"))
    )


@pytest.mark.parametrize("method", ["mahalanobis", "crossnobis"])
def test_one_distant_condition_does_not_affect_whitened_conditions(kernels, method):
    rng = np.random.default_rng(0)
    filters = rng.standard_normal((40, 40))
    options = {"precision": filters.T @ filters}
    x = rng.standard_normal((36, 40))
    if method == "crossnobis":
        options |= {"folds": np.repeat([0, 1, 2], 12), "conditions": np.tile(np.arange(12), 3)}
    n = 12 if method == "crossnobis" else 36
    expected = square(calc_rdm(x, method, **options))
    x[np.arange(len(x)) % n == 5] *= 1e8
    for memory in ({}, {"max_memory": "100MB"}):
        found = square(calc_rdm(x, method, **options, **memory))
        others = np.delete(np.arange(n), 5)
        np.testing.assert_array_equal(
            found[np.ix_(others, others)], expected[np.ix_(others, others)]
        )


@pytest.mark.parametrize("method", ["correlation", "cosine"])
@pytest.mark.parametrize("noise", [1e-1, 1e-2, 1e-3, 1e-4])
@pytest.mark.parametrize("offset", [0, 5])
@pytest.mark.parametrize("scale", [1, 3])
def test_nearly_parallel_conditions_keep_their_digits(kernels, method, noise, offset, scale):
    rng = np.random.default_rng(0)
    x = np.repeat(rng.standard_normal((1, 2000)), 12, axis=0)
    x = ((x + noise * rng.standard_normal(x.shape)) * np.linspace(1, scale, 12)[:, None]) + offset
    x = x.astype(np.float32)
    wide = x.astype(np.longdouble)
    if method == "correlation":
        wide -= wide.mean(axis=1, keepdims=True)
    wide /= np.sqrt((wide**2).sum(axis=1, keepdims=True))
    expected = [((a - b) ** 2).sum() / 2 for a, b in itertools.combinations(wide, 2)]
    np.testing.assert_allclose(calc_rdm(x, method), np.array(expected, float), rtol=1e-4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "_height", lambda source, *_: 5)
        np.testing.assert_array_equal(calc_rdm(x, method, max_memory="1GB"), calc_rdm(x, method))
    blocks = RdmAccumulator(12, method)
    for start in range(0, 2000, 300):
        blocks.update(x[:, start : start + 300])
    np.testing.assert_allclose(blocks.rdm(), np.array(expected, float), rtol=1e-4)


@pytest.mark.parametrize("method", ["euclidean", "mahalanobis"])
@pytest.mark.parametrize("scale", [1e-200, 1e-160, 1e160, 1e300])
def test_distances_of_any_magnitude(kernels, method, scale):
    x = np.random.default_rng(0).standard_normal((20, 30))
    options = {"precision": np.eye(30)} if method == "mahalanobis" else {}
    found = calc_rdm(x * scale, method, **options)
    np.testing.assert_allclose(found / scale, calc_rdm(x, method, **options), rtol=1e-12)


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_squares_beyond_float64_are_refused(kernels, scale):
    x = np.random.default_rng(0).standard_normal((20, 30)) * scale
    with pytest.raises(ValueError, match="leave the range of float64"):
        calc_rdm(x, "sqeuclidean")


def test_magnitudes_too_far_apart_are_refused(kernels):
    x = np.random.default_rng(0).standard_normal((6, 30))
    x[:3] *= 1e-200
    with pytest.raises(ValueError, match="squares leave the range of float64"):
        calc_rdm(x, "euclidean")


@pytest.mark.parametrize("method", ["euclidean", "sqeuclidean"])
@pytest.mark.parametrize("step", [1e-200, 1e-150])
def test_differences_whose_squares_vanish_are_refused(kernels, method, step):
    x = np.ones((4, 9))
    x[:, 3] = 0
    x[2, 3] = step
    with pytest.raises(ValueError, match="close together that their squares leave the range"):
        calc_rdm(x, method)
    x[2, 3] = 0
    assert not calc_rdm(x, method).any()


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e25])
def test_float32_squares_out_of_range_are_computed_in_float64(kernels, scale):
    x = (np.random.default_rng(0).standard_normal((20, 30)) * scale).astype(np.float32)
    expected = calc_rdm(x.astype(np.float64), "euclidean")
    np.testing.assert_allclose(calc_rdm(x, "euclidean"), expected, rtol=1e-6)


def test_identical_stimuli_give_a_constant_rdm(kernels):
    x = np.repeat(np.random.default_rng(0).random((1, 5000), np.float32), 9, axis=0)
    for method in STREAMED:
        assert not calc_rdm(x, method).any()
    target = Target(np.random.default_rng(1).random((4, 36)))
    with pytest.warns(RuntimeWarning, match="constant"):
        assert np.isnan(target.score(calc_rdm(x)).r2).all()


def test_rdms_from_the_caller_are_unchanged():
    """Ties are settled where fastrdm computes, not where it is given numbers."""
    rdm = np.array([0.3, 0.1 + 0.2, 0.7, 0.5, 0.9, 0.2])
    other = np.array([1.0, 2, 3, 4, 5, 0])
    assert compare(rdm, other)[0, 0] == pytest.approx(spearmanr(rdm, other)[0], abs=1e-15)
