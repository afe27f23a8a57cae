"""The two measures of a pair of conditions, angle and distance, computed from products."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrdm import _kernels
from fastrdm._kernels import ties
from fastrdm.rdm.numbers import Kind
from fastrdm.rdm.products import Floats, Index, Reading, Rows, gram

# Values of 1 − cosine, and of a squared distance over the sum of both squared lengths, below which a product has lost
# too many of float32's seven digits. A pair's difference takes as long as six products.
NEAR_ANGLE, NEAR_DISTANCE = 2.0**-7, 2.0**-5
# Squares below this may have lost digits to underflow.
SMALLEST_SQUARE = 1e-280


class OutOfRangeError(ValueError):
    """Squares of activations exceed the range of float64, or activations are NaN or infinite."""


def out_of_range(how: str = "large, so small or so close together") -> OutOfRangeError:
    """Return the error of activations that are so large, for example."""
    return OutOfRangeError(
        f"activations are so {how} that their squares leave the range of float64"
    )


class Operand(NamedTuple):
    """Conditions as one side of a product, with what the measure needs of each."""

    read: Reading
    #: Norms (n,): products with themselves as the measure defines them; NaN for a condition without dissimilarities.
    norms: Floats
    #: Sums (n,) over channels of the values read; None if the measure does not use them.
    sums: Floats | None
    #: Indices of conditions that need float64, and how to read conditions in float64.
    odd: Index
    wide: Reading
    #: Dissimilarities, or shares of both norms, below which products have too few digits left.
    near: float

    def with_rows(self, rows: Rows) -> "Operand":
        """Return the operand with the rows replaced by a copy."""
        return self._replace(read=self.read._replace(rows=rows), wide=self.wide._replace(rows=rows))

    def some(self, index: Index) -> "Operand":
        """Return some of the conditions, in float64."""
        wide = self.wide.some(index)
        sums = None if self.sums is None else self.sums[index]
        return Operand(wide, self.norms[index], sums, np.empty(0, np.intp), wide, self.near)


class Measure(NamedTuple):
    """How dissimilarities are computed from products of conditions."""

    #: Conditions → their operand, and the products of all pairs.
    multiply: Callable[[Reading, Kind, int | None], tuple[Operand, Floats]]
    #: Products → dissimilarities, flat or condensed, and how many are near, which their sign bit marks; the kernel.
    condense: Callable[[Operand, Operand, Floats, bool], tuple[Floats, int]]
    #: Factors of the rows in the differences of near pairs.
    factors: Callable[[Operand], Floats]
    #: Squared differences of near pairs → dissimilarities.
    refine: Callable[[Operand, Operand, NDArray[np.int32], Floats], Floats]
    #: Why a condition whose norm is zero has no dissimilarities; empty if it has some.
    undefined: str = ""
    #: Whether each condition's mean is subtracted.
    centre: bool = False
    #: Whether the square root of the result is taken.
    root: bool = False
    #: Rounding differences of equal dissimilarities, as a multiple of those of lengths and angles.
    apart: float = 1.0

    def settle(self, rdm: Floats, within: float) -> None:
        """Make dissimilarities equal that differ only by rounding."""
        ties.settle(rdm, within * self.apart, angles=bool(self.undefined))


def operand_of(norms: Floats, sums: Floats | None, n_channels: int, near: float) -> Operand:
    """Return an operand whose products are computed elsewhere."""
    rows = np.broadcast_to(np.float32(0), (len(norms), n_channels))
    read = Reading(rows, np.dtype(np.float32))
    return Operand(read, norms, sums, np.empty(0, np.intp), read, near)


# Angles.


def _centred_products(read: Reading, kind: Kind, n_threads: int | None) -> tuple[Operand, Floats]:
    """Multiply deviations from a guess of each row's mean; the sums correct for the rest of the mean."""
    n = read.n_channels
    if not kind.exact:
        read = read._replace(shift=guess_means(read))
    with np.errstate(all="ignore"):
        product, sums = gram(read, n_threads)
        raw = product.diagonal()
        norms = n * raw - sums * sums
        # A poor guess costs digits, as do squares that over- or underflow.
        fine = (n * raw < 8 * norms) & (norms > n * _smallest(read)) & (raw < np.inf)
    odd = np.empty(0, np.intp) if kind.exact else np.flatnonzero(~fine)
    return _settled(read, norms, sums, odd, kind, n_threads, centre=True), product


def _raw_products(read: Reading, kind: Kind, n_threads: int | None) -> tuple[Operand, Floats]:
    # Cosines change with a shift, so numbers that are exact only after a shift are not exact here.
    if kind.shift:
        read, kind = read.wide(), kind._replace(exact=False, shift=0.0)
    read = read._replace(shift=None)
    with np.errstate(all="ignore"):
        product, _ = gram(read, n_threads)
        norms = product.diagonal().copy()
        fine = (norms > _smallest(read)) & (norms < np.inf)
    odd = np.flatnonzero(~fine)
    return _settled(read, norms, None, odd, kind, n_threads, centre=False), product


