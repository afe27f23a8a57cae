"""Ridge regression in the dual, with the penalty of each unit chosen by leave-one-out within the training fold."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastrdm._base import as_floats
from fastrdm.encoding.decomposition import Decomposition, Floats
from fastrdm.rdm import Gram

# Default penalties, relative to the mean eigenvalue of the layer's centred Gram matrix.
RELATIVE_ALPHAS = np.logspace(-5, 4, 10)
# A layer is constant if its conditions differ by no more than this share of its products.
_CONSTANT = 1e-13


def checked_alphas(alphas: ArrayLike) -> Floats:
    """Return penalties as an array; refuse an empty one, and penalties that are not positive and finite."""
    array = np.atleast_1d(as_floats(alphas, "alphas").astype(np.float64))
    if array.ndim != 1 or not len(array):
        raise ValueError(f"alphas has shape {array.shape}; pass at least one penalty, (penalties,)")
    if not (np.isfinite(array) & (array > 0)).all():
        wrong = array[~(np.isfinite(array) & (array > 0))][0]
        raise ValueError(f"alphas must be positive and finite, not {wrong:g}")
    return array


def mean_eigenvalue(gram: Gram) -> float:
    """Return the mean eigenvalue of a layer's centred Gram matrix; 1 if the layer is constant but for rounding."""
    n, features = gram.n_conditions, gram.features
    if features is None:
        squares = float(np.trace(gram.products))
        centred = squares - float(gram.products.sum()) / n
    else:
        squares = float(np.vdot(features, features))
        centred = squares - n * float(np.sum(features.mean(axis=0) ** 2))
    return centred / n if centred > _CONSTANT * squares else 1.0


@dataclass(frozen=True, eq=False)
class LeaveOneOut:
    """The penalty of each unit that leave-one-out prefers, and what it was preferred for.

    Attributes
    ----------
    parts : ndarray, shape (components, units)
        Uᵀ y of the centred responses.
    penalties : ndarray, shape (units,)
        Chosen penalties.
    squares : ndarray, shape (units,)
        Sums of their squared leave-one-out errors.
    errors : ndarray, shape (training conditions, units), or None
        These errors, if they were to be kept.
    """

    parts: Floats
    penalties: Floats
    squares: Floats
    errors: Floats | None

    def predictions(self, fold: Decomposition, units: Any = slice(None)) -> Floats:
        """Return the predictions of held-out conditions, minus the training means."""
        scaled = self.parts[:, units] / (fold.values[:, None] + self.penalties[units])
        return np.asarray(fold.held_out @ scaled)


def leave_one_out(
    fold: Decomposition, centred: Floats, alphas: Floats, *, keep_errors: bool = False
) -> LeaveOneOut:
    r"""Choose the penalty of each unit by the mean squared leave-one-out error.

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
    keep_errors : bool
        Whether to return the errors.

    Returns
    -------
    LeaveOneOut
    """
    n_units = centred.shape[1]
    parts = fold.vectors.T @ centred
    squares = fold.vectors**2
    # What the vectors do not span remains in the residuals under any penalty.
    outside = None if fold.is_complete else centred - fold.vectors @ parts
    leverage: Floats | float = 0.0
    if not fold.is_complete:
        leverage = 1 - 1 / len(centred) - squares.sum(axis=1)
    least, chosen = np.full(n_units, np.inf), np.zeros(n_units, np.intp)
    kept = np.full_like(centred, np.nan) if keep_errors else None
    errors = np.empty_like(centred)
    for k, alpha in enumerate(alphas):
        shares = alpha / (fold.values + alpha)
        with np.errstate(invalid="ignore", divide="ignore"):
            weights = 1 / (squares @ shares + leverage)[:, None]
            # The vectors are scaled instead of the responses, which are more.
            np.matmul(fold.vectors * shares * weights, parts, out=errors)
            if outside is not None:
                errors += outside * weights
            sums = np.einsum("ij,ij->j", errors, errors)
        better = sums < least
        least[better], chosen[better] = sums[better], k
        if kept is not None:
            kept[:, better] = errors[:, better]
    return LeaveOneOut(parts, alphas[chosen], least, kept)


def ridge_predictions(
    fold: Decomposition, centred: Floats, alphas: Floats
) -> tuple[Floats, Floats]:
    """Return predictions (held-out conditions, units), minus the training means, and the penalties (units,)."""
    if len(alphas) == 1:
        parts = fold.vectors.T @ centred
        penalties = np.full(centred.shape[1], alphas[0])
        found = LeaveOneOut(parts, penalties, np.full(len(penalties), np.nan), None)
    else:
        found = leave_one_out(fold, centred, alphas)
    return found.predictions(fold), found.penalties
