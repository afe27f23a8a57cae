"""The two measures of a pair of conditions, angle and distance, from products with the digits they need.

What is said of a pair depends on its two conditions alone. It comes of three steps: products in the activations' own
precision; products in float64 of conditions that need it (a mean far from zero, squares out of range); and differences,
one by one, of pairs that are so near to each other that their products have lost the digits.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrdm import _kernels
from fastrdm._kernels import ties
from fastrdm.rdm.numbers import Kind
from fastrdm.rdm.products import Floats, Index, Reading, Rows, cross, differences, gram

# 1 − cosine, and the square of a distance as a share of both squared lengths, below which a product has lost too many
# of float32's seven digits. A pair's difference takes as long as six products.
NEAR_ANGLE, NEAR_DISTANCE = 2.0**-7, 2.0**-5
# Below this float32 has lost them in the differences too.
_NEARER = 2.0**-30
# Squares below this may have lost digits to underflow.
_LEAST = 1e-280


class OutOfRangeError(ValueError):
    """Squares of activations leave the range of float64, or there is NaN or infinity among them."""


class Found(NamedTuple):
    """Conditions as they were read in the end, and what products with them are to be made of."""

    read: Reading
    #: Norms (n,): products with themselves as the measure takes them; NaN where a condition has no dissimilarities.
    norms: Floats
    #: Sums (n,) over channels of what was read; None where they do not matter.
    sums: Floats | None
    #: Conditions that float64 is needed for, and how all are read with those.
    odd: Index
    wide: Reading
    #: Dissimilarities, or shares of both norms, below which products have too few digits left.
    near: float

    def reading(self, rows: Rows) -> "Found":
        """The same of rows that were read before and are taken again."""
        return self._replace(read=self.read._replace(rows=rows), wide=self.wide._replace(rows=rows))

    def some(self, index: Index) -> "Found":
        """Some of the conditions, in float64."""
        wide = self.wide.some(index)
        sums = None if self.sums is None else self.sums[index]
        return Found(wide, self.norms[index], sums, np.empty(0, np.intp), wide, self.near)


class Measure(NamedTuple):
    """How dissimilarities come of conditions."""

    #: Conditions → how they are read, and their products with each other.
    find: Callable[[Reading, Kind, int | None], tuple[Found, Floats]]
    #: Products → dissimilarities, flat or condensed, and how many are marked as near by their sign.
    condense: Callable[[Found, Found, Floats, bool], tuple[Floats, int]]
    #: Factors for the differences of near pairs.
    factors: Callable[[Found], Floats | None]
    #: Squared differences of such pairs → dissimilarities.
    refine: Callable[[Found, Found, NDArray[np.int32], Floats], Floats]
    #: Why a condition whose norm is zero has no dissimilarities, if it has none.
    undefined: str = ""
    #: Whether deviations from a condition's mean are what counts.
    centre: bool = False
    #: Whether the square root is taken in the end.
    root: bool = False
    #: How many times as far as lengths and angles equal dissimilarities may come apart.
    apart: float = 1.0

    def settle(self, rdm: Floats, within: float) -> None:
        """Make dissimilarities equal that rounding has driven apart."""
        ties.settle(rdm, within * self.apart, angles=bool(self.undefined))


def within(
    measure: Measure, read: Reading, kind: Kind, n_threads: int | None
) -> tuple[Found, Floats]:
    """Conditions, and their condensed dissimilarities."""
    found, product = measure.find(read, kind, n_threads)
    return found, _finished(measure, found, found, product, True, n_threads)


def between(measure: Measure, a: Found, b: Found, n_threads: int | None) -> Floats:
    """Dissimilarities (n_a, n_b) of conditions and others of the same source."""
    product = cross(a.read, b.read, n_threads)
    return _finished(measure, a, b, product, False, n_threads).reshape(product.shape)


def found_of(norms: Floats, sums: Floats | None, n_channels: int, near: float) -> Found:
    """Conditions whose products are made elsewhere."""
    rows = np.broadcast_to(np.float32(0), (len(norms), n_channels))
    read = Reading(rows, np.dtype(np.float32))
    return Found(read, norms, sums, np.empty(0, np.intp), read, near)


def _finished(
    measure: Measure, a: Found, b: Found, product: Floats, condensed: bool, n_threads: int | None
) -> Floats:
    values, n_near = measure.condense(a, b, product, condensed)
    for odd, own in ((a.odd, a), (b.odd, b)) if not condensed else ((a.odd, a),):
        if len(odd):
            some, other = own.some(odd), b if own is a else a
            tile = cross(some.read, other.wide, n_threads)
            again, _ = measure.condense(some, other, tile, False)
            again = again.reshape(tile.shape)
            n_near += int(np.signbit(again).sum())
            for k, i in enumerate(odd):
                places, of = _row(int(i), a.read.n, b.read.n, condensed, own is not a)
                values[places] = again[k, of]
    if n_near:
        _refine(measure, a, b, values, condensed, n_threads)
    return values


def _row(i: int, n_a: int, n_b: int, condensed: bool, column: bool) -> tuple[Index, Index]:
    """Where the pairs of a condition are among flat or condensed values, and their conditions."""
    if not condensed:
        others = np.arange(n_a if column else n_b)
        return (others * n_b + i if column else i * n_b + others), others
    others = np.delete(np.arange(n_b), i)
    first, second = np.minimum(i, others), np.maximum(i, others)
    return first * n_b - first * (first + 1) // 2 + second - first - 1, others


def pairs_at(places: Index, n: int, condensed: bool) -> NDArray[np.int32]:
    """Row and column (pairs, 2) of places among flat values of n columns, or condensed ones of n conditions."""
    if not condensed:
        return np.stack(np.divmod(places, n), axis=1).astype(np.int32)
    rows = np.arange(n)
    starts = rows * n - rows * (rows + 1) // 2
    first = np.searchsorted(starts, places, "right") - 1
    return np.stack([first, places - starts[first] + first + 1], axis=1).astype(np.int32)


def _marked(values: Floats) -> Iterator[Index]:
    """Places of values that are marked, some at a time: each takes eight times the memory of a value."""
    at_once = max(256, len(values) // 8)
    for start in range(0, len(values), at_once):
        places = start + np.flatnonzero(np.signbit(values[start : start + at_once]))
        if len(places):
            yield places


def _refine(
    measure: Measure, a: Found, b: Found, values: Floats, condensed: bool, n_threads: int | None
) -> None:
    """Give near pairs the dissimilarity that their differences have."""
    factors = (measure.factors(a), measure.factors(b))
    odd = [np.isin(np.arange(found.read.n), found.odd) for found in (a, b)]
    for places in _marked(values):
        pairs = pairs_at(places, b.read.n, condensed)
        wide = odd[0][pairs[:, 0]] | odd[1][pairs[:, 1]]
        result = np.zeros(len(pairs))
        if a.read.dtype != np.float64:
            # Even where it is to be done again: that is rare.
            given = None if factors[0] is None or factors[1] is None else (factors[0], factors[1])
            squares = differences(a.read, b.read, pairs, given, n_threads)
            result = measure.refine(a, b, pairs, squares)
            wide |= ~(result > _NEARER * _scale(measure, a, b, pairs))
        else:
            wide[:] = True
        if wide.any():
            result[wide] = _in_float64(measure, a, b, pairs[wide], n_threads)
        values[places] = result


def _in_float64(
    measure: Measure, a: Found, b: Found, pairs: NDArray[np.int32], n_threads: int | None
) -> Floats:
    rows, first = np.unique(pairs[:, 0].astype(np.intp), return_inverse=True)
    columns, second = np.unique(pairs[:, 1].astype(np.intp), return_inverse=True)
    left, right = (
        (a, b)
        if len(rows) == a.read.n and len(columns) == b.read.n and a.wide.in_place()
        else (a.some(rows), b.some(columns))
    )
    if left is not a:
        pairs = np.stack([first.ravel(), second.ravel()], axis=1).astype(np.int32)
    own, other = measure.factors(left), measure.factors(right)
    given = None if own is None or other is None else (own, other)
    squares = differences(left.wide, right.wide, pairs, given, n_threads)
    if given is None and _vanished(left.wide, right.wide, pairs[squares < _LEAST]):
        raise OutOfRangeError(_OUT_OF_RANGE)
    return measure.refine(left, right, pairs, squares)


def _vanished(a: Reading, b: Reading, pairs: NDArray[np.int32]) -> bool:
    """Whether pairs without a square worth the name are of conditions that differ."""
    if a.rows.dtype != np.float64:
        return False
    # A difference whose square vanishes is one of numbers about as small: of others it is 0.
    small = [
        {int(i) for i in np.unique(of) if _has_small(read.row(int(i)))}
        for read, of in ((a, pairs[:, 0]), (b, pairs[:, 1]))
    ]
    return any(
        not np.array_equal(a.row(i), b.row(j))
        for i, j in pairs.tolist()
        if i in small[0] or j in small[1]
    )


def _has_small(row: Floats) -> bool:
    sizes = np.abs(row)
    return bool(np.any((sizes > 0) & (sizes < np.sqrt(_LEAST))))


_OUT_OF_RANGE = (
    "activations are so large, so small or so near to each other that their squares leave the range"
    " of float64"
)


def _scale(measure: Measure, a: Found, b: Found, pairs: NDArray[np.int32]) -> Floats | float:
    """What a dissimilarity is to be judged by."""
    if measure.undefined:
        return 1.0
    return np.asarray(a.norms[pairs[:, 0]] + b.norms[pairs[:, 1]])


# Angles.


def _find_correlation(read: Reading, kind: Kind, n_threads: int | None) -> tuple[Found, Floats]:
    """Products of deviations from a guess of each row's mean; what the guess missed is taken off with the sums."""
    n = read.n_channels
    if not kind.exact:
        read = read._replace(shift=guess_means(read))
    with np.errstate(all="ignore"):
        product, sums = gram(read, n_threads)
        raw = product.diagonal()
        norms = n * raw - sums * sums
        # A poor guess costs digits, so do squares that over- or underflow.
        fine = (n * raw < 8 * norms) & (norms > n * _smallest(read)) & (raw < np.inf)
    odd = np.empty(0, np.intp) if kind.exact else np.flatnonzero(~fine)
    return _settled(read, norms, sums, odd, kind, n_threads, centre=True), product


