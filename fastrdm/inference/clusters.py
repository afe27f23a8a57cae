"""Clusters of neighbouring time points with a high t, their masses, and the largest masses under sign flips.

Arrays have the axes (models, times, subjects). A cluster is a run of time points of one model with t beyond a
threshold, all of one sign; its mass is the sum of t.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrdm.inference.significance import Floats, t_of_sums
from fastrdm.similarity import blocks_of

Indices = NDArray[np.intp]
# Sums in another order differ in the last bits, and a t equal to the threshold must never count as above.
_TOLERANCE = 1e-10


class Clusters(NamedTuple):
    """Clusters by model and time: the model, the first and the last time point, and the mass of each."""

    model: Indices
    first: Indices
    last: Indices
    mass: Floats


def find_clusters(t: Floats, threshold: float, *, both: bool) -> Clusters:
    """Find the clusters of t (models, times) above the threshold, or also of −t if `both`; their mass is negative."""
    found = [_clusters_above(t, threshold)]
    if both:
        below = _clusters_above(-t, threshold)
        found.append(below._replace(mass=-below.mass))
    model, first, last, mass = (np.concatenate(each) for each in zip(*found, strict=True))
    order = np.lexsort((first, model))
    return Clusters(model[order], first[order], last[order], mass[order])


def _clusters_above(t: Floats, threshold: float) -> Clusters:
    above = np.zeros((len(t), t.shape[1] + 2), np.int8)
    above[:, 1:-1] = t > threshold * (1 + _TOLERANCE)
    steps = np.diff(above, axis=1)
    # A cluster ends before the time point at which the step is down.
    (model, first), (_, end) = np.nonzero(steps == 1), np.nonzero(steps == -1)
    mass = [t[m, a:b].sum() for m, a, b in zip(model, first, end, strict=True)]
    return Clusters(model, first, end - 1, np.array(mass, np.float64))


class Runs:
    """The runs of t above a threshold while time goes on, for many resamples at once.

    `largest` is the largest mass of a run so far. If there are `critical` masses, `onset` is the time point at which
    the first run with a larger mass begins, −1 without one.
    """

    def __init__(self, threshold: float, shape: tuple[int, ...], critical: Floats | None = None):
        self._threshold, self._critical = threshold * (1 + _TOLERANCE), critical
        self.largest, self._mass = np.zeros(shape), np.zeros(shape)
        self._begin, self.onset = np.zeros(shape, np.intp), np.full(shape, -1, np.intp)

    def add(self, t: Floats, time: int) -> None:
        """Add t of the next time point."""
        above = t > self._threshold
        if self._critical is not None:
            self._begin[above & (self._mass == 0)] = time
        # Without variance between subjects, t is infinite.
        with np.errstate(invalid="ignore"):
            self._mass = np.where(above, self._mass + t, 0)
        np.maximum(self.largest, self._mass, out=self.largest)
        if self._critical is not None:
            begins = (self.onset < 0) & (self._mass > self._critical)
            self.onset[begins] = self._begin[begins]


def largest_masses(values: Floats, signs: Floats, threshold: float, *, both: bool) -> Floats:
    """Return the largest mass of each flip (1, flips, models), and of t with the opposite sign if `both` (2, ...)."""
    n_models, n_times, n = values.shape
    # Times first, so that each time point of all flips is contiguous.
    rows = np.ascontiguousarray(values.transpose(1, 0, 2)).reshape(-1, n)
    squares = np.einsum("rs,rs->r", rows, rows)[:, None]
    out = np.empty((1 + both, len(signs), n_models))
    for block in blocks_of(len(signs), len(rows), 1 << 20):
        t = t_of_sums(rows @ signs[block].T, squares, n).reshape(n_times, n_models, -1)
        for k, sign in enumerate((1, -1)[: 1 + both]):
            runs = Runs(threshold, t.shape[1:])
            for time, each in enumerate(t):
                runs.add(sign * each if sign < 0 else each, time)
            out[k, block] = runs.largest.T
    return out
