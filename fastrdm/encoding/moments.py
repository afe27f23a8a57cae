"""Correlations and explained variance of held-out predictions, fold by fold and of all folds together."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastrdm.encoding.decomposition import Floats
from fastrdm.encoding.folds import Indices

# Numbers vary if they differ by more than this share of their magnitude; rounding is below it.
_VARIES = 1e-13


@dataclass(frozen=True, eq=False)
class FoldMoments:
    """Sums of squares and products of the held-out responses and predictions of one fold, each (units,).

    `observed` and `predicted` are means, squares and products are sums over deviations from them, and `residual` is the
    sum of squared differences. `has_variation` is whether predictions differ from the mean of the training fold.
    """

    n: int
    observed: Floats
    predicted: Floats
    observed_squares: Floats
    predicted_squares: Floats
    products: Floats
    residual: Floats
    scale: Floats
    has_variation: NDArray[np.bool_]

    @classmethod
    def of(cls, measured: Floats, deviations: Floats, means: Floats) -> "FoldMoments":
        """Sum up responses (conditions, units) and predictions as deviations from the training means (units,)."""
        n = len(measured)
        measured = measured - means
        observed, predicted = measured.mean(axis=0), deviations.mean(axis=0)
        residual = _squares(measured - deviations)
        scale = np.sqrt(means**2 + _squares(measured) / n)
        varies = np.abs(deviations).max(axis=0) > _VARIES * scale
        measured -= observed
        deviations = deviations - predicted
        return cls(
            n,
            observed + means,
            predicted + means,
            _squares(measured),
            _squares(deviations),
            np.asarray(np.einsum("ij,ij->j", measured, deviations)),
            residual,
            scale,
            varies,
        )

    def correlations(self) -> Floats:
        """Return Pearson's r of each unit; NaN if responses or predictions are constant."""
        first = _varying(self.observed_squares, self.n, self.scale)
        second = _varying(self.predicted_squares, self.n, self.scale)
        second = np.where(self.has_variation, second, np.nan)
        return np.asarray(np.clip(self.products / np.sqrt(first) / np.sqrt(second), -1, 1))

    def explained(self) -> Floats:
        """Return R² of each unit, 1 - residual / total sum of squares; NaN if responses are constant."""
        total = _varying(self.observed_squares, self.n, self.scale)
        return np.asarray(1 - self.residual / total)

    def joined(self, other: "FoldMoments") -> "FoldMoments":
        """Return the moments of both together (Chan, Golub & LeVeque 1983)."""
        n = self.n + other.n
        share = self.n * other.n / n
        observed, predicted = other.observed - self.observed, other.predicted - self.predicted
        return FoldMoments(
            n,
            self.observed + observed * (other.n / n),
            self.predicted + predicted * (other.n / n),
            self.observed_squares + other.observed_squares + observed**2 * share,
            self.predicted_squares + other.predicted_squares + predicted**2 * share,
            self.products + other.products + observed * predicted * share,
            self.residual + other.residual,
            np.maximum(self.scale, other.scale),
            self.has_variation | other.has_variation,
        )


def _squares(array: Floats) -> Floats:
    return np.asarray(np.einsum("ij,ij->j", array, array))


def _varying(squares: Floats, n: int, scale: Floats) -> Floats:
    """Return sums of squares, NaN where they are rounding errors."""
    return np.where(squares > n * (_VARIES * scale) ** 2, squares, np.nan)


class SubjectScores:
    """Scores of one model for one subject's units, filled fold by fold.

    If no layer has a weight, so that the training mean is predicted, r is 0.

    Attributes
    ----------
    r_folds, r2_folds : ndarray, shape (folds, units)
    details : ndarray, shape (folds, units) or (folds, layers, units), or None
        Chosen penalties, or weights of layers.
    predictions : ndarray, shape (conditions, units), or None
    """

    def __init__(
        self, n_folds: int, n_conditions: int, n_units: int, *, keep_predictions: bool = False
    ) -> None:
        self.r_folds, self.r2_folds = np.full((2, n_folds, n_units), np.nan)
        self.details: Floats | None = None
        self.predictions = np.full((n_conditions, n_units), np.nan) if keep_predictions else None
        # The moments of each block of units, by its first unit.
        self._sums: dict[int, tuple[Indices, FoldMoments]] = {}

    def add(
        self,
        fold: int,
        test: Indices,
        units: Indices,
        measured: Floats,
        predicted: Floats,
        means: Floats,
        details: Floats | None,
    ) -> None:
        """Take the held-out responses of some units and their predictions, as deviations from the training means.

        The units are the same in all folds.
        """
        moments = FoldMoments.of(measured, predicted, means)
        r, r2 = moments.correlations(), moments.explained()
        if details is not None and details.ndim == 2:
            r[(details == 0).all(axis=0) & ~np.isnan(r2)] = 0
        self.r_folds[fold, units], self.r2_folds[fold, units] = r, r2
        if details is not None:
            if self.details is None:
                shape = (len(self.r_folds), *details.shape[:-1], self.r_folds.shape[1])
                self.details = np.full(shape, np.nan)
            self.details[fold, ..., units] = details.T
        if self.predictions is not None:
            self.predictions[np.ix_(test, units)] = predicted + means
        first = int(units[0])
        if first in self._sums:
            moments = self._sums[first][1].joined(moments)
        self._sums[first] = units, moments

    def pooled(self) -> tuple[Floats, Floats]:
        """Return r and R² of the predictions of all folds together, each (units,)."""
        r, r2 = np.full((2, self.r_folds.shape[1]), np.nan)
        for units, moments in self._sums.values():
            r[units], r2[units] = moments.correlations(), moments.explained()
        if self.details is not None and self.details.ndim == 3:
            # Folds that have no weights were not fitted.
            largest = np.nan_to_num(self.details, nan=0).max(axis=(0, 1))
            fitted = ~np.isnan(self.details).all(axis=(0, 1))
            r[(largest == 0) & fitted & ~np.isnan(r2)] = 0
        return r, r2
