"""Noise of channels, given as its precision or as residuals → the filters that whiten it."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from fastrdm.forms import ASYMMETRY, as_floats, check_finite
from fastrdm.products import Floats

# Eigenvalues above minus this share of the largest are zero but for rounding.
_NEGATIVE = 1e-10


def of_precision(precision: ArrayLike, n_channels: int, name: str) -> Floats:
    """Filters W (channels, channels) with Wᵀ W = precision."""
    matrix = as_floats(precision, "precision")
    if matrix.shape != (n_channels, n_channels):
        raise ValueError(
            f"precision has shape {matrix.shape}; {name} have {n_channels} channels, so that it must be"
            f" ({n_channels}, {n_channels})"
        )
    check_finite(matrix, "precision", ("row", "column"))
    matrix = matrix.astype(np.float64)
    _check_symmetric(matrix)
    matrix = (matrix + matrix.T) / 2
    try:
        return np.ascontiguousarray(np.linalg.cholesky(matrix).T)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(matrix)
    if values[0] < -_NEGATIVE * max(values[-1], 0.0):
        raise ValueError(
            f"precision is not positive semi-definite: its smallest eigenvalue is {values[0]:.6g}"
        )
    return np.ascontiguousarray((vectors * np.sqrt(np.maximum(values, 0))).T)


def _check_symmetric(matrix: Floats) -> None:
    difference = np.abs(matrix - matrix.T)
    i, j = (int(k) for k in np.unravel_index(np.argmax(difference), matrix.shape))
    if difference[i, j] > ASYMMETRY * np.abs(matrix).max():
        raise ValueError(
            f"precision is not symmetric: entries ({i}, {j}) and ({j}, {i}) are {matrix[i, j]:.6g} and"
            f" {matrix[j, i]:.6g}"
        )


def of_residuals(residuals: ArrayLike, n_channels: int, name: str, estimator: str) -> Floats:
    """Filters W (channels, channels) with Wᵀ W the inverse of the residuals' covariance."""
    array = as_floats(residuals, "residuals")
    if array.ndim < 2 or len(array) < 2 or array[0].size != n_channels:
        raise ValueError(
            f"residuals have shape {array.shape}; {name} have {n_channels} channels, so that they must be"
            f" (observations >= 2, {n_channels})"
        )
    rows = array.reshape(len(array), -1).astype(np.float64)
    check_finite(rows, "residuals", ("observation", "channel"))
    dead = np.flatnonzero(rows.max(axis=0) == rows.min(axis=0))
    if len(dead):
        listed = ", ".join(str(i) for i in dead[:10]) + (", ..." if len(dead) > 10 else "")
        raise ValueError(
            f"residuals of these channels are constant, so that they have no precision: {listed}"
        )
    rows -= rows.mean(axis=0)
    matrix = COVARIANCES[estimator](_Moments.of(rows))
    try:
        lower = np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        raise ValueError(
            f"the covariance {estimator!r} of residuals of shape {array.shape} cannot be inverted; take more"
            " observations, or one that shrinks"
        ) from None
    from scipy.linalg import solve_triangular

    return np.ascontiguousarray(solve_triangular(lower, np.eye(n_channels), lower=True))


class _Moments(NamedTuple):
    """Of residuals less their means."""

    rows: Floats
    degrees: int
    covariance: Floats

    @classmethod
    def of(cls, rows: Floats) -> "_Moments":
        degrees = len(rows) - 1
        return cls(rows, degrees, rows.T @ rows / degrees)


def _diagonal(moments: _Moments) -> Floats:
    return np.diag(moments.covariance.diagonal())


def _sample(moments: _Moments) -> Floats:
    return moments.covariance


def _towards_diagonal(moments: _Moments) -> Floats:
    """Schäfer & Strimmer (2005), target D of table 2, with λ* of the correlations.

    Variances of correlations are rsatoolbox's, which has n − 1 in one place where the paper has n.
    """
    rows, degrees, covariance = moments
    n = len(rows)
    deviation = np.sqrt(covariance.diagonal())
    z2 = (rows / deviation) ** 2
    # Sums over all pairs of different channels, from those over all pairs less each with itself.
    correlations = covariance / deviation / deviation[:, None]
    np.fill_diagonal(correlations, 0)
    r2 = np.sum(correlations**2)
    fourth = (np.sum(z2.sum(axis=1) ** 2) - np.sum(z2**2)) / degrees
    strength = n / degrees**2 * (fourth - r2) / r2 if r2 > 0 else 1.0
    shrunk = covariance * (1 - min(max(strength, 0.0), 1.0))
    np.fill_diagonal(shrunk, covariance.diagonal())
    return shrunk


def _towards_identity(moments: _Moments) -> Floats:
    """Ledoit & Wolf (2004), eq. 14 with the estimators of lemmata 3.2 to 3.4."""
    rows, degrees, covariance = moments
    n, n_channels = rows.shape
    sample = covariance * (degrees / n)
    mean = np.trace(sample) / n_channels
    square = np.sum(sample**2)
    d2 = square - n_channels * mean**2
    b2 = min(d2, (np.sum(np.sum(rows**2, axis=1) ** 2) / n - square) / n)
    share = b2 / d2 if d2 > 0 else 1.0
    shrunk = (1 - share) * sample
    shrunk[np.diag_indices(n_channels)] += share * mean
    return np.asarray(shrunk * (n / degrees))


#: By rsatoolbox's names.
COVARIANCES: dict[str, Callable[[_Moments], Floats]] = {
    "shrinkage_diag": _towards_diagonal,
    "shrinkage_eye": _towards_identity,
    "diag": _diagonal,
    "full": _sample,
}


class Noise:
    """What the caller says of the noise of channels, factored once."""

    def __init__(
        self, precision: ArrayLike | None, residuals: ArrayLike | None, estimator: str | None
    ) -> None:
        if estimator is not None and estimator not in COVARIANCES:
            raise ValueError(f"estimator {estimator!r} is not one of: {', '.join(COVARIANCES)}")
        if estimator is not None and residuals is None:
            raise ValueError("estimator says how residuals are taken; none were given")
        self._precision, self._residuals = precision, residuals
        self._estimator = estimator or "shrinkage_diag"
        self._filters: Floats | None = None

    def filters(self, n_channels: int, name: str) -> Floats | None:
        """Filters (channels, channels) that whiten activations of that name; None where nothing is said."""
        if self._filters is None or len(self._filters) != n_channels:
            if self._precision is not None:
                self._filters = of_precision(self._precision, n_channels, name)
            elif self._residuals is not None:
                self._filters = of_residuals(self._residuals, n_channels, name, self._estimator)
        return self._filters
