"""Similarities of RDMs with resampled or permuted conditions, in portable form: as resample.cpp."""

from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from fastrdm._kernels.numba.common import LANES, Doubles, Floats, jit, kernel
from fastrdm._kernels.numba.ranks import POSITION, dot, extremes, similarity, sorted_entries

# A row of subjects' sums: the sum, its rounding error, and the sum of magnitudes.
_HIGH, _LOW, _SIZE = range(3)
# A sum that its terms cancel to within their rounding is 0, as in ties.py.
_CANCELLED = 2.0**-50


class _Draw(NamedTuple):
    """A draw of conditions. Pairs that are present are packed side by side, before one or more entries of padding."""

    #: Packed place of each pair; that of absent pairs is the last.
    places: NDArray[np.int64]
    weights: Doubles
    #: Pairs in packed order, and their weights with the padding.
    present: NDArray[np.int64]
    packed_weights: Doubles
    total: float


@kernel(lambda x, *_: (len(x), 20 * x.shape[1]))
def _sort_rows(
    x: Doubles, order: NDArray[np.int32], ends: NDArray[np.bool_], begin: int, end: int
) -> None:
    n = x.shape[1]
    for row in numba.prange(begin, end):
        low, high, finite = extremes(x[row])
        packed = sorted_entries(x[row], low, high, finite)
        for k in range(n):
            order[row, k] = packed[k] & POSITION
        for k in range(n):
            ends[row, k] = k == n - 1 or x[row, order[row, k]] != x[row, order[row, k + 1]]


def _sorted_rows(x: Doubles, n_threads: int) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Return the entries of each row in rising order, and whether each ends a group of ties."""
    order, ends = np.empty(x.shape, np.int32), np.empty(x.shape, np.bool_)
    _sort_rows(x, order, ends, n_threads)
    return order, ends


@jit
def _draw(counts: NDArray[np.int32]) -> _Draw:
    n = len(counts)
    n_pairs = n * (n - 1) // 2
    places, present = np.full(n_pairs, -1), np.empty(n_pairs, np.int64)
    weights, packed = np.empty(n_pairs), np.zeros(n_pairs + LANES)
    size, pair, total = 0, 0, 0.0
    for i in range(n):
        for j in range(i + 1, n):
            weight = np.float64(counts[i]) * np.float64(counts[j])
            weights[pair] = weight
            if weight > 0:
                places[pair] = size
                present[size] = pair
                packed[size] = weight
                size += 1
                total += weight
            pair += 1
    length = (size + LANES) // LANES * LANES
    return _Draw(places, weights, present[:size], packed[:length], total)


@jit
def _weighted_ranks(
    order: NDArray[np.int32],
    ends: NDArray[np.bool_],
    draw: _Draw,
    untied: bool,
    out: Doubles,
    weighted: Doubles,
    lanes: Doubles,
) -> float:
    """Write twice the centred ranks of a row's drawn pairs, as Sample::rank in resample.cpp; see `_square`."""
    before = -draw.total
    begin = 0
    while begin < len(order):
        weight, end = draw.weights[order[begin]], begin + 1
        while not ends[end - 1]:
            weight += draw.weights[order[end]]
            end += 1
        for k in range(begin, end):
            out[draw.places[order[k]]] = before + weight
        before += 2 * weight
        begin = end
    return _square(out, draw, untied, weighted, lanes)


@jit
def _weighted_ranks_of(
    x: Doubles,
    within: float,
    draw: _Draw,
    untied: bool,
    out: Doubles,
    weighted: Doubles,
    lanes: Doubles,
) -> float:
    """Write the same for packed numbers, which tie within a relative difference."""
    low, high, finite = extremes(x)
    packed = sorted_entries(x, low, high, finite)
    before = -draw.total
    begin = 0
    while begin < len(x):
        least = x[packed[begin] & POSITION]
        weight, end = 0.0, begin
        while end < len(x):
            value = x[packed[end] & POSITION]
            if value - least > within * max(abs(least), abs(value)):
                break
            weight += draw.packed_weights[packed[end] & POSITION]
            end += 1
        for k in range(begin, end):
            out[packed[k] & POSITION] = before + weight
        before += 2 * weight
        begin = end
    return _square(out, draw, untied, weighted, lanes)


