"""Concordant less discordant pairs, in numba."""

import numba
import numpy as np
from numpy.typing import NDArray

from fastrdm._kernels.numba.ranks import POSITION, bounds_of, rising


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _popcount(x: np.uint64) -> np.int64:
    halves = x - ((x >> np.uint64(1)) & np.uint64(0x5555555555555555))
    low = np.uint64(0x3333333333333333)
    quarters = (halves & low) + ((halves >> np.uint64(2)) & low)
    octets = (quarters + (quarters >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((octets * np.uint64(0x0101010101010101)) >> np.uint64(56))


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _marks_below(
    words: NDArray[np.uint64], sums: NDArray[np.int64], position: np.int64
) -> np.int64:
    """Marks below a position: bits of one word, and of those before it from a Fenwick tree."""
    word = position >> 6
    bit = np.uint64(position & 63)
    count: np.int64 = _popcount(words[word] & ((np.uint64(1) << bit) - np.uint64(1)))
    while word > 0:
        count += sums[word]
        word &= word - 1
    return count


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _concordance_of(
    order: NDArray[np.int32],
    upto_a: NDArray[np.int32],
    position: NDArray[np.int32],
    below: NDArray[np.int32],
    upto: NDArray[np.int32],
) -> int:
    """Concordant less discordant pairs of two rows; the algorithm is that of concordance.cpp."""
    n = len(order)
    words = np.zeros((n >> 6) + 1, np.uint64)
    sums = np.zeros(len(words), np.int64)
    total = 0
    begin = 0
    while begin < n:
        end = upto_a[order[begin]]
        for k in range(begin, end):
            less = _marks_below(words, sums, below[order[k]])
            at_most = less
            # Of an entry without ties only its own mark lies between, and that is not yet set.
            if upto[order[k]] > below[order[k]] + 1:
                at_most = _marks_below(words, sums, upto[order[k]])
            total += less + at_most - begin
        for k in range(begin, end):
            place = position[order[k]]
            word = place >> 6
            words[word] |= np.uint64(1) << np.uint64(place & 63)
            word += 1
            while word < len(words):
                sums[word] += 1
                word += word & -word
        begin = end
    return total


@numba.njit(cache=True, parallel=True)  # type: ignore[untyped-decorator]
def jit_concordance(a: NDArray[np.int32], b: NDArray[np.int32], out: NDArray[np.int64]) -> None:
    for pair in numba.prange(out.size):
        i, j = pair // out.shape[1], pair % out.shape[1]
        out[i, j] = _concordance_of(a[0, i], a[3, i], b[1, j], b[2, j], b[3, j])


@numba.njit(cache=True, parallel=True)  # type: ignore[untyped-decorator]
def _rising_rows(x: NDArray[np.float64], order: NDArray[np.int32], ends: NDArray[np.bool_]) -> None:
    """Entries of each row in rising order, and whether a group of ties ends with one."""
    n = x.shape[1]
    for row in numba.prange(len(x)):
        low, high, finite = bounds_of(x[row])
        packed = rising(x[row], low, high, finite)
        for k in range(n):
            order[row, k] = packed[k] & POSITION
        for k in range(n):
            ends[row, k] = k == n - 1 or x[row, order[row, k]] != x[row, order[row, k + 1]]


def orders(x: NDArray[np.float64]) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """The order of each row's values."""
    order, ends = np.empty(x.shape, np.int32), np.empty(x.shape, bool)
    _rising_rows(x, order, ends)
    return order, ends
