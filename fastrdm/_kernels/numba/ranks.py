"""Ranks, and similarities of ranked rows, in portable form: as rank.cpp."""

import numba
import numpy as np
from numpy.typing import NDArray

from fastrdm._kernels.numba.common import LANES, Doubles, Floats, jit, kernel

# The low half of a packed key is a position; above it is the quantised number.
POSITION = (1 << 32) - 1
# Different entries on one step that justify another sort, as in ranker.hpp.
_CROWD = 32


@jit
def _sort_by_steps(
    x: Floats, low: float, scale: float, digits: int, packed: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Sort entries by equal steps between the row's extremes; entries on one step stay unordered."""
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


@jit
def _order(x: Floats, packed: NDArray[np.int64]) -> bool:
    """Sort entries on one step; return False if too many different ones share it."""
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
            if end - begin > _CROWD:
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


@jit
def extremes(x: Floats) -> tuple[float, float, bool]:
    """Return the least and greatest number, and whether all are finite."""
    low = high = x[0]
    sum_of_zeros = x[0] - x[0]
    for value in x:
        low = min(low, value)
        high = max(high, value)
        sum_of_zeros += value - value
    return np.float64(low), np.float64(high), sum_of_zeros == 0


@jit
def sorted_entries(x: Floats, low: float, high: float, finite: bool) -> NDArray[np.int64]:
    """Return the entries of a row in rising order, in the bits of POSITION."""
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


@jit
def _rank_row(
    x: Floats, low: float, high: float, finite: bool, out: Floats, shift: float, factor: float
) -> float:
    """Fill with (begin + end + shift) * factor for the range of an entry's ties; as Ranker::rank in ranker.hpp."""
    n = len(x)
    packed = sorted_entries(x, low, high, finite)
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


@kernel(lambda x, *_: (len(x), 20 * x.shape[1]))
def rank(x: Doubles, out: Doubles, begin: int, end: int) -> None:
    """Average ranks of each row."""
    for row in numba.prange(begin, end):
        low, high, finite = extremes(x[row])
        _rank_row(x[row], low, high, finite, out[row], 1.0, 0.5)


@kernel(lambda values, *_: (len(values), 60 * values.shape[1]))
def merge_near(values: Doubles, within: float, begin: int, end: int) -> None:
    """Make near values of each row equal; as merge_near.cpp."""
    for row in numba.prange(begin, end):
        x = values[row]
        # NaN are last.
        order = np.argsort(x)
        least = np.nan
        for place in order:
            scale = max(abs(least), abs(x[place]))
            if np.isfinite(scale) and x[place] - least <= within * scale:
                x[place] = least
            else:
                least = x[place]


@jit
def _twice_centred(x: Floats, out: Floats) -> float:
    low, high, finite = extremes(x)
    out[:] = 0
    if not finite:
        return np.nan
    return _rank_row(x, low, high, finite, out[: len(x)], -float(len(x)), 1.0)


@kernel(lambda x, *_: (len(x), 20 * x.shape[1]))
def centred_ranks(
    x: Floats, out: NDArray[np.float32], squares: Doubles, begin: int, end: int
) -> None:
    """Ranks as prepared rows."""
    for row in numba.prange(begin, end):
        squares[row] = _twice_centred(x[row], out[row])


@jit
def dot(a: Floats, b: Floats, lanes: Doubles) -> float:
    """Return the product of two rows."""
    # With sums in memory and slices, LLVM vectorises the inner loop without reordering any sum.
    lanes[:] = 0
    for begin in range(0, len(a), LANES):
        x, y = a[begin : begin + LANES], b[begin : begin + LANES]
        for lane in range(LANES):
            lanes[lane] += np.float64(x[lane]) * np.float64(y[lane])
    total = 0.0
    for lane in range(LANES):
        total += lanes[lane]
    return total


@jit
def similarity(product: float, square1: float, square2: float) -> float:
    """Return a product over the roots of both squares."""
    square = square1 * square2
    if not square > 0:
        return np.nan
    ratio = product / np.sqrt(square)
    return 1.0 if ratio > 1 else -1.0 if ratio < -1 else ratio


@jit
def _rank_and_multiply(
    x: Floats, squares: float, b: NDArray[np.float32], squares_b: Doubles, out: Doubles
) -> None:
    """Rank a row, and multiply it with prepared rows."""
    ranks = np.empty(b.shape[1], np.float32)
    square = _twice_centred(x, ranks)
    if squares > 0 and square == square:
        square = squares
    lanes = np.empty(LANES)
    for j in range(len(b)):
        out[j] = similarity(dot(ranks, b[j], lanes), square, squares_b[j])


@kernel(lambda x, _, b, _squares, paired, _out: (len(x), (20 + (paired or len(b))) * b.shape[1]))
def rank_similarities(
    x: Floats,
    squares: float,
    b: NDArray[np.float32],
    squares_b: Doubles,
    paired: bool,
    out: Doubles,
    begin: int,
    end: int,
) -> None:
    """Similarities of ranked rows to prepared ones."""
    if len(x) == 1:
        # Threads take longer to start than one row takes.
        _rank_and_multiply(x[0], squares, b, squares_b, out[0])
        return
    for i in numba.prange(begin, end):
        first, last = (np.intp(i), np.intp(i + 1)) if paired else (0, len(b))
        _rank_and_multiply(x[i], squares, b[first:last], squares_b[first:last], out[i])


@kernel(lambda a, _a, b, _b, paired, _out: (len(a), (paired or len(b)) * a.shape[1]))
def similarities(
    a: Doubles,
    squares_a: Doubles,
    b: Doubles,
    squares_b: Doubles,
    paired: bool,
    out: Doubles,
    begin: int,
    end: int,
) -> None:
    """Similarities of prepared rows."""
    for i in numba.prange(begin, end):
        lanes = np.empty(LANES)
        for j in range(out.shape[1]):
            other = np.intp(i) if paired else np.intp(j)
            product = dot(a[i], b[other], lanes)
            out[i, j] = similarity(product, squares_a[i], squares_b[other])