def _find_cosine(read: Reading, kind: Kind, n_threads: int | None) -> tuple[Found, Floats]:
    # Angles depend on where zero is, so that what is exact only after a shift is not exact here.
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
) -> Found:
    """Norms and sums of conditions that need float64, at a scale and with a mean of their own."""
    shift, wide = read.shift, read.wide()
    if len(odd):
        shift = np.zeros(read.n) if shift is None else shift.copy()
        scale = np.ones(read.n)
        for i in odd:
            shift[i], scale[i], norms[i] = _own(read.rows[i], centre)
        # Else a constant or zero row, whose norm is NaN.
        odd = odd[~np.isnan(norms[odd])]
        wide = wide._replace(shift=shift if centre else None, scale=scale)
        if len(odd):
            own, own_sums = gram(wide.some(odd), n_threads)
            norms[odd] = own.diagonal()
            if sums is not None:
                sums[odd] = own_sums
                norms[odd] = read.n_channels * norms[odd] - own_sums**2
    norms[norms == 0] = np.nan
    return Found(read, norms, sums, odd, wide, 0.0 if kind.exact else NEAR_ANGLE)


def _own(row: NDArray[np.generic], centre: bool) -> tuple[float, float, float]:
    """Shift and scale that bring a row's deviations near 1, and NaN where it has none."""
    values = np.ascontiguousarray(row, np.float64)
    if not np.isfinite(values).all():
        raise OutOfRangeError(_OUT_OF_RANGE)
    low, high = float(values.min()), float(values.max())
    if (low == high) if centre else (low == 0 == high):
        return low, 1.0, np.nan
    exponent = int(np.frexp(max(abs(low), abs(high)))[1]) - 1
    values = np.ldexp(values, -exponent)
    mean = float(values.mean()) if centre else 0.0
    more = int(np.frexp(float(np.abs(values - mean).max()))[1])
    return float(np.ldexp(mean, -more)), float(np.ldexp(1.0, exponent + more)), 0.0