@jit
def _square(ranks: Doubles, draw: _Draw, untied: bool, weighted: Doubles, lanes: Doubles) -> float:
    """Clear the padding and weight the ranks; return their sum of squares, or the one without ties."""
    ranks[len(draw.present) :] = 0
    for k in range(len(ranks)):
        weighted[k] = ranks[k] * draw.packed_weights[k]
    if untied:
        return (draw.total * draw.total * draw.total - draw.total) / 3
    return dot(ranks, weighted, lanes)


_Sorted = tuple[NDArray[np.int32], NDArray[np.bool_]]


def _work_of_draws(
    a: _Sorted, b: _Sorted, counts: NDArray[np.int32], paired: bool, *_: Any
) -> tuple[int, float]:
    (rows_a, n_pairs), rows_b = a[0].shape, len(b[0])
    return len(counts), n_pairs * (5 + 3 * (rows_a + rows_b) + rows_a * (paired or rows_b))


@kernel(_work_of_draws)
def _correlate_draws(
    a: _Sorted,
    b: _Sorted,
    counts: NDArray[np.int32],
    paired: bool,
    untied: bool,
    out: Doubles,
    begin: int,
    end: int,
) -> None:
    (order_a, ends_a), (order_b, ends_b) = a, b
    for d in numba.prange(begin, end):
        draw = _draw(counts[d])
        n, lanes = len(draw.packed_weights), np.empty(LANES)
        ranks, weighted = np.empty(n), np.empty(n)
        ranks_b, squares_b = np.empty((len(order_b), n)), np.empty(len(order_b))
        for j in range(len(order_b)):
            squares_b[j] = _weighted_ranks(
                order_b[j], ends_b[j], draw, untied, ranks_b[j], weighted, lanes
            )
        for i in range(len(order_a)):
            square = _weighted_ranks(order_a[i], ends_a[i], draw, untied, ranks, weighted, lanes)
            for j in range(out.shape[2]):
                other = np.intp(i) if paired else np.intp(j)
                product = dot(weighted, ranks_b[other], lanes)
                out[d, i, j] = similarity(product, square, squares_b[other])


def resampled_similarities(
    a: Doubles,
    b: Doubles,
    counts: NDArray[np.int32],
    paired: bool,
    untied: bool,
    out: Doubles,
    n_threads: int,
    isa: str,
) -> None:
    """Spearman's coefficients of RDMs with resampled conditions."""
    rows = _sorted_rows(a, n_threads), _sorted_rows(b, n_threads)
    _correlate_draws(*rows, counts, paired, untied, out, n_threads)


@jit
def _lost(a: float, b: float, total: float) -> float:
    part = total - a
    return (a - (total - part)) + (b - part)


@jit
def _add(before: Doubles, x: Doubles, times: int, out: Doubles) -> None:
    for k in range(len(x)):
        term = times * x[k]
        total = before[_HIGH, k] + term
        out[_LOW, k] = before[_LOW, k] + _lost(before[_HIGH, k], term, total)
        out[_SIZE, k] = before[_SIZE, k] + abs(term)
        out[_HIGH, k] = total


@jit
def _join(a: Doubles, b: Doubles, out: Doubles) -> None:
    """Write the sums of both; as Pools::join in resample.cpp."""
    for k in range(len(out)):
        total = a[_HIGH, k] + b[_HIGH, k]
        if np.isfinite(total):
            total += _lost(a[_HIGH, k], b[_HIGH, k], total) + a[_LOW, k] + b[_LOW, k]
        size = a[_SIZE, k] + b[_SIZE, k]
        out[k] = 0.0 if abs(total) <= _CANCELLED * size else total


