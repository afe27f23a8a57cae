"""What kind of numbers activations are: whether their products are exact, and how far equal ones may come apart."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrdm import _kernels
from fastrdm._kernels import ties
from fastrdm.rdm.products import Reading, Rows, working_dtype

# Activations with fewer different values than this are taken for discrete: categories, attributes, ratings.
_FEW = 1024
# Values of float32, in units of their grid, whose products add up exactly over a block of every instruction set.
_NARROW = 128
# What float64 holds exactly.
_WHOLE = 2.0**53
# RDMs of up to so many pairs are searched for ties whatever their activations are, larger ones of discrete ones alone.
_FEW_PAIRS = 1 << 18
_AT_ONCE = 1 << 16


class Kind(NamedTuple):
    """How numbers are to be read so that as little as can be is rounded.

    Attributes
    ----------
    dtype : dtype
        Of products.
    exact : bool
        Whether products, and what `calc_rdm` makes of them before it divides or takes a root, are exact.
    shift : float
        To take off every value if they are; it lies on the values' own grid.
    discrete : bool
        Whether there are few different values.
    """

    dtype: np.dtype[Any]
    exact: bool = False
    shift: float = 0.0
    discrete: bool = False

    def read(self, rows: Rows) -> Reading:
        """Rows as they are to be read."""
        shift = np.full(len(rows), self.shift) if self.exact and self.shift else None
        return Reading(rows, self.dtype, shift)


def kind_of(rows: Rows) -> Kind:
    """Kind of the numbers in rows (conditions, channels); it does not depend on the order of either."""
    dtype = working_dtype(rows)
    n_channels = rows.shape[1]
    whole = rows.dtype.kind in "iub"
    values = np.array([rows.min(), rows.max()], np.float64) if whole else _distinct(rows)
    if values is None:
        return Kind(dtype)
    wide = np.dtype(np.float64)
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        return Kind(dtype)
    few = whole or len(values) <= rows.size / 2 or rows.size <= _FEW
    if not few:
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


def bound(kind: Kind, read: Kind, n_pairs: int, stored: np.dtype[Any]) -> float:
    """Relative difference up to which dissimilarities of numbers count as equal; 0 where none are sought.

    Parameters
    ----------
    kind, read : Kind
        Of the numbers as they came, and as their products were made.
    n_pairs : int
        Of the RDM.
    stored : dtype
        In which the numbers came, or wider.
    """
    if kind.discrete:
        rounded = stored == np.float32 and not (kind.exact or read.exact)
        return ties.FLOAT32 if rounded else ties.FLOAT64
    return ties.FLOAT64 if n_pairs <= _FEW_PAIRS and read.dtype == np.float64 else 0.0


def _distinct(rows: Rows) -> NDArray[Any] | None:
    """The different values, or None where there are many."""
    read = Reading(rows, working_dtype(rows))
    if read.in_place():
        return _kernels.distinct(rows, _FEW)
    found: NDArray[Any] = np.empty(0)
    step = max(1, _AT_ONCE // rows.shape[1])
    for start in range(0, len(rows), step):
        some = np.array(rows[start : start + step], read.dtype, order="C")
        new = _kernels.distinct(some, _FEW)
        if new is None:
            return None
        found = np.unique(np.concatenate([found, new]))
        if len(found) >= _FEW:
            return None
    return found


def _unit(values: NDArray[np.float64]) -> float:
    """The largest power of two that all values are multiples of; 1 where all are zero."""
    whole = values[values != 0]
    if not len(whole):
        return 1.0
    mantissa, exponent = np.frexp(whole)
    digits = (mantissa * _WHOLE).astype(np.int64)
    lowest = np.frexp((digits & -digits).astype(np.float64))[1] - 1
    return float(np.ldexp(1.0, int((exponent + lowest).min()) - 53))
