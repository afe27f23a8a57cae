"""Kernels on rows that are sorted in little memory, against SciPy and the rule in ties.py."""

import numpy as np
import pytest
from scipy import stats
from scipy.stats import rankdata

from fastrdm import _kernels
from fastrdm._kernels import settle

# Above the lengths from which rows are sorted in buckets, and from which pairs are counted by a merge sort.
SORTED = (1 << 20) + 7
COUNTED = (1 << 20) + 5
rng = np.random.default_rng(0)
ROWS = {
    "uniform": lambda n: rng.random(n),
    "float32": lambda n: rng.random(n, np.float32),
    "few values": lambda n: rng.integers(-20, 30, n).astype(float),
    "an outlier": lambda n: np.r_[rng.random(n - 1), 1e30],
    "a geometric series": lambda n: np.exp(rng.normal(0, 100, n)),
    "mostly zeros": lambda n: np.where(rng.random(n) < 0.9, 0.0, rng.normal(size=n)),
    "zeros of both signs": lambda n: np.where(rng.random(n) < 0.5, -0.0, rng.integers(0, 2, n)),
    "subnormal numbers": lambda n: rng.integers(0, 1000, n) * 5e-324,
    "extremes": lambda n: np.r_[rng.normal(size=n - 2) * 1e300, -1.7e308, 1.7e308],
    "constant": lambda n: np.full(n, 0.25),
}


@pytest.mark.parametrize("name", ROWS)
def test_ranks_of_long_rows(name):
    row = ROWS[name](SORTED)
    expected = rankdata(row)
    np.testing.assert_array_equal(_kernels.rank(row[None].astype(np.float64))[0], expected)
    prepared = _kernels.centred_ranks(row[None])
    np.testing.assert_array_equal(prepared.values[0, : len(row)], 2 * expected - len(row) - 1)
    assert prepared.squares[0] == pytest.approx(((2 * expected - len(row) - 1) ** 2).sum())


@pytest.mark.parametrize("n", [1, 2, 300, 20_000])
@pytest.mark.parametrize("within", [2.0**-40, 2.0**-21, 2.0**-8])
def test_near_values_become_equal(kernels, n, within):
    row = rng.choice([-1.0, 1.0], n) * rng.random(n) ** 4 * (1 + within * rng.integers(-3, 4, n))
    row[rng.random(n) < 0.1] = np.nan
    row[rng.random(n) < 0.01] = np.inf
    row[rng.random(n) < 0.2] = 0.25
    expected, found = settle(row[None].copy(), within), row[None].copy()
    _kernels.merge_near(found, within)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("tied", [False, True])
def test_concordance_of_long_rows(tied):
    a = rng.random(COUNTED)
    b = a + rng.random(COUNTED)
    if tied:
        a, b = np.floor(40 * a), np.floor(1000 * b)
    ranks = _kernels.rank(np.stack([a, b]))
    difference, untied_a, untied_b = _kernels.concordance(ranks[:1], ranks[1:])
    for values, untied in ((a, untied_a), (b, untied_b)):
        counts = np.unique(values, return_counts=True)[1]
        assert untied[0] == (COUNTED * (COUNTED - 1) - (counts * (counts - 1)).sum()) // 2
    tau = difference[0, 0] / np.sqrt(untied_a[0]) / np.sqrt(untied_b[0])
    assert tau == pytest.approx(stats.kendalltau(a, b).statistic, abs=1e-12)
    several = _kernels.concordance(ranks, ranks)[0]
    assert several[0, 1] == several[1, 0] == difference[0, 0]
    assert several[0, 0] == untied_a[0] and several[1, 1] == untied_b[0]
