"""Where a measure's conditions come from: the activations as they lie, or what is made of some of them at a time."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from fastrdm import _kernels
from fastrdm._base import check_finite
from fastrdm.rdm.numbers import Kind
from fastrdm.rdm.products import Floats, Index, Rows
from fastrdm.rdm.whitening import Noise

# Rows that are ranked at once.
_RANKED_BYTES = 1 << 22
# Ranks of up to so many channels have exact products and sums of them in float64.
_EXACT_RANKS = 1 << 12


@dataclass(frozen=True)
class Source:
    """Conditions by channels, some conditions at a time, and the memory that takes."""

    n_conditions: int
    n_channels: int
    #: First condition, the one after the last, threads → rows.
    take: Callable[[int, int, int | None], Rows]
    #: ValueError that says where, if there is NaN or infinity.
    check_finite: Callable[[], None]
    kind: Kind
    #: Of memory, for each condition that is taken, and for taking any.
    row_bytes: int = 0
    work_bytes: int = 0

    def scaled(self, exponent: int) -> "Source":
        """The same divided by a power of two."""

        def take(begin: int, end: int, n_threads: int | None) -> Rows:
            return np.ldexp(np.asarray(self.take(begin, end, n_threads), np.float64), -exponent)

        kind = Kind(np.dtype(np.float64), discrete=self.kind.discrete)
        row_bytes = self.row_bytes + 8 * self.n_channels
        return replace(self, take=take, kind=kind, row_bytes=row_bytes)


class Part(NamedTuple):
    """A source whose dissimilarities, times a weight, are added to those of others."""

    weight: float
    source: Source
    #: The conditions it has, where it lacks some.
    members: Index | None = None


class Parts(NamedTuple):
    """Sources whose dissimilarities, so weighted and added, are to be divided by a number, or by one for each pair."""

    parts: list[Part]
    divisor: float | Floats = 1.0


def as_they_lie(rows: Rows, name: str, kind: Kind) -> Source:
    """The activations themselves."""
    return Source(
        len(rows),
        rows.shape[1],
        lambda begin, end, _: rows[begin:end],
        lambda: check_finite(rows, name, ("condition", "channel")),
        kind,
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
    exact, discrete = n_channels <= _EXACT_RANKS, source.kind.discrete
    kind = Kind(np.dtype(np.float64) if exact or discrete else dtype, exact, discrete=discrete)
    row_bytes = dtype.itemsize * n_channels
    return replace(source, take=take, kind=kind, row_bytes=row_bytes, work_bytes=work)


def whitened(source: Source, noise: Noise, n_threads: int) -> Source:
    """Each condition's products with the filters that whiten its channels."""
    n_channels = source.n_channels

    def take(begin: int, end: int, n_threads: int | None) -> Rows:
        rows = np.ascontiguousarray(source.take(begin, end, n_threads), np.float64)
        return _kernels.cross(rows, noise.filters, n_threads)

    # Sums of threads beside their total, and blocks of both operands.
    row_bytes = source.row_bytes + 3 * 8 * n_channels
    kernel = n_threads * ((1 << 23) + n_channels * (1 << 13))
    work = source.work_bytes + 8 * n_channels**2 + max(noise.work_bytes, kernel)
    kind = Kind(np.dtype(np.float64), discrete=source.kind.discrete)
    return replace(source, take=take, kind=kind, row_bytes=row_bytes, work_bytes=work)
