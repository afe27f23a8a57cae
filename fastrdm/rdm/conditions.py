"""Conditions and the products of all pairs of them, from one pass over the activations, for every measure.

The pass multiplies deviations from a guess of each condition's mean, in the precision of the activations. Conditions
for which that has too few digits (a poor guess, squares out of range) are multiplied again in float64, each divided by
a power of two and minus its mean. From these products and the conditions' sums follow the products of the activations
themselves: Σ (x + m)(y + l) = Σ xy + m (Σy + l n / 2) + l (Σx + m n / 2).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrdm import _kernels
from fastrdm.rdm.numbers import Kind
from fastrdm.rdm.products import Floats, Index, Reading, Rows, cross, gram

# Squares below this may have lost digits to underflow.
SMALLEST_SQUARE = 1e-280
# Products changed per block; the block and its temporaries stay in the cache.
_BLOCK = 1 << 14


class OutOfRangeError(ValueError):
    """Squares of activations exceed the range of float64, or activations are NaN or infinite."""


def out_of_range(how: str = "large, so small or so close together") -> OutOfRangeError:
    """Return the error of activations that are so large, for example."""
    return OutOfRangeError(
        f"activations are so {how} that their squares leave the range of float64"
    )


class Conditions(NamedTuple):
    """Conditions that were multiplied, divided by their `scale` and minus their `shift`: one side of the products."""

    #: Products of each with itself, and its sum over channels, as multiplied.
    squares: Floats
    sums: Floats
    #: None for zeros and for ones.
    shift: Floats | None
    scale: Floats | None
    #: Whether each is constant over channels.
    constant: NDArray[np.bool_]
    #: Whether all products are exact.
    exact: bool
    #: How they were multiplied, and how those at `odd`, and others with them, were multiplied again in float64.
    read: Reading
    wide: Reading
    odd: Index

    @property
    def n_channels(self) -> int:
        """Channels of each condition."""
        return self.read.n_channels

    def with_rows(self, rows: Rows) -> "Conditions":
        """Return the conditions with the rows replaced by a copy."""
        return self._replace(read=self.read._replace(rows=rows), wide=self.wide._replace(rows=rows))

    def norms(self) -> Floats:
        """Return channels times the squared deviations from the mean."""
        return np.asarray(self.n_channels * self.squares - self.sums * self.sums)

    def lengths(self) -> Floats:
        """Return the squared lengths of the conditions, neither shifted nor, if they have a scale, multiplied by it."""
        if self.shift is None:
            return self.squares.copy()
        shift, sums = self.shifts_and_sums()
        return np.asarray(self.squares + 2 * (shift * sums))

    def shifts_and_sums(self) -> tuple[Floats, Floats]:
        """Return shifts, and sums over channels plus half of what the shift took from them."""
        if self.shift is None:
            return np.zeros(len(self.sums)), self.sums
        return self.shift, self.sums + self.n_channels / 2 * self.shift


def multiplied(read: Reading, kind: Kind, n_threads: int | None) -> tuple[Conditions, Floats]:
    """Multiply all pairs of conditions: return the conditions, and their products (n, n)."""
    if not kind.exact:
        read = read._replace(shift=guess_means(read))
    with np.errstate(all="ignore"):
        product, sums = gram(read, n_threads)
        squares = product.diagonal().copy()
        none = np.empty(0, np.intp)
        constant = np.zeros(read.n, np.bool_)
        side = Conditions(
            squares, sums, read.shift, None, constant, kind.exact, read, read.wide(), none
        )
        n, norms = read.n_channels, side.norms()
        if kind.exact:
            return side._replace(constant=norms == 0), product
        # A poor guess costs digits, as do squares that over- or underflow.
        fine = (n * squares < 8 * norms) & (norms > n * _smallest(read)) & (squares < np.inf)
        if read.dtype == np.float64:
            fine &= side.lengths() < np.inf
        odd = np.flatnonzero(~fine)
    return _again(side, product, odd, n_threads) if len(odd) else (side, product)


def crossed(a: Conditions, b: Conditions, n_threads: int | None) -> Floats:
    """Return the products (n_a, n_b) of conditions with others of the same source."""
    with np.errstate(all="ignore"):
        product = cross(a.read, b.read, n_threads)
    if len(a.odd):
        product[a.odd] = cross(a.wide.some(a.odd), b.wide, n_threads)
    if len(b.odd):
        product[:, b.odd] = cross(a.wide, b.wide.some(b.odd), n_threads)
    _clear(product, a, b)
    return product


def _again(
    side: Conditions, product: Floats, odd: Index, n_threads: int | None
) -> tuple[Conditions, Floats]:
    """Multiply some conditions again in float64, each at its scale and less its mean."""
    read = side.read
    shift = np.zeros(read.n) if side.shift is None else side.shift.copy()
    scale = np.ones(read.n)
    for i in odd:
        shift[i], scale[i], side.constant[i] = _shift_and_scale(read.rows[i])
    wide = read.wide()._replace(shift=shift, scale=scale)
    varying = odd[~side.constant[odd]]
    if len(varying):
        some, side.sums[varying] = gram(wide.some(varying), n_threads)
        side.squares[varying] = some.diagonal()
        product[varying] = cross(wide.some(varying), wide, n_threads)
        product[:, varying] = product[varying].T
    side.squares[side.constant] = side.sums[side.constant] = 0
    side = side._replace(shift=shift, scale=scale, wide=wide, odd=odd)
    _clear(product, side, side)
    return side, product


def _clear(product: Floats, a: Conditions, b: Conditions) -> None:
    """Set the products of constant conditions, which have no deviations; exact products are not changed."""
    if a.exact:
        return
    if a.constant.any():
        product[a.constant] = 0
    if b.constant.any():
        product[:, b.constant] = 0


def _shift_and_scale(row: NDArray[np.generic]) -> tuple[float, float, bool]:
    """Return the shift and scale that bring a row's deviations near 1, and whether it is constant."""
    values = np.ascontiguousarray(row, np.float64)
    if not np.isfinite(values).all():
        raise out_of_range()
    low, high = float(values.min()), float(values.max())
    exponent = int(np.frexp(max(abs(low), abs(high)))[1]) - 1
    if low == high:
        return float(np.ldexp(low, -exponent)), float(np.ldexp(1.0, exponent)), True
    values = np.ldexp(values, -exponent)
    mean = float(values.mean())
    more = int(np.frexp(float(np.abs(values - mean).max()))[1])
    return float(np.ldexp(mean, -more)), float(np.ldexp(1.0, exponent + more)), False


