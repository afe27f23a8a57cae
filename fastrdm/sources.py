"""Where a measure's conditions come from: the activations as they lie, or what is made of some of them at a time."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from fastrdm import _kernels
from fastrdm.forms import check_finite
from fastrdm.products import Floats, Rows
from fastrdm.whitening import Noise

# Rows that are ranked at once.
_RANKED_BYTES = 1 << 22
# Conditions, evenly spread, whose mean is the centre of all.
_CENTRE_SAMPLE = 32


@dataclass(frozen=True)
class Source:
    """Conditions by channels, some conditions at a time, and the memory that takes."""

    n_conditions: int
    n_channels: int
    #: First condition, the one after the last, threads → rows.
    take: Callable[[int, int, int | None], Rows]
    #: ValueError that says where, if there is NaN or infinity.
    check_finite: Callable[[], None]
    #: Of memory, for each condition that is taken, and for taking any.
    row_bytes: int = 0
    work_bytes: int = 0
    #: Threads → centre, where that is had for less than by taking conditions.
    quick_centre: Callable[[int | None], Floats] | None = None

    def centre(self, n_threads: int | None) -> Floats:
        """A row that distances lose few digits from: the mean of some conditions."""
        if self.quick_centre:
            return self.quick_centre(n_threads)
        some = np.unique(np.linspace(0, self.n_conditions - 1, _CENTRE_SAMPLE).astype(np.intp))
        total = np.zeros(self.n_channels)
        with np.errstate(all="ignore"):
            for i in some:
                row = self.take(int(i), int(i) + 1, n_threads)[0]
                total += row.astype(np.float64) / len(some)
        return total


def as_they_lie(rows: Rows, name: str) -> Source:
    """The activations themselves."""
    return Source(
        len(rows),
        rows.shape[1],
        lambda begin, end, _: rows[begin:end],
        lambda: check_finite(rows, name, ("condition", "channel")),
    )


def ranked(source: Source, n_threads: int) -> Source:
    """Average ranks of each condition's channels; exact in float32 up to 2**23 of them."""
    n, n_channels = source.n_conditions, source.n_channels
    dtype = np.dtype(np.float32 if n_channels < 1 << 23 else np.float64)
    at_once = max(1, _RANKED_BYTES // (8 * n_channels), n_threads)

    def take(begin: int, end: int, n_threads: int | None) -> Rows:
        ranks = np.empty((end - begin, n_channels), dtype)
        for start in range(begin, end, at_once):
            stop = min(start + at_once, end)
            block = np.ascontiguousarray(source.take(start, stop, n_threads), np.float64)
            ranks[start - begin : stop - begin] = _kernels.rank(block, n_threads)
        return ranks

    # Each thread that ranks holds two rows of keys.
    work = (min(at_once, n) + n_threads) * 16 * n_channels
    return replace(source, take=take, row_bytes=dtype.itemsize * n_channels, work_bytes=work)


def whitened(source: Source, noise: Noise, n_threads: int) -> Source:
    """Each condition's products with the filters that whiten its channels."""
    n_channels = source.n_channels

    def take(begin: int, end: int, n_threads: int | None) -> Rows:
        return whiten(source.take(begin, end, n_threads), n_threads)

    def whiten(rows: Rows, n_threads: int | None) -> Floats:
        return _kernels.cross(np.ascontiguousarray(rows, np.float64), noise.filters, n_threads)

    def centre(n_threads: int | None) -> Floats:
        return whiten(source.centre(n_threads)[None], n_threads).ravel()

    # Sums of threads beside their total, and blocks of both operands.
    row_bytes = source.row_bytes + 3 * 8 * n_channels
    kernel = n_threads * ((1 << 23) + n_channels * (1 << 13))
    work = source.work_bytes + 8 * n_channels**2 + max(noise.work_bytes, kernel)
    return replace(source, take=take, row_bytes=row_bytes, work_bytes=work, quick_centre=centre)
