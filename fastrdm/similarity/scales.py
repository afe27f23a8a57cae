"""Powers of two that keep squares and sums of extreme numbers within float64; they change no digit."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Sums of products of numbers between 2**-_SAFE and 2**_SAFE stay within float64.
_SAFE = 300
# Sums of numbers below 2**_LARGE do.
_LARGE = 990
# Sums over subjects whose units differ by more lose too many digits of the small ones to subtraction.
_APART = 20


def _largest(rows: NDArray[Any]) -> NDArray[Any]:
    """Largest magnitude of each row, of shape (..., 1), NaN left out; 0 where it is infinite or there is none."""
    high = np.fmax.reduce(rows, axis=-1, keepdims=True)
    low = np.fmin.reduce(rows, axis=-1, keepdims=True)
    largest = np.fmax(high, -low)
    return np.where(np.isfinite(largest), largest, 0)


def exponents(rows: NDArray[Any]) -> NDArray[np.intc]:
    """Exponent of two of the largest magnitude of each row, of shape (..., 1)."""
    return np.asarray(np.frexp(_largest(rows))[1], np.intc)


def in_range(rows: NDArray[Any], *, alike: bool = False) -> tuple[NDArray[Any], NDArray[np.intc]]:
    """Rows whose squares are within float64, and the exponents of what those beyond it were divided by.

    `alike` says that all are divided by the same, for rows that do not `differ`.
    """
    found = exponents(rows)
    if alike:
        found = np.max(found, keepdims=True)
    found = np.where(np.abs(found) > _SAFE, found, 0).astype(np.intc)
    return (np.ldexp(rows, -found), found) if found.any() else (rows, found)


def summable(rows: NDArray[Any]) -> NDArray[Any]:
    """Rows whose sums are within float64: all of them divided by one power of two where that is needed."""
    return np.ldexp(rows, -32) if np.any(exponents(rows) > _LARGE) else rows


def differ(rows: NDArray[Any]) -> bool:
    """Whether rows are of such different units that a sum of them cannot give up one by subtraction."""
    largest = _largest(rows)
    found = np.frexp(largest[largest > 0])[1]
    return bool(len(found)) and bool(np.ptp(found) > _APART)
