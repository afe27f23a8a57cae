"""Activations → RDMs, and the two forms of an RDM: condensed and square."""

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrdm import _kernels

# Asymmetry above this share of the largest entry is no rounding error.
_ASYMMETRY = 1e-5


def n_conditions(n_pairs: int, name: str = "rdms") -> int:
    """Conditions of a condensed RDM: the n with n (n − 1) / 2 = `n_pairs`."""
    n = (1 + int(np.sqrt(1 + 8 * n_pairs))) // 2
    if n < 2 or n * (n - 1) // 2 != n_pairs:
        raise ValueError(
            f"{name}: {n_pairs} pairs are no condensed RDM; its length is n (n - 1) / 2 for n conditions"
        )
    return n


def as_floats(values: ArrayLike, name: str) -> NDArray[Any]:
    """Real numbers as floating point, float32 and float64 as they are; ValueError for anything else."""
    array = np.asarray(values)
    if array.dtype in (np.float32, np.float64):
        return array
    if array.dtype.kind in "iub":
        return array.astype(np.float64)
    if array.dtype.kind == "f" or array.dtype.name == "bfloat16":
        return array.astype(np.float32 if array.dtype.itemsize < 4 else np.float64)
    raise ValueError(f"{name} must hold real numbers, got dtype {array.dtype}")


def check_finite(array: NDArray[Any], name: str, axes: Iterable[str] = ()) -> None:
    """ValueError that names the first NaN or infinity, by the names of the leading `axes` where given."""
    # A sum is finite only if all its terms are; it saves the mask as large as the input in the usual case.
    with np.errstate(all="ignore"):
        if np.isfinite(np.sum(array)):
            return
    bad = ~np.isfinite(array)
    if not bad.any():
        return
    first = tuple(int(i) for i in np.argwhere(bad)[0])
    axes = (*axes, *(f"axis {i}" for i in range(len(tuple(axes)), array.ndim)))
    where = ", ".join(f"{axis} {i}" for axis, i in zip(axes, first, strict=True))
    value = "NaN" if np.isnan(array[first]) else "infinity"
    raise ValueError(
        f"{name} has {int(bad.sum())} values that are not finite; the first is {value} at {where}"
    )


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
    if not difference[worst] <= _ASYMMETRY * largest:
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


def calc_rdm(
    activations: ArrayLike, method: str = "correlation", *, n_threads: int | None = None
) -> NDArray[np.float64]:
    r"""RDM of a layer: the dissimilarity of its activations for every pair of conditions.

    For ``"correlation"``, :math:`d_{ij} = 1 - r(x_i, x_j)` with Pearson's r over channels, between 0 and 2.

    Parameters
    ----------
    activations : array_like, shape (conditions, channels, ...)
        A row a condition; further axes are channels too. float32 and float64 are read where they lie, float16 and
        bfloat16 are widened to float32, integers to float64. Products are made in the input's precision and summed
        in float64.
    method : str
        ``"correlation"`` (alias ``"pearson"``).
    n_threads : int, optional
        Threads to use; the processors of this process by default.

    Returns
    -------
    ndarray of float64, shape (conditions (conditions − 1) / 2,)
        The condensed RDM; `square` makes it square.

    Raises
    ------
    ValueError
        If there are fewer than two conditions, no channels, NaN or infinity (the message says where), or the method
        is unknown.

    Warns
    -----
    RuntimeWarning
        If conditions are constant over channels: their correlation is not defined and their pairs are NaN.

    References
    ----------
    Kriegeskorte, Mur & Bandettini (2008), Representational similarity analysis, Front. Syst. Neurosci. 2:4.
    """
    try:
        dissimilarity = _METHODS[method]
    except KeyError:
        raise ValueError(f"method {method!r} is not one of: {', '.join(_METHODS)}") from None
    array = as_floats(activations, "activations")
    if array.ndim < 2 or len(array) < 2 or array[0].size == 0:
        raise ValueError(
            f"activations have shape {array.shape}; expected (conditions >= 2, channels >= 1, ...)"
        )
    rows = array.reshape(len(array), -1)
    if (
        rows.strides[1] != rows.itemsize
        or rows.strides[0] < rows.itemsize
        or not rows.dtype.isnative
    ):
        rows = np.ascontiguousarray(rows, rows.dtype.newbyteorder("="))
    return dissimilarity(rows, n_threads)


def _correlation(rows: NDArray[Any], n_threads: int | None) -> NDArray[np.float64]:
    covariance = _covariance(rows, n_threads)
    variance = np.diagonal(covariance).copy()
    constant = np.flatnonzero(variance == 0)
    if len(constant):
        listed = ", ".join(str(i) for i in constant[:10]) + (", ..." if len(constant) > 10 else "")
        warnings.warn(
            f"conditions constant over channels have no correlation, their pairs are NaN: {listed}",
            RuntimeWarning,
            stacklevel=3,
        )
        variance[constant] = np.nan
    first, second = np.triu_indices(len(rows), 1)
    scale = np.sqrt(variance)
    return np.asarray(
        1 - np.clip(covariance[first, second] / (scale[first] * scale[second]), -1, 1)
    )


def _covariance(rows: NDArray[Any], n_threads: int | None) -> NDArray[np.float64]:
    """Sums of products of deviations from the rows' means, each row up to a factor; exactly 0 for a constant row.

    One pass: each row is read less a guess of its mean from a sample, and what the guess missed is taken off in
    float64. Where a guess was poor, or products of single numbers over- or underflow, `_scaled_covariance` serves.
    """
    n_channels = rows.shape[1]
    starts = np.linspace(0, max(0, n_channels - 32), 32).astype(np.intp)
    sample = np.concatenate([rows[:, start : start + 32] for start in starts], axis=1)
    with np.errstate(all="ignore"):
        product, sums = _kernels.gram(rows, sample.mean(axis=1, dtype=np.float64), n_threads)
        covariance = product - np.outer(sums, sums / n_channels)
        raw, variance = np.diagonal(product), np.diagonal(covariance)
        smallest = np.finfo(rows.dtype).tiny / np.finfo(rows.dtype).eps * n_channels
        trusted = np.isfinite(raw) & (raw < 8 * variance) & (variance > smallest)
    if trusted.all():
        return covariance
    check_finite(rows, "activations", ("condition", "channel"))
    return _scaled_covariance(rows, n_threads)


def _scaled_covariance(rows: NDArray[Any], n_threads: int | None) -> NDArray[np.float64]:
    """As `_covariance`, from a centred float64 copy whose rows' largest deviation is 1."""
    largest = np.abs(rows).max(axis=1, keepdims=True).astype(np.float64)
    largest[largest == 0] = 1
    wide = rows / largest
    wide -= wide.mean(axis=1, keepdims=True)
    wide[rows.max(axis=1) == rows.min(axis=1)] = 0
    deviation = np.abs(wide).max(axis=1, keepdims=True)
    deviation[deviation == 0] = 1
    wide /= deviation
    return _kernels.gram(wide, np.zeros(len(wide)), n_threads)[0]


_METHODS: dict[str, Callable[[NDArray[Any], int | None], NDArray[np.float64]]] = {
    "correlation": _correlation,
    "pearson": _correlation,
}
