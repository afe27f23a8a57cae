"""Arguments as arrays, and the two forms of an RDM: condensed and square."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrdm._base.axis_names import check_rdm_axes
from fastrdm._base.conversion import plain
from fastrdm._base.foreign_objects import refusal_of
from fastrdm._base.label_orders import check_members, in_order_of
from fastrdm._base.labelled import with_condensed, with_squares
from fastrdm._base.labels import rdm_labels
from fastrdm._base.pair_labels import n_conditions
from fastrdm._base.text import first_line
from fastrdm._base.warning_records import warn_caller

# Asymmetry above this share of the largest entry is not a rounding error.
ASYMMETRY = 1e-5
# Conditions from which square RDMs are condensed row by row, and rows of a block.
_LARGE = 1000
_ROWS = 64


def as_array(values: Any, name: str, *, masked_as_nan: bool = False) -> NDArray[Any]:
    """Convert an argument to an array of any type, sharing memory where possible.

    Arguments are numbers, nested lists, NumPy arrays; torch tensors and arrays of other libraries (by DLPack) on any
    device, including those that require a gradient, and lists of them; pandas and xarray objects; masked arrays. Masked
    values become NaN if `masked_as_nan` (integers become float64). ValueError if rows differ in length, values are
    masked but may not be, or the argument is a dict or a tensor that NumPy cannot hold.
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
        array = np.asarray(values)
    except ValueError:
        refused = refusal_of(values, name)
        raise refused or ValueError(
            f"{name} is not an array: its rows differ in shape{_shapes(values, name)}"
        ) from None
    except (TypeError, RuntimeError) as error:
        raise _unreadable(name, error) from error
    is_object = array.dtype.kind == "O" or (array.dtype.kind == "U" and not array.ndim)
    if is_object and array.ndim < 2 and (refused := refusal_of(values, name)):
        raise refused
    return array


def _shapes(values: Any, name: str) -> str:
    """Return the first two members of a list that differ in shape, as text; empty if these are not known."""
    shapes = [tuple(each.shape) for each in values if hasattr(each, "shape")]
    if not isinstance(values, (list, tuple)) or len(shapes) < len(values):
        return ""
    other = next((i for i, shape in enumerate(shapes) if shape != shapes[0]), 0)
    return f", {name}[{other}] has {shapes[other]} and {name}[0] {shapes[0]}" if other else ""


def _unreadable(name: str, error: Exception) -> ValueError:
    return ValueError(f"{name} cannot be read as an array: {first_line(error)}")


def as_floats(values: Any, name: str, *, masked_as_nan: bool = False) -> NDArray[Any]:
    """Convert as `as_array`, and to floating point; float32 and float64 are kept, complex numbers refused."""
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
    """Convert RDMs to floating point, masked values to NaN, and a dict of RDMs to a stack in the dict's order."""
    check_rdm_axes(rdms, name)
    if not isinstance(rdms, Mapping):
        try:
            return as_floats(rdms, name, masked_as_nan=True)
        except ValueError:
            check_members(rdms, name)
            raise
    if not rdms:
        raise ValueError(f"{name} is an empty dict; it must hold at least one RDM")
    stack = [as_floats(rdm, f"{name}[{key!r}]", masked_as_nan=True) for key, rdm in rdms.items()]
    first = next(iter(rdms))
    for key, rdm in zip(rdms, stack, strict=True):
        if rdm.shape != stack[0].shape:
            check_members(rdms, name)
            raise ValueError(
                f"{name}[{key!r}] has shape {rdm.shape} and {name}[{first!r}] {stack[0].shape};"
                " all RDMs of a dict need the same shape"
            )
    return np.stack(stack)


def condense(rdms: ArrayLike, name: str = "rdms") -> NDArray[Any]:
    """Convert square RDMs to condensed ones: the upper triangle, row by row, without the diagonal.

    Parameters
    ----------
    rdms : array_like, shape (..., n, n)
        Symmetric dissimilarities. The diagonal is ignored; NaN is kept, and masked values become NaN.
    name : str
        Name of the array in errors.

    Returns
    -------
    ndarray, shape (..., n (n − 1) / 2)
        In the order of `scipy.spatial.distance.squareform`. Of a labelled DataFrame, a Series, and of a labelled
        DataArray, a DataArray, whose pairs have the labels of both conditions as those of `calc_rdm` do.

    Raises
    ------
    ValueError
        If the last two axes are not square, have fewer than two conditions, or are asymmetric by more than 1e-5 of
        the largest entry; or if the labels of rows and columns, or of several RDMs, differ.

    Warns
    -----
    RuntimeWarning
        Once, if matrices look like similarities: the largest entry of each row is on the diagonal, neither zero nor
        NaN.
    """
    array = as_floats(rdms, name, masked_as_nan=True)
    rdm_labels(rdms, name, square=True)
    condensed: NDArray[Any] = with_condensed(checked_triangle(array, name), rdms)
    return condensed


