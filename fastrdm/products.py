"""Products of all pairs of conditions over channels, and how the conditions are read for them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrdm import _kernels

Floats = NDArray[np.float64]
Rows = NDArray[Any]

# Where rows cannot be read where they lie, this much of them is copied at a time.
BLOCK_BYTES = 1 << 24
# Widths of such copies are multiples of this.
_GRAIN = 512


@dataclass(frozen=True)
class Products:
    """Products of all pairs of conditions over channels, less what `mean` accounts for."""

    n_channels: int
    product: Floats
    mean: Floats

    @classmethod
    def none(cls, n_conditions: int) -> "Products":
        """No channels yet."""
        return cls(0, np.zeros((n_conditions, n_conditions)), np.zeros(n_conditions))

    def __add__(self, other: "Products") -> "Products":
        # Chan, Golub & LeVeque (1983), eq. 2.1, for covariances.
        n = self.n_channels + other.n_channels
        if not n:
            return self
        step = other.mean - self.mean
        between = np.outer(step, step * (self.n_channels * other.n_channels / n))
        mean = self.mean + step * (other.n_channels / n)
        return Products(n, self.product + other.product + between, mean)


class Reading(NamedTuple):
    """Conditions as the kernels read them: divided by their `scale`, less a `centre` of all and a `shift` of each."""

    rows: Rows
    dtype: np.dtype[Any]
    width: int
    shift: Floats | None = None
    scale: Floats | None = None
    centre: Rows | None = None

    @classmethod
    def of(cls, rows: Rows, width: int | None = None, centre: Floats | None = None) -> "Reading":
        """Rows in their own precision, widened where they are narrower than float32."""
        dtype = working_dtype(rows)
        if width is None:
            width = max(1, BLOCK_BYTES // (len(rows) * dtype.itemsize) // _GRAIN) * _GRAIN
        # Rounded once, so that the same is taken off in whichever precision.
        return cls(rows, dtype, width, centre=None if centre is None else centre.astype(dtype))

    @property
    def n_channels(self) -> int:
        """Channels of each condition."""
        return int(self.rows.shape[1])

    def wide(self) -> "Reading":
        """The same in float64."""
        return self._replace(dtype=np.dtype(np.float64))

    def stripes(self, *, halves: bool = False) -> Iterator[Rows]:
        """The rows where they lie if the kernel can read them there, else copies of some channels at a time.

        `halves` says that the kernel widens 16-bit floats by itself.
        """
        rows = self.rows
        if self.in_place(halves=halves):
            yield rows
            return
        for start in range(0, self.n_channels, self.width):
            columns = slice(start, start + self.width)
            block = np.array(rows[:, columns], self.dtype, order="C")
            if self.scale is not None:
                block /= self.scale[:, None]
            if self.centre is not None:
                block -= self.centre[columns]
            yield block

    def in_place(self, *, halves: bool = False) -> bool:
        """Whether the kernels can read the rows where they lie."""
        rows, size = self.rows, self.rows.itemsize
        step, within = rows.strides
        own_type = rows.dtype == self.dtype or (halves and size == 2 and self.dtype == np.float32)
        return (
            (own_type and rows.dtype.isnative and rows.flags.aligned)
            and (within == size and step > 0 and step % size == 0)
            and (self.scale is None and self.centre is None)
        )


def is_half(array: NDArray[Any]) -> bool:
    """Whether these are float16 or bfloat16."""
    # A dtype's name takes 5 µs to spell: a tenth of a small RDM.
    dtype = array.dtype
    return dtype.itemsize == 2 and (dtype.kind == "f" or dtype.name == "bfloat16")


def working_dtype(rows: Rows) -> np.dtype[Any]:
    """In which products are made: float32 for what is narrower, float64 for integers."""
    if is_half(rows):
        return np.dtype(np.float32)
    return rows.dtype.newbyteorder("=") if rows.dtype.kind == "f" else np.dtype(np.float64)


def gram(
    read: Reading, n_threads: int | None, *, centre_columns: bool = False
) -> tuple[Floats, Floats]:
    """Products (n, n) of all pairs of conditions, and each one's sum (n,)."""
    stripes = read.stripes(halves=True)
    product, sums = _kernels.gram(
        next(stripes), read.shift, centre_columns=centre_columns, n_threads=n_threads
    )
    for stripe in stripes:
        more, more_sums = _kernels.gram(
            stripe, read.shift, centre_columns=centre_columns, n_threads=n_threads
        )
        product += more
        sums += more_sums
    return product, sums


def cross(a: Reading, b: Reading, n_threads: int | None) -> Floats:
    """Products (n_a, n_b) of the conditions of `a` with those of `b`."""
    if a.dtype != b.dtype:
        a, b = a.wide(), b.wide()
    stripes = zip(a.stripes(), b.stripes(), strict=True)

    def products(left: Rows, right: Rows) -> Floats:
        return _kernels.cross(left, right, n_threads, shift_a=a.shift, shift_b=b.shift)

    total = products(*next(stripes))
    for left, right in stripes:
        total += products(left, right)
    return total
