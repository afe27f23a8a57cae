"""The two forms of an RDM, condensed and square, and what every array that comes in is held to."""

import sys
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrdm._base.conversion import plain
from fastrdm._base.labels import PAIRS, labels_of, rdm_labels
from fastrdm._base.text import first_line

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


def as_array(values: Any, name: str, *, masked_as_nan: bool = False) -> NDArray[Any]:
    """What a caller gives, as an array of any type.

    Parameters
    ----------
    values : array_like
        Numbers, nested lists, NumPy arrays; torch tensors of any device, also those that require a gradient, and lists
        of them; pandas and xarray objects; masked arrays. Memory is shared where possible.
    name : str
        What errors call it.
    masked_as_nan : bool
        Whether masked values become NaN, of integers in float64; otherwise they are an error. A masked array without
        masked values is an ordinary one.

    Returns
    -------
    ndarray

    Raises
    ------
    ValueError
        If rows differ in length, values are masked, or it is a dict or a tensor without values that NumPy can hold.
    """
    if type(values) is np.ndarray:
        return values
    if isinstance(values, Mapping):
        raise ValueError(
            f"{name} is a dict of {len(values)}, not an array; pass one of its arrays at a time"
        )
    try:
        values = plain(values, name, masked_as_nan=masked_as_nan)
    except (TypeError, RuntimeError) as error:
        raise _unreadable(name, error) from error
    try:
        return np.asarray(values)
    except ValueError:
        raise ValueError(f"{name} is no array: its rows differ in shape") from None
    except (TypeError, RuntimeError) as error:
        raise _unreadable(name, error) from error


def _unreadable(name: str, error: Exception) -> ValueError:
    return ValueError(f"{name} cannot be read as an array: {first_line(error)}")


def as_floats(values: Any, name: str, *, masked_as_nan: bool = False) -> NDArray[Any]:
    """Real numbers as floating point, float32 and float64 as they are; otherwise as `as_array`.

    Raises
    ------
    ValueError
        As `as_array`, or if values are not real numbers.
    """
    array = as_array(values, name, masked_as_nan=masked_as_nan)
    if array.dtype in (np.float32, np.float64):
        return array
    if array.dtype.kind in "iub":
        return array.astype(np.float64)
    if array.dtype.kind == "f" or array.dtype.name == "bfloat16":
        return array.astype(np.float32 if array.dtype.itemsize <= 4 else np.float64)
    raise ValueError(
        f"{name} must hold real numbers, got dtype {array.dtype} and shape {array.shape}"
    )


def as_rdms(rdms: Any, name: str) -> NDArray[Any]:
    """RDMs as floating point, masked values as NaN; a dict of RDMs as a stack of them in the dict's order.

    Raises
    ------
    ValueError
        As `as_floats`, or if a dict is empty or its RDMs differ in shape.
    """
    if not isinstance(rdms, Mapping):
        return as_floats(rdms, name, masked_as_nan=True)
    if not rdms:
        raise ValueError(f"{name} is an empty dict; it must hold at least one RDM")
    stack = [as_floats(rdm, f"{name}[{key!r}]", masked_as_nan=True) for key, rdm in rdms.items()]
    first = next(iter(rdms))
    for key, rdm in zip(rdms, stack, strict=True):
        if rdm.shape != stack[0].shape:
            raise ValueError(
                f"{name}[{key!r}] has shape {rdm.shape} and {name}[{first!r}] {stack[0].shape};"
                " RDMs of a dict have one shape"
            )
    return np.stack(stack)


def names_of(rdms: Any) -> list[str] | None:
    """Names that a dict gives its RDMs."""
    return list(map(str, rdms)) if isinstance(rdms, Mapping) else None


def warn_caller(message: str) -> None:
    """Give a RuntimeWarning at the line outside of fastrdm that called it."""
    level, frame = 1, sys._getframe()
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] == "fastrdm":
        level, frame = level + 1, frame.f_back
    warnings.warn(message, RuntimeWarning, stacklevel=level)


def condense(rdms: ArrayLike, name: str = "rdms") -> NDArray[Any]:
    """Square RDMs as condensed ones: the upper triangle, row by row, the diagonal left out.

    Parameters
    ----------
    rdms : array_like, shape (..., n, n)
        Symmetric dissimilarities. The diagonal takes no part; NaN is carried through, and masked values are NaN.
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
        the largest entry; if the labels of rows and columns, or of several RDMs, differ.

    Warns
    -----
    RuntimeWarning
        One, if matrices have the largest entry of each row on the diagonal, neither zero nor NaN, as similarities do.
    """
    array = as_floats(rdms, name, masked_as_nan=True)
    rdm_labels(rdms, name, square=True)
    return checked_triangle(array, name)


def checked_triangle(array: NDArray[Any], name: str) -> NDArray[Any]:
    """As `condense`, of an array of floating point."""
    triangle = upper_triangle(array, name)
    warn_similarities(array, name)
    return triangle


def warn_similarities(array: NDArray[Any], name: str) -> None:
    """Warn once if matrices (..., n, n) have the largest entry of each row on the diagonal, neither zero nor NaN."""
    if array.ndim < 2 or array.shape[-1] != array.shape[-2] or array.shape[-1] < 2:
        return
    diagonal = np.diagonal(array, axis1=-2, axis2=-1)
    if not diagonal.any():
        return
    found = is_similarity(array, diagonal)
    if not found.any():
        return
    count = "" if found.all() else f" in {int(found.sum())} of {found.size} matrices"
    warn_caller(
        f"{name} with shape {array.shape} looks like similarities: the largest entry of each row is on the diagonal"
        f"{count}, where an RDM has zeros; pass dissimilarities, such as 1 - r for correlations r"
    )


def is_similarity(array: NDArray[Any], diagonal: NDArray[Any]) -> NDArray[np.bool_]:
    """Which matrices (..., n, n) have the largest entry of each row on the diagonal, neither zero nor NaN."""
    largest = np.fmax.reduce(array, axis=-1)
    with np.errstate(invalid="ignore"):
        # Of equal conditions, rounding may put the similarity above 1.
        reaches = diagonal >= largest - ASYMMETRY * np.abs(largest)
    # A matrix of one number throughout says nothing.
    differs = np.fmin.reduce(array, axis=(-2, -1)) < np.fmax.reduce(largest, axis=-1)
    return np.asarray(reaches.all(axis=-1) & diagonal.any(axis=-1) & differs)


def upper_triangle(array: NDArray[Any], name: str) -> NDArray[Any]:
    """As `checked_triangle`, without a warning of similarities."""
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
        Condensed RDMs; masked values are NaN.
    name : str
        What the errors call the array.

    Returns
    -------
    ndarray, shape (..., n, n)
        Symmetric.

    Raises
    ------
    ValueError
        If the last axis has no length n (n − 1) / 2, or several RDMs carry different labels.
    """
    array = as_floats(rdms, name, masked_as_nan=True)
    labels_of(rdms, -1, name, PAIRS)
    if array.ndim < 1:
        raise ValueError(f"{name} is a single number; a condensed RDM is (..., pairs)")
    n = n_conditions(array.shape[-1], name)
    out = np.zeros((*array.shape[:-1], n, n), array.dtype)
    rows, columns = np.triu_indices(n, 1)
    out[..., rows, columns] = out[..., columns, rows] = array
    return out