def guess_means(read: Reading) -> Floats:
    """Mean of each row from a sample of it: the same channels however the rows lie."""
    rows = read.rows
    with np.errstate(all="ignore"):
        if not read.in_place():
            rows = np.array(_sample(rows), read.dtype, order="C")
        # As the kernel takes it off.
        return _kernels.guess_means(rows).astype(read.dtype).astype(np.float64)


def _sample(rows: NDArray[np.generic]) -> NDArray[np.generic]:
    """16 stretches of 8 channels, as the kernel takes them of longer rows."""
    n = rows.shape[1]
    if n <= 128:
        return rows
    places = np.arange(16)[:, None] * (n - 8) // 15 + np.arange(8)
    return rows[:, places.ravel()]


def _smallest(read: Reading) -> float:
    """Products below this may have lost digits to underflow."""
    limits = np.finfo(read.dtype)
    return float(limits.tiny / limits.eps * read.n_channels)


def _condense_angles(a: Found, b: Found, product: Floats, condensed: bool) -> tuple[Floats, int]:
    sums = None if a.sums is None or b.sums is None else (a.sums, b.sums)
    with np.errstate(all="ignore"):
        return _kernels.angles(
            product, (a.norms, b.norms), sums, a.read.n_channels, near=a.near, condensed=condensed
        )


