"""Ranks, similarities of two RDMs, and noise ceilings."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._kernels.numba.kendall import _concordance_of
from fastrdm._kernels.numba.ranks import POSITION, _rank_row, extremes, similarity, sorted_entries
from fastrdm.numba.common import Doubles, Floats, offered, settled

# Means of subjects tie within this relative difference: of float64 RDMs, and of float32 ones.
TIES, FLOAT32_TIES = 2.0**-40, 2.0**-19


@offered
def rank(x: Floats) -> Doubles:
    """Return average ranks, from 1.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (n,)

    Returns
    -------
    ndarray of float64, shape (n,)
        All NaN if there is a NaN.
    """
    out = np.empty(len(x))
    if len(x) == 0:
        return out
    for value in x:
        if np.isnan(value):
            out[:] = np.nan
            return out
    low, high, finite = extremes(x)
    _rank_row(x, low, high, finite, out, 1.0, 0.5)
    return out


@offered
def _product(a: Doubles, b: Doubles) -> tuple[float, float, float]:
    """Return the sums of products and squares of two rows, divided by their largest magnitudes."""
    largest_a, largest_b = np.max(np.abs(a)), np.max(np.abs(b))
    product = square_a = square_b = 0.0
    for k in range(len(a)):
        x, y = a[k] / largest_a, b[k] / largest_b
        product += x * y
        square_a += x * x
        square_b += y * y
    return product, square_a, square_b


@offered
def _lengths_differ(a: Floats, b: Floats) -> bool:
    if len(a) != len(b):
        raise ValueError("two RDMs differ in length")
    return len(a) == 0


@offered
def _centred(x: Floats) -> Doubles:
    """Return a row minus its mean; exactly zero if it is constant."""
    out = x.astype(np.float64)
    if np.min(out) == np.max(out):
        return np.zeros(len(out))
    return out - np.mean(out)


@offered
def cosine(a: Floats, b: Floats) -> float:
    """Return the cosine of two condensed RDMs; NaN if one is zero or has NaN.

    Parameters
    ----------
    a, b : ndarray of float32 or float64, shape (pairs,)

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If they differ in length.
    """
    if _lengths_differ(a, b):
        return np.nan
    product, square_a, square_b = _product(a.astype(np.float64), b.astype(np.float64))
    return similarity(product, square_a, square_b)


@offered
def pearson(a: Floats, b: Floats) -> float:
    """Return Pearson's r of two condensed RDMs (``"corr"`` of `compare`); NaN if one is constant or has NaN.

    Parameters
    ----------
    a, b : ndarray of float32 or float64, shape (pairs,)

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If they differ in length.
    """
    if _lengths_differ(a, b):
        return np.nan
    product, square_a, square_b = _product(_centred(a), _centred(b))
    return similarity(product, square_a, square_b)


@offered
def _twice_centred(x: Floats) -> Doubles:
    # Integers, whose products are exact in float64 up to about 200,000 entries.
    return 2 * rank(x) - (len(x) + 1)


@offered
def _rank_product(a: Floats, b: Floats) -> tuple[float, float, float]:
    x, y = _twice_centred(a), _twice_centred(b)
    product = square_a = square_b = 0.0
    for k in range(len(x)):
        product += x[k] * y[k]
        square_a += x[k] * x[k]
        square_b += y[k] * y[k]
    return product, square_a, square_b


@offered
def spearman(a: Floats, b: Floats) -> float:
    """Return Spearman's ρ of two condensed RDMs, with average ranks; NaN if one is constant or has NaN.

    Parameters
    ----------
    a, b : ndarray of float32 or float64, shape (pairs,)

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If they differ in length.
    """
    if _lengths_differ(a, b):
        return np.nan
    product, square_a, square_b = _rank_product(a, b)
    return similarity(product, square_a, square_b)


@offered
def rho_a(a: Floats, b: Floats) -> float:
    """Return Spearman's ρ scaled as if no entries were tied; 0 if an RDM is constant, NaN if it has NaN.

    Parameters
    ----------
    a, b : ndarray of float32 or float64, shape (pairs,)

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If they differ in length.
    """
    if _lengths_differ(a, b):
        return np.nan
    n = float(len(a))
    untied = (n * n * n - n) / 3
    return similarity(_rank_product(a, b)[0], untied, untied)


@offered
def _places(x: Floats) -> tuple[NDArray[np.int32], NDArray[np.int32], int]:
    """Return entries in rising order; their place in it, and the range of their ties; and the untied pairs."""
    n = len(x)
    low, high, finite = extremes(x)
    packed = sorted_entries(x, low, high, finite)
    order, places = np.empty(n, np.int32), np.empty((3, n), np.int32)
    untied = n * (n - 1) // 2
    begin = 0
    while begin < n:
        value = x[packed[begin] & POSITION]
        end = begin + 1
        while end < n and x[packed[end] & POSITION] == value:
            end += 1
        for k in range(begin, end):
            entry = packed[k] & POSITION
            order[k] = entry
            places[0, entry], places[1, entry], places[2, entry] = k, begin, end
        untied -= (end - begin) * (end - begin - 1) // 2
        begin = end
    return order, places, untied


@offered
def _concordance(a: Floats, b: Floats) -> tuple[float, float, float]:
    """Return concordant minus discordant pairs, and the untied pairs of both; NaN if there is a NaN."""
    for k in range(len(a)):
        if np.isnan(a[k]) or np.isnan(b[k]):
            return np.nan, np.nan, np.nan
    order, of_a, untied_a = _places(a)
    _, of_b, untied_b = _places(b)
    difference = _concordance_of(order, of_a[2], of_b[0], of_b[1], of_b[2])
    return float(difference), float(untied_a), float(untied_b)


@offered
def tau_a(a: Floats, b: Floats) -> float:
    """Return Kendall's τ-a of two condensed RDMs; 0 if one is constant, NaN if it has NaN.

    Parameters
    ----------
    a, b : ndarray of float32 or float64, shape (pairs,)

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If they differ in length.
    """
    if _lengths_differ(a, b) or len(a) < 2:
        return np.nan
    difference, _, _ = _concordance(a, b)
    return difference / (len(a) * (len(a) - 1) / 2)


@offered
def tau_b(a: Floats, b: Floats) -> float:
    """Return Kendall's τ-b of two condensed RDMs; NaN if one is constant or has NaN.

    Parameters
    ----------
    a, b : ndarray of float32 or float64, shape (pairs,)

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If they differ in length.
    """
    if _lengths_differ(a, b):
        return np.nan
    difference, untied_a, untied_b = _concordance(a, b)
    if not (untied_a > 0 and untied_b > 0):
        return np.nan
    ratio = difference / (np.sqrt(untied_a) * np.sqrt(untied_b))
    return float(min(1.0, max(-1.0, ratio)))


@offered
def _pool(subjects: Floats, without: int) -> Doubles:
    """Return the mean RDM without one subject, in which values that differ by rounding are equal."""
    n, n_entries = subjects.shape
    out = np.empty(n_entries)
    for k in range(n_entries):
        total = error = 0.0
        for s in range(n):
            if s != without:
                # The rounding error of the sum, so that the order of subjects matters less than the ties' bound.
                x = np.float64(subjects[s, k])
                added = total + x
                part = added - total
                error += (total - (added - part)) + (x - part)
                total = added
        out[k] = (total + error) / (n - (0 <= without < n))
    return settled(out, TIES if subjects.itemsize == 8 else FLOAT32_TIES, False)


@offered
def noise_ceiling(subjects: Floats, compare: Callable[..., Any]) -> tuple[Doubles, Doubles]:
    """Return the similarity of each subject to the mean RDM of the others, and of all; not squared.

    As `fastrdm.noise_ceiling` with ``pool="raw"`` and ``squared=False``; entries of a mean that differ by up to 2⁻⁴⁰ of
    the larger one (2⁻¹⁹ of float32 RDMs) are equal, for every `compare`.

    Parameters
    ----------
    subjects : ndarray of float32 or float64, shape (subjects, pairs)
        Condensed RDMs of two subjects or more.
    compare : jitted function
        `spearman`, `pearson`, `cosine`, `tau_a`, `tau_b`, `rho_a`, or the user's own of two RDMs.

    Returns
    -------
    lower, upper : ndarray of float64, shape (subjects,)

    Raises
    ------
    ValueError
        If there are fewer than two subjects.
    """
    n = len(subjects)
    if n < 2:
        raise ValueError("a noise ceiling needs at least two subjects")
    lower, upper = np.empty(n), np.empty(n)
    whole = _pool(subjects, -1)
    for s in range(n):
        lower[s] = compare(_pool(subjects, s), subjects[s])
        upper[s] = compare(whole, subjects[s])
    return lower, upper
