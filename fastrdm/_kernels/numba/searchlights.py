"""RDMs of many neighbourhoods of channels, in portable form: as outer.cpp, slide.cpp and searchlight.cpp.

Windows that slide over time are multiplied one by one.
"""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from fastrdm._kernels.numba.common import Doubles, jit, kernel

Index = NDArray[np.intp]
_CORRELATION, _COSINE, _EUCLIDEAN, _SPEARMAN = 0, 1, 3, 4
# Dissimilarities, as a share of 1 or of both squared lengths, below which products have lost digits.
_NEAR = 2.0**-16


@jit
def _gathered(
    x: NDArray[Any], channels: Index, samples: Index, n_samples: int, row_shift: Doubles
) -> Doubles:
    n, shifted = x.shape[1], len(row_shift) > 0
    out = np.empty((len(channels) * len(samples), n))
    k = 0
    for c in channels:
        for t in samples:
            row = c * n_samples + t
            shift = row_shift[row] if shifted else 0.0
            for i in range(n):
                out[k, i] = x[row, i] - shift
            k += 1
    return out


@jit
def _rank_conditions(values: Doubles) -> None:
    """Replace the numbers of each condition by twice their average ranks."""
    n_rows = len(values)
    for i in range(values.shape[1]):
        column = values[:, i].copy()
        order = np.argsort(column)
        begin = 0
        while begin < n_rows:
            end = begin + 1
            while end < n_rows and column[order[end]] == column[order[begin]]:
                end += 1
            for k in range(begin, end):
                values[order[k], i] = begin + end + 1
            begin = end


@jit
def _centre_conditions(values: Doubles, whole: bool) -> NDArray[np.bool_]:
    """Subtract the mean of each condition, rounded to an integer if all are; return which are constant."""
    n_rows, n = values.shape
    constant = np.ones(n, np.bool_)
    for i in range(n):
        total = 0.0
        for k in range(n_rows):
            total += values[k, i] - values[0, i]
            constant[i] &= values[k, i] == values[0, i]
        mean = values[0, i] + total / n_rows
        mean = np.rint(mean) if whole else mean
        for k in range(n_rows):
            values[k, i] -= mean
    return constant


@jit
def _products(values: Doubles) -> tuple[Doubles, Doubles]:
    n_rows, n = values.shape
    product, sums = np.zeros((n, n)), np.zeros(n)
    for k in range(n_rows):
        row = values[k]
        for i in range(n):
            sums[i] += row[i]
            factor, to = row[i], product[i]
            for j in range(i, n):
                to[j] += factor * row[j]
    return product, sums


@jit
def _difference(values: Doubles, i: int, j: int, means: Doubles, lengths: Doubles) -> float:
    total = 0.0
    for k in range(len(values)):
        w = (values[k, i] - means[i]) / lengths[i] - (values[k, j] - means[j]) / lengths[j]
        total += w * w
    return total


@jit
def _angles_of(values: Doubles, centred: bool, whole: bool, out: Doubles) -> None:
    n_rows, n = values.shape
    constant = np.zeros(n, np.bool_)
    if centred:
        constant = _centre_conditions(values, whole)
    product, sums = _products(values)
    if not centred:
        sums[:] = 0
    factor = n_rows if centred else 1
    norms, means, lengths = np.empty(n), sums / n_rows, np.empty(n)
    for i in range(n):
        norms[i] = factor * product[i, i] - sums[i] * sums[i]
        if norms[i] == 0 or constant[i]:
            norms[i] = np.nan
        lengths[i] = np.sqrt(norms[i] / factor)
    pair = 0
    for i in range(n):
        for j in range(i + 1, n):
            x = factor * product[i, j] - sums[i] * sums[j]
            cosine = np.sqrt(x * x / (norms[i] * norms[j]))
            cosine = 1.0 if cosine > 1 else cosine
            out[pair] = 1 + cosine if x < 0 else 1 - cosine
            if not whole and out[pair] < _NEAR:
                out[pair] = _difference(values, i, j, means, lengths) / 2
            pair += 1


@jit
def _distances_of(values: Doubles, whole: bool, root: bool, out: Doubles) -> None:
    n = values.shape[1]
    product, _ = _products(values)
    zeros, ones = np.zeros(n), np.ones(n)
    pair = 0
    for i in range(n):
        for j in range(i + 1, n):
            lengths = product[i, i] + product[j, j]
            square = max(0.0, lengths - 2 * product[i, j])
            if not whole and square < _NEAR * lengths:
                square = _difference(values, i, j, zeros, ones)
            out[pair] = np.sqrt(square) if root else square
            pair += 1


@jit
def _rdm(values: Doubles, method: int, whole: bool, out: Doubles) -> None:
    if method == _SPEARMAN:
        _rank_conditions(values)
        _angles_of(values, True, True, out)
    elif method in (_CORRELATION, _COSINE):
        _angles_of(values, method == _CORRELATION, whole, out)
    else:
        _distances_of(values, whole, method == _EUCLIDEAN, out)


def _plan(x: NDArray[Any], channels: Index, channel_starts: Index, *rest: Any) -> tuple[int, float]:
    n_items, n_pairs = rest[-1].shape
    n_rows = len(channels) / (len(channel_starts) - 1) * (len(x) / rest[0])
    return n_items, n_pairs * n_rows


@kernel(_plan)
def _searchlight(
    x: NDArray[Any],
    channels: Index,
    channel_starts: Index,
    n_samples: int,
    samples: Index,
    sample_starts: Index,
    method: int,
    whole: bool,
    row_shift: Doubles,
    out: Doubles,
    begin: int,
    end: int,
) -> None:
    n_windows = len(sample_starts) - 1
    for item in numba.prange(begin, end):
        centre, window = item // n_windows, item % n_windows
        values = _gathered(
            x,
            channels[channel_starts[centre] : channel_starts[centre + 1]],
            samples[sample_starts[window] : sample_starts[window + 1]],
            n_samples,
            row_shift,
        )
        _rdm(values, method, whole, out[item])


def searchlight(
    x: NDArray[Any],
    channels: Index,
    channel_starts: Index,
    n_samples: int,
    samples: Index,
    sample_starts: Index,
    method: int,
    whole: bool,
    row_shift: Doubles | None,
    out: Doubles,
    n_threads: int,
    isa: str,
) -> None:
    """RDM of each list of channels and each list of samples."""
    # A shift would change angles from zero; ranks and centred numbers need none.
    shift = np.empty(0) if row_shift is None else row_shift
    _searchlight(
        x, channels, channel_starts, n_samples, samples, sample_starts, method, whole, shift, out, n_threads
    )  # fmt: skip


def sliding_searchlight(
    x: NDArray[Any],
    channels: Index,
    channel_starts: Index,
    n_samples: int,
    starts: Index,
    width: int,
    origin: int,
    method: int,
    whole: bool,
    row_shift: Doubles | None,
    out: Doubles,
    n_threads: int,
    isa: str,
) -> None:
    """RDM of each list of channels and each window."""
    samples = np.asarray((starts[:, None] + np.arange(width)).ravel(), np.intp)
    sample_starts = np.arange(0, len(samples) + 1, width)
    searchlight(
        x, channels, channel_starts, n_samples, samples, sample_starts, method, whole, row_shift, out, n_threads, isa
    )  # fmt: skip
