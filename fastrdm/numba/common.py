"""The decorator of the functions, both forms of an RDM, and the rule for ties."""

from typing import TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32] | NDArray[np.float64]
Doubles = NDArray[np.float64]
F = TypeVar("F")


def offered(function: F) -> F:
    """Compile a function that others call; `fastmath` stays off, and division by zero gives NaN or infinity."""
    return cast(F, numba.njit(cache=True, nogil=True, error_model="numpy")(function))


@offered
def n_pairs(n_conditions: int) -> int:
    """Return the number of pairs of so many conditions, n (n − 1) / 2.

    Parameters
    ----------
    n_conditions : int

    Returns
    -------
    int
    """
    return n_conditions * (n_conditions - 1) // 2


@offered
def square(rdm: Doubles) -> Doubles:
    """Return the square form of a condensed RDM, with zeros on the diagonal.

    Parameters
    ----------
    rdm : ndarray of float64, shape (pairs,)

    Returns
    -------
    ndarray of float64, shape (conditions, conditions)

    Raises
    ------
    ValueError
        If the length is not n (n − 1) / 2 for any n.
    """
    n = int((1 + np.sqrt(1 + 8.0 * len(rdm))) / 2)
    if n * (n - 1) // 2 != len(rdm) or n < 2:
        raise ValueError("rdm is not condensed: its length is not n (n - 1) / 2")
    out = np.zeros((n, n))
    pair = 0
    for i in range(n):
        for j in range(i + 1, n):
            out[i, j] = out[j, i] = rdm[pair]
            pair += 1
    return out


@offered
def condense(rdm: Floats) -> Doubles:
    """Return the condensed form of a square RDM: the upper triangle, row by row, without the diagonal.

    Parameters
    ----------
    rdm : ndarray, shape (conditions, conditions)
        What is below the diagonal is not read.

    Returns
    -------
    ndarray of float64, shape (pairs,)

    Raises
    ------
    ValueError
        If the array is not square.
    """
    n = len(rdm)
    if rdm.shape[1] != n:
        raise ValueError("rdm is not square")
    out = np.empty(n * (n - 1) // 2)
    pair = 0
    for i in range(n):
        for j in range(i + 1, n):
            out[pair] = rdm[i, j]
            pair += 1
    return out


@offered
def settled(values: Doubles, within: float, angles: bool) -> Doubles:
    """Make values equal that differ by rounding, in place: the rule of `fastrdm._kernels.ties`, for one RDM."""
    if angles:
        for k in range(len(values)):
            if np.abs(values[k]) <= within * within / 2:
                values[k] = 0.0
    order = np.argsort(values)
    least = np.nan
    for place in order:
        value = values[place]
        size = max(abs(least), abs(value))
        if angles:
            size = np.sqrt(2 * size)
        if np.isfinite(size) and value - least <= within * size:
            values[place] = least
        else:
            least = value
    return values
