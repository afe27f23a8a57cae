"""Scaling by powers of two, which keeps squares and sums of extreme numbers within float64 and changes no digit."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Sums of products of numbers from 2**-_SAFE to 2**_SAFE stay within float64.
_SAFE = 300
# Sums of numbers below 2**_LARGE stay within float64.
_LARGE = 990
# If the exponents of subjects differ by more, subtraction from a sum loses too many digits of the small ones.
_APART = 20


def _largest(rows: NDArray[Any]) -> NDArray[Any]:
    """Return the largest magnitude of each row, (..., 1), ignoring NaN; 0 if it is infinite or all values are NaN."""
    high = np.fmax.reduce(rows, axis=-1, keepdims=True)
    low = np.fmin.reduce(rows, axis=-1, keepdims=True)
    largest = np.fmax(high, -low)
    return np.where(np.isfinite(largest), largest, 0)


def exponents(rows: NDArray[Any]) -> NDArray[np.intc]:
    """Return the binary exponent of the largest magnitude of each row, (..., 1)."""
    return np.asarray(np.frexp(_largest(rows))[1], np.intc)


def in_range(rows: NDArray[Any], *, alike: bool = False) -> tuple[NDArray[Any], NDArray[np.intc]]:
    """Return rows with squares within float64, and the exponents of two by which they were divided.

    `alike` divides all rows by the same number, for rows that do not `differ`.
    """
    powers = exponents(rows)
    if alike:
        powers = np.max(powers, keepdims=True)
    powers = np.where(np.abs(powers) > _SAFE, powers, 0).astype(np.intc)
    return (np.ldexp(rows, -powers), powers) if powers.any() else (rows, powers)


def summable(rows: NDArray[Any]) -> NDArray[Any]:
    """Return rows with sums within float64: all divided by one power of two if necessary."""
    return np.ldexp(rows, -32) if np.any(exponents(rows) > _LARGE) else rows


def differ(rows: NDArray[Any]) -> bool:
    """Return whether the units of rows differ so much that subtraction of one from a sum is inaccurate."""
    largest = _largest(rows)
    powers = np.frexp(largest[largest > 0])[1]
    return bool(len(powers)) and bool(np.ptp(powers) > _APART)
