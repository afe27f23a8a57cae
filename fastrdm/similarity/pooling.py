"""Means of RDMs over subjects, of all and of all but each, and over time.

Sums carry what rounding takes from them, and nothing is subtracted from a sum of all: neither the order of subjects nor
one subject with distant values costs the others digits. What ranks the means applies `fastrdm._kernels.settle` first.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# A sum that its terms cancel to within their own rounding is 0: 0.3 - 0.1 - 0.2 as 3 - 1 - 2.
_CANCELLED = 2.0**-50


def means(values: Floats, weights: Floats | None = None) -> Floats:
    """Means of RDMs, of all and of all but each.

    Parameters
    ----------
    values : ndarray of float64, shape (n, pairs)
        NaN where an RDM lacks a pair.
    weights : ndarray of float64, shape (n,), optional
        Whole numbers: how often each counts. Once by default.

    Returns
    -------
    ndarray of float64, shape (1 + n, pairs)
        Means over the RDMs that have a pair; NaN where none has.
    """
    there = ~np.isnan(values)
    times = np.ones(len(values)) if weights is None else weights
    counts = times[:, None] * there
    count = counts.sum(axis=0)
    sums = _sums(np.where(there, values, 0) * times[:, None])
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(sums / np.concatenate([count[None], count - counts]))


def over_time(rdms: Floats, nan_policy: str) -> Floats:
    """RDMs averaged over time.

    Parameters
    ----------
    rdms : ndarray of float64, shape (subjects, times, pairs)
    nan_policy : str
        ``"omit"``: over the times that have a pair. Else a pair that is NaN at one time is NaN.

    Returns
    -------
    ndarray of float64, shape (subjects, 1, pairs)
    """
    out = np.stack([means(subject)[:1] for subject in rdms])
    if nan_policy != "omit":
        out[np.isnan(rdms).any(axis=1, keepdims=True)] = np.nan
    return out


def _sums(terms: Floats) -> Floats:
    """Sums (1 + n, pairs) of terms (n, pairs): of all, and of all but each."""
    n, n_pairs = terms.shape
    out = np.empty((n + 1, n_pairs))
    # Of term s and those after it: the rounded sum, and what rounding took.
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
    """The rounded sum, and what rounding took (Knuth, The Art of Computer Programming 2, 4.2.2)."""
    with np.errstate(invalid="ignore", over="ignore"):
        total = a + b
        part = total - a
        return total, (a - (total - part)) + (b - part)


def _joined(total: Floats, lost: Floats) -> Floats:
    with np.errstate(invalid="ignore"):
        return np.where(np.isfinite(total), total + lost, total)
