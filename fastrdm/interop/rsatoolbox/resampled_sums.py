"""Similarities and noise ceilings of resampled RDMs from sums of products: cosine, corr and their whitened forms.

A condition that is drawn c times gives pairs with the weight c_i c_j. All similarities of a draw follow from the
weighted products of pairs of RDMs, and those of all draws are one matrix product.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]

# Squares this much smaller than the sum of products they come from are rounding.
_ROUNDING = 1e-18
_BLOCK_BYTES = 1 << 26


@dataclass(frozen=True)
class WeightedProducts:
    """Products of rows of RDMs in each draw: `plain` for pools, `compared` for similarities (draws, rows, rows).

    `doubtful` (draws,) marks draws in which a row is constant, or zero, up to rounding.
    """

    plain: Doubles
    compared: Doubles
    doubtful: NDArray[np.bool_]


def weighted_products(rows: Doubles, counts: Doubles | None, method: str) -> WeightedProducts:
    """Return the products of all pairs of rows (rows, pairs) with conditions `counts` (draws, conditions) times.

    None: one draw with all pairs; whitened methods need the counts.
    """
    centred = method.startswith("corr")
    if centred:
        rows = rows - rows.mean(axis=1, keepdims=True)
    if counts is None:
        products, sums = (rows @ rows.T)[None], rows.sum(axis=1)[None]
        weight = np.array([float(rows.shape[1])])
    else:
        products, sums = _sums(rows, counts)
        weight = (counts.sum(axis=1) ** 2 - (counts**2).sum(axis=1)) / 2
    before = np.einsum("drr->dr", products).copy()
    means = sums / weight[:, None]
    if centred:
        products = products - sums[:, :, None] * means[:, None, :]
    squares = np.einsum("drr->dr", products)
    doubtful = (squares <= _ROUNDING * before).any(axis=1)
    if centred:
        # A row that was constant as a whole has only rounding left.
        scale = np.abs(rows).max(axis=1)
        doubtful |= (squares <= 1e-24 * weight[:, None] * scale**2).any(axis=1)
    if counts is None or not method.endswith("_cov"):
        return WeightedProducts(products, products, doubtful)
    compared, bad = _double_centred(rows, counts, products, means if centred else None)
    return WeightedProducts(products, compared, doubtful | bad)


def _sums(rows: Doubles, counts: Doubles) -> tuple[Doubles, Doubles]:
    """Return the weighted products (draws, rows, rows) and sums (draws, rows) of rows of RDMs."""
    n_rows, n_pairs = rows.shape
    n_draws, n_conditions = counts.shape
    first, second = np.triu_indices(n_conditions, 1)
    upper = np.triu_indices(n_rows)
    found = np.zeros((n_draws, len(upper[0]) + n_rows))
    step = max(1, _BLOCK_BYTES // (8 * (found.shape[1] + min(n_draws, 256))))
    for start in range(0, n_pairs, step):
        part = slice(start, start + step)
        values = np.concatenate([rows[upper[0], part] * rows[upper[1], part], rows[:, part]]).T
        for draw in range(0, n_draws, 256):
            block = counts[draw : draw + 256]
            found[draw : draw + 256] += (block[:, first[part]] * block[:, second[part]]) @ values
    products = np.empty((n_draws, n_rows, n_rows))
    products[:, upper[0], upper[1]] = products[:, upper[1], upper[0]] = found[:, : len(upper[0])]
    return products, found[:, len(upper[0]) :]


def _double_centred(
    rows: Doubles, counts: Doubles, products: Doubles, means: Doubles | None
) -> tuple[Doubles, NDArray[np.bool_]]:
    """Return products of rows without the sums of two conditions' effects, as whitening does, and failed draws.

    The effects are fitted by least squares to the pairs that a draw has, with weight 2, and to the diagonal. Their
    normal equations are a diagonal matrix plus one of rank 1.
    """
    n_conditions = counts.shape[1]
    first, second = np.triu_indices(n_conditions, 1)
    totals = np.empty((len(counts), len(rows), n_conditions))
    square = np.zeros((n_conditions, n_conditions))
    for i, row in enumerate(rows):
        square[first, second] = square[second, first] = row
        totals[:, i] = counts @ square
    total = counts.sum(axis=1, keepdims=True)
    if means is not None:
        totals -= means[:, :, None] * (total - counts)[:, None, :]
    diagonal = 1 + total / 2 - counts
    bad = ((diagonal <= 0) & (counts > 0)).any(axis=1)
    shares = counts / np.where(diagonal > 0, diagonal, 1.0)
    common = np.einsum("dc,drc->dr", shares, totals) / (1 + shares.sum(axis=1, keepdims=True) / 2)
    left = totals - common[:, :, None] / 2
    compared = 2 * products - np.matmul(left * shares[:, None, :], totals.transpose(0, 2, 1))
    compared = (compared + compared.transpose(0, 2, 1)) / 2
    squares, before = np.einsum("drr->dr", compared), 2 * np.einsum("drr->dr", products)
    return compared, bad | (squares <= 1e-12 * before).any(axis=1)


def mean_similarities(products: Doubles, n_models: int, weights: Doubles) -> Doubles:
    """Return the means (draws, models) over the data, `weights` (draws, data), of similarities with the first rows."""
    roots = np.sqrt(np.einsum("drr->dr", products))
    found = (
        products[:, :n_models, n_models:] / roots[:, :n_models, None] / roots[:, None, n_models:]
    )
    similarities: Doubles = np.einsum("dms,ds->dm", found, weights) / weights.sum(axis=1)[:, None]
    return similarities


def ceilings(
    plain: Doubles, compared: Doubles, weights: Doubles, groups: NDArray[np.intp]
) -> Doubles:
    """Return (2, draws): means over drawn groups of the similarity of their RDMs to the pool without, and with, them.

    The pool is the mean of RDMs over their lengths. A group that is alone is its own pool. NaN where RDMs cancel out.
    """
    factors = weights / np.sqrt(np.einsum("drr->dr", plain))
    roots = np.sqrt(np.einsum("drr->dr", compared))
    n_groups = int(groups.max()) + 1
    members = groups == np.arange(n_groups)[:, None]
    drawn = (weights > 0) @ members.T
    alone = (drawn.sum(axis=1) == 1)[:, None]
    upper = _similarity_to_pool(compared, factors, roots)
    sums = np.zeros((2, len(weights)))
    for group, own in enumerate(members):
        rest = np.where(own & ~alone, 0.0, factors)
        lower = _similarity_to_pool(compared, rest, roots)
        for bound, values in zip(sums, (lower, upper), strict=True):
            mean = values[:, own].mean(axis=1)
            bound += np.where(drawn[:, group], mean, 0.0)
    found: Doubles = sums / drawn.sum(axis=1)
    return found


def _similarity_to_pool(products: Doubles, factors: Doubles, roots: Doubles) -> Doubles:
    """Return similarities to the weighted sum of rows; NaN where this sum has only rounding left."""
    with_pool = np.einsum("dst,dt->ds", products, factors)
    length = np.einsum("ds,ds->d", with_pool, factors)
    largest = np.einsum("ds,ds->d", roots, factors) ** 2
    with np.errstate(invalid="ignore", divide="ignore"):
        found = with_pool / (np.sqrt(np.maximum(length, 0))[:, None] * roots)
    similarities: Doubles = np.where((length > 1e-14 * largest)[:, None], found, np.nan)
    return similarities
