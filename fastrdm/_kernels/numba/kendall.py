"""Concordant minus discordant pairs, in portable form: as concordance.cpp."""

import numba
import numpy as np
from numpy.typing import NDArray

from fastrdm._kernels.numba.common import Doubles, jit, kernel


@jit
def _popcount(x: np.uint64) -> np.int64:
    halves = x - ((x >> np.uint64(1)) & np.uint64(0x5555555555555555))
    low = np.uint64(0x3333333333333333)
    quarters = (halves & low) + ((halves >> np.uint64(2)) & low)
    octets = (quarters + (quarters >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((octets * np.uint64(0x0101010101010101)) >> np.uint64(56))


@jit
def _marks_below(
    words: NDArray[np.uint64], sums: NDArray[np.int64], position: np.int64
) -> np.int64:
    """Count marks below a position: bits of its word, and all words before it from a Fenwick tree."""
    word = position >> 6
    bit = np.uint64(position & 63)
    count: np.int64 = _popcount(words[word] & ((np.uint64(1) << bit) - np.uint64(1)))
    while word > 0:
        count += sums[word]
        word &= word - 1
    return count


@jit
def _concordance_of(
    order: NDArray[np.int32],
    upto_a: NDArray[np.int32],
    position: NDArray[np.int32],
    below: NDArray[np.int32],
    upto: NDArray[np.int32],
) -> np.int64:
    """Return concordant minus discordant pairs of two rows, by the algorithm of concordance.cpp."""
    n = len(order)
    words = np.zeros((n >> 6) + 1, np.uint64)
    sums = np.zeros(len(words), np.int64)
    total = np.int64(0)
    begin = 0
    while begin < n:
        end = int(upto_a[order[begin]])
        for k in range(begin, end):
            less = _marks_below(words, sums, below[order[k]])
            at_most = less
            # Without ties, only the entry's mark lies between, and it is not set yet.
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


@kernel(lambda ranks, *_: (len(ranks), 10 * ranks.shape[1]))
def _place(
    ranks: Doubles, untied: NDArray[np.int64], places: NDArray[np.int32], begin: int, end: int
) -> None:
    """Fill, for each row: entries in rising order, each entry's place in it, and the range of its ties."""
    n = ranks.shape[1]
    for row in numba.prange(begin, end):
        # Average ranks of two groups of ties differ by at least 1, so their integer parts identify groups.
        starts = np.zeros(n + 1, np.int32)
        for i in range(n):
            starts[int(ranks[row, i])] += 1
        untied[row] = n * (n - 1) // 2
        total = 0
        for key in range(1, n + 1):
            size = int(starts[key])
            starts[key] = total
            total += size
            untied[row] -= size * (size - 1) // 2
        following = starts.copy()
        for i in range(n):
            key = int(ranks[row, i])
            places[1, row, i] = following[key]
            places[0, row, following[key]] = i
            following[key] += 1
        for i in range(n):
            places[2, row, i] = starts[int(ranks[row, i])]
            places[3, row, i] = following[int(ranks[row, i])]


@kernel(lambda left, right, out: (out.size, 60 * left.shape[2]))
def _count(
    left: NDArray[np.int32],
    right: NDArray[np.int32],
    out: NDArray[np.int64],
    begin: int,
    end: int,
) -> None:
    for pair in numba.prange(begin, end):
        i, j = pair // out.shape[1], pair % out.shape[1]
        out[i, j] = _concordance_of(left[0, i], left[3, i], right[1, j], right[2, j], right[3, j])


def concordance(
    a: Doubles,
    b: Doubles,
    out: NDArray[np.int64],
    untied_a: NDArray[np.int64],
    untied_b: NDArray[np.int64],
    n_threads: int,
    isa: str,
) -> None:
    """Concordant minus discordant pairs of rows of ranks, and untied pairs."""
    left, right = (np.empty((4, *ranks.shape), np.int32) for ranks in (a, b))
    _place(a, untied_a, left, n_threads)
    _place(b, untied_b, right, n_threads)
    _count(left, right, out, n_threads)
