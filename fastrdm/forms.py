"""The two forms of an RDM, condensed and square, and what every array that comes in is held to."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Where values are searched one by one, the mask is no larger.
_MASK_BYTES = 1 << 24
# Asymmetry above this share of the largest entry is no rounding error.
ASYMMETRY = 1e-5


def n_conditions(n_pairs: int, name: str = "rdms") -> int:
    """Conditions of a condensed RDM: the n with n (n − 1) / 2 = `n_pairs`."""
    n = (1 + int(np.sqrt(1 + 8 * n_pairs))) // 2
    if n < 2 or n * (n - 1) // 2 != n_pairs:
        raise ValueError(
            f"{name}: {n_pairs} pairs are no condensed RDM; its length is n (n - 1) / 2 for n conditions"
        )
    return n


def as_array(values: ArrayLike, name: str) -> NDArray[Any]:
    """An array of any type; ValueError for rows of differing lengths."""
    try:
        return np.asarray(values)
    except ValueError:
        raise ValueError(f"{name} is no array: its rows differ in shape") from None


def as_floats(values: ArrayLike, name: str) -> NDArray[Any]:
    """Real numbers as floating point, float32 and float64 as they are; ValueError for anything else."""
    array = as_array(values, name)
    if array.dtype in (np.float32, np.float64):
        return array
    if array.dtype.kind in "iub":
        return array.astype(np.float64)
    if array.dtype.kind == "f" or array.dtype.name == "bfloat16":
        return array.astype(np.float32 if array.dtype.itemsize < 4 else np.float64)
    raise ValueError(f"{name} must hold real numbers, got dtype {array.dtype}")


def listed(places: NDArray[np.intp]) -> str:
    """The first ten places, for a message."""
    return ", ".join(str(i) for i in places[:10]) + (", ..." if len(places) > 10 else "")


def check_finite(array: NDArray[Any], name: str, axes: Iterable[str] = ()) -> None:
    """ValueError that names the first NaN or infinity, by the names of the leading `axes` where given."""
    # A sum is finite only if all its terms are; it saves the masks in the usual case.
    with np.errstate(all="ignore"):
        if np.isfinite(np.sum(array)):
            return
    items = array.reshape(1) if array.ndim == 0 else array
    at_once = max(1, _MASK_BYTES // max(1, items[:1].size))
    count, first = 0, None
    for start in range(0, len(items), at_once):
        bad = ~np.isfinite(items[start : start + at_once])
        found = int(bad.sum())
        if found and first is None:
            item, *rest = np.unravel_index(int(np.argmax(bad)), bad.shape)
            first = (start + int(item), *(int(i) for i in rest))
        count += found
    if first is None:
        return
    axes = (*axes, *(f"axis {i}" for i in range(len(tuple(axes)), array.ndim)))
    where = ", ".join(f"{axis} {i}" for axis, i in zip(axes, first, strict=False))
    value = "NaN" if np.isnan(items[first]) else "infinity"
    raise ValueError(not_finite(name, count, value, where))


def not_finite(name: str, count: int, value: str, where: str) -> str:
    """What is said of NaN and infinity where they may not be."""
    if count == 1:
        return f"{name} has a value that is not finite: {value} at {where}"
    return f"{name} has {count} values that are not finite; the first is {value} at {where}"


def condense(rdms: ArrayLike, name: str = "rdms") -> NDArray[Any]:
    """Square RDMs as condensed ones: the upper triangle, row by row, the diagonal left out.

    Parameters
    ----------
    rdms : array_like, shape (..., n, n)
        Symmetric dissimilarities. The diagonal is not read; NaN is carried through.
    name : str
        What the errors call the array.

    Returns
    -------
    ndarray, shape (..., n (n − 1) / 2)
        In the order of `scipy.spatial.distance.squareform`.

    Raises
    ------
    ValueError
        If the last two axes are not square, hold fewer than two conditions, or are asymmetric by more than 1e-5 of
        the largest entry.
    """
    array = as_floats(rdms, name)
    n = array.shape[-1] if array.ndim else 0
    if array.ndim < 2 or array.shape[-2] != n or n < 2:
        raise ValueError(
            f"{name} has shape {array.shape}; a square RDM is (..., n, n) for n >= 2 conditions"
        )
    rows, columns = np.triu_indices(n, 1)
    upper, lower = array[..., rows, columns], array[..., columns, rows]
    with np.errstate(invalid="ignore"):
        difference = np.abs(upper - lower)
    # Equal infinities differ by NaN; a NaN on one side only is an asymmetry.
    difference[(upper == lower) | (np.isnan(upper) & np.isnan(lower))] = 0
    largest = np.max(np.abs(upper[np.isfinite(upper)]), initial=0.0)
    worst = np.unravel_index(
        np.argmax(np.where(np.isnan(difference), np.inf, difference)), difference.shape
    )
    if not difference[worst] <= ASYMMETRY * largest:
        i, j = int(rows[worst[-1]]), int(columns[worst[-1]])
        stack = f" of RDM {tuple(int(w) for w in worst[:-1])}" if array.ndim > 2 else ""
        raise ValueError(
            f"{name} with shape {array.shape} is not symmetric: entries ({i}, {j}) and ({j}, {i}){stack} are"
            f" {upper[worst]:.6g} and {lower[worst]:.6g}"
        )
    return np.ascontiguousarray(upper)


def square(rdms: ArrayLike, name: str = "rdms") -> NDArray[Any]:
    """Condensed RDMs as square ones with a zero diagonal.

    Parameters
    ----------
    rdms : array_like, shape (..., pairs)
        Condensed RDMs.
    name : str
        What the errors call the array.

    Returns
    -------
    ndarray, shape (..., n, n)
        Symmetric.

    Raises
    ------
    ValueError
        If the last axis has no length n (n − 1) / 2.
    """
    array = as_floats(rdms, name)
    if array.ndim < 1:
        raise ValueError(f"{name} is a single number; a condensed RDM is (..., pairs)")
    n = n_conditions(array.shape[-1], name)
    out = np.zeros((*array.shape[:-1], n, n), array.dtype)
    rows, columns = np.triu_indices(n, 1)
    out[..., rows, columns] = out[..., columns, rows] = array
    return out
