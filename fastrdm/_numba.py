"""The kernels of `_core` in portable form; imported only when they are chosen.

Products of activations are in `_numba_products`. `fastmath` stays off: sums must not be reordered around NaN and
infinity.
"""

import numba
import numpy as np
from numpy.typing import NDArray

from fastrdm import _numba_products
from fastrdm._numba_products import (
    LANES,
    Threads,
    angles,
    cross,
    differences,
    distances,
    distinct,
    gram,
    guess_means,
    share,
)

__all__ = [
    "angles",
    "centred_ranks",
    "concordance",
    "cross",
    "differences",
    "distances",
    "distinct",
    "gram",
    "guess_means",
    "isas",
    "normalise",
    "permuted_similarities",
    "project",
    "rank",
    "rank_similarities",
    "resampled_ceilings",
    "resampled_similarities",
    "share",
    "similarities",
]

globals().update(_numba_products.halves())

Floats = NDArray[np.float32] | NDArray[np.float64]

# As project.cpp: channels of a block of signs, rows that are projected at once, and shares of the blocks.
SIGN_BLOCK, PROJECTED, SHARES, BLOCKS_PER_SHARE = 256, 16, 16, 64
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
def _range(x: Floats) -> tuple[float, float, bool]:
    low = high = x[0]
    sum_of_zeros = x[0] - x[0]
    for value in x:
        low = min(low, value)
        high = max(high, value)
        sum_of_zeros += value - value
    return np.float64(low), np.float64(high), sum_of_zeros == 0


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _rising(x: Floats, low: float, high: float, finite: bool) -> NDArray[np.int64]:
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
    packed = _rising(x, low, high, finite)
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
def _rank(x: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    for row in numba.prange(x.shape[0]):
        low, high, finite = _range(x[row])
        _rank_row(x[row], low, high, finite, out[row], 1.0, 0.5)


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _twice_centred(x: Floats, out: Floats) -> float:
    low, high, finite = _range(x)
    out[:] = 0
    if not finite:
        return np.nan
    squares: float = _rank_row(x, low, high, True, out[: len(x)], -float(len(x)), 1.0)
    return squares


@numba.njit(cache=True, parallel=True)  # type: ignore[untyped-decorator]
def _centred_ranks(x: Floats, out: NDArray[np.float32], squares: NDArray[np.float64]) -> None:
    for row in numba.prange(len(x)):
        squares[row] = _twice_centred(x[row], out[row])


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _product(a: Floats, b: Floats, lanes: NDArray[np.float64]) -> float:
    # Sums in memory, and slices: with both, the inner loop is vectorised, though no sum may be reordered.
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
def _scaled(product: float, square1: float, square2: float) -> float:
    square = square1 * square2
    if not square > 0:
        return np.nan
    similarity = product / np.sqrt(square)
    return 1.0 if similarity > 1 else -1.0 if similarity < -1 else similarity


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _rank_row_with(
    x: Floats,
    squares: float,
    b: NDArray[np.float32],
    squares_b: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    ranks = np.empty(b.shape[1], np.float32)
    own = _twice_centred(x, ranks)
    if squares > 0 and own == own:
        own = squares
    lanes = np.empty(LANES)
    for j in range(len(b)):
        out[j] = _scaled(_product(ranks, b[j], lanes), own, squares_b[j])


@numba.njit(cache=True, parallel=True)  # type: ignore[untyped-decorator]
def _rank_similarities(
    x: Floats,
    squares: float,
    b: NDArray[np.float32],
    squares_b: NDArray[np.float64],
    paired: bool,
    out: NDArray[np.float64],
) -> None:
    for i in numba.prange(len(x)):
        if paired:
            _rank_row_with(x[i], squares, b[i : i + 1], squares_b[i : i + 1], out[i])
        else:
            _rank_row_with(x[i], squares, b, squares_b, out[i])


@numba.njit(cache=True, parallel=True)  # type: ignore[untyped-decorator]
def _similarities(
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
            product = _product(a[i], b[other], lanes)
            out[i, j] = _scaled(product, squares_a[i], squares_b[other])


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
def _places(
    ranks: NDArray[np.float64], places: NDArray[np.int32], untied: NDArray[np.int64]
) -> None:
    """Of each row: entries in rising order, each entry's place in it, and the range of its ties."""
    n = ranks.shape[1]
    for row in numba.prange(len(ranks)):
        # Averages of two groups of ties differ by at least 1, so that their whole parts tell groups apart.
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


@numba.njit(cache=True, parallel=True)  # type: ignore[untyped-decorator]
def _concordance(a: NDArray[np.int32], b: NDArray[np.int32], out: NDArray[np.int64]) -> None:
    for pair in numba.prange(out.size):
        i, j = pair // out.shape[1], pair % out.shape[1]
        out[i, j] = _concordance_of(a[0, i], a[3, i], b[1, j], b[2, j], b[3, j])


@numba.njit(cache=True, parallel=True)  # type: ignore[untyped-decorator]
def _rising_rows(x: NDArray[np.float64], order: NDArray[np.int32], ends: NDArray[np.bool_]) -> None:
    """Entries of each row in rising order, and whether a group of ties ends with one."""
    n = x.shape[1]
    for row in numba.prange(len(x)):
        low, high, finite = _range(x[row])
        packed = _rising(x[row], low, high, finite)
        for k in range(n):
            order[row, k] = packed[k] & POSITION
        for k in range(n):
            ends[row, k] = k == n - 1 or x[row, order[row, k]] != x[row, order[row, k + 1]]


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _draw(
    counts: NDArray[np.int32],
    places: NDArray[np.int64],
    weights: NDArray[np.float64],
    present: NDArray[np.int64],
    held: NDArray[np.float64],
) -> tuple[int, float]:
    """Where a draw's pairs lie side by side, those absent at the end; their weights, number and sum."""
    n = len(counts)
    size, pair, total = 0, 0, 0.0
    for i in range(n):
        for j in range(i + 1, n):
            weight = np.float64(counts[i]) * np.float64(counts[j])
            weights[pair] = weight
            places[pair] = len(weights)
            if weight > 0:
                places[pair] = size
                present[size] = pair
                held[size] = weight
                size += 1
                total += weight
            pair += 1
    held[size:] = 0
    return size, total


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _weighted_ranks(
    order: NDArray[np.int32],
    ends: NDArray[np.bool_],
    places: NDArray[np.int64],
    weights: NDArray[np.float64],
    size: int,
    total: float,
    out: NDArray[np.float64],
) -> None:
    """Twice the centred ranks of a row's drawn pairs; as Sample::rank in resample.cpp."""
    before = -total
    begin = 0
    while begin < len(order):
        weight, end = weights[order[begin]], begin + 1
        while not ends[end - 1]:
            weight += weights[order[end]]
            end += 1
        for k in range(begin, end):
            out[places[order[k]]] = before + weight
        before += 2 * weight
        begin = end
    out[size:] = 0


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _weighted_ranks_of(
    x: NDArray[np.float64],
    within: float,
    held: NDArray[np.float64],
    total: float,
    out: NDArray[np.float64],
) -> None:
    """The same of numbers that lie side by side, of which those within a relative difference tie."""
    low, high, finite = _range(x)
    packed = _rising(x, low, high, finite)
    before = -total
    begin = 0
    while begin < len(x):
        least = x[packed[begin] & POSITION]
        weight, end = 0.0, begin
        while end < len(x):
            value = x[packed[end] & POSITION]
            if value - least > within * max(abs(least), abs(value)):
                break
            weight += held[packed[end] & POSITION]
            end += 1
        for k in range(begin, end):
            out[packed[k] & POSITION] = before + weight
        before += 2 * weight
        begin = end
    out[len(x) :] = 0


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _square(
    ranks: NDArray[np.float64],
    held: NDArray[np.float64],
    weighted: NDArray[np.float64],
    total: float,
    untied: bool,
    lanes: NDArray[np.float64],
) -> float:
    """Weigh ranks; their sum of squares, or that without ties."""
    for k in range(len(ranks)):
        weighted[k] = ranks[k] * held[k]
    if untied:
        return (total * total * total - total) / 3
    square: float = _product(ranks, weighted, lanes)
    return square


@numba.njit(cache=True, parallel=True)  # type: ignore[untyped-decorator]
def _resampled_similarities(
    order_a: NDArray[np.int32],
    ends_a: NDArray[np.bool_],
    order_b: NDArray[np.int32],
    ends_b: NDArray[np.bool_],
    counts: NDArray[np.int32],
    paired: bool,
    untied: bool,
    out: NDArray[np.float64],
) -> None:
    n_pairs = order_a.shape[1]
    stride = (n_pairs + LANES) // LANES * LANES
    for d in numba.prange(len(counts)):
        places, present = np.empty(n_pairs, np.int64), np.empty(n_pairs, np.int64)
        weights, held = np.empty(n_pairs), np.zeros(stride)
        size, total = _draw(counts[d], places, weights, present, held)
        length = (size + LANES - 1) // LANES * LANES
        lanes = np.empty(LANES)
        ranks_b, squares_b = np.zeros((len(order_b), stride)), np.empty(len(order_b))
        ranks, weighted = np.zeros(stride), np.zeros(stride)
        for j in range(len(order_b)):
            _weighted_ranks(order_b[j], ends_b[j], places, weights, size, total, ranks_b[j])
            squares_b[j] = _square(
                ranks_b[j, :length], held, weighted[:length], total, untied, lanes
            )
        for i in range(len(order_a)):
            _weighted_ranks(order_a[i], ends_a[i], places, weights, size, total, ranks)
            own = _square(ranks[:length], held, weighted[:length], total, untied, lanes)
            for j in range(out.shape[2]):
                other = np.intp(i) if paired else np.intp(j)
                product = _product(weighted[:length], ranks_b[other, :length], lanes)
                out[d, i, j] = _scaled(product, own, squares_b[other])


# A row of subjects' sums: what is added up, what rounding took from it, and the sum of magnitudes.
HIGH, LOW, SIZE = range(3)
# A sum that its terms cancel to within their own rounding is 0; as in ties.py.
CANCELLED = 2.0**-50


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _lost(a: float, b: float, total: float) -> float:
    part = total - a
    return (a - (total - part)) + (b - part)


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _add(
    before: NDArray[np.float64], x: NDArray[np.float64], times: int, out: NDArray[np.float64]
) -> None:
    for k in range(len(x)):
        term = times * x[k]
        total = before[HIGH, k] + term
        out[LOW, k] = before[LOW, k] + _lost(before[HIGH, k], term, total)
        out[SIZE, k] = before[SIZE, k] + abs(term)
        out[HIGH, k] = total


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _join(a: NDArray[np.float64], b: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    """Sums of both; as Pools::join in resample.cpp."""
    for k in range(len(out)):
        total = a[HIGH, k] + b[HIGH, k]
        if np.isfinite(total):
            total += _lost(a[HIGH, k], b[HIGH, k], total) + a[LOW, k] + b[LOW, k]
        size = a[SIZE, k] + b[SIZE, k]
        out[k] = 0.0 if abs(total) <= CANCELLED * size else total


@numba.njit(cache=True, parallel=True)  # type: ignore[untyped-decorator]
def _resampled_ceilings(
    subjects: NDArray[np.float64],
    order: NDArray[np.int32],
    ends: NDArray[np.bool_],
    condition_counts: NDArray[np.int32],
    subject_counts: NDArray[np.int32],
    ranked: bool,
    untied: bool,
    within: float,
    out: NDArray[np.float64],
) -> None:
    n, n_pairs = subjects.shape
    # Sums of ranks are exact.
    within = 0.0 if ranked else within
    stride = (n_pairs + LANES) // LANES * LANES
    out[:] = np.nan
    for d in numba.prange(len(out)):
        # One row of counts stands for every draw.
        conditions = condition_counts[d % len(condition_counts)]
        times = subject_counts[d % len(subject_counts)]
        places, present = np.empty(n_pairs, np.int64), np.empty(n_pairs, np.int64)
        weights, held = np.empty(n_pairs), np.zeros(stride)
        size, total = _draw(conditions, places, weights, present, held)
        if size == 0:
            continue
        length = (size + LANES - 1) // LANES * LANES
        lanes = np.empty(LANES)
        ranks, squares, values = np.zeros((n, stride)), np.empty(n), np.zeros((n, size))
        weighted, pooled, others = np.zeros(stride), np.zeros(stride), np.empty(size)
        # Of subject s and those after it; the last one: of those before.
        sums = np.zeros((n + 2, 3, size))
        drawn = 0
        for s in range(n):
            if times[s] == 0:
                continue
            drawn += 1
            _weighted_ranks(order[s], ends[s], places, weights, size, total, ranks[s])
            squares[s] = _square(ranks[s, :length], held, weighted[:length], total, untied, lanes)
            for k in range(size):
                values[s, k] = ranks[s, k] if ranked else subjects[s, present[k]]
        for s in range(n - 1, -1, -1):
            _add(sums[s + 1], values[s], times[s], sums[s])
        # First the pool of all, then those without each.
        for left_out in range(-1, n):
            if left_out >= 0 and times[left_out] == 0:
                continue
            if left_out >= 0 and drawn == 1:
                out[d, 0, left_out] = out[d, 1, left_out]
                continue
            _join(sums[n + 1], sums[left_out + 1], others)
            if left_out >= 0:
                _add(sums[n + 1], values[left_out], times[left_out], sums[n + 1])
            _weighted_ranks_of(others, within, held, total, pooled)
            square = _square(pooled[:length], held, weighted[:length], total, untied, lanes)
            for s in range(n):
                if times[s] == 0 or (left_out >= 0 and s != left_out):
                    continue
                product = _product(weighted[:length], ranks[s, :length], lanes)
                out[d, 1 if left_out < 0 else 0, s] = _scaled(product, square, squares[s])


@numba.njit(cache=True, parallel=True)  # type: ignore[untyped-decorator]
def _permuted_similarities(
    a: Floats,
    squares_a: NDArray[np.float64],
    permutations: NDArray[np.int32],
    b: Floats,
    squares_b: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    n = a.shape[1]
    for p in numba.prange(len(permutations)):
        lanes, row = np.empty(LANES), np.zeros(b.shape[1], b.dtype)
        for i in range(len(a)):
            k = 0
            for r in range(n):
                from_row = a[i, permutations[p, r]]
                for c in range(r + 1, n):
                    row[k] = from_row[permutations[p, c]]
                    k += 1
            for j in range(len(b)):
                out[p, i, j] = _scaled(_product(row, b[j], lanes), squares_a[i], squares_b[j])


@numba.njit(cache=True, parallel=True)  # type: ignore[untyped-decorator]
def _normalise(
    pixels: NDArray[np.uint8],
    table: NDArray[np.float32],
    channels: tuple[int, int, int],
    out: NDArray[np.float32],
) -> None:
    c0, c1, c2 = channels
    for i in numba.prange(len(pixels)):
        for p in range(pixels.shape[1]):
            out[i, 0, p] = table[0, pixels[i, p, c0]]
            out[i, 1, p] = table[1, pixels[i, p, c1]]
            out[i, 2, p] = table[2, pixels[i, p, c2]]


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _add_blocks(
    x: NDArray[np.float32],
    shift: NDArray[np.float32],
    entries: NDArray[np.uint32],
    first_block: int,
    out: NDArray[np.float32],
    sums: NDArray[np.float64],
) -> None:
    """Add what at most PROJECTED rows give to each component, block of channels by block; and their sums."""
    n, n_columns = x.shape
    turned = np.zeros((2 * SIGN_BLOCK, PROJECTED), np.float32)
    for i in range(len(entries)):
        start = (first_block + i) * SIGN_BLOCK
        width = min(SIGN_BLOCK, n_columns - start)
        if width < SIGN_BLOCK:
            turned[:] = 0
        for lane in range(n):
            total = np.float32(0)
            for k in range(width):
                value = x[lane, start + k] - shift[lane]
                total += value
                turned[2 * k, lane] = value
                turned[2 * k + 1, lane] = -value
            sums[lane] += total
        for entry in entries[i]:
            component, place = entry // (2 * SIGN_BLOCK), entry % (2 * SIGN_BLOCK)
            for lane in range(PROJECTED):
                out[component, lane] += turned[place, lane]


@numba.njit(cache=True, parallel=True)  # type: ignore[untyped-decorator]
def _project(
    x: NDArray[np.float32],
    shift: NDArray[np.float32],
    entries: NDArray[np.uint32],
    scale: float,
    out: NDArray[np.float32],
    sums: NDArray[np.float64],
) -> None:
    n_blocks = len(entries)
    shares = max(1, min(SHARES, n_blocks // BLOCKS_PER_SHARE))
    for first in range(0, len(x), PROJECTED):
        last = min(first + PROJECTED, len(x))
        parts = np.zeros((shares, out.shape[1], PROJECTED), np.float32)
        part_sums = np.zeros((shares, PROJECTED))
        for s in numba.prange(shares):
            begin, end = n_blocks * s // shares, n_blocks * (s + 1) // shares
            _add_blocks(
                x[first:last], shift[first:last], entries[begin:end], begin, parts[s], part_sums[s]
            )
        for lane in range(last - first):
            for component in range(out.shape[1]):
                total = 0.0
                for s in range(shares):
                    total += parts[s, component, lane]
                out[first + lane, component] = total * scale
            total = 0.0
            for s in range(shares):
                total += part_sums[s, lane]
            sums[first + lane] = total


def rank(x: NDArray[np.float64], out: NDArray[np.float64], n_threads: int) -> None:
    """Average ranks of each row; as `_core.rank`."""
    with Threads(n_threads):
        _rank(x, out)


def centred_ranks(
    x: Floats, out: NDArray[np.float32], squares: NDArray[np.float64], n_threads: int
) -> None:
    """Ranks as prepared rows; as `_core.centred_ranks`."""
    with Threads(n_threads):
        _centred_ranks(x, out, squares)


def rank_similarities(
    a: Floats,
    squares: float,
    b: NDArray[np.float32],
    squares_b: NDArray[np.float64],
    paired: bool,
    out: NDArray[np.float64],
    n_threads: int,
    isa: str,
) -> None:
    """Similarities of ranked rows to prepared ones; as `_core.rank_similarities`."""
    if len(a) == 1:
        # Numba's threads take longer to start than one row takes.
        _rank_row_with(a[0], squares, b, squares_b, out[0])
        return
    with Threads(n_threads):
        _rank_similarities(a, squares, b, squares_b, paired, out)


def similarities(
    a: NDArray[np.float64],
    squares_a: NDArray[np.float64],
    b: NDArray[np.float64],
    squares_b: NDArray[np.float64],
    paired: bool,
    out: NDArray[np.float64],
    n_threads: int,
    isa: str,
) -> None:
    """Similarities of prepared rows; as `_core.similarities`."""
    with Threads(n_threads):
        _similarities(a, squares_a, b, squares_b, paired, out)


def concordance(
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    out: NDArray[np.int64],
    untied_a: NDArray[np.int64],
    untied_b: NDArray[np.int64],
    n_threads: int,
    isa: str,
) -> None:
    """Concordant less discordant pairs of all rows of ranks, and each row's untied pairs; as `_core.concordance`."""
    places_a, places_b = (np.empty((4, *x.shape), np.int32) for x in (a, b))
    with Threads(n_threads):
        _places(a, places_a, untied_a)
        _places(b, places_b, untied_b)
        _concordance(places_a, places_b, out)


def _orders(x: NDArray[np.float64]) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    order, ends = np.empty(x.shape, np.int32), np.empty(x.shape, bool)
    _rising_rows(x, order, ends)
    return order, ends


def resampled_similarities(
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    counts: NDArray[np.int32],
    paired: bool,
    untied: bool,
    out: NDArray[np.float64],
    n_threads: int,
    isa: str,
) -> None:
    """Spearman's coefficients of RDMs with resampled conditions; as `_core.resampled_similarities`."""
    with Threads(n_threads):
        _resampled_similarities(*_orders(a), *_orders(b), counts, paired, untied, out)


def resampled_ceilings(
    subjects: NDArray[np.float64],
    condition_counts: NDArray[np.int32] | None,
    subject_counts: NDArray[np.int32] | None,
    conditions: int,
    ranked: bool,
    untied: bool,
    within: float,
    out: NDArray[np.float64],
    n_threads: int,
    isa: str,
) -> None:
    """Similarities of subjects to pools of those drawn; as `_core.resampled_ceilings`."""
    if condition_counts is None:
        condition_counts = np.ones((1, conditions), np.int32)
    if subject_counts is None:
        subject_counts = np.ones((1, len(subjects)), np.int32)
    with Threads(n_threads):
        _resampled_ceilings(
            subjects,
            *_orders(subjects),
            condition_counts,
            subject_counts,
            ranked,
            untied,
            within,
            out,
        )


def permuted_similarities(
    a: Floats,
    squares_a: NDArray[np.float64],
    permutations: NDArray[np.int32],
    b: Floats,
    squares_b: NDArray[np.float64],
    out: NDArray[np.float64],
    n_threads: int,
    isa: str,
) -> None:
    """Similarities of matrices whose conditions are permuted; as `_core.permuted_similarities`."""
    with Threads(n_threads):
        _permuted_similarities(a, squares_a, permutations, b, squares_b, out)


def normalise(
    pixels: NDArray[np.uint8],
    table: NDArray[np.float32],
    channels: tuple[int, int, int],
    out: NDArray[np.float32],
    n_threads: int,
) -> None:
    """What a table has for each channel of every pixel; as `_core.normalise`."""
    with Threads(n_threads):
        _normalise(pixels, table, channels, out)


def project(
    x: NDArray[np.float32],
    entries: NDArray[np.uint32],
    shift: NDArray[np.float64],
    scale: float,
    out: NDArray[np.float32],
    sums: NDArray[np.float64],
    n_threads: int,
) -> None:
    """Shifted rows times a sparse matrix of signs, and their sums; as `_core.project`."""
    with Threads(n_threads):
        _project(x, shift.astype(np.float32), entries, scale, out, sums)


def isas() -> list[str]:
    """What numba compiles for is its own choice."""
    return ["native"]
