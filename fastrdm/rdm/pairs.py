"""Dissimilarities of pairs of conditions, each computed with as many digits as it needs.

The dissimilarity of a pair depends on its two conditions alone. It is computed from their product and, for pairs so
near to each other that products have lost the digits, from the difference of the two conditions.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrdm.rdm.conditions import SMALLEST_SQUARE, Conditions, out_of_range
from fastrdm.rdm.measures import Measure, Operand
from fastrdm.rdm.products import Floats, Index, Reading, differences

# Near pairs whose dissimilarity is below this need differences in float64: those in float32 have lost the digits too.
_NEARER = 2.0**-30


class NearPairs(NamedTuple):
    """Pairs (n, 2) of conditions by row and column, and their dissimilarities, before a root is taken."""

    pairs: NDArray[np.int32]
    values: Floats


def dissimilarities(
    measure: Measure,
    sides: tuple[Conditions, Conditions],
    product: Floats,
    condensed: bool,
    n_threads: int | None,
) -> tuple[Operand, Floats, list[NearPairs]]:
    """Return the second side as an operand, dissimilarities, flat or condensed, and the near pairs among them.

    The products may be changed. `condensed` is whether both sides are the same.
    """
    first = measure.operand(sides[0])
    second = first if condensed else measure.operand(sides[1])
    with np.errstate(all="ignore"):
        compared = measure.compared(*sides, product, condensed)
    values, n_near = measure.condense(first, second, compared, condensed)
    near = _refine(measure, first, second, values, condensed, n_threads) if n_near else []
    return second, values, near


def pairs_at(places: Index, n: int, condensed: bool) -> NDArray[np.int32]:
    """Return row and column (pairs, 2) of places in flat values of n columns, or in condensed ones of n conditions."""
    if not condensed:
        return np.stack(np.divmod(places, n), axis=1).astype(np.int32)
    rows = np.arange(n)
    starts = rows * n - rows * (rows + 1) // 2
    first = np.searchsorted(starts, places, "right") - 1
    return np.stack([first, places - starts[first] + first + 1], axis=1).astype(np.int32)


def _marked(values: Floats) -> Iterator[Index]:
    """Yield the places of marked values in blocks: a place needs eight times the memory of a value."""
    block = max(256, len(values) // 8)
    for start in range(0, len(values), block):
        places = start + np.flatnonzero(np.signbit(values[start : start + block]))
        if len(places):
            yield places


def _refine(
    measure: Measure,
    a: Operand,
    b: Operand,
    values: Floats,
    condensed: bool,
    n_threads: int | None,
) -> list[NearPairs]:
    """Replace the dissimilarities of near pairs by those from their differences, and return them."""
    refined = []
    factors = measure.factors(a), measure.factors(b)
    odd = [np.isin(np.arange(side.read.n), side.odd) for side in (a, b)]
    for places in _marked(values):
        pairs = pairs_at(places, b.read.n, condensed)
        far = _far(measure, a, b, pairs, -values[places])
        values[places[far]] *= -1
        places, pairs = places[~far], pairs[~far]
        if not len(places):
            continue
        wide = odd[0][pairs[:, 0]] | odd[1][pairs[:, 1]]
        if a.read.dtype == np.float64:
            values[places] = _in_float64(measure, a, b, pairs, n_threads)
            refined.append(NearPairs(pairs, values[places]))
            continue
        # Also for pairs that are computed again in float64, which are rare.
        squares = differences(a.read, b.read, pairs, factors, n_threads)
        values[places] = measure.refine(a, b, pairs, squares)
        size = 1.0 if measure.undefined else a.norms[pairs[:, 0]] + b.norms[pairs[:, 1]]
        wide |= ~(values[places] > _NEARER * size)
        if wide.any():
            values[places[wide]] = _in_float64(measure, a, b, pairs[wide], n_threads)
        refined.append(NearPairs(pairs, values[places]))
    return refined


def _far(
    measure: Measure, a: Operand, b: Operand, pairs: NDArray[np.int32], values: Floats
) -> NDArray[np.bool_]:
    """Whether marked pairs have enough digits, since only a share of their norms was multiplied in float32."""
    if a.rounded is None or b.rounded is None:
        return np.zeros(len(pairs), np.bool_)
    first, second = pairs.T
    share = np.maximum(a.rounded[first], b.rounded[second])
    size = 1.0 if measure.undefined else a.norms[first] + b.norms[second]
    return np.asarray(values >= a.near * share * size)


def _in_float64(
    measure: Measure, a: Operand, b: Operand, pairs: NDArray[np.int32], n_threads: int | None
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
    factors = measure.factors(left), measure.factors(right)
    squares = differences(left.wide, right.wide, pairs, factors, n_threads)
    small = pairs[squares < SMALLEST_SQUARE]
    if not measure.undefined and _vanished(left.wide, right.wide, small):
        raise out_of_range()
    return measure.refine(left, right, pairs, squares)


def _vanished(a: Reading, b: Reading, pairs: NDArray[np.int32]) -> bool:
    """Whether pairs whose square vanishes are of different conditions."""
    if a.rows.dtype != np.float64:
        return False
    # Only differences of numbers that are as small have a square that vanishes; others are exactly 0.
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
    return bool(np.any((sizes > 0) & (sizes < np.sqrt(SMALLEST_SQUARE))))
