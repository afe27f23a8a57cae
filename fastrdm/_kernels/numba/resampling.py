"""Similarities of RDMs whose conditions are drawn again, in numba."""

import numba
import numpy as np
from numpy.typing import NDArray

from fastrdm._kernels.numba.products import LANES
from fastrdm._kernels.numba.ranks import POSITION, Floats, bounds_of, dot, rising, scaled


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
    low, high, finite = bounds_of(x)
    packed = rising(x, low, high, finite)
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
    square: float = dot(ranks, weighted, lanes)
    return square


@numba.njit(cache=True, parallel=True)  # type: ignore[untyped-decorator]
def jit_resampled_similarities(
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
                product = dot(weighted[:length], ranks_b[other, :length], lanes)
                out[d, i, j] = scaled(product, own, squares_b[other])


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
def jit_resampled_ceilings(
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
                product = dot(weighted[:length], ranks[s, :length], lanes)
                out[d, 1 if left_out < 0 else 0, s] = scaled(product, square, squares[s])


@numba.njit(cache=True, parallel=True)  # type: ignore[untyped-decorator]
def jit_permuted_similarities(
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
                out[p, i, j] = scaled(dot(row, b[j], lanes), squares_a[i], squares_b[j])