def _unit(found: Found) -> Floats:
    """What makes a condition one of length 1."""
    n = 1 if found.sums is None else found.read.n_channels
    with np.errstate(all="ignore"):
        return np.asarray(np.sqrt(n / found.norms))


def _refine_angles(a: Found, b: Found, pairs: NDArray[np.int32], squares: Floats) -> Floats:
    """1 − cosine is half the squared difference of vectors of length 1."""
    if a.sums is not None and b.sums is not None:
        sums = (_unit(a) * a.sums)[pairs[:, 0]] - (_unit(b) * b.sums)[pairs[:, 1]]
        squares = squares - sums * sums / a.read.n_channels
    return np.maximum(squares / 2, 0)


# Distances.


def _find_distance(read: Reading, kind: Kind, n_threads: int | None) -> tuple[Found, Floats]:
    with np.errstate(all="ignore"):
        product, _ = gram(read, n_threads)
        norms = product.diagonal().copy()
        fine = (norms > _smallest(read)) & (norms < np.inf)
    odd = np.flatnonzero(~fine) if not kind.exact else np.empty(0, np.intp)
    odd = odd[[bool(read.rows[i].any()) for i in odd]] if len(odd) else odd
    wide = read.wide()
    if len(odd):
        with np.errstate(all="ignore"):
            norms[odd] = gram(wide.some(odd), n_threads)[0].diagonal()
        if not (np.all(norms[odd] > _LEAST) and np.isfinite(norms[odd]).all()):
            raise OutOfRangeError(_OUT_OF_RANGE)
    return Found(read, norms, None, odd, wide, 0.0 if kind.exact else NEAR_DISTANCE), product


def _condense_distances(a: Found, b: Found, product: Floats, condensed: bool) -> tuple[Floats, int]:
    with np.errstate(all="ignore"):
        return _kernels.distances(product, (a.norms, b.norms), near=a.near, condensed=condensed)


def _no_factors(found: Found) -> None:
    return None


def _refine_distances(a: Found, b: Found, pairs: NDArray[np.int32], squares: Floats) -> Floats:
    return squares


CORRELATION = Measure(
    _find_correlation,
    _condense_angles,
    _unit,
    _refine_angles,
    "conditions constant over channels have no correlation",
    centre=True,
)
COSINE = Measure(
    _find_cosine, _condense_angles, _unit, _refine_angles, "conditions that are zero have no angle"
)
SQUARED_DISTANCE = Measure(
    _find_distance, _condense_distances, _no_factors, _refine_distances, apart=2.0
)
DISTANCE = SQUARED_DISTANCE._replace(root=True, apart=1.0)