def checked_triangle(array: NDArray[Any], name: str) -> NDArray[Any]:
    """As `condense`, for an array of floating point."""
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
    similar = is_similarity(array, diagonal)
    if not similar.any():
        return
    count = "" if similar.all() else f" in {int(similar.sum())} of {similar.size} matrices"
    warn_caller(
        f"{name} with shape {array.shape} looks like similarities: the largest entry of each row is on the diagonal"
        f"{count}, where an RDM has zeros; pass dissimilarities, such as 1 - r for correlations r"
    )


def is_similarity(array: NDArray[Any], diagonal: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which matrices (..., n, n) have the largest entry of each row on the diagonal, neither zero nor NaN."""
    largest = np.fmax.reduce(array, axis=-1)
    with np.errstate(invalid="ignore"):
        # For equal conditions, rounding may put the similarity above 1.
        reaches = diagonal >= largest - ASYMMETRY * np.abs(largest)
    # A constant matrix could be either.
    differs = np.fmin.reduce(array, axis=(-2, -1)) < np.fmax.reduce(largest, axis=-1)
    return np.asarray(reaches.all(axis=-1) & diagonal.any(axis=-1) & differs)


def upper_triangle(array: NDArray[Any], name: str) -> NDArray[Any]:
    """As `checked_triangle`, without the warning about similarities."""
    n = array.shape[-1] if array.ndim else 0
    if array.ndim < 2 or array.shape[-2] != n or n < 2:
        raise ValueError(
            f"{name} has shape {array.shape}; a square RDM is (..., n, n) for n >= 2 conditions"
        )
    if n >= _LARGE:
        return _upper_triangle_of_large(array, name)
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
        entry = int(rows[worst[-1]]), int(columns[worst[-1]])
        raise _asymmetric(array, name, worst[:-1], entry)
    return np.ascontiguousarray(upper)


def _asymmetric(
    array: NDArray[Any], name: str, rdm: Sequence[Any], entry: tuple[int, int]
) -> ValueError:
    i, j = entry
    stack = f" of RDM {tuple(int(w) for w in rdm)}" if array.ndim > 2 else ""
    matrix = array[tuple(rdm)]
    return ValueError(
        f"{name} with shape {array.shape} is not symmetric: entries ({i}, {j}) and ({j}, {i}){stack} are"
        f" {matrix[i, j]:.6g} and {matrix[j, i]:.6g}"
    )


def _upper_triangle_of_large(array: NDArray[Any], name: str) -> NDArray[Any]:
    """As `upper_triangle`, row by row: index arrays of all pairs take more memory than the RDMs."""
    n = array.shape[-1]
    out = np.empty((*array.shape[:-2], n * (n - 1) // 2), array.dtype)
    largest, worst, place = 0.0, -1.0, ((), (0, 0))
    for rdm in np.ndindex(array.shape[:-2]):
        matrix, end = array[rdm], 0
        for i in range(n - 1):
            if i % _ROWS == 0:
                # Columns are read in blocks, because each entry of one is on another cache line.
                lower = np.ascontiguousarray(matrix[i:, i : i + _ROWS].T)
            upper, below = matrix[i, i + 1 :], lower[i % _ROWS, i % _ROWS + 1 :]
            begin, end = end, end + len(upper)
            out[rdm][begin:end] = upper
            with np.errstate(invalid="ignore"):
                difference = np.abs(upper - below)
            difference[(upper == below) | (np.isnan(upper) & np.isnan(below))] = 0
            difference[np.isnan(difference)] = np.inf
            largest = np.max(np.abs(upper[np.isfinite(upper)]), initial=largest)
            at = int(np.argmax(difference))
            if difference[at] > worst:
                worst, place = float(difference[at]), (rdm, (i, i + 1 + at))
    if not worst <= ASYMMETRY * largest:
        raise _asymmetric(array, name, *place)
    return out


def square(rdms: ArrayLike, name: str = "rdms") -> NDArray[Any]:
    """Convert condensed RDMs to square ones with a zero diagonal.

    Parameters
    ----------
    rdms : array_like, shape (..., pairs)
        Condensed RDMs; masked values become NaN.
    name : str
        Name of the array in errors.

    Returns
    -------
    ndarray, shape (..., n, n)
        Symmetric. Of a Series or DataArray whose pairs have the labels of both conditions, as those of `calc_rdm` do, a
        DataFrame or DataArray with labelled rows and columns.

    Raises
    ------
    ValueError
        If the length of the last axis is not n (n − 1) / 2, or several RDMs carry different labels.

    Warns
    -----
    RuntimeWarning
        One, if labelled pairs were brought into the order of a condensed RDM.
    """
    check_rdm_axes(rdms, name)
    array = as_floats(rdms, name, masked_as_nan=True)
    rdm_labels(rdms, name, square=False)
    if array.ndim < 1:
        raise ValueError(f"{name} is a single number; a condensed RDM is (..., pairs)")
    n = n_conditions(array.shape[-1], name)
    array, _ = in_order_of(array, rdms, name, None, square=False)
    out = np.zeros((*array.shape[:-1], n, n), array.dtype)
    rows, columns = np.triu_indices(n, 1)
    out[..., rows, columns] = out[..., columns, rows] = array
    squares: NDArray[Any] = with_squares(out, rdms)
    return squares
