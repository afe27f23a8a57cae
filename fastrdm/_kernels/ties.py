"""The rule that makes dissimilarities equal again that differ only by rounding.

In rising order, a group starts at the smallest value that is in no group yet, and takes all values that differ from it
by no more than `within` times the size of the larger; every member becomes the group's smallest value. The size of a
value is its magnitude. The size of v = 1 − cosine is √(2 v), the length of the angle, because rounding changes angles
by a relative amount. Groups do not depend on the order of the values, and no value moves by more than the bound,
however dense the values are.
The rule applies to what fastrdm computes (RDMs in `calc_rdm`, pools of subjects before they are ranked), never to RDMs
from the caller. `Ranker` in C++ and `_weighted_ranks_of` in numba rank by the same rule; the kernel `merge_near` is
`settle` without angles, for long rows.
"""

import numpy as np
from numpy.typing import DTypeLike, NDArray

Floats = NDArray[np.float64]

#: Relative difference within which values computed in float64 count as equal.
FLOAT64 = 2.0**-40
#: The same for values computed from float32 numbers, which are already rounded.
FLOAT32 = 2.0**-21


def bound_of(kind: DTypeLike) -> float:
    """Return the relative difference within which values computed from a floating type count as equal."""
    return FLOAT64 if np.dtype(kind).itemsize > 4 else FLOAT32


def settle(values: Floats, within: float = FLOAT64, *, angles: bool = False) -> Floats:
    """Make values of each row equal that differ by a relative difference up to `within`; in place, NaN is kept.

    `angles`: whether values are 1 − cosine of angles. Angles up to `within` are then 0.
    """
    if within == 0:
        return values
    if angles:
        values[np.abs(values) <= within**2 / 2] = 0
    for row in values.reshape(-1, values.shape[-1]):
        ordered = np.sort(row)
        # NaN are last and compare as False.
        near = _gap(ordered[:-1], ordered[1:], within, angles)
        near &= ordered[:-1] != ordered[1:]
        if near.any():
            _merge(row, np.unique(ordered), within, angles)
    return values


def _gap(low: Floats, high: Floats, within: float, angles: bool) -> NDArray[np.bool_]:
    with np.errstate(invalid="ignore"):
        size = np.maximum(np.abs(low), np.abs(high))
        if angles:
            size = np.sqrt(2 * size)
        return np.asarray((high - low <= within * size) & np.isfinite(size))


def _merge(row: Floats, distinct: Floats, within: float, angles: bool) -> None:
    near = _gap(distinct[:-1], distinct[1:], within, angles)
    # Runs of neighbours; groups are formed within each run, in rising order.
    starts = np.flatnonzero(near & ~np.r_[False, near[:-1]])
    ends = np.flatnonzero(near & ~np.r_[near[1:], False]) + 2
    merged = distinct.copy()
    for start, end in zip(starts, ends, strict=True):
        while start < end:
            run = distinct[start:end]
            size = int(np.argmin(np.r_[_gap(run[:1], run[1:], within, angles), False])) + 1
            merged[start : start + size] = run[0]
            start += size
    row[:] = merged[np.searchsorted(distinct, row)]
