"""Ridge regression in the dual, with the penalty of each unit chosen by leave-one-out within the training fold."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrdm._base import as_floats
from fastrdm.encoding.decomposition import Decomposition, Floats

# Default penalties, relative to the mean eigenvalue of the layer's centred Gram matrix.
_RELATIVE = np.logspace(-5, 4, 10)


def checked_alphas(alphas: ArrayLike) -> Floats:
    """Return penalties as an array; refuse an empty one, and penalties that are not positive and finite."""
    array = np.atleast_1d(as_floats(alphas, "alphas").astype(np.float64))
    if array.ndim != 1 or not len(array):
        raise ValueError(f"alphas has shape {array.shape}; pass at least one penalty, (penalties,)")
    if not (np.isfinite(array) & (array > 0)).all():
        wrong = array[~(np.isfinite(array) & (array > 0))][0]
        raise ValueError(f"alphas must be positive and finite, not {wrong:g}")
    return array


def default_alphas(trace: float, n_conditions: int) -> Floats:
    """Return ten penalties, 1e-5 to 1e4 times the mean eigenvalue of a layer's centred Gram matrix."""
    scale = trace / n_conditions
    return _RELATIVE * (scale if scale > 0 else 1.0)


def ridge_predictions(
    fold: Decomposition, centred: Floats, alphas: Floats
) -> tuple[Floats, NDArray[np.intp]]:
    r"""Predict held-out conditions, with the penalty of the least mean squared leave-one-out error.

    With K the centred products of the training fold and :math:`G = (K + \alpha I)^{-1}`, the leave-one-out errors are
    :math:`(G y)_i / (G_{ii} - 1 / (n \alpha))`; the last term is that of the intercept (Rifkin & Lippert 2007, Notes on
    regularized least squares). Of equal errors, the first penalty counts.

    Parameters
    ----------
    fold : Decomposition
        Of the training fold's activations.
    centred : ndarray, shape (training conditions, units)
        Responses y minus their means.
    alphas : ndarray, shape (penalties,)
        Penalties to choose from.

    Returns
    -------
    predictions : ndarray, shape (held-out conditions, units)
        Of the responses minus their training means.
    chosen : ndarray of int, shape (units,)
        Index of each unit's penalty.
    """
    parts = fold.vectors.T @ centred
    chosen = _chosen(fold, centred, parts, alphas)
    parts /= fold.values[:, None] + alphas[chosen]
    return fold.held_out @ parts, chosen


def _chosen(
    fold: Decomposition, centred: Floats, parts: Floats, alphas: Floats
) -> NDArray[np.intp]:
    chosen = np.zeros(parts.shape[1], np.intp)
    if len(alphas) == 1:
        return chosen
    squares = fold.vectors**2
    # What the vectors do not span remains in the residuals under any penalty.
    outside = None if fold.is_complete else centred - fold.vectors @ parts
    leverage: Floats | float = 0.0
    if not fold.is_complete:
        leverage = 1 - 1 / len(centred) - squares.sum(axis=1)
    least = np.full(parts.shape[1], np.inf)
    errors = np.empty_like(centred)
    for k, alpha in enumerate(alphas):
        shares = alpha / (fold.values + alpha)
        with np.errstate(invalid="ignore", divide="ignore"):
            weights = 1 / (squares @ shares + leverage)[:, None]
            # The vectors are scaled instead of the responses, which are more.
            np.matmul(fold.vectors * shares * weights, parts, out=errors)
            if outside is not None:
                errors += outside * weights
            scores = np.einsum("ij,ij->j", errors, errors)
        better = scores < least
        least[better] = scores[better]
        chosen[better] = k
    return chosen