def _settled(
    read: Reading,
    norms: Floats,
    sums: Floats | None,
    odd: Index,
    kind: Kind,
    n_threads: int | None,
    *,
    centre: bool,
) -> Operand:
    """Compute norms and sums in float64 for conditions that need it, each at its scale and less its mean."""
    shift, wide = read.shift, read.wide()
    if len(odd):
        shift = np.zeros(read.n) if shift is None else shift.copy()
        scale = np.ones(read.n)
        for i in odd:
            shift[i], scale[i], norms[i] = _shift_and_scale(read.rows[i], centre)
        # A constant or zero row has NaN as its norm.
        odd = odd[~np.isnan(norms[odd])]
        wide = wide._replace(shift=shift if centre else None, scale=scale)
        if len(odd):
            product, odd_sums = gram(wide.some(odd), n_threads)
            norms[odd] = product.diagonal()
            if sums is not None:
                sums[odd] = odd_sums
                norms[odd] = read.n_channels * norms[odd] - odd_sums**2
    norms[norms == 0] = np.nan
    return Operand(read, norms, sums, odd, wide, 0.0 if kind.exact else NEAR_ANGLE)


def _shift_and_scale(row: NDArray[np.generic], centre: bool) -> tuple[float, float, float]:
    """Return the shift and scale that bring a row's deviations near 1, and NaN if all are zero."""
    values = np.ascontiguousarray(row, np.float64)
    if not np.isfinite(values).all():
        raise out_of_range()
    low, high = float(values.min()), float(values.max())
    if (low == high) if centre else (low == 0 == high):
        return low, 1.0, np.nan
    exponent = int(np.frexp(max(abs(low), abs(high)))[1]) - 1
    values = np.ldexp(values, -exponent)
    mean = float(values.mean()) if centre else 0.0
    more = int(np.frexp(float(np.abs(values - mean).max()))[1])
    return float(np.ldexp(mean, -more)), float(np.ldexp(1.0, exponent + more)), 0.0


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


def _condense_angles(
    a: Operand, b: Operand, product: Floats, condensed: bool
) -> tuple[Floats, int]:
    sums = None if a.sums is None or b.sums is None else (a.sums, b.sums)
    with np.errstate(all="ignore"):
        return _kernels.angles(
            product, (a.norms, b.norms), sums, a.read.n_channels, near=a.near, condensed=condensed
        )


def _unit(operand: Operand) -> Floats:
    """Return the factors that scale conditions to length 1."""
    n = 1 if operand.sums is None else operand.read.n_channels
    with np.errstate(all="ignore"):
        return np.asarray(np.sqrt(n / operand.norms))


def _refine_angles(a: Operand, b: Operand, pairs: NDArray[np.int32], squares: Floats) -> Floats:
    """1 − cosine is half the squared difference of vectors of length 1."""
    if a.sums is not None and b.sums is not None:
        sums = (_unit(a) * a.sums)[pairs[:, 0]] - (_unit(b) * b.sums)[pairs[:, 1]]
        squares = squares - sums * sums / a.read.n_channels
    return np.maximum(squares / 2, 0)


# Distances.


def _distance_products(read: Reading, kind: Kind, n_threads: int | None) -> tuple[Operand, Floats]:
    with np.errstate(all="ignore"):
        product, _ = gram(read, n_threads)
        norms = product.diagonal().copy()
        fine = (norms > _smallest(read)) & (norms < np.inf)
    odd = np.empty(0, np.intp) if kind.exact else np.flatnonzero(~fine)
    odd = odd[[bool(read.rows[i].any()) for i in odd]] if len(odd) else odd
    wide = read.wide()
    if len(odd):
        with np.errstate(all="ignore"):
            norms[odd] = gram(wide.some(odd), n_threads)[0].diagonal()
        if not (np.all(norms[odd] > SMALLEST_SQUARE) and np.isfinite(norms[odd]).all()):
            raise out_of_range()
    return Operand(read, norms, None, odd, wide, 0.0 if kind.exact else NEAR_DISTANCE), product


def _condense_distances(
    a: Operand, b: Operand, product: Floats, condensed: bool
) -> tuple[Floats, int]:
    with np.errstate(all="ignore"):
        return _kernels.distances(product, (a.norms, b.norms), near=a.near, condensed=condensed)


def _ones(operand: Operand) -> Floats:
    return np.ones(operand.read.n)


def _refine_distances(a: Operand, b: Operand, pairs: NDArray[np.int32], squares: Floats) -> Floats:
    return squares


CORRELATION = Measure(
    _centred_products,
    _condense_angles,
    _unit,
    _refine_angles,
    "conditions constant over channels have no correlation",
    centre=True,
)
COSINE = Measure(
    _raw_products, _condense_angles, _unit, _refine_angles, "conditions that are zero have no angle"
)
SQUARED_DISTANCE = Measure(
    _distance_products, _condense_distances, _ones, _refine_distances, apart=2.0
)
DISTANCE = SQUARED_DISTANCE._replace(root=True, apart=1.0)