@kernel(lambda subjects, *arguments: (len(arguments[-1]), 40 * subjects.size))
def _correlate_pools(
    subjects: Doubles,
    sorted_subjects: _Sorted,
    all_conditions: NDArray[np.int32],
    all_times: NDArray[np.int32],
    ranked: bool,
    untied: bool,
    within: float,
    out: Doubles,
    begin: int,
    end: int,
) -> None:
    n = len(subjects)
    order, ends = sorted_subjects
    for d in numba.prange(begin, end):
        # One row of counts applies to every draw.
        draw = _draw(all_conditions[d % len(all_conditions)])
        times = all_times[d % len(all_times)]
        size, length, lanes = len(draw.present), len(draw.packed_weights), np.empty(LANES)
        if size == 0:
            continue
        ranks, squares, values = np.empty((n, length)), np.empty(n), np.zeros((n, size))
        weighted, pooled, others = np.empty(length), np.empty(length), np.empty(size)
        # Sums of subject s and all after it; the last row: of all before.
        sums = np.zeros((n + 2, 3, size))
        for s in range(n):
            if times[s] == 0:
                continue
            squares[s] = _weighted_ranks(order[s], ends[s], draw, untied, ranks[s], weighted, lanes)
            for k in range(size):
                values[s, k] = ranks[s, k] if ranked else subjects[s, draw.present[k]]
        for s in range(n - 1, -1, -1):
            _add(sums[s + 1], values[s], times[s], sums[s])
        # First the pool of all, then the pools without each subject.
        for left_out in range(-1, n):
            if left_out >= 0 and times[left_out] == 0:
                continue
            if left_out >= 0 and np.count_nonzero(times) == 1:
                out[d, 0, left_out] = out[d, 1, left_out]
                continue
            _join(sums[n + 1], sums[left_out + 1], others)
            if left_out >= 0:
                _add(sums[n + 1], values[left_out], times[left_out], sums[n + 1])
            # Sums of ranks are exact.
            square = _weighted_ranks_of(
                others, 0.0 if ranked else within, draw, untied, pooled, weighted, lanes
            )
            for s in range(n):
                if times[s] == 0 or (left_out >= 0 and s != left_out):
                    continue
                product = dot(weighted, ranks[s], lanes)
                out[d, 1 if left_out < 0 else 0, s] = similarity(product, square, squares[s])


def resampled_ceilings(
    subjects: Doubles,
    condition_counts: NDArray[np.int32] | None,
    subject_counts: NDArray[np.int32] | None,
    n_conditions: int,
    ranked: bool,
    untied: bool,
    within: float,
    out: Doubles,
    n_threads: int,
    isa: str,
) -> None:
    """Similarities of subjects to pools of those drawn."""
    counts = (
        np.ones((1, n), np.int32) if given is None else given
        for given, n in ((condition_counts, n_conditions), (subject_counts, len(subjects)))
    )
    out[:] = np.nan
    rows = _sorted_rows(subjects, n_threads)
    _correlate_pools(subjects, rows, *counts, ranked, untied, within, out, n_threads)


@kernel(
    lambda a, _, permutations, b, *_rest: (
        len(permutations),
        len(a) * b.shape[1] * (2 + len(b)),
    )
)
def permuted_similarities(
    a: Floats,
    squares_a: Doubles,
    permutations: NDArray[np.int32],
    b: Floats,
    squares_b: Doubles,
    out: Doubles,
    begin: int,
    end: int,
) -> None:
    """Similarities of matrices whose conditions are permuted."""
    n = a.shape[1]
    for p in numba.prange(begin, end):
        lanes, row = np.empty(LANES), np.zeros(b.shape[1], b.dtype)
        for i in range(len(a)):
            k = 0
            for r in range(n):
                from_row = a[i, permutations[p, r]]
                for c in range(r + 1, n):
                    row[k] = from_row[permutations[p, c]]
                    k += 1
            for j in range(len(b)):
                out[p, i, j] = similarity(dot(row, b[j], lanes), squares_a[i], squares_b[j])
