"""All sign flips of few subjects, without a product for each flip.

The sum over subjects under a flip is one of few sums of the first half of the subjects plus one of the second half. A
flip does not change the sum of squares, so t grows with the sum over the root of that sum, which is compared instead.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fastrdm.inference.draws import all_signs

Floats = NDArray[np.float64]
# Equal statistics may differ by rounding, and must count as equal; sums are at most the root of the subjects' number.
_TOLERANCE = 1e-12


def all_flips(parts: Sequence[Floats], alternative: str) -> tuple[Floats, Floats]:
    """P values of t under all sign flips, and those corrected by the maximum over all rows.

    Parameters
    ----------
    parts : sequence of ndarray, shape (rows, subjects)
        Finite values; signs are shared by position among parts with different numbers of subjects.
    alternative : {"greater", "less", "two-sided"}

    Returns
    -------
    p, p_corrected : ndarray, shape (rows of all parts,)
    """
    most = max(part.shape[1] for part in parts)
    half = most // 2
    low_signs, high_signs = all_signs(half), all_signs(most - half)
    n_flips = len(low_signs) * len(high_signs)
    highest = np.full((len(high_signs), len(low_signs)), -np.inf)
    sums, hits, extremes = np.empty_like(highest), [], []
    for part in parts:
        n = part.shape[1]
        scaled = np.zeros((len(part), most))
        norms = np.sqrt(np.einsum("ms,ms->m", part, part))
        np.divide(part, norms[:, None], out=scaled[:, :n], where=norms[:, None] > 0)
        if alternative == "less":
            scaled = -scaled
        low, high = scaled[:, :half] @ low_signs.T, scaled[:, half:] @ high_signs.T
        # Subjects in the order of the tables of signs, so that no flip is a flip.
        observed = low[:, 0] + high[:, 0]
        least = np.abs(observed) if alternative == "two-sided" else observed
        top = np.full_like(highest, -np.inf)
        for a, b in zip(low, high, strict=True):
            np.add.outer(b, a, out=sums)
            np.maximum(top, sums, out=top)
        np.maximum(highest, _bounded(top, n), out=highest)
        hits += [
            np.searchsorted(np.sort(a), bound - b).sum()
            for a, b, bound in zip(low, high, least - _TOLERANCE, strict=True)
        ]
        extremes.append(_bounded(least, n) - _TOLERANCE)
    p = 1 - np.array(hits) / n_flips
    flat = highest.ravel()
    if alternative == "two-sided":
        # The opposite of a flip is as far from the end as the flip is from the beginning.
        p, flat = np.minimum(2 * p, 1), np.maximum(flat, flat[::-1])
    beyond = n_flips - np.searchsorted(np.sort(flat), np.concatenate(extremes))
    return p, beyond / n_flips


def _bounded(sums: Floats, n: int) -> Floats:
    """Return t / √(1 + t²) of scaled sums over n subjects: finite, and comparable between numbers of subjects."""
    return np.asarray(sums * np.sqrt((n - 1) / (n + sums**2 * (n - 2))))
