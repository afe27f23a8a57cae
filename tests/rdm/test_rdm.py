import warnings

import ml_dtypes
import numpy as np
import pytest
import reference
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist, squareform
from scipy.stats import rankdata

from fastrdm import RdmAccumulator, calc_rdm, condense, square

quick = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
shapes = st.tuples(st.integers(2, 40), st.integers(2, 1300))
seeds = st.integers(0, 2**32 - 1)


def activations(shape, seed, dtype=np.float32):
    rng = np.random.default_rng(seed)
    return (rng.standard_exponential(shape) * rng.uniform(0.1, 10)).astype(dtype)


@pytest.mark.parametrize(
    "dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64, np.int16]
)
@pytest.mark.parametrize("shape", [(2, 2), (3, 5), (13, 511), (14, 512), (40, 513), (118, 2100)])
def test_correlation_equals_the_oracle(kernels, shape, dtype):
    x = activations(shape, 1, np.float64) * 20
    x = x.astype(dtype)
    np.testing.assert_allclose(calc_rdm(x), reference.calc_rdm(x.astype(np.float64)), atol=1e-6)


METHODS = {
    "cosine": lambda x: pdist(x, "cosine"),
    "euclidean": pdist,
    "sqeuclidean": lambda x: pdist(x, "sqeuclidean"),
    "spearman": lambda x: reference.calc_rdm(rankdata(x, axis=1)),
    "correlation": reference.calc_rdm,
}
methods = pytest.mark.parametrize("method", METHODS)
streamed = pytest.mark.parametrize("method", [m for m in METHODS if m != "spearman"])


@methods
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(2, 2), (13, 700), (118, 1500)])
def test_every_method_equals_scipy(kernels, method, dtype, shape):
    x = activations(shape, 1, dtype)
    expected = METHODS[method](x.astype(np.float64))
    np.testing.assert_allclose(calc_rdm(x, method), expected, rtol=2e-5, atol=1e-6)


