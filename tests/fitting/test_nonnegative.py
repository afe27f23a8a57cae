"""Non-negative least squares on products, against SciPy on the regressors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls

from fastrdm.fitting import nonnegative
from fastrdm.fitting.nonnegative import solve_nonnegative


def solve(regressors, target):
    return solve_nonnegative((regressors @ regressors.T)[None], (regressors @ target)[None])[0]


@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(13, 60))
@settings(max_examples=60, deadline=None)
def test_weights_are_those_of_scipy(seed, n, length):
    rng = np.random.default_rng(seed)
    regressors = rng.standard_normal((n, length)) * rng.lognormal(size=(n, 1), sigma=3)
    target = rng.standard_normal(length) + regressors.sum(axis=0) * rng.integers(0, 2)
    expected = nnls(regressors.T, target)[0]
    np.testing.assert_allclose(
        solve(regressors, target), expected, rtol=1e-7, atol=1e-9 * (expected.max() + 1e-300)
    )


@given(st.integers(0, 10_000), st.integers(1, 9), st.integers(1, 9))
@settings(max_examples=60, deadline=None)
def test_dependent_regressors_reach_the_same_residual(seed, n, rank):
    rng = np.random.default_rng(seed)
    parts = rng.integers(-2, 3, (n, min(n, rank))), rng.integers(-2, 3, (min(n, rank), 14))
    regressors = (parts[0] @ parts[1]).astype(float)
    target = rng.integers(-3, 4, 14).astype(float)
    weights = solve(regressors, target)
    assert (weights >= 0).all()
    residual = np.linalg.norm(regressors.T @ weights - target)
    assert residual == pytest.approx(nnls(regressors.T, target)[1], abs=1e-7)


def test_problems_of_a_batch_do_not_depend_on_each_other():
    rng = np.random.default_rng(0)
    regressors = rng.standard_normal((50, 6, 20))
    products = regressors @ regressors.transpose(0, 2, 1)
    targets = np.einsum("bip,bp->bi", regressors, rng.standard_normal((50, 20)))
    together = solve_nonnegative(products, targets)
    alone = [solve_nonnegative(products[[i]], targets[[i]])[0] for i in range(50)]
    np.testing.assert_allclose(together, alone, rtol=1e-12)


def test_zero_regressors_get_no_weight_and_equal_ones_share_none():
    x = np.array([[1.0, 2.0, 0.0], [0.0, 0.0, 0.0], [1.0, 2.0, 0.0]])
    np.testing.assert_allclose(solve(x, np.array([3.0, 6.0, 1.0])), [3, 0, 0])


def test_no_regressor_points_at_the_target():
    x = np.array([[1.0, 0.0], [0.5, 0.0]])
    assert not solve(x, np.array([-1.0, 5.0])).any()


def test_a_search_that_does_not_end_is_an_error(monkeypatch):
    monkeypatch.setattr(nonnegative, "_STEPS", 0)
    with pytest.raises(RuntimeError, match="did not end for 1 problems"):
        solve(np.eye(2), np.ones(2))
