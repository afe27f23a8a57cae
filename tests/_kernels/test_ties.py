"""Values that differ only by rounding."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrdm._kernels import FLOAT64, settle


def plain(values, within):
    """The rule, word for word."""
    out, left = values.copy(), sorted(set(values[np.isfinite(values)]))
    while left:
        first = left[0]
        group = []
        for value in left:
            if value - first > within * max(abs(value), abs(first)):
                break
            group.append(value)
        out[np.isin(values, group)] = first
        left = left[len(group) :]
    return out


@given(
    st.lists(st.integers(-40, 40), min_size=1, max_size=60),
    st.lists(st.floats(-1, 1), min_size=60, max_size=60),
    st.sampled_from([FLOAT64, 1e-3, 0.1]),
)
def test_groups_are_those_of_the_rule(whole, noise, within):
    values = np.array(whole, float) / 7 * (1 + within * np.array(noise[: len(whole)]))
    np.testing.assert_array_equal(settle(values.copy(), within), plain(values, within))


@given(st.lists(st.floats(0, 2), min_size=2, max_size=40), st.randoms())
def test_the_order_of_values_does_not_matter(values, random):
    order = list(range(len(values)))
    random.shuffle(order)
    values = np.array(values)
    np.testing.assert_array_equal(settle(values[order], 0.01), settle(values.copy(), 0.01)[order])


def test_equal_sums_that_rounded_apart_become_equal():
    values = np.array([0.1 + 0.2, 0.3, 0.7, 0.1 * 7])
    assert len(np.unique(values)) == 4
    assert len(np.unique(settle(values))) == 2


def test_each_row_by_itself_and_nan_stays():
    values = np.array([[1.0, np.nan, 1.0 + 1e-15], [2.0, 3.0, np.nan]])
    np.testing.assert_array_equal(settle(values), [[1, np.nan, 1], [2, 3, np.nan]])


@pytest.mark.parametrize("n", [1, 1000])
def test_dense_values_move_by_no_more_than_the_bound(n):
    values = np.sort(np.random.default_rng(0).random(n))
    settled = settle(values.copy(), 1e-2)
    assert np.all(np.abs(settled - values) <= 1e-2 * values)
