"""Condensed RDMs → second-moment matrices, whitened by the covariance of patterns, and their similarities."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import square
from fastrdm.interop.rsatoolbox.originals import toolbox

Doubles = NDArray[np.float64]

# From as many conditions on, rsatoolbox whitens by sparse matrices.
_SPARSE = 100


def centred_moments(rdms: Doubles) -> Doubles:
    """Return the centred second-moment matrices (n, conditions, conditions) of squared distances."""
    moments = square(rdms) / -2
    means = moments.mean(axis=1, keepdims=True)
    return np.asarray(
        moments - means - means.transpose(0, 2, 1) + means.mean(axis=2, keepdims=True)
    )


def whitened(rdms: Doubles, sigma_k: NDArray[Any]) -> Doubles | None:
    r"""Return matrices whose inner products are those of the RDMs, whitened for this noise of patterns.

    With variances, the centred matrix is divided by the standard deviations of row and column. With a covariance
    :math:`\Sigma = L L^\top`, distances d have the covariance :math:`V = \Xi \circ \Xi`,
    :math:`\Xi = C \Sigma C^\top`, and :math:`d^\top V^{-1} d` is the minimum of
    :math:`\operatorname{tr}(\Sigma^{-1} G \Sigma^{-1} G)` over all G with those distances: that of
    :math:`L^{-1} G L^{-\top}` without its part along :math:`L^{-1} 1`. None if the noise has another shape or is not
    positive definite.
    """
    moments = centred_moments(rdms)
    n = moments.shape[1]
    if sigma_k.dtype.kind not in "fiu" or sigma_k.shape not in ((n,), (n, n)):
        return None
    if not np.isfinite(sigma_k).all():
        return None
    if sigma_k.ndim == 1:
        if not (sigma_k > 0).all():
            return None
        scale = 1 / np.sqrt(np.asarray(sigma_k, np.float64))
        return np.asarray(moments * scale[:, None] * scale)
    if not np.array_equal(sigma_k, sigma_k.T):
        return None
    try:
        inverse = np.linalg.inv(np.linalg.cholesky(sigma_k))
    except np.linalg.LinAlgError:
        return None
    ones = inverse.sum(axis=1)
    remaining = np.eye(n) - np.outer(ones, ones) / (ones @ ones)
    root = remaining @ inverse
    return np.asarray(root @ moments @ root.T)


def whitening(pairs: NDArray[np.bool_]) -> Callable[[Doubles], Doubles] | None:
    """Return the function from RDMs (n, pairs that are there) to whitened vectors, as rsatoolbox's ``_cov_weighting``.

    It has rsatoolbox's rounding to the bit, by the same products in the same order, for optimisers that may stop early:
    where they do, depends on it. What depends on `pairs` alone is computed once. None for missing pairs of 100
    conditions or more, which rsatoolbox cannot whiten.
    """
    n = round((1 + np.sqrt(1 + 8 * len(pairs))) / 2)
    n_there = int(pairs.sum())
    is_complete, is_sparse = n_there == len(pairs), n >= _SPARSE
    if is_sparse and not is_complete:
        return None
    suffix = "_sparse" if is_sparse else ""
    row, column = getattr(toolbox("util.matrix"), f"row_col_indicator_g{suffix}")(n)
    # 1 where a condition is in a pair, 2 where it is on the diagonal, which follows the pairs.
    members = row + column
    if is_complete:
        back = members.T

        def centred(moments: Doubles) -> Doubles:
            overall = np.sum(moments * 2, axis=1, keepdims=True) / (n * n)
            return np.asarray(moments - moments @ members / n @ back + overall)

    else:
        members = members[np.concatenate((pairs, np.ones(n, bool)))]
        members[n_there:] /= 2
        weighted = np.repeat([0.5, 1.0], [n_there, n])[:, None] * members
        solve, effects = np.linalg.inv(members.T @ weighted), weighted.T

        def centred(moments: Doubles) -> Doubles:
            return np.asarray(moments - moments @ members @ solve @ effects)

    def whiten(rdms: Doubles) -> Doubles:
        vectors = centred(-0.5 * np.c_[rdms, np.zeros((len(rdms), n))])
        vectors[:, :n_there] *= np.sqrt(2)
        return vectors

    return whiten


def cosines(first: Doubles, second: Doubles, empty: float) -> Doubles:
    """Return the cosines (n1, n2) of matrices; `empty` for a matrix of zeros."""
    a, b = (moments.reshape(len(moments), -1) for moments in (first, second))
    roots = np.sqrt(np.einsum("ij,ij->i", a, a)[:, None] * np.einsum("ij,ij->i", b, b))
    products = np.einsum("ij,kj->ik", a, b, optimize=True)
    return np.asarray(
        np.divide(products, roots, out=np.full_like(products, empty), where=roots > 0)
    )


def bures(first: Doubles, second: Doubles, *, metric: bool) -> Doubles:
    """Return Bures similarities (n1, n2) of second-moment matrices, or with `metric` squared Bures distances.

    Roots of negative eigenvalues are taken as 0.
    """
    values, vectors = np.linalg.eigh(first)
    roots = (vectors * np.sqrt(np.maximum(values, 0))[:, None, :]) @ vectors.transpose(0, 2, 1)
    traces = [np.trace(moments, axis1=1, axis2=2) for moments in (first, second)]
    shared = np.empty((len(first), len(second)))
    for row, root in zip(shared, roots, strict=True):
        eigenvalues = np.linalg.eigvalsh(root @ second @ root)
        row[:] = np.sqrt(np.maximum(eigenvalues, 0)).sum(axis=1)
    if metric:
        return np.asarray(traces[0][:, None] + traces[1] - 2 * shared)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(shared / np.sqrt(traces[0][:, None] * traces[1]))
