"""Similarities of RDMs with resampled or permuted conditions, in portable form: as resample.cpp."""

import numba
import numpy as np
from numpy.typing import NDArray

from fastrdm._kernels.numba.common import LANES, Doubles, Floats, Threads, jit, parallel_jit
from fastrdm._kernels.numba.ranks import POSITION, dot, extremes, similarity, sorted_entries

# A row of subjects' sums: the sum, its rounding error, and the sum of magnitudes.
_HIGH, _LOW, _SIZE = range(3)
# A sum that its terms cancel to within their rounding is 0, as in ties.py.
_CANCELLED = 2.0**-50


@parallel_jit
def _rising_rows(x: Doubles, order: NDArray[np.int32], ends: NDArray[np.bool_]) -> None:
    """Write the entries of each row in rising order, and whether each ends a group of ties."""
    n = x.shape[1]
    for row in numba.prange(len(x)):
        low, high, finite = extremes(x[row])
        packed = sorted_entries(x[row], low, high, finite)
        for k in range(n):
            order[row, k] = packed[k] & POSITION
        for k in range(n):
            ends[row, k] = k == n - 1 or x[row, order[row, k]] != x[row, order[row, k + 1]]


def _sorted_rows(x: Doubles) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Return the entries of each row in rising order, and whether each ends a group of ties."""
    order, ends = np.empty(x.shape, np.int32), np.empty(x.shape, bool)
    _rising_rows(x, order, ends)
    return order, ends


@jit
def _draw(
    counts: NDArray[np.int32],
    places: NDArray[np.int64],
    weights: Doubles,
    present: NDArray[np.int64],
    held: Doubles,
) -> tuple[int, float]:
    """Pack a draw's pairs side by side, absent pairs at the end; return their number and the sum of weights."""
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


@jit
def _weighted_ranks(
    order: NDArray[np.int32],
    ends: NDArray[np.bool_],
    places: NDArray[np.int64],
    weights: Doubles,
    size: int,
    total: float,
    out: Doubles,
) -> None:
    """Write twice the centred ranks of a row's drawn pairs; as Sample::rank in resample.cpp."""
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


@jit
def _weighted_ranks_of(
    x: Doubles,
    within: float,
    held: Doubles,
    total: float,
    out: Doubles,
) -> None:
    """Write the same for packed numbers, which tie within a relative difference."""
    low, high, finite = extremes(x)
    packed = sorted_entries(x, low, high, finite)
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


@jit
def _square(
    ranks: Doubles,
    held: Doubles,
    weighted: Doubles,
    total: float,
    untied: bool,
    lanes: Doubles,
) -> float:
    """Weight the ranks; return their sum of squares, or the one without ties."""
    for k in range(len(ranks)):
        weighted[k] = ranks[k] * held[k]
    if untied:
        return (total * total * total - total) / 3
    return dot(ranks, weighted, lanes)


@parallel_jit
def _resampled_similarities(
    order_a: NDArray[np.int32],
    ends_a: NDArray[np.bool_],
    order_b: NDArray[np.int32],
    ends_b: NDArray[np.bool_],
    counts: NDArray[np.int32],
    paired: bool,
    untied: bool,
    out: Doubles,
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
            square = _square(ranks[:length], held, weighted[:length], total, untied, lanes)
            for j in range(out.shape[2]):
                other = np.intp(i) if paired else np.intp(j)
                product = dot(weighted[:length], ranks_b[other, :length], lanes)
                out[d, i, j] = similarity(product, square, squares_b[other])


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


@parallel_jit
def _resampled_ceilings(
    subjects: Doubles,
    order: NDArray[np.int32],
    ends: NDArray[np.bool_],
    condition_counts: NDArray[np.int32],
    subject_counts: NDArray[np.int32],
    ranked: bool,
    untied: bool,
    within: float,
    out: Doubles,
) -> None:
    n, n_pairs = subjects.shape
    # Sums of ranks are exact.
    within = 0.0 if ranked else within
    stride = (n_pairs + LANES) // LANES * LANES
    out[:] = np.nan
    for d in numba.prange(len(out)):
        # One row of counts applies to every draw.
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
        # Sums of subject s and all after it; the last row: of all before.
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
        # First the pool of all, then the pools without each subject.
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
                product = dot(weighted[:length], ranks[s, :length], lanes)
                out[d, 1 if left_out < 0 else 0, s] = similarity(product, square, squares[s])


@parallel_jit
def _permuted_similarities(
    a: Floats,
    squares_a: Doubles,
    permutations: NDArray[np.int32],
    b: Floats,
    squares_b: Doubles,
    out: Doubles,
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
                out[p, i, j] = similarity(dot(row, b[j], lanes), squares_a[i], squares_b[j])


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
    """Spearman's coefficients of RDMs with resampled conditions; as `_core.resampled_similarities`."""
    with Threads(n_threads):
        _resampled_similarities(*_sorted_rows(a), *_sorted_rows(b), counts, paired, untied, out)


def resampled_ceilings(
    subjects: Doubles,
    condition_counts: NDArray[np.int32] | None,
    subject_counts: NDArray[np.int32] | None,
    conditions: int,
    ranked: bool,
    untied: bool,
    within: float,
    out: Doubles,
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
            *_sorted_rows(subjects),
            condition_counts,
            subject_counts,
            ranked,
            untied,
            within,
            out,
        )


def permuted_similarities(
    a: Floats,
    squares_a: Doubles,
    permutations: NDArray[np.int32],
    b: Floats,
    squares_b: Doubles,
    out: Doubles,
    n_threads: int,
    isa: str,
) -> None:
    """Similarities of matrices whose conditions are permuted; as `_core.permuted_similarities`."""
    with Threads(n_threads):
        _permuted_similarities(a, squares_a, permutations, b, squares_b, out)