def some_activations(n_conditions=(2, 500), n_channels=(1, 5000)):
    """2 … 500 conditions × 1 … 5000 channels, never more than 100,000 numbers."""
    return st.integers(*n_conditions).flatmap(
        lambda n: st.builds(
            activations,
            st.tuples(
                st.just(n), st.integers(n_channels[0], max(2, min(n_channels[1], 100_000 // n)))
            ),
            seeds,
            st.sampled_from([np.float32, np.float64]),
        )
    )


several_channels = some_activations(n_channels=(2, 5000))


@quick
@given(several_channels, st.sampled_from(sorted(METHODS)))
def test_any_size(kernels, x, method):
    expected = METHODS[method](x.astype(np.float64))
    np.testing.assert_allclose(calc_rdm(x, method), expected, rtol=2e-5, atol=2e-6)


@quick
@given(several_channels, st.sampled_from(sorted(METHODS)), seeds)
def test_conditions_may_be_permuted(kernels, x, method, seed):
    order = np.random.default_rng(seed).permutation(len(x))
    expected = square(calc_rdm(x, method))[np.ix_(order, order)]
    np.testing.assert_allclose(square(calc_rdm(x[order], method)), expected, rtol=4e-5, atol=2e-6)


@quick
@given(several_channels, seeds)
def test_correlation_ignores_affine_maps_of_each_condition(kernels, x, seed):
    rng = np.random.default_rng(seed)
    slopes = rng.uniform(0.1, 10, (len(x), 1)) * rng.choice([-1, 1], (len(x), 1))
    x = x.astype(np.float64)
    signs = np.sign(slopes * slopes.T)[np.triu_indices(len(x), 1)]
    mapped = calc_rdm(x * slopes + rng.uniform(-10, 10, (len(x), 1)))
    np.testing.assert_allclose(1 - mapped, signs * (1 - calc_rdm(x)), atol=1e-6)


@quick
@given(some_activations((2, 60)), st.sampled_from(["correlation", "spearman"]), st.integers(1, 4))
def test_ties(kernels, x, method, n_values):
    x = np.minimum(np.floor(x), n_values)
    constant = np.all(x == x[:, :1], axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        rdm = square(calc_rdm(x, method))
    expected = METHODS[method](x[~constant].astype(np.float64)) if sum(~constant) > 1 else []
    assert np.isnan(rdm[constant][:, ~constant]).all()
    np.testing.assert_allclose(
        rdm[~constant][:, ~constant][np.triu_indices(sum(~constant), 1)], expected, atol=1e-6
    )


@quick
@given(several_channels, st.sampled_from(sorted(METHODS)))
def test_the_sign_of_zero_does_not_matter(kernels, x, method):
    x = np.maximum(x - np.median(x), 0).astype(x.dtype)
    x[:, 0] += 1
    negative = np.where(x == 0, -x, x)
    np.testing.assert_array_equal(calc_rdm(negative, method), calc_rdm(x, method))


@methods
@pytest.mark.parametrize("dtype, scale", [(np.float32, 1e-40), (np.float64, 1e-310)])
def test_denormals(kernels, method, dtype, scale):
    x = (activations((12, 400), 0, np.float64) * scale).astype(dtype)
    assert 0 < np.abs(x).max() < np.finfo(dtype).tiny
    wide = x.astype(np.float64)
    if method == "euclidean":
        expected = METHODS[method](wide / wide.max()) * wide.max()
        np.testing.assert_allclose(calc_rdm(x, method), expected, rtol=1e-5)
    elif method == "sqeuclidean" and dtype == np.float64:
        with pytest.raises(ValueError, match="squares leave the range of float64"):
            calc_rdm(x, method)
    elif method == "sqeuclidean":
        np.testing.assert_allclose(calc_rdm(x, method), METHODS[method](wide), rtol=1e-5)
    else:
        np.testing.assert_allclose(
            calc_rdm(x, method), METHODS[method](wide / wide.max()), atol=1e-6
        )


@methods
@pytest.mark.parametrize("value, word", [(np.nan, "NaN"), (-np.inf, "infinity")])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_values_that_are_not_finite_are_named_by_every_method(kernels, method, dtype, value, word):
    x = activations((5, 700), 7, dtype)
    x[2, 600] = value
    with pytest.raises(ValueError, match=f"has a value.*{word} at condition 2, channel 600"):
        calc_rdm(x, method)


@pytest.mark.parametrize("method", ["correlation", "spearman"])
def test_a_single_channel_has_no_correlation(kernels, method):
    with pytest.warns(RuntimeWarning, match="constant over channels.*: 0, 1, 2, 3$"):
        assert np.isnan(calc_rdm(activations((4, 1), 0), method)).all()


@pytest.mark.parametrize("method", ["cosine", "euclidean", "sqeuclidean"])
def test_a_single_channel_has_other_dissimilarities(kernels, method):
    x = activations((4, 1), 0, np.float64)
    np.testing.assert_allclose(calc_rdm(x, method), METHODS[method](x), atol=1e-9)


@quick
@given(several_channels, st.sampled_from(sorted(METHODS)), st.integers(1, 8))
def test_threads_and_strides_change_no_bit(kernels, x, method, n_threads):
    expected = calc_rdm(x, method, n_threads=1)
    np.testing.assert_array_equal(calc_rdm(x, method, n_threads=n_threads), expected)
    found = calc_rdm(np.asfortranarray(x), method, n_threads=n_threads)
    np.testing.assert_array_equal(found, expected)


LAYERS = [(30, 700), (30, 5), (30, 4, 3, 400), (30, 4000), (30, 64)]


@methods
def test_a_stack_is_its_members(kernels, method):
    layers = [activations(shape, 3) for shape in LAYERS]
    layers[1] = layers[1].astype(np.float16)
    layers[2] = layers[2].astype(np.float64)
    layers[4] = layers[4].tolist()
    expected = [calc_rdm(layer, method) for layer in layers]
    for n_threads in (1, 3):
        rdms = calc_rdm(layers, method, n_threads=n_threads)
        np.testing.assert_array_equal(rdms, expected)
    out = np.empty((5, 435))
    assert calc_rdm(tuple(layers), method, out=out) is out
    np.testing.assert_allclose(out, expected, rtol=1e-6, atol=1e-9)


def test_an_array_is_always_one_rdm():
    x = activations((4, 5, 6), 0)
    np.testing.assert_array_equal(calc_rdm(x), calc_rdm(x.reshape(4, 30)))
    assert calc_rdm([x]).shape == (1, 6)
    np.testing.assert_array_equal(calc_rdm(list(x[:, 0])), calc_rdm(x[:, 0]))


def test_warnings_about_a_stack_name_its_members():
    layers = [activations((30, 5000), seed) for seed in range(4)]
    layers[1][3] = 1
    layers[3][[0, 7]] = 2
    with pytest.warns(RuntimeWarning) as caught:
        rdms = calc_rdm(layers, n_threads=3)
    said = [str(w.message) for w in caught]
    assert [w[:14] for w in said] == ["activations[1]", "activations[3]"]
    assert said[0].endswith("NaN: 3") and said[1].endswith("NaN: 0, 7")
    assert {w.filename for w in caught} == {__file__}
    assert np.isnan(rdms).sum(axis=1).tolist() == [0, 29, 0, 57]


def test_an_accumulator_warns_as_well():
    x = activations((4, 30), 0)
    x[2] = 1
    accumulator = RdmAccumulator(4)
    accumulator.update(x)
    with pytest.warns(RuntimeWarning, match="constant over channels.*: 2$") as caught:
        accumulator.rdm()
    assert {w.filename for w in caught} == {__file__}


@pytest.mark.parametrize(
    "members, message",
    [
        ([(4, 5), (5, 5)], r"activations\[1\] has 5 conditions and activations\[0\] 4"),
        ([(4, 5), (4,)], r"activations\[1\] have shape \(4,\)"),
        ([(4, 5), (4, 0)], r"activations\[1\] have shape \(4, 0\)"),
    ],
)
def test_invalid_stacks_are_refused(members, message):
    with pytest.raises(ValueError, match=message):
        calc_rdm([np.ones(shape) for shape in members])


def test_members_that_are_not_finite_are_named():
    layers = [activations((30, 5000), seed) for seed in range(3)]
    layers[2][4, 9] = np.nan
    for method in ("correlation", "spearman"):
        with pytest.raises(
            ValueError, match=r"activations\[2\] has a value.*condition 4, channel 9"
        ):
            calc_rdm(layers, method, n_threads=2)


def test_out_of_a_stack():
    layers = [activations((4, 5), 0)] * 3
    with pytest.raises(
        ValueError, match=r"out must be a float64 array of shape \(3, 6\), got float64 \(6,\)"
    ):
        calc_rdm(layers, out=np.empty(6))


def test_rows_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="activations is not an array: its rows differ in shape"):
        calc_rdm([[1, 2], [3]])


def test_more_conditions_than_private_sums_allow(kernels):
    """More conditions than workers keep private sums for."""
    x = activations((1100, 700), 3)
    for n_threads in (1, 2, 3, 5):
        rdm = calc_rdm(x, n_threads=n_threads)
        np.testing.assert_allclose(rdm, reference.calc_rdm(x), atol=1e-6)


@quick
@given(shapes, seeds)
def test_spearman_ignores_monotone_maps_of_channels(kernels, shape, seed):
    x = activations(shape, seed, np.float64)
    np.testing.assert_array_equal(calc_rdm(np.log(x), "spearman"), calc_rdm(x, "spearman"))


@pytest.mark.parametrize("method", ["euclidean", "sqeuclidean"])
def test_distances_keep_their_digits_far_from_zero(kernels, method):
    x = activations((20, 900), 2, np.float64)
    shift = np.random.default_rng(0).standard_normal(900) * 1e6
    np.testing.assert_allclose(calc_rdm(x + shift, method), METHODS[method](x), rtol=1e-6)


def test_equal_conditions_have_no_distance(kernels):
    x = np.tile(activations((1, 900), 2), (5, 1))
    np.testing.assert_array_equal(calc_rdm(x, "euclidean"), np.zeros(10))


def test_distances_beyond_float64(kernels):
    x = activations((4, 9), 0, np.float64)
    np.testing.assert_allclose(calc_rdm(x * 1e200, "euclidean"), pdist(x) * 1e200, rtol=1e-12)
    with pytest.raises(ValueError, match="squares leave the range of float64"):
        calc_rdm(x * 1e200, "sqeuclidean")


@streamed
@quick
@given(shapes, seeds, st.lists(st.integers(0, 1300), max_size=4))
def test_blocks_of_channels_in_any_order_give_the_same(kernels, method, shape, seed, cuts):
    x = activations(shape, seed) + 3
    blocks = [b for b in np.split(x, sorted({c for c in cuts if 0 < c < shape[1]}), axis=1)]
    whole = RdmAccumulator(len(x), method)
    for block in blocks[::-1]:
        whole.update(block)
    assert whole.n_channels == shape[1]
    np.testing.assert_allclose(
        whole.rdm(), METHODS[method](x.astype(np.float64)), rtol=2e-5, atol=1e-6
    )


@streamed
def test_merged_accumulators_are_one(kernels, method):
    x = activations((9, 900), 4) - 2
    first, second = RdmAccumulator(9, method), RdmAccumulator(9, method)
    first.update(x[:, :100])
    second.update(x[:, 100:])
    merged = first + second + RdmAccumulator(9, method)
    np.testing.assert_allclose(
        merged.rdm(), METHODS[method](x.astype(np.float64)), rtol=2e-5, atol=1e-6
    )
    assert (first.n_channels, second.n_channels, merged.n_channels) == (100, 800, 900)


def test_an_accumulator_may_be_read_at_any_time_and_survives_bad_blocks():
    x = activations((5, 60), 0)
    accumulator = RdmAccumulator(5)
    accumulator.update(x[:, :30])
    before = accumulator.rdm()
    bad = x[:, 30:].copy()
    bad[3, 2] = np.nan
    with pytest.raises(ValueError, match="NaN at condition 3, channel 2"):
        accumulator.update(bad)
    with pytest.raises(ValueError, match=r"shape \(4, 30\); expected 5 conditions"):
        accumulator.update(x[:4, 30:])
    np.testing.assert_array_equal(accumulator.rdm(), before)


def test_invalid_accumulators_are_refused():
    with pytest.raises(ValueError, match="'spearman' ranks all channels"):
        RdmAccumulator(5, "spearman")
    with pytest.raises(ValueError, match="n_conditions is 1"):
        RdmAccumulator(1)
    with pytest.raises(ValueError, match="has no channels yet"):
        RdmAccumulator(5).rdm()
    with pytest.raises(ValueError, match="differ in method or conditions"):
        RdmAccumulator(5) + RdmAccumulator(5, "cosine")


def test_out_is_filled_and_returned():
    x = activations((5, 60), 0)
    out = np.empty(10)
    assert calc_rdm(x, out=out) is out
    np.testing.assert_array_equal(out, calc_rdm(x))
    with pytest.raises(
        ValueError, match=r"out must be a float64 array of shape \(10,\), got float32 \(10,\)"
    ):
        calc_rdm(x, out=np.empty(10, np.float32))


def test_nan_in_blocks_is_located():
    x = np.asfortranarray(activations((600, 9000), 7))
    x[2, 8500] = np.nan
    with pytest.raises(ValueError, match="NaN at condition 2, channel 8500"):
        calc_rdm(x)


def test_zero_conditions_have_no_cosine(kernels):
    x = activations((4, 30), 0)
    x[2] = 0
    with pytest.warns(RuntimeWarning, match="zero have no angle, their pairs are NaN: 2$"):
        rdm = square(calc_rdm(x, "cosine"))
    assert np.isnan(rdm[2, [0, 1, 3]]).all() and np.isfinite(rdm[0, [1, 3]]).all()


@quick
@given(shapes, seeds)
def test_conditions_permuted_permute_the_rdm(kernels, shape, seed):
    x = activations(shape, seed)
    order = np.random.default_rng(seed).permutation(len(x))
    expected = square(calc_rdm(x))[np.ix_(order, order)]
    np.testing.assert_allclose(square(calc_rdm(x[order])), expected, atol=1e-6)


@quick
@given(shapes, seeds, st.floats(-1e3, 1e3), st.floats(1e-3, 1e3))
def test_affine_maps_of_conditions_change_nothing(kernels, shape, seed, offset, scale):
    x = activations(shape, seed, np.float64)
    scales = np.linspace(scale, 1, len(x))[:, None]
    offsets = np.linspace(offset, 0, len(x))[:, None]
    np.testing.assert_allclose(calc_rdm(x * scales + offsets), calc_rdm(x), atol=1e-6)


@pytest.mark.parametrize("scale", [1e-44, 1e-38, 1e-30, 1e-20, 1e15, 1e30, 1e36])
def test_float32_far_from_one(kernels, scale):
    x = (activations((20, 900), 2, np.float64) * scale).astype(np.float32)
    np.testing.assert_allclose(calc_rdm(x), reference.calc_rdm(x / np.float64(scale)), atol=1e-6)


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e160, 1e300])
def test_float64_far_from_one(kernels, scale):
    x = activations((20, 900), 2, np.float64)
    np.testing.assert_allclose(calc_rdm(x * scale), reference.calc_rdm(x), atol=1e-6)


def test_a_mean_that_the_sample_misses(kernels):
    x = activations((20, 5000), 3)
    x[:, 2000:2100] += 1e5
    np.testing.assert_allclose(calc_rdm(x), reference.calc_rdm(x), atol=1e-6)


@pytest.mark.parametrize("n_threads", [1, 2, 3, 8])
def test_threads_do_not_change_the_answer(kernels, n_threads):
    x = activations((30, 7000), 4)
    np.testing.assert_array_equal(calc_rdm(x, n_threads=n_threads), calc_rdm(x, n_threads=1))


def test_strides_and_trailing_axes(kernels):
    x = activations((12, 6, 5, 4), 5)
    expected = calc_rdm(x.reshape(12, -1).copy())
    np.testing.assert_array_equal(calc_rdm(x), expected)
    np.testing.assert_array_equal(calc_rdm(np.asfortranarray(x)), expected)
    np.testing.assert_array_equal(calc_rdm(np.repeat(x, 2, axis=0)[::2]), expected)
    np.testing.assert_array_equal(calc_rdm(x.astype(">f4")), expected)
    np.testing.assert_array_equal(calc_rdm(x[::-1]), calc_rdm(np.ascontiguousarray(x[::-1])))


def test_constant_conditions_are_nan_and_named(kernels):
    x = activations((5, 700), 6)
    x[1], x[3] = 0.1, 0
    with pytest.warns(RuntimeWarning, match="constant over channels.*: 1, 3$"):
        rdm = square(calc_rdm(x))
    np.fill_diagonal(rdm, 0)
    assert np.isnan(rdm[1, [0, 2, 3, 4]]).all() and np.isnan(rdm[3, [0, 1, 2, 4]]).all()
    np.testing.assert_allclose(
        condense(rdm[np.ix_([0, 2, 4], [0, 2, 4])]), reference.calc_rdm(x[[0, 2, 4]]), atol=1e-6
    )


@pytest.mark.parametrize(
    "value, word", [(np.nan, "NaN"), (np.inf, "infinity"), (-np.inf, "infinity")]
)
def test_values_that_are_not_finite_are_named(kernels, value, word):
    x = activations((5, 700), 7)
    x[2, 600] = value
    with pytest.raises(
        ValueError, match=f"activations has a value.*{word} at condition 2, channel 600"
    ):
        calc_rdm(x)


@pytest.mark.parametrize("shape", [(), (5,), (1, 5), (5, 0), (0, 5)])
def test_invalid_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="activations have shape"):
        calc_rdm(np.ones(shape))


