"""Activations → a condensed RDM, for each method of `calc_rdm`."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._kernels.numba.common import LANES
from fastrdm._kernels.numba.condense import _angles, _distances, _scaled
from fastrdm._kernels.numba.products import BLOCK, _add_products, _difference, _pack
from fastrdm.numba.common import Doubles, Floats, offered, settled
from fastrdm.numba.similarities import rank

# As in `fastrdm.rdm`: dissimilarities of pairs nearer than this are computed from their differences.
NEAR_ANGLE, NEAR_DISTANCE = 2.0**-7, 2.0**-5
# RDMs of float64 numbers of up to this many pairs are searched for ties within this relative difference.
MAX_SEARCHED = 1 << 18
TIES = 2.0**-40
# Differences of integers whose products are exact over a block, and channels times them over a row.
SMALL, EXACT = 64, 2.0**26


@offered
def _products(x: Floats, shift: Floats) -> tuple[Doubles, Doubles]:
    """Return the products of all pairs i <= j of shifted rows, and the rows' sums."""
    n, n_columns = x.shape
    packed = np.zeros(((n + LANES - 1) // LANES, BLOCK // 4, 4 * LANES), x.dtype)
    out, sums = np.zeros((n, n)), np.zeros(n)
    for start in range(0, n_columns, BLOCK):
        _pack(x, shift, start, packed, sums)
        padded = (min(BLOCK, n_columns - start) + 3) // 4 * 4
        _add_products(packed, packed, n, n, padded, True, out, 0, 1)
    return out, sums


@offered
def _means(x: Floats) -> tuple[Doubles, NDArray[np.bool_], bool]:
    """Return the mean of each row, whether it is constant, and whether all are small integers.

    The products of small integers are exact; their means are rounded, so that this holds for deviations from them.
    """
    means, constant = np.empty(len(x)), np.empty(len(x), np.bool_)
    exact = x.shape[1] * SMALL < EXACT
    for i in range(len(x)):
        total, low, high = 0.0, x[i, 0], x[i, 0]
        for value in x[i]:
            total += np.float64(value)
            low, high = min(low, value), max(high, value)
            exact = exact and value == np.rint(value)
        means[i] = total / x.shape[1]
        constant[i] = low == high
        exact = exact and high - low <= SMALL
    if exact:
        means = np.rint(means)
        exact = np.max(means) - np.min(means) <= SMALL
    return means, constant, exact


@offered
def _refine(x: Floats, shift: Doubles, factor: Doubles, scale: float, out: Doubles) -> None:
    """Replace values whose sign bit is set by `scale` times the squared difference of shifted, scaled rows."""
    lanes = np.empty(LANES)
    pair = 0
    for i in range(len(x)):
        for j in range(i + 1, len(x)):
            if np.signbit(out[pair]):
                square = _difference(
                    x[i], x[j], shift[i], shift[j], factor[i], factor[j], lanes, 0.0
                )
                out[pair] = scale * square
            pair += 1


@offered
def _angle_rdm(x: Floats, centre: bool) -> Doubles:
    n, n_channels = x.shape
    if n < 2:
        return np.empty(0)
    means, constant, exact = _means(x)
    if not centre:
        exact = exact and np.max(np.abs(x)) <= SMALL
        means[:] = 0
    shift: Any = means.astype(x.dtype)
    product, sums = _products(x, shift)
    norms = np.empty(n)
    for i in range(n):
        norm = product[i, i]
        if centre:
            norm = n_channels * norm - sums[i] * sums[i]
        norms[i] = norm if norm > 0 and not (centre and constant[i]) else np.nan
    if not centre:
        # Products of the numbers themselves: nothing to take off.
        sums[:] = 0
    factor = float(n_channels) if centre else 1.0
    near = 0.0 if exact else NEAR_ANGLE
    out = np.empty(n * (n - 1) // 2)
    scaled = _scaled(norms)
    count = _angles(product, True, scaled, scaled, (sums, sums), factor, near, out, 0, len(x))
    if count > 0:
        _refine(x, means, np.sqrt(factor / norms), 0.5, out)
    if x.itemsize == 8 and len(out) <= MAX_SEARCHED:
        settled(out, TIES, True)
    return out


@offered
def correlation_rdm(x: Floats) -> Doubles:
    """Return 1 − Pearson's r of all pairs of conditions.

    Equal to ``fastrdm.calc_rdm(x, "correlation")`` within 1e-6 for float32 and 1e-9 for float64. A dissimilarity
    depends on its two conditions alone; equal conditions have one of 0. Ties are made as there for float64 rows, and
    for small integers in float32; those of other activations with few different values in float32 are not.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (conditions, channels)

    Returns
    -------
    ndarray of float64, shape (pairs,)
        NaN for pairs of a condition that is constant, contains NaN or infinity, or has squares beyond its type.
    """
    return _angle_rdm(x, True)


@offered
def cosine_rdm(x: Floats) -> Doubles:
    """Return 1 − cosine of all pairs of conditions.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (conditions, channels)

    Returns
    -------
    ndarray of float64, shape (pairs,)
        NaN for pairs of a condition that is zero; otherwise as `correlation_rdm`.
    """
    return _angle_rdm(x, False)


@offered
def _squared_distances(x: Floats) -> Doubles:
    n = len(x)
    if n < 2:
        return np.empty(0)
    means, _, exact = _means(x)
    # One shift of all conditions changes no distance; the least depends on no order.
    least = np.inf
    for mean in means:
        if abs(mean) < abs(least):
            least = mean
    shift: Any = np.full(n, least if np.isfinite(least) else 0.0).astype(x.dtype)
    product, _ = _products(x, shift)
    norms = np.empty(n)
    for i in range(n):
        norms[i] = product[i, i] if np.isfinite(product[i, i]) else np.nan
    out = np.empty(n * (n - 1) // 2)
    near = 0.0 if exact else NEAR_DISTANCE
    if _distances(product, True, norms, norms, near, out, 0, n) > 0:
        _refine(x, np.zeros(n), np.ones(n), 1.0, out)
    return out


@offered
def sqeuclidean_rdm(x: Floats) -> Doubles:
    """Return the sum of squared differences of all pairs of conditions, not divided by the number of channels.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (conditions, channels)

    Returns
    -------
    ndarray of float64, shape (pairs,)
        Exactly 0 for equal conditions; NaN for pairs of one that has NaN, infinity or squares beyond its type.
    """
    out = _squared_distances(x)
    if x.itemsize == 8 and len(out) <= MAX_SEARCHED:
        settled(out, 2 * TIES, False)
    return out


@offered
def euclidean_rdm(x: Floats) -> Doubles:
    """Return the Euclidean distance of all pairs of conditions, as `sqeuclidean_rdm` with its root.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (conditions, channels)

    Returns
    -------
    ndarray of float64, shape (pairs,)
    """
    out = np.sqrt(_squared_distances(x))
    if x.itemsize == 8 and len(out) <= MAX_SEARCHED:
        settled(out, TIES, False)
    return out


@offered
def spearman_rdm(x: Floats) -> Doubles:
    """Return 1 − Spearman's ρ over channels of all pairs of conditions: `correlation_rdm` of their average ranks.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (conditions, channels)

    Returns
    -------
    ndarray of float64, shape (pairs,)
        NaN for pairs of a condition that is constant or contains NaN.
    """
    ranks = np.empty(x.shape)
    for i in range(len(x)):
        ranks[i] = rank(x[i])
    return correlation_rdm(ranks)


@offered
def whiten(x: Floats, precision: Doubles) -> Doubles:
    """Return rows whose products are those of `x` with a precision between them: x P^(1/2).

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (conditions, channels)
    precision : ndarray of float64, shape (channels, channels)
        Symmetric and positive semi-definite, the inverse of the covariance of the channels' noise. Negative
        eigenvalues count as 0. Must be C-contiguous.

    Returns
    -------
    ndarray of float64, shape (conditions, channels)
    """
    values, vectors = np.linalg.eigh(precision)
    filters = vectors * np.sqrt(np.maximum(values, 0.0))
    whitened: Doubles = np.dot(
        np.ascontiguousarray(x.astype(np.float64)), np.ascontiguousarray(filters)
    )
    return whitened


@offered
def mahalanobis_rdm(x: Floats, precision: Doubles) -> Doubles:
    """Return √((x − y)ᵀ P (x − y)) of all pairs of conditions: `euclidean_rdm` of `whiten`.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (conditions, channels)
    precision : ndarray of float64, shape (channels, channels)
        As for `whiten`.

    Returns
    -------
    ndarray of float64, shape (pairs,)
    """
    return euclidean_rdm(whiten(x, precision))


@offered
def crossnobis_rdm(measurements: Floats) -> Doubles:
    """Return the mean over all pairs of different folds of (x_f − y_f)·(x_g − y_g).

    Parameters
    ----------
    measurements : ndarray of float32 or float64, shape (folds, conditions, channels)
        At least two folds; each condition once in each. `whiten` each fold first for noise normalisation.

    Returns
    -------
    ndarray of float64, shape (pairs,)
        Around 0, and so negative half of the time, if conditions do not differ. NaN with fewer than two folds.
    """
    n_folds, n, n_channels = measurements.shape
    out = np.empty(n * (n - 1) // 2)
    pair = 0
    for i in range(n):
        for j in range(i + 1, n):
            total = 0.0
            for k in range(n_channels):
                whole, squares = 0.0, 0.0
                for fold in range(n_folds):
                    apart = np.float64(measurements[fold, i, k]) - np.float64(
                        measurements[fold, j, k]
                    )
                    whole += apart
                    squares += apart * apart
                total += whole * whole - squares
            out[pair] = total / (n_folds * (n_folds - 1)) if n_folds > 1 else np.nan
            pair += 1
    return out
