"""Products of all pairs of conditions over channels, and how conditions are read for them.

A product depends on its two conditions alone. Rows that the kernels cannot read in place are copied one share of the
channels at a time. These are the kernel's shares, so that sums have the same order.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrdm import _kernels

Floats = NDArray[np.float64]
Rows = NDArray[Any]
Index = NDArray[np.intp]


class Reading(NamedTuple):
    """Conditions as the kernels read them: divided by their `scale`, a power of two, minus their `shift`.

    `places`, if not None, selects rows; shift and scale are those of the selected rows.
    """

    rows: Rows
    dtype: np.dtype[Any]
    shift: Floats | None = None
    scale: Floats | None = None
    places: Index | None = None

    @classmethod
    def of_nothing(cls, n: int, n_channels: int) -> "Reading":
        """Return a reading of conditions that are multiplied elsewhere."""
        return cls(np.broadcast_to(np.float32(0), (n, n_channels)), np.dtype(np.float32))

    @property
    def n(self) -> int:
        """Number of conditions."""
        return len(self.rows if self.places is None else self.places)

    @property
    def n_channels(self) -> int:
        """Channels of each condition."""
        return int(self.rows.shape[1])

    @property
    def width(self) -> int:
        """Channels copied per block."""
        return _kernels.share(self.n_channels, self.dtype.itemsize)

    def wide(self) -> "Reading":
        """Return the same reading in float64."""
        return self._replace(dtype=np.dtype(np.float64))

    def some(self, index: Index) -> "Reading":
        """Return some of the conditions."""
        shift, scale = (None if v is None else v[index] for v in (self.shift, self.scale))
        places = index if self.places is None else self.places[index]
        return self._replace(shift=shift, scale=scale, places=places)

    def row(self, i: int) -> Rows:
        """Return one condition, neither scaled nor shifted."""
        row: Rows = self.rows[i if self.places is None else self.places[i]]
        return row

    def in_place(self) -> bool:
        """Whether the kernels can read the rows in place."""
        rows, size = self.rows, self.rows.itemsize
        step, within = rows.strides
        readable = rows.dtype == self.dtype or (is_half(rows) and self.dtype == np.float32)
        return (
            (readable and rows.dtype.isnative and rows.flags.aligned)
            and ((within == size or rows.shape[1] == 1) and step > 0 and step % size == 0)
            and self.scale is None
            and self.places is None
        )

    def copied(self, columns: slice) -> Rows:
        """Return some channels as the kernels read them, without the shift."""
        rows = self.rows[:, columns] if self.places is None else self.rows[self.places, columns]
        block = np.array(rows, self.dtype, order="C")
        if self.scale is not None:
            block /= self.scale[:, None]
        return block

    def stripes(self) -> Iterator[Rows]:
        """Yield the rows if the kernels can read them in place, else copies of one share of the channels each."""
        if self.in_place():
            yield self.rows
            return
        for start in range(0, self.n_channels, self.width):
            yield self.copied(slice(start, start + self.width))


def is_half(array: NDArray[Any]) -> bool:
    """Whether these are float16 or bfloat16."""
    # dtype.name takes 5 µs: a tenth of a small RDM.
    dtype = array.dtype
    return dtype.itemsize == 2 and (dtype.kind == "f" or dtype.name == "bfloat16")


def working_dtype(rows: Rows) -> np.dtype[Any]:
    """Return the type of products: float32 for narrower floats, float64 for integers."""
    if is_half(rows):
        return np.dtype(np.float32)
    return rows.dtype.newbyteorder("=") if rows.dtype.kind == "f" else np.dtype(np.float64)


def gram(read: Reading, n_threads: int | None) -> tuple[Floats, Floats]:
    """Return products (n, n) of all pairs of conditions, and the conditions' sums (n,)."""
    total, width = None, read.width
    for stripe in read.stripes():
        total = _kernels.gram(stripe, read.shift, share=width, add_to=total, n_threads=n_threads)
    assert total is not None
    return total


def cross(a: Reading, b: Reading, n_threads: int | None) -> Floats:
    """Return products (n_a, n_b) of the conditions of `a` with those of `b`."""
    total, width = None, a.width
    for left, right in _together(a, b):
        total = _kernels.cross(
            left, right, n_threads, shift_a=a.shift, shift_b=b.shift, share=width, add_to=total
        )
    assert total is not None
    return total


def differences(
    a: Reading,
    b: Reading,
    pairs: NDArray[np.int32],
    factors: tuple[Floats, Floats],
    n_threads: int | None,
) -> Floats:
    """Return squared distances (pairs,) of conditions of `a` and of `b`, times their factors; 0 if they are equal."""
    out = np.zeros(len(pairs))
    shifts = tuple(np.zeros(read.n) if read.shift is None else read.shift for read in (a, b))
    for left, right in _together(a, b):
        _kernels.differences(
            left, right, pairs, out, n_threads, shifts=(shifts[0], shifts[1]), factors=factors
        )
    return out


def _together(a: Reading, b: Reading) -> Iterator[tuple[Rows, Rows]]:
    if a.in_place() and b.in_place():
        yield a.rows, b.rows
        return
    for start in range(0, a.n_channels, a.width):
        columns = slice(start, start + a.width)
        left = a.copied(columns)
        yield left, left if a is b else b.copied(columns)
