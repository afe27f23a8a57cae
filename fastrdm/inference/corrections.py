"""Corrections of p values for the number of tests."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrdm._base import as_array, check_choice

Floats = NDArray[np.float64]


def correct(p: ArrayLike, correction: str | None) -> Floats:
    r"""Correct p values for the number of tests.

    ============== ==================================================================================================
    ``fdr_bh``     false discovery rate, :math:`\min_{k \ge i} p_{(k)} m / k`, for tests that are independent or
                   positively dependent (Benjamini & Hochberg 1995)
    ``holm``       family-wise error, :math:`\max_{k \le i} p_{(k)} (m - k + 1)`, for any dependence (Holm 1979)
    ``bonferroni`` family-wise error, :math:`m p`, for any dependence
    ============== ==================================================================================================

    Parameters
    ----------
    p : array_like
        p values of any shape, as one family. NaN means no test: it remains and does not count. Masked values are NaN.
    correction : str or None
        A name from the table; None returns the values unchanged.

    Returns
    -------
    ndarray of float64, shape of `p`
        At most 1.

    Raises
    ------
    ValueError
        If the correction is unknown, or a value is not between 0 and 1.
    """
    values = as_array(p, "p", masked_as_nan=True).astype(np.float64)
    check_correction(correction)
    known = ~np.isnan(values)
    if ((values[known] < 0) | (values[known] > 1)).any():
        raise ValueError("p values must be between 0 and 1")
    if correction is not None and known.any():
        values[known] = CORRECTIONS[correction](values[known])
    return values


def check_correction(correction: str | None, *more: str) -> None:
    """Raise ValueError for an unknown correction."""
    if correction is not None:
        check_choice(correction, (*CORRECTIONS, *more), "correction")


def _fdr_bh(p: Floats) -> Floats:
    order, m = np.argsort(p), len(p)
    rising = p[order] * m / np.arange(1, m + 1)
    return _at(order, np.minimum.accumulate(rising[::-1])[::-1])


def _holm(p: Floats) -> Floats:
    order, m = np.argsort(p), len(p)
    return _at(order, np.maximum.accumulate(p[order] * (m - np.arange(m))))


def _at(order: NDArray[np.intp], values: Floats) -> Floats:
    out = np.empty_like(values)
    out[order] = np.minimum(values, 1)
    return out


def _bonferroni(p: Floats) -> Floats:
    return np.asarray(np.minimum(p * len(p), 1))


CORRECTIONS: Mapping[str, Callable[[Floats], Floats]] = MappingProxyType(
    {"fdr_bh": _fdr_bh, "holm": _holm, "bonferroni": _bonferroni}
)
