"""Ranks, and similarities of ranked rows, in numba."""

import numba
import numpy as np
from numpy.typing import NDArray

from fastrdm._kernels.numba.products import LANES

Floats = NDArray[np.float32] | NDArray[np.float64]


# Of numbers: the low half of a packed key is a position, what is above is the number, quantised.
POSITION = (1 << 32) - 1


CROWD = 32


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _sort_by_steps(
    x: Floats, low: float, scale: float, digits: int, packed: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Entries by their place between the row's extremes in equal steps; those that share one are in no order."""
    n = len(x)
    spare = np.empty_like(packed)
    counts = np.zeros((3, 2048), np.int64)
    for i in range(n):
        key = np.int64((np.float64(x[i]) - low) * scale)
        packed[i] = key << 32 | i
        counts[0, key & 2047] += 1
        counts[1, key >> 11 & 2047] += 1
        counts[2, key >> 22] += 1
    for d in range(digits):
        total = 0
        for k in range(2048):
            size = counts[d, k]
            counts[d, k] = total
            total += size
        shift = 32 + 11 * d
        for i in range(n):
            digit = packed[i] >> shift & 2047
            spare[counts[d, digit]] = packed[i]
            counts[d, digit] += 1
        packed, spare = spare, packed
    return packed


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _order(x: Floats, packed: NDArray[np.int64]) -> bool:
    """Put entries on one step in order; False where too many different ones share it."""
    n = len(x)
    begin = 0
    while begin < n:
        end = begin + 1
        key = packed[begin] >> 32
        if end == n or packed[end] >> 32 != key:
            begin = end
            continue
        first = x[packed[begin] & POSITION]
        same = True
        while end < n and packed[end] >> 32 == key:
            same &= x[packed[end] & POSITION] == first
            end += 1
        if not same:
            if end - begin > CROWD:
                return False
            for i in range(begin + 1, end):
                moved = packed[i]
                to = i
                while to > begin and x[moved & POSITION] < x[packed[to - 1] & POSITION]:
                    packed[to] = packed[to - 1]
                    to -= 1
                packed[to] = moved
        begin = end
    return True


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def bounds_of(x: Floats) -> tuple[float, float, bool]:
    low = high = x[0]
    sum_of_zeros = x[0] - x[0]
    for value in x:
        low = min(low, value)
        high = max(high, value)
        sum_of_zeros += value - value
    return np.float64(low), np.float64(high), sum_of_zeros == 0


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def rising(x: Floats, low: float, high: float, finite: bool) -> NDArray[np.int64]:
    """Entries of a row in rising order, in the bits of POSITION."""
    n = len(x)
    packed = np.empty(n, np.int64)
    width = high - low
    digits = 2 if n <= 1 << 17 else 3
    steps = float((1 << (22 if digits == 2 else 31)) - 1)
    in_order = False
    if finite and 0 < width < np.inf and steps / width < np.inf:
        packed = _sort_by_steps(x, low, steps / width, digits, packed)
        in_order = _order(x, packed)
    if not in_order:
        packed = np.argsort(x)
    return packed


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _rank_row(
    x: Floats, low: float, high: float, finite: bool, out: Floats, shift: float, factor: float
) -> float:
    """Fill with (begin + end + shift) * factor, for the range of an entry's ties; as Ranker::rank in ranker.hpp."""
    n = len(x)
    packed = rising(x, low, high, finite)
    tied = 0.0
    begin = 0
    while begin < n:
        value = x[packed[begin] & POSITION]
        end = begin + 1
        while end < n and x[packed[end] & POSITION] == value:
            end += 1
        for k in range(begin, end):
            out[packed[k] & POSITION] = (begin + end + shift) * factor
        size = float(end - begin)
        tied += size * size * size - size
        begin = end
    return (float(n) * float(n) * float(n) - float(n) - tied) / 3


@numba.njit(cache=True, parallel=True)  # type: ignore[untyped-decorator]
def jit_rank(x: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    for row in numba.prange(x.shape[0]):
        low, high, finite = bounds_of(x[row])
        _rank_row(x[row], low, high, finite, out[row], 1.0, 0.5)


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _twice_centred(x: Floats, out: Floats) -> float:
    low, high, finite = bounds_of(x)
    out[:] = 0
    if not finite:
        return np.nan
    squares: float = _rank_row(x, low, high, True, out[: len(x)], -float(len(x)), 1.0)
    return squares


@numba.njit(cache=True, parallel=True)  # type: ignore[untyped-decorator]
def jit_centred_ranks(x: Floats, out: NDArray[np.float32], squares: NDArray[np.float64]) -> None:
    for row in numba.prange(len(x)):
        squares[row] = _twice_centred(x[row], out[row])


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def dot(a: Floats, b: Floats, lanes: NDArray[np.float64]) -> float:
    # Sums in memory, and slices: with both, the inner loop is vectorised, though no sum may be reordered.
    """Product of two rows."""
    lanes[:] = 0
    for begin in range(0, len(a), LANES):
        x, y = a[begin : begin + LANES], b[begin : begin + LANES]
        for lane in range(LANES):
            lanes[lane] += np.float64(x[lane]) * np.float64(y[lane])
    total = 0.0
    for lane in range(LANES):
        total += lanes[lane]
    return total


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def scaled(product: float, square1: float, square2: float) -> float:
    """A product over the roots of both squares."""
    square = square1 * square2
    if not square > 0:
        return np.nan
    similarity = product / np.sqrt(square)
    return 1.0 if similarity > 1 else -1.0 if similarity < -1 else similarity


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def rank_row_with(
    x: Floats,
    squares: float,
    b: NDArray[np.float32],
    squares_b: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    """Rank a row, in the room that is given."""
    ranks = np.empty(b.shape[1], np.float32)
    own = _twice_centred(x, ranks)
    if squares > 0 and own == own:
        own = squares
    lanes = np.empty(LANES)
    for j in range(len(b)):
        out[j] = scaled(dot(ranks, b[j], lanes), own, squares_b[j])


@numba.njit(cache=True, parallel=True)  # type: ignore[untyped-decorator]
def jit_rank_similarities(
    x: Floats,
    squares: float,
    b: NDArray[np.float32],
    squares_b: NDArray[np.float64],
    paired: bool,
    out: NDArray[np.float64],
) -> None:
    for i in numba.prange(len(x)):
        if paired:
            rank_row_with(x[i], squares, b[i : i + 1], squares_b[i : i + 1], out[i])
        else:
            rank_row_with(x[i], squares, b, squares_b, out[i])


@numba.njit(cache=True, parallel=True)  # type: ignore[untyped-decorator]
def jit_similarities(
    a: NDArray[np.float64],
    squares_a: NDArray[np.float64],
    b: NDArray[np.float64],
    squares_b: NDArray[np.float64],
    paired: bool,
    out: NDArray[np.float64],
) -> None:
    for i in numba.prange(len(a)):
        lanes = np.empty(LANES)
        for j in range(out.shape[1]):
            other = np.intp(i) if paired else np.intp(j)
            product = dot(a[i], b[other], lanes)
            out[i, j] = scaled(product, squares_a[i], squares_b[other])
