"""The kind of numbers in activations: whether products are exact, and how far rounding separates equal results."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrdm import _kernels
from fastrdm._kernels import ties
from fastrdm.rdm.products import Reading, Rows, working_dtype

# Activations with fewer different values than this are discrete: categories, attributes, ratings.
_MAX_DISCRETE = 1024
# Values of float32, in units of their grid, whose products have exact sums over a block of every instruction set.
_NARROW = 128
# Integers up to this are exact in float64.
_WHOLE = 2.0**53
# RDMs of up to this many pairs are searched for ties; larger ones only if their activations are discrete.
_MAX_SEARCHED = 1 << 18
# Values copied per block.
_BLOCK = 1 << 16


class Kind(NamedTuple):
    """How to read numbers so that as little as possible is rounded."""

    #: Type of products.
    dtype: np.dtype[Any]
    #: Whether products, and all that `calc_rdm` computes from them before a division or root, are exact.
    exact: bool = False
    #: Subtracted from every value if they are exact; a multiple of the values' unit.
    shift: float = 0.0
    #: Whether there are few different values.
    discrete: bool = False

    def read(self, rows: Rows) -> Reading:
        """Return how to read rows."""
        shift = np.full(len(rows), self.shift) if self.exact and self.shift else None
        return Reading(rows, self.dtype, shift)


def kind_of(rows: Rows) -> Kind:
    """Return the kind of the numbers in rows (conditions, channels), which does not depend on their order."""
    dtype = working_dtype(rows)
    n_channels = rows.shape[1]
    whole = rows.dtype.kind in "iub"
    values = np.array([rows.min(), rows.max()], np.float64) if whole else _distinct(rows)
    if values is None:
        return Kind(dtype)
    wide = np.dtype(np.float64)
    values = values.astype(np.float64)
    few = whole or len(values) <= rows.size / 2 or rows.size <= _MAX_DISCRETE
    if not few or not np.isfinite(values).all():
        return Kind(dtype)
    unit = 1.0 if whole else _unit(values)
    for shift in (0.0, float(values.min())):
        with np.errstate(over="ignore", invalid="ignore"):
            largest = float(np.abs(values - shift).max() / unit)
        # Then n times a sum of n products is exact, and so is the product of two sums.
        if n_channels * largest <= np.sqrt(_WHOLE):
            narrow = largest <= _NARROW and dtype == np.float32
            return Kind(dtype if narrow else wide, True, shift, True)
    return Kind(wide, discrete=True)


def tie_tolerance(kind: Kind, read: Kind, n_pairs: int, stored: np.dtype[Any]) -> float:
    """Return the relative difference up to which dissimilarities count as equal; 0 to search for no ties.

    `kind` is of the activations, whose type is `stored` or narrower, and `read` of the rows that were multiplied.
    """
    if kind.discrete:
        rounded = stored == np.float32 and not (kind.exact or read.exact)
        return ties.FLOAT32 if rounded else ties.FLOAT64
    return ties.FLOAT64 if n_pairs <= _MAX_SEARCHED and read.dtype == np.float64 else 0.0


def _distinct(rows: Rows) -> NDArray[Any] | None:
    """Return the different values, or None if there are many."""
    read = Reading(rows, working_dtype(rows))
    if read.in_place():
        return _kernels.distinct(rows, _MAX_DISCRETE)
    values: NDArray[Any] = np.empty(0)
    step = max(1, _BLOCK // rows.shape[1])
    for start in range(0, len(rows), step):
        some = np.array(rows[start : start + step], read.dtype, order="C")
        new = _kernels.distinct(some, _MAX_DISCRETE)
        if new is None:
            return None
        values = np.unique(np.concatenate([values, new]))
        if len(values) >= _MAX_DISCRETE:
            return None
    return values


def _unit(values: NDArray[np.float64]) -> float:
    """Return the largest power of two that divides all values; 1 if all are zero."""
    whole = values[values != 0]
    if not len(whole):
        return 1.0
    mantissa, exponent = np.frexp(whole)
    digits = (mantissa * _WHOLE).astype(np.int64)
    lowest = np.frexp((digits & -digits).astype(np.float64))[1] - 1
    return float(np.ldexp(1.0, int((exponent + lowest).min()) - 53))
