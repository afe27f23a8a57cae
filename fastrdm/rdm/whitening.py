"""Noise of channels, as its precision or as residuals → the filters that whiten it."""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from fastrdm._base import ASYMMETRY, as_floats, check_finite, list_names
from fastrdm.rdm.products import Floats, Index

# Negative eigenvalues above minus this share of the largest are rounding errors of zero.
_NEGATIVE = 1e-10


class Precision:
    """The inverse of the noise's covariance, from the caller."""

    def __init__(self, precision: ArrayLike, name: str = "precision") -> None:
        self._matrix = as_floats(precision, name)
        self._name = name

    def check(self, n_channels: int, activations: str) -> None:
        """Raise ValueError unless the shape fits activations with so many channels."""
        if self._matrix.shape != (n_channels, n_channels):
            raise ValueError(
                f"{self._name} has shape {self._matrix.shape}; {activations} have {n_channels} channels, so it"
                f" must be ({n_channels}, {n_channels})"
            )

    def check_values(self) -> None:
        """Raise ValueError unless it has an inverse."""
        _ = self.covariance

    def some(self, channels: Index) -> "Precision":
        """Return the precision of some channels, from their part of the covariance."""
        part = self.covariance[np.ix_(channels, channels)]
        return Precision(np.linalg.inv((part + part.T) / 2), self._name)

    @property
    def work_bytes(self) -> int:
        """Memory for factoring it."""
        return 6 * 8 * self._matrix.size

    @functools.cached_property
    def filters(self) -> Floats:
        """W (channels, channels) with Wᵀ W = precision."""
        check_finite(self._matrix, self._name, ("row", "column"))
        matrix = self._matrix.astype(np.float64)
        self._check_symmetric(matrix)
        matrix = (matrix + matrix.T) / 2
        try:
            return np.ascontiguousarray(np.linalg.cholesky(matrix).T)
        except np.linalg.LinAlgError:
            values, vectors = np.linalg.eigh(matrix)
        if values[0] < -_NEGATIVE * max(values[-1], 0.0):
            raise ValueError(
                f"{self._name} is not positive semi-definite: its smallest eigenvalue is {values[0]:.6g}"
            )
        return np.ascontiguousarray((vectors * np.sqrt(np.maximum(values, 0))).T)

    @functools.cached_property
    def covariance(self) -> Floats:
        """Its inverse; ValueError if it is singular."""
        filters = self.filters
        try:
            inverse = np.linalg.inv(filters.T @ filters)
        except np.linalg.LinAlgError:
            raise ValueError(f"{self._name} is singular and has no covariance") from None
        return np.asarray(inverse)

    def _check_symmetric(self, matrix: Floats) -> None:
        difference = np.abs(matrix - matrix.T)
        i, j = (int(k) for k in np.unravel_index(np.argmax(difference), matrix.shape))
        if difference[i, j] > ASYMMETRY * np.abs(matrix).max():
            raise ValueError(
                f"{self._name} is not symmetric: entries ({i}, {j}) and ({j}, {i}) are {matrix[i, j]:.6g} and"
                f" {matrix[j, i]:.6g}"
            )


class Residuals:
    """Samples of the noise, and the name of the estimator of its covariance."""

    def __init__(
        self, residuals: ArrayLike, estimator: str | None = None, name: str = "residuals"
    ) -> None:
        self._array = as_floats(residuals, name)
        self._estimator = estimator or "shrinkage_diag"
        self._name = name

    def check(self, n_channels: int, activations: str) -> None:
        """Raise ValueError unless the shape fits activations with so many channels."""
        shape = self._array.shape
        if len(shape) < 2 or shape[0] < 2 or math.prod(shape[1:]) != n_channels:
            raise ValueError(
                f"{self._name} have shape {shape}; {activations} have {n_channels} channels, so they must be"
                f" (observations >= 2, {n_channels})"
            )

    def check_values(self) -> None:
        """Raise ValueError for values that are NaN or infinite, and for constant channels."""
        rows = self._array.reshape(len(self._array), -1)
        check_finite(rows, self._name, ("observation", "channel"))
        constant = np.flatnonzero(rows.max(axis=0) == rows.min(axis=0))
        if len(constant):
            raise ValueError(
                f"{self._name} are constant, and have no precision, at channels: {list_names(constant, 10)}"
            )

    def some(self, channels: Index) -> "Residuals":
        """Return the residuals of some channels."""
        return Residuals(self._array[:, channels], self._estimator, self._name)

    @property
    def work_bytes(self) -> int:
        """Memory for estimating and factoring the covariance."""
        return 8 * (4 * self._array.size + 5 * math.prod(self._array.shape[1:]) ** 2)

    @functools.cached_property
    def covariance(self) -> Floats:
        """Estimated covariance of the channels."""
        self.check_values()
        rows = self._array.reshape(len(self._array), -1).astype(np.float64)
        rows -= rows.mean(axis=0)
        return ESTIMATORS[self._estimator](rows, rows.T @ rows / (len(rows) - 1))

    @functools.cached_property
    def filters(self) -> Floats:
        """W (channels, channels) with Wᵀ W the inverse of the covariance."""
        try:
            return _inverse_root(self.covariance)
        except np.linalg.LinAlgError:
            raise ValueError(
                f"{self._name} have shape {self._array.shape}, and their {self._estimator!r} covariance has no"
                " inverse; pass more observations, or use an estimator that shrinks"
            ) from None


