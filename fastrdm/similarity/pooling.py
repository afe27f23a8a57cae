"""Means of RDMs over subjects, with all subjects and without each.

Sums carry their rounding errors, and nothing is subtracted from a total: neither the order of subjects nor one subject
with extreme values costs the others digits. Apply `fastrdm._kernels.settle` before ranking the means.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# A sum whose terms cancel to within their rounding is 0: 0.3 - 0.1 - 0.2 like 3 - 1 - 2.
_CANCELLED = 2.0**-50


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
