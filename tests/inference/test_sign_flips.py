import itertools

import numpy as np
import pytest

from fastrdm.inference import max_statistic
from fastrdm.inference.sign_flips import all_flips


def t_of(values):
    n = values.shape[-1]
    mean, error = values.mean(-1), values.std(-1, ddof=1) / np.sqrt(n)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(values.sum(-1) == 0, 0, mean / error)


def oracle(parts, alternative):
    """p values from t of every flip."""
    most = max(part.shape[1] for part in parts)
    signs = np.array(list(itertools.product([1, -1], repeat=most)))
    orient = {"greater": np.asarray, "less": np.negative, "two-sided": np.abs}[alternative]
    flipped = [t_of(signs[:, None, : part.shape[1]] * part) for part in parts]
    null = orient(np.concatenate(flipped, axis=1))
    observed = orient(np.concatenate([t_of(part) for part in parts]))
    finite = np.where(np.isfinite(observed), observed, 0)
    least = np.where(
        np.isfinite(observed), observed - 1e-9 * np.maximum(1, np.abs(finite)), observed
    )
    return (null >= least).mean(0), (null.max(1)[:, None] >= least).mean(0)


@pytest.mark.parametrize("alternative", ["greater", "less", "two-sided"])
@pytest.mark.parametrize("seed", range(8))
def test_all_flips_are_those_of_the_oracle(alternative, seed):
    rng = np.random.default_rng(seed)
    parts = [rng.normal(0.3, 1, (4, n)) for n in rng.integers(2, 9, 3)]
    parts[0][0] = 0
    parts[1][1] *= 1e-150
    if seed % 2:
        # Ties.
        parts[2] = np.round(parts[2])
    for got, expected in zip(
        all_flips(parts, alternative), oracle(parts, alternative), strict=True
    ):
        np.testing.assert_array_equal(got, expected)


def test_equal_subjects_have_the_smallest_p():
    values = np.array([[1.0, 1, 1, 1], [1, 2, 1, 2]])
    p, corrected = max_statistic(values)
    assert p.tolist() == [1 / 16, 1 / 16] and corrected.tolist() == [1 / 16, 1 / 16]


def test_rounding_does_not_separate_equal_statistics():
    """Subjects in another order have another order of sums."""
    rng = np.random.default_rng(0)
    values = rng.normal(0.2, 1, 9)
    rows = np.stack([rng.permutation(values) for _ in range(20)])
    p, corrected = max_statistic(rows)
    assert len(set(p)) == 1 and len(set(corrected)) == 1