def _inverse_root(covariance: Floats) -> Floats:
    """Return W (channels, channels) with Wᵀ W the inverse."""
    from scipy.linalg import solve_triangular

    lower = np.linalg.cholesky(covariance)
    filters = solve_triangular(lower, np.eye(len(lower)), lower=True, overwrite_b=True)
    return np.ascontiguousarray(filters)


class Noise:
    """Filters of one noise, or of the mean covariance of several."""

    def __init__(self, *sources: Precision | Residuals) -> None:
        self.sources = sources

    @property
    def work_bytes(self) -> int:
        """Memory for computing the filters."""
        return max(source.work_bytes for source in self.sources) * len(self.sources)

    @functools.cached_property
    def filters(self) -> Floats:
        """W (channels, channels) with Wᵀ W = precision."""
        if len(self.sources) == 1:
            return self.sources[0].filters
        covariances = [source.covariance for source in self.sources]
        return _inverse_root(sum(covariances[1:], covariances[0]) / len(covariances))


class FoldNoise(NamedTuple):
    """The noise of each fold, in the folds' order."""

    sources: list[Precision | Residuals]

    def of(self, f: int, g: int) -> Noise:
        """Return the noise of a product of two folds, from the mean of their covariances, as in rsatoolbox."""
        return Noise(self.sources[f], self.sources[g])


Noises = Noise | FoldNoise


def _towards_diagonal(rows: Floats, covariance: Floats) -> Floats:
    """Schäfer & Strimmer (2005), target D of table 2, with λ* of the correlations.

    Variances of correlations follow rsatoolbox, which has n − 1 in one place where the paper has n.
    """
    n, degrees = len(rows), len(rows) - 1
    deviation = np.sqrt(covariance.diagonal())
    z2 = rows / deviation
    z2 *= z2
    # Sums over pairs of different channels: sums over all pairs minus the channels with themselves.
    correlations = covariance / deviation / deviation[:, None]
    np.fill_diagonal(correlations, 0)
    r2 = np.sum(correlations**2)
    fourth = (np.sum(z2.sum(axis=1) ** 2) - np.vdot(z2, z2)) / degrees
    strength = n / degrees**2 * (fourth - r2) / r2 if r2 > 0 else 1.0
    shrunk = covariance * (1 - min(max(strength, 0.0), 1.0))
    np.fill_diagonal(shrunk, covariance.diagonal())
    return shrunk


def _towards_identity(rows: Floats, covariance: Floats) -> Floats:
    """Ledoit & Wolf (2004), eq. 14 with the estimators of lemmata 3.2 to 3.4."""
    n, n_channels = rows.shape
    sample = covariance * ((n - 1) / n)
    mean = np.trace(sample) / n_channels
    square = np.sum(sample**2)
    d2 = square - n_channels * mean**2
    b2 = min(d2, (np.sum(np.sum(rows**2, axis=1) ** 2) / n - square) / n)
    share = b2 / d2 if d2 > 0 else 1.0
    shrunk = (1 - share) * sample
    shrunk[np.diag_indices(n_channels)] += share * mean
    return np.asarray(shrunk * (n / (n - 1)))


#: Estimators by rsatoolbox's names: centred residuals and their covariance → an estimate of the noise's.
ESTIMATORS: dict[str, Callable[[Floats, Floats], Floats]] = {
    "shrinkage_diag": _towards_diagonal,
    "shrinkage_eye": _towards_identity,
    "diag": lambda rows, covariance: np.diag(covariance.diagonal()),
    "full": lambda rows, covariance: covariance,
}
