"""Numbers within memory and within float64: blocks of rows, pages of files, scaled rows, and means of RDMs.

Scaling by powers of two changes no digit. Sums carry their rounding errors, and nothing is subtracted from a total:
neither the order of subjects nor one subject with extreme values costs the others digits. Apply
`fastrdm._kernels.settle` before ranking means.
"""

import mmap
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Numbers that one step holds in memory: 32 MB of float64.
_BLOCK_SIZE = 1 << 22
# RDMs of more numbers are prepared and pooled one at a time: 8 MB of float32.
_LARGE = 1 << 21
# Sums of products of numbers from 2**-_SAFE to 2**_SAFE stay within float64.
_SAFE = 300
# Sums of numbers below 2**_HUGE stay within float64.
_HUGE = 990
# If the exponents of subjects differ by more, subtraction from a sum loses too many digits of the small ones.
_APART = 20
# A sum whose terms cancel to within their rounding is 0: 0.3 - 0.1 - 0.2 like 3 - 1 - 2.
_CANCELLED = 2.0**-50


def blocks_of(n: int, size: int, block_size: int | None = None) -> Iterator[slice]:
    """Yield slices of n items of `size` numbers each, in blocks of at most `block_size` numbers."""
    step = max(1, (block_size or _BLOCK_SIZE) // max(1, size))
    return (slice(start, min(n, start + step)) for start in range(0, n, step))


def is_large(rdms: NDArray[Any]) -> bool:
    """Return whether an array as large as these RDMs should not be made on the side."""
    return rdms.size > _LARGE


def release(rdms: NDArray[Any]) -> None:
    """Release pages of a mapped file, which stay in the system's cache; other arrays are left alone."""
    base: Any = rdms
    is_shared = False
    while isinstance(base, np.ndarray):
        # A private copy has changes that the file lacks.
        is_shared |= isinstance(base, np.memmap) and base.mode != "c"
        base = base.base
    if is_shared and isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)


def is_mapped(rdms: NDArray[Any]) -> bool:
    """Return whether an array is in a mapped file."""
    base: Any = rdms
    while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
        base = base.base
    return isinstance(base, np.memmap)


def _largest(rows: NDArray[Any]) -> NDArray[Any]:
    """Return the largest magnitude of each row, (..., 1), ignoring NaN; 0 if it is infinite or all values are NaN."""
    high = np.fmax.reduce(rows, axis=-1, keepdims=True)
    low = np.fmin.reduce(rows, axis=-1, keepdims=True)
    largest = np.fmax(high, -low)
    return np.where(np.isfinite(largest), largest, 0)


def exponents(rows: NDArray[Any]) -> NDArray[np.intc]:
    """Return the binary exponent of the largest magnitude of each row, (..., 1)."""
    return np.asarray(np.frexp(_largest(rows))[1], np.intc)


def in_range(rows: NDArray[Any], *, alike: bool = False) -> tuple[NDArray[Any], NDArray[np.intc]]:
    """Return rows with squares within float64, and the exponents of two by which they were divided.

    `alike` divides all rows by the same number, for rows that do not `differ`.
    """
    powers = exponents(rows)
    if alike:
        powers = np.max(powers, keepdims=True)
    powers = np.where(np.abs(powers) > _SAFE, powers, 0).astype(np.intc)
    return (np.ldexp(rows, -powers), powers) if powers.any() else (rows, powers)


def summable(rows: NDArray[Any]) -> NDArray[Any]:
    """Return rows with sums within float64: all divided by one power of two if necessary."""
    power = power_of_sums(rows)
    return np.ldexp(rows, power) if power else rows


def power_of_sums(rows: NDArray[Any]) -> int:
    """Return the exponent of two by which rows are multiplied so that sums are within float64; 0 in the usual case."""
    return -32 if np.any(exponents(rows) > _HUGE) else 0


def differ(rows: NDArray[Any]) -> bool:
    """Return whether the units of rows differ so much that subtraction of one from a sum is inaccurate."""
    largest = _largest(rows)
    powers = np.frexp(largest[largest > 0])[1]
    return bool(len(powers)) and bool(np.ptp(powers) > _APART)


def means(values: Floats, weights: Floats | None = None) -> Floats:
    """Return means (1 + n, pairs) of RDMs (n, pairs): of all, and of all but each.

    A mean is over the RDMs in which a pair is not NaN; NaN if there are none. Each RDM counts `weights` (n,) times,
    once by default.
    """
    present = ~np.isnan(values)
    times = np.ones(len(values)) if weights is None else weights
    counts = times[:, None] * present
    count = counts.sum(axis=0)
    sums = _sums(np.where(present, values, 0) * times[:, None])
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(sums / np.concatenate([count[None], count - counts]))


def mean_of(values: Floats, without: int | None) -> Floats:
    """Return one row (pairs,) of `means`: of all, or of all but one."""
    kept = np.ones(len(values), bool)
    if without is not None:
        kept[without] = False
    present = ~np.isnan(values)
    terms = np.where(present, values, 0)
    total = _sum_of(terms, without)
    if (terms < 0).any():
        total[np.abs(total) <= _CANCELLED * _sum_of(np.abs(terms), without)] = 0
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(total / present[kept].sum(axis=0))


def _sum_of(terms: Floats, without: int | None) -> Floats:
    """Return one row of `_sums`, by the same additions."""
    high, low = np.zeros((2, terms.shape[1]))
    for term in reversed(terms[0 if without is None else without + 1 :]):
        high, lost = _plus(high, term)
        low = low + lost
    if without is None:
        return _joined(high, low)
    before, taken = np.zeros((2, terms.shape[1]))
    for term in terms[:without]:
        before, lost = _plus(before, term)
        taken = taken + lost
    total, lost = _plus(before, high)
    return _joined(total, lost + taken + low)


def _sums(terms: Floats) -> Floats:
    """Return sums (1 + n, pairs) of terms (n, pairs): of all, and of all but each."""
    n, n_pairs = terms.shape
    out = np.empty((n + 1, n_pairs))
    # For term s and those after it: the rounded sum, and its rounding error.
    high, low = np.zeros((2, n + 1, n_pairs))
    for s in range(n - 1, -1, -1):
        high[s], lost = _plus(high[s + 1], terms[s])
        low[s] = low[s + 1] + lost
    out[0] = _joined(high[0], low[0])
    before, taken = np.zeros((2, n_pairs))
    for s in range(n):
        rounded, lost = _plus(before, high[s + 1])
        out[1 + s] = _joined(rounded, lost + taken + low[s + 1])
        before, lost = _plus(before, terms[s])
        taken = taken + lost
    if (terms < 0).any():
        out[np.abs(out) <= _CANCELLED * _sums(np.abs(terms))] = 0
    return out


def _plus(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """Return the rounded sum and its rounding error (Knuth, The Art of Computer Programming 2, 4.2.2)."""
    with np.errstate(invalid="ignore", over="ignore"):
        total = a + b
        part = total - a
        return total, (a - (total - part)) + (b - part)


def _joined(total: Floats, lost: Floats) -> Floats:
    with np.errstate(invalid="ignore"):
        return np.where(np.isfinite(total), total + lost, total)
