"""Repeats of one subject: how many there are, their mean, deviations from it, and z-scores within sessions."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import counted, warn_caller

Floats = NDArray[np.floating[Any]]
# Sums are accumulated over blocks of conditions, whose masks and float64 copies stay small.
_BLOCK = 1 << 20


def scaled(values: Floats) -> NDArray[np.float64]:
    """Return values (..., units) in float64, each unit scaled by a power of two so that no square leaves the range."""
    largest = np.fmax.reduce(np.abs(values), axis=tuple(range(values.ndim - 1)))
    exponent = np.frexp(np.nan_to_num(largest.astype(np.float64)))[1]
    return np.asarray(np.ldexp(values.astype(np.float64), -exponent))


def n_present(array: Floats) -> NDArray[np.intp]:
    """Return the number of repeats that are not NaN, (conditions, units), of (repeats, conditions, units)."""
    out = np.empty(array.shape[1:], np.intp)
    for block in _blocks(array):
        out[block] = np.count_nonzero(~np.isnan(array[:, block]), axis=0)
    return out


def mean_of_repeats(array: Floats) -> Floats:
    """Return the mean over the repeats that are not NaN, (conditions, units); NaN where there is none.

    Sums are float64; the result has the array's dtype. A single repeat is returned without a copy.
    """
    if len(array) == 1:
        return np.asarray(array[0])
    out = np.empty(array.shape[1:], array.dtype)
    for block in _blocks(array):
        some = array[:, block]
        missing = np.isnan(some)
        sums = np.sum(some, axis=0, dtype=np.float64, where=~missing)
        with np.errstate(invalid="ignore"):
            out[block] = sums / (len(some) - np.count_nonzero(missing, axis=0))
    return out


def deviations_of_repeats(array: Floats, name: str) -> NDArray[np.float64]:
    """Return deviations of repeats from the mean of their condition, (observations, units), as samples of the noise.

    They are scaled so that their sample covariance is the sum of products divided by its degrees of freedom, the number
    of repeats minus that of conditions. Measurements in which a unit is NaN, and conditions that then have one, are
    left out. ValueError if none are left.
    """
    here = ~np.isnan(array).any(axis=2)
    n = np.count_nonzero(here, axis=0)
    here &= n > 1
    n_observations, n_conditions = int(here.sum()), int(np.count_nonzero(n > 1))
    if not n_conditions:
        raise ValueError(
            f"{name} with shape {array.shape}, (repeats, conditions, units), has no condition with two repeats of all"
            " units, so no noise can be estimated from repeats"
        )
    values = np.where(here[:, :, None], array, 0).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        values -= values.sum(axis=0) / n[:, None]
    scale = np.sqrt((n_observations - 1) / (n_observations - n_conditions))
    return np.asarray(values[here] * scale)


def session_index(labels: Any, shape: tuple[int, ...], name: str) -> NDArray[np.intp]:
    """Return the index of each measurement's session, (repeats, conditions), from labels of repeats or measurements."""
    if labels is None:
        return np.zeros(shape[:2], np.intp)
    given = np.asarray(labels)
    if given.shape not in (shape[:1], shape[:2]):
        raise ValueError(
            f"{name} have shape {given.shape}; they must be ({shape[0]},), one for each repeat, or {shape[:2]}, one for"
            " each repeat and condition"
        )
    if given.dtype.kind == "f" and np.isnan(given).any():
        raise ValueError(f"{name} hold NaN, which is not a label")
    try:
        index = np.unique(given, return_inverse=True)[1].reshape(given.shape)
    except TypeError:
        raise ValueError(
            f"{name} hold labels of types that cannot be sorted: {given.ravel()[:5].tolist()}"
        ) from None
    return np.broadcast_to(index if given.ndim == 2 else index[:, None], shape[:2])


def standardised(array: Floats, sessions: Any, name: str, sessions_name: str) -> Floats:
    """Return z-scores of each unit within each session, in the array's dtype; NaN where a unit is constant."""
    index = session_index(sessions, array.shape, sessions_name)
    out = np.empty_like(array)
    constant = np.zeros(array.shape[2], bool)
    for session in range(int(index.max()) + 1):
        here = index == session
        rows = scaled(array[here])
        present = ~np.isnan(rows)
        n = np.count_nonzero(present, axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            rows -= np.sum(rows, axis=0, where=present) / n
            deviation = np.sqrt(np.sum(rows * rows, axis=0, where=present) / n)
            # The mean of equal numbers may differ from them by rounding.
            same = np.fmax.reduce(array[here], axis=0) == np.fmin.reduce(array[here], axis=0)
            deviation[same] = np.nan
            rows /= deviation
        constant |= same
        out[here] = rows
    if constant.any():
        which = int(np.argmax(constant))
        warn_caller(
            f"{name}: {counted(int(constant.sum()), 'unit')} of {len(constant)} are constant within a session and"
            f" become NaN there, first unit {which}"
        )
    return out


def _blocks(array: Floats) -> list[slice]:
    step = max(1, _BLOCK // max(1, array.shape[0] * array.shape[2]))
    return [slice(start, start + step) for start in range(0, array.shape[1], step)]