def test_unknown_method_and_type():
    with pytest.raises(ValueError, match="'manhattan' is not one of: correlation, pearson, cosine"):
        calc_rdm(np.ones((3, 3)), "manhattan")
    with pytest.raises(ValueError, match="real numbers, got dtype complex128"):
        calc_rdm(np.ones((3, 3)) + 1j)


def test_condense_and_square_are_squareform():
    rdm = np.random.default_rng(0).random((4, 15))
    np.testing.assert_array_equal(square(rdm), [squareform(r) for r in rdm])
    np.testing.assert_array_equal(condense(square(rdm)), rdm)


@pytest.mark.parametrize("shape", [(3, 4), (5,), (), (1, 1)])
def test_condense_refuses_what_is_not_square(shape):
    with pytest.raises(ValueError, match="mine has shape"):
        condense(np.zeros(shape), "mine")


def test_condense_refuses_asymmetry_and_names_it():
    rdms = square(np.random.default_rng(0).random((2, 15)))
    rdms[1, 4, 2] += 0.1
    with pytest.raises(
        ValueError, match=r"mine with shape \(2, 6, 6\) is not symmetric.*\(2, 4\).*\(1,\)"
    ):
        condense(rdms, "mine")
    rdms[1, 4, 2] = np.nan
    with pytest.raises(ValueError, match="not symmetric"):
        condense(rdms, "mine")
    rdms[1, 2, 4] = np.nan
    assert np.isnan(condense(rdms)).sum() == 1


def test_square_refuses_other_lengths():
    with pytest.raises(ValueError, match="14 pairs are not a condensed RDM"):
        square(np.zeros(14))
