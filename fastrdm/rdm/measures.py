"""The two measures of a pair of conditions, angle and distance, computed from products."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrdm import _kernels
from fastrdm._kernels import ties
from fastrdm.rdm.conditions import SMALLEST_SQUARE, Conditions, out_of_range, uncentred
from fastrdm.rdm.products import Floats, Index, Reading

# Values of 1 − cosine, and of a squared distance over the sum of both squared lengths, below which a product has lost
# too many of float32's seven digits. A pair's difference takes as long as six products.
NEAR_ANGLE, NEAR_DISTANCE = 2.0**-7, 2.0**-5


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
    #: Share of each norm that was multiplied in the type of `read`; None for all. The rest comes from the shift, in
    #: float64, so that pairs may be nearer to each other before their product lacks digits.
    rounded: Floats | None = None

    def some(self, index: Index) -> "Operand":
        """Return some of the conditions, in float64."""
        wide = self.wide.some(index)
        sums = None if self.sums is None else self.sums[index]
        return Operand(wide, self.norms[index], sums, np.empty(0, np.intp), wide, self.near)


class Measure(NamedTuple):
    """How dissimilarities are computed from products of conditions."""

    #: Conditions → their operand.
    operand: Callable[[Conditions], Operand]
    #: Products of two sides, and whether they are one → the products that the measure compares. May change them.
    compared: Callable[[Conditions, Conditions, Floats, bool], Floats]
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


def _rounded(side: Conditions, lengths: Floats) -> Floats | None:
    """Return the shares of lengths that were multiplied in float32, down to what float64 has digits for."""
    if side.read.dtype != np.float32 or side.shift is None:
        return None
    with np.errstate(all="ignore"):
        return np.asarray(np.clip(side.squares / lengths, 2.0**-24, 1))


def operand_of(norms: Floats, sums: Floats | None, n_channels: int, near: float) -> Operand:
    """Return an operand whose products are computed elsewhere."""
    read = Reading.of_nothing(len(norms), n_channels)
    return Operand(read, norms, sums, np.empty(0, np.intp), read, near)


# Angles.


def _centred(side: Conditions) -> Operand:
    """Deviations from the means: sums correct for the difference of shift and mean."""
    norms = side.norms()
    norms[side.constant | (norms == 0)] = np.nan
    near = 0.0 if side.exact else NEAR_ANGLE
    return Operand(side.read, norms, side.sums, side.odd, side.wide, near)


def _as_they_are(side: Conditions) -> Operand:
    read, wide, exact = side.read, side.wide, side.exact
    # Cosines change with a shift, so numbers that are exact only after a shift are not exact here.
    if exact and side.shift is not None:
        read, exact = wide, False
    norms = side.lengths()
    norms[norms == 0] = np.nan
    near = 0.0 if exact else NEAR_ANGLE
    read, wide = read._replace(shift=None), wide._replace(shift=None)
    return Operand(read, norms, None, side.odd, wide, near, _rounded(side, norms))


def _deviations(a: Conditions, b: Conditions, product: Floats, condensed: bool) -> Floats:
    return product


def _activations(a: Conditions, b: Conditions, product: Floats, condensed: bool) -> Floats:
    return uncentred(a, b, product, upper=condensed, out=product)


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


def _lengths(side: Conditions) -> Operand:
    # One shift of all conditions changes no distance, and exact products stay exact.
    if side.exact:
        return Operand(side.read, side.squares, None, side.odd, side.wide, 0.0)
    with np.errstate(all="ignore"):
        norms = side.lengths()
        present = norms[side.odd] > 0
        rounded = _rounded(side, norms)
        if side.scale is not None:
            norms = norms * side.scale * side.scale
    norms_of_odd = norms[side.odd][present]
    if not (np.all(norms_of_odd > SMALLEST_SQUARE) and np.isfinite(norms_of_odd).all()):
        raise out_of_range()
    read, wide = (v._replace(shift=None, scale=None) for v in (side.read, side.wide))
    return Operand(read, norms, None, side.odd, wide, NEAR_DISTANCE, rounded)


def _unscaled(a: Conditions, b: Conditions, product: Floats, condensed: bool) -> Floats:
    if a.exact:
        return product
    return uncentred(a, b, product, scaled=False, upper=condensed, out=product)


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
    _centred,
    _deviations,
    _condense_angles,
    _unit,
    _refine_angles,
    "conditions constant over channels have no correlation",
    centre=True,
)
COSINE = Measure(
    _as_they_are,
    _activations,
    _condense_angles,
    _unit,
    _refine_angles,
    "conditions that are zero have no angle",
)
SQUARED_DISTANCE = Measure(
    _lengths, _unscaled, _condense_distances, _ones, _refine_distances, apart=2.0
)
DISTANCE = SQUARED_DISTANCE._replace(root=True, apart=1.0)
