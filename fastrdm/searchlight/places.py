"""Data and the channels of each place → checked arrays in the order in which the kernels read them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import as_array, as_floats, axis_of, check_conditions_first, check_finite
from fastrdm.searchlight.neighbourhoods import Neighbourhoods

Rows = NDArray[Any]
# Magnitudes up to which the squares of products, and sums of these, are within the range of float64.
_LARGEST = 1e60
# Windows per sample from which on sums are shared: each sample is multiplied twice, and sums of pairs are copied.
_SHARED = 4
Index = NDArray[np.intp]


# Lists whose indices are checked at once.
_AT_ONCE = 1024


class Lists(NamedTuple):
    """A list of indices for each place, as the caller passed it, and where each begins in the order of all."""

    lists: Sequence[NDArray[np.integer[Any]]]
    starts: Index

    @property
    def n(self) -> int:
        """Number of lists."""
        return len(self.starts) - 1

    def part(self, some: slice = slice(None)) -> tuple[Index, Index]:
        """Return the indices of some lists one after the other, and where each begins, and the last ends."""
        first, last, _ = some.indices(self.n)
        starts = self.starts[first : last + 1]
        indices = np.concatenate(self.lists[first:last], dtype=np.intp, casting="unsafe")
        return indices, starts - starts[0]


class Patches(NamedTuple):
    """Data of all channels, and which of them belong to each RDM."""

    #: (channels × samples, conditions), the samples of a channel one after the other.
    rows: Rows
    n_samples: int
    centres: Lists
    #: None for all samples.
    windows: Lists | None
    #: Starts and the width of windows that overlap so much that sums are shared; None for others.
    slide: tuple[Index, int] | None = None

    @property
    def n_conditions(self) -> int:
        """Number of conditions."""
        return int(self.rows.shape[1])

    @property
    def n_pairs(self) -> int:
        """Number of pairs of conditions."""
        return self.n_conditions * (self.n_conditions - 1) // 2

    @property
    def n_windows(self) -> int:
        """Number of windows; 1 without."""
        return 1 if self.windows is None else self.windows.n

    @property
    def largest(self) -> int:
        """Rows of the largest place."""
        n_channels = int(np.diff(self.centres.starts).max())
        if self.windows is None:
            return n_channels * self.n_samples
        return n_channels * int(np.diff(self.windows.starts).max())


def patches_of(data: Any, neighbours: Any, windows: Any) -> Patches:
    """Return checked data and places; ValueError in one sentence for what does not fit."""
    array = _data(data)
    if windows is not None and array.ndim == 2:
        raise ValueError(
            f"windows need data of shape (conditions, channels, samples), and data have shape {array.shape}"
        )
    n_channels, n_samples = array.shape[1], array.shape[2] if array.ndim == 3 else 1
    if isinstance(neighbours, Neighbourhoods) and neighbours.n_channels != n_channels:
        raise ValueError(
            f"neighbours are of {neighbours.n_channels} channels, and data have {n_channels}: shape {array.shape}"
        )
    centres = lists_of(neighbours, n_channels, "neighbours", "channels")
    chosen = None if windows is None else lists_of(windows, n_samples, "windows", "samples")
    return Patches(_by_channel(array), n_samples, centres, chosen, _slide(chosen))


def movie_of(data: Any, windows: Any) -> Patches:
    """Return data whose channels are one place, (conditions, samples) as one channel."""
    array = _data(data)
    if array.ndim == 2:
        array = array[:, None]
    everything = np.arange(array.shape[1])
    centres = Lists([everything], np.array([0, len(everything)]))
    chosen = lists_of(windows, array.shape[2], "windows", "samples")
    return Patches(_by_channel(array), array.shape[2], centres, chosen, _slide(chosen))


def _slide(windows: Lists | None) -> tuple[Index, int] | None:
    """Return starts and the width of windows that share most samples with the next one."""
    if windows is None or windows.n < 2:
        return None
    indices, begins = windows.part()
    widths, starts = np.diff(begins), indices[begins[:-1]]
    width, steps = int(widths[0]), np.diff(starts)
    if (widths != width).any() or (steps <= 0).any() or steps.mean() * _SHARED > width:
        return None
    contiguous = indices.reshape(-1, width) == starts[:, None] + np.arange(width)
    return (np.ascontiguousarray(starts), width) if contiguous.all() else None


def _data(data: Any) -> Rows:
    check_conditions_first(data, "data")
    array = as_floats(as_array(data, "data"), "data")
    if array.ndim not in (2, 3) or len(array) < 2 or 0 in array.shape:
        raise ValueError(
            f"data have shape {array.shape}; expected (conditions >= 2, channels >= 1) or (conditions, channels,"
            " samples)"
        )
    dims = list(map(str, getattr(data, "dims", ())))
    if len(dims) == array.ndim == 3 and axis_of(dims[2]) == "units":
        raise ValueError(
            f"data have the dimensions ({', '.join(dims)}) and shape {array.shape}; samples come last, so pass"
            f" data.transpose(..., {dims[1]!r})"
        )
    check_finite(array, "data", ("condition", "channel", "sample")[: array.ndim])
    size = float(max(array.max(), -array.min()))
    if size > 0 and not 1 / _LARGEST < size < _LARGEST:
        raise ValueError(
            f"data reach {size:.3g}, whose products leave the range of float64; multiply them by a constant"
        )
    return array


def _by_channel(array: Rows) -> Rows:
    """Return (channels × samples, conditions), without a copy where that is the order in memory."""
    n = len(array)
    turned = array.reshape(n, -1).T if array.ndim == 2 else np.moveaxis(array, 0, -1)
    dtype = np.float32 if array.dtype == np.float32 else np.float64
    return np.ascontiguousarray(turned, dtype).reshape(-1, n)


def lists_of(lists: Any, n: int, name: str, of_what: str) -> Lists:
    """Return lists of indices below `n`, checked."""
    if isinstance(lists, Lists):
        return lists
    if isinstance(lists, np.ndarray) and lists.ndim > 2:
        raise ValueError(
            f"{name} has shape {lists.shape}; expected lists of {of_what}, as volume_neighbours makes them of a mask"
        )
    is_sparse = hasattr(lists, "tocsr")
    is_dense = isinstance(lists, np.ndarray) and lists.ndim == 2
    if is_sparse or (is_dense and lists.dtype == np.bool_):
        if lists.shape[1] != n:
            raise ValueError(f"{name} is a mask of shape {lists.shape} for {n} {of_what} of data")
        lists = _marked(lists) if is_sparse else [np.flatnonzero(row) for row in lists]
    elif is_dense and lists.shape[1] == n > 2 and np.isin(lists, (0, 1)).all():
        raise ValueError(
            f"{name} holds 0 and 1 in shape {lists.shape}: indices of {of_what}, or marks of them? Pass marks as bool,"
            f" {name}.astype(bool)"
        )
    if not isinstance(lists, (Sequence, np.ndarray)) or isinstance(lists, str):
        raise TypeError(
            f"{name} is a {type(lists).__name__}; expected a list of arrays of indices of {of_what}"
        )
    if not len(lists):
        raise ValueError(f"{name} is empty; pass the {of_what} of at least one place")
    arrays = [_indices(entry, k, n, name, of_what) for k, entry in enumerate(lists)]
    starts = np.zeros(len(arrays) + 1, np.intp)
    np.cumsum([len(array) for array in arrays], out=starts[1:])
    found = Lists(arrays, starts)
    for first in range(0, found.n, _AT_ONCE):
        indices, begins = found.part(slice(first, first + _AT_ONCE))
        if len(wrong := np.flatnonzero((indices < 0) | (indices >= n))):
            k = first + int(np.searchsorted(begins, wrong[0], "right")) - 1
            raise ValueError(
                f"{name}[{k}] holds index {indices[wrong[0]]}, and data have {n} {of_what}"
            )
    return found


def _marked(matrix: Any) -> list[Index]:
    """Return the columns of a sparse matrix that are not 0, of each row."""
    rows = matrix.tocsr(copy=True)
    rows.sum_duplicates()
    rows.eliminate_zeros()
    return np.split(rows.indices, rows.indptr[1:-1])


def _indices(entry: Any, k: int, n: int, name: str, of_what: str) -> NDArray[np.integer[Any]]:
    if isinstance(entry, slice):
        entry = range(*entry.indices(n))
    array = np.asarray(entry)
    if array.dtype == np.bool_:
        if array.shape != (n,):
            raise ValueError(
                f"{name}[{k}] is a mask of shape {array.shape} for {n} {of_what} of data"
            )
        array = np.flatnonzero(array)
    if array.ndim != 1 or not array.size:
        raise ValueError(
            f"{name}[{k}] has shape {array.shape}; expected one or more indices of {of_what}, in one dimension"
        )
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name}[{k}] holds {array.dtype}; expected integers, indices of {of_what}")
    return array
