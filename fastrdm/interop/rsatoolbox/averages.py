"""Measurements of rsatoolbox's datasets → averages of conditions, also within each fold."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm.interop.rsatoolbox.originals import toolbox

Doubles = NDArray[np.float64]

# Squares of larger numbers may leave the range of float64 when they are added up.
_LARGEST = 1e140


def usable(rows: Any, at_least: int = 2) -> bool:
    """Return whether the kernels take these rows: (rows, channels) of real numbers, all finite."""
    if not isinstance(rows, np.ndarray) or rows.ndim != 2 or rows.dtype.kind not in "fiu":
        return False
    if len(rows) < at_least or rows.shape[1] == 0 or rows.dtype.itemsize > 8:
        return False
    # A comparison with NaN is false.
    return bool(max(abs(float(rows.max())), abs(float(rows.min()))) < _LARGEST)


def conditions_of(dataset: Any, descriptor: str | None) -> tuple[Any, Any] | None:
    """Return the rows of conditions, averaged by `descriptor`, and its values in order of appearance.

    Return None if the kernels do not take the measurements.
    """
    rows = dataset.measurements
    if not usable(rows):
        return None
    if descriptor is None:
        return rows, None
    unique_inverse = toolbox("util.data_utils").get_unique_inverse
    values, inverse = unique_inverse(dataset.obs_descriptors[descriptor])
    if len(values) < 2:
        return None
    return group_sums(rows, inverse, len(values)) / np.bincount(inverse)[:, None], values


def group_sums(rows: NDArray[Any], group: NDArray[np.intp], n: int) -> Doubles:
    """Return the sum of the rows of each of `n` groups, none of which is empty."""
    if len(rows) == n:
        sums = np.empty((n, rows.shape[1]))
        sums[group] = rows
        return sums
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(n))
    return np.asarray(np.add.reduceat(rows[order], starts, axis=0, dtype=np.float64))


class FoldAverages:
    """Averages (conditions, channels) within a fold, and over all other folds."""

    def __init__(self, sums: Doubles, counts: NDArray[np.intp], names: NDArray[Any]) -> None:
        self._sums, self._counts = sums, counts
        #: Names of the conditions, sorted.
        self.names = names

    @classmethod
    def of(cls, dataset: Any, descriptor: str, folds: Any) -> "FoldAverages | None":
        """Group measurements; None if the kernels do not take them, or a fold lacks a condition."""
        rows = dataset.measurements
        if not usable(rows):
            return None
        names, condition = np.unique(
            np.asarray(dataset.obs_descriptors[descriptor]), return_inverse=True
        )
        fold_names, fold = np.unique(np.asarray(folds), return_inverse=True)
        shape = len(fold_names), len(names)
        if min(shape) < 2 or len(condition) != len(rows) or len(fold) != len(rows):
            return None
        cell = fold * shape[1] + condition
        counts = np.bincount(cell, minlength=shape[0] * shape[1])
        if not counts.all():
            return None
        sums = group_sums(rows, cell, len(counts))
        return cls(sums.reshape(*shape, -1), counts.reshape(shape), names)

    def __len__(self) -> int:
        return len(self._sums)

    @property
    def n_channels(self) -> int:
        """Number of channels."""
        return int(self._sums.shape[-1])

    def within(self, fold: int, *, centre: bool = False) -> Doubles:
        """Return the averages of one fold; `centre` subtracts each row's mean over channels."""
        return _centred(self._sums[fold] / self._counts[fold][:, None], centre)

    def outside(self, fold: int, *, centre: bool = False) -> Doubles:
        """Return the averages of the measurements of all other folds."""
        others = np.arange(len(self)) != fold
        counts = self._counts[others].sum(axis=0)
        return _centred(self._sums[others].sum(axis=0) / counts[:, None], centre)


def _centred(rows: Doubles, centre: bool) -> Doubles:
    return np.asarray(rows - rows.mean(axis=1, keepdims=True)) if centre else rows
