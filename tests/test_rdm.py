import ml_dtypes
import numpy as np
import pytest
import reference
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import squareform

from fastrdm import calc_rdm, condense, square

quick = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
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


def test_a_mean_that_no_sample_foretells(kernels):
    x = activations((20, 5000), 3)
    x[:, 2000:2100] += 1e5
    np.testing.assert_allclose(calc_rdm(x), reference.calc_rdm(x), atol=1e-6)


@pytest.mark.parametrize("n_threads", [1, 2, 3, 8])
def test_threads_do_not_change_the_answer(kernels, n_threads):
    x = activations((30, 7000), 4)
    np.testing.assert_allclose(
        calc_rdm(x, n_threads=n_threads), calc_rdm(x, n_threads=1), atol=1e-9
    )


def test_strides_and_trailing_axes(kernels):
    x = activations((12, 6, 5, 4), 5)
    expected = calc_rdm(x.reshape(12, -1).copy())
    np.testing.assert_array_equal(calc_rdm(x), expected)
    np.testing.assert_allclose(calc_rdm(np.asfortranarray(x)), expected, atol=1e-12)
    np.testing.assert_allclose(calc_rdm(np.repeat(x, 2, axis=0)[::2]), expected, atol=1e-12)
    np.testing.assert_allclose(calc_rdm(x.astype(">f4")), expected, atol=1e-12)
    np.testing.assert_allclose(
        calc_rdm(x[::-1]), calc_rdm(np.ascontiguousarray(x[::-1])), atol=1e-12
    )


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
        ValueError, match=f"activations has 1 values.*{word} at condition 2, channel 600"
    ):
        calc_rdm(x)


@pytest.mark.parametrize("shape", [(), (5,), (1, 5), (5, 0), (0, 5)])
def test_shapes_that_are_no_activations(shape):
    with pytest.raises(ValueError, match="activations have shape"):
        calc_rdm(np.ones(shape))


def test_unknown_method_and_type():
    with pytest.raises(ValueError, match="'manhattan' is not one of: correlation"):
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
    with pytest.raises(ValueError, match="14 pairs are no condensed RDM"):
        square(np.zeros(14))