def guess_means(read: Reading) -> Floats:
    """Return the mean of each row from a sample of its channels, the same for every memory layout."""
    rows = read.rows
    with np.errstate(all="ignore"):
        if not read.in_place():
            rows = np.array(_sample(rows), read.dtype, order="C")
        # Rounded as the kernel subtracts it.
        return _kernels.guess_means(rows).astype(read.dtype).astype(np.float64)


def _sample(rows: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return 16 stretches of 8 channels of each row, as the kernel samples longer rows."""
    n = rows.shape[1]
    if n <= 128:
        return rows
    places = np.arange(16)[:, None] * (n - 8) // 15 + np.arange(8)
    return rows[:, places.ravel()]


def _smallest(read: Reading) -> float:
    """Return the product below which digits may be lost to underflow."""
    limits = np.finfo(read.dtype)
    return float(limits.tiny / limits.eps * read.n_channels)


def uncentred(
    a: Conditions,
    b: Conditions,
    product: Floats,
    *,
    scaled: bool = True,
    upper: bool = False,
    out: Floats | None = None,
) -> Floats:
    """Return products of conditions without their shifts and, unless `scaled`, with their scales.

    Symmetric to the bit. With `upper`, only the diagonal and what is above it. `out` may be `product`.
    """
    scales = None if scaled or a.scale is b.scale is None else (a.scale, b.scale)
    if a.shift is None and b.shift is None and scales is None:
        return product
    out = np.empty_like(product) if out is None else out
    left, left_sums = a.shifts_and_sums()
    right, right_sums = (left, left_sums) if a is b else b.shifts_and_sums()
    step = max(1, _BLOCK // product.shape[1])
    first, second = np.empty((2, step, product.shape[1]))
    for start in range(0, len(product), step):
        rows, columns = slice(start, start + step), slice(start if upper else 0, None)
        n = len(left[rows])
        block, other = first[:n, columns], second[:n, columns]
        np.multiply.outer(left[rows], right_sums[columns], out=block)
        np.multiply.outer(left_sums[rows], right[columns], out=other)
        block += other
        block += product[rows, columns]
        if scales is not None:
            for scale, place in zip(scales, ((rows, None), (None, columns)), strict=True):
                if scale is not None:
                    block *= scale[place]
        out[rows, columns] = block
    return out
