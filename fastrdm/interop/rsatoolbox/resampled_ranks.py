"""Similarities and noise ceilings of resampled RDMs from ranks: Spearman's rho, rho-a, Kendall's tau-a and tau-b."""

import numpy as np
from numpy.typing import NDArray

from fastrdm import _kernels

Doubles = NDArray[np.float64]
Counts = NDArray[np.int32]

_SPEARMAN = {"spearman": False, "rho-a": True}


def rank_correlations(first: Doubles, second: Doubles, method: str) -> Doubles:
    """Return similarities (n_first, n_second) of rows of average ranks; as rsatoolbox, 0 for a constant row.

    Kendall's tau-b of a constant row is NaN, as in scipy.
    """
    length = first.shape[1]
    if method in _SPEARMAN:
        a, b = (x - (length + 1) / 2 for x in (first, second))
        products = a @ b.T
        if _SPEARMAN[method]:
            found: Doubles = products / (float(length) ** 3 - length) * 12
            return found
        roots = np.sqrt(np.einsum("ij,ij->i", a, a)[:, None] * np.einsum("ij,ij->i", b, b))
        rho: Doubles = np.divide(products, roots, out=np.zeros_like(products), where=roots > 0)
        return rho
    excess, untied_a, untied_b = _kernels.concordance(first, second)
    if method == "tau-a":
        tau: Doubles = excess / (length * (length - 1) // 2)
        return tau
    with np.errstate(invalid="ignore"):
        tau = excess / np.sqrt(untied_a)[:, None] / np.sqrt(untied_b)
    return np.clip(tau, -1, 1)


def kernel_similarities(
    models: Doubles, data: Doubles, counts: Counts, weights: Doubles, method: str
) -> Doubles:
    """Return the means (draws, models) of Spearman's coefficients over data with `weights` (draws, data)."""
    found = _kernels.resampled_similarities(models, data, counts, untied=_SPEARMAN[method])
    found = np.nan_to_num(found)
    similarities: Doubles = np.einsum("dms,ds->dm", found, weights) / weights.sum(axis=1)[:, None]
    return similarities


def kernel_ceilings(
    data: Doubles, counts: Counts | None, weights: Doubles, method: str, n_conditions: int
) -> Doubles:
    """Return noise ceilings (2, draws), where each RDM is left out with its copies."""
    drawn = weights > 0
    found = _kernels.resampled_ceilings(
        data,
        n_conditions,
        counts,
        weights.astype(np.int32),
        ranked=True,
        untied=_SPEARMAN[method],
    )
    found = np.where(drawn[:, None, :], np.nan_to_num(found), 0.0)
    result: Doubles = (found.sum(axis=2) / drawn.sum(axis=1)[:, None]).T
    return result


def pool_of_ranks(ranks: Doubles, weights: Doubles) -> Doubles:
    """Return the ranks (1, pairs) of the weighted mean of rows of ranks."""
    # Twice a rank is an integer, so that equal means are equal to the bit.
    sums = (weights @ (2 * ranks))[None]
    return _kernels.rank(np.ascontiguousarray(sums))


def one_draw(
    models: Doubles, data: Doubles, pairs: NDArray[np.intp], weights: Doubles, method: str
) -> tuple[Doubles, Doubles]:
    """Return the mean similarities (models,) of one draw's pairs, and the ranks of its data."""
    ranks = _kernels.rank(np.ascontiguousarray(data[:, pairs]))
    if not len(models):
        return np.empty(0), ranks
    others = _kernels.rank(np.ascontiguousarray(models[:, pairs]))
    used = weights > 0
    found = rank_correlations(others, ranks[used], method)
    similarities: Doubles = found @ weights[used] / weights.sum()
    return similarities, ranks


def ceilings_of_ranks(
    ranks: Doubles, weights: Doubles, groups: NDArray[np.intp], method: str
) -> tuple[float, float]:
    """Return the noise ceiling of rows of ranks, where groups of RDMs are left out together."""
    drawn = np.unique(groups[weights > 0])
    upper_pool = pool_of_ranks(ranks, weights)
    upper = rank_correlations(upper_pool, ranks, method)[0]
    bounds = np.zeros(2)
    for group in drawn:
        own = groups == group
        rest = weights if len(drawn) == 1 else np.where(own, 0.0, weights)
        lower = rank_correlations(pool_of_ranks(ranks, rest), ranks[own], method)
        bounds += lower.mean(), upper[own].mean()
    lower_bound, upper_bound = bounds / len(drawn)
    return lower_bound, upper_bound


def drawn_pairs(counts: NDArray[np.integer]) -> NDArray[np.intp]:
    """Return the positions of all pairs of different conditions, where conditions are drawn `counts` times."""
    n = len(counts)
    drawn = np.repeat(np.arange(n), counts)
    first, second = (drawn[i] for i in np.triu_indices(len(drawn), 1))
    keep = first != second
    first, second = first[keep], second[keep]
    positions: NDArray[np.intp] = first * (2 * n - first - 1) // 2 + second - first - 1
    return positions
