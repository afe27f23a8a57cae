"""The rows that a measure compares: the activations themselves, or what is computed from some of them at a time."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from fastrdm import _kernels
from fastrdm._base import check_finite
from fastrdm.rdm.numbers import Kind
from fastrdm.rdm.products import Floats, Index, Rows
from fastrdm.rdm.whitening import Noise

# Bytes of rows ranked per block.
_RANKED_BYTES = 1 << 22
# Products of ranks of up to this many channels, and their sums, are exact in float64.
_EXACT_RANKS = 1 << 12


class Member(NamedTuple):
    """Activations of one RDM, and their name in error messages."""

    rows: Rows
    name: str

    @property
    def shape(self) -> tuple[int, int]:
        """Conditions and channels."""
        return len(self.rows), int(self.rows.shape[1])


class TensorMember(NamedTuple):
    """Activations (conditions, channels, ...) of one RDM that are on a device, and their name in error messages.

    `advice` is how to bring them to the host.
    """

    tensor: Any
    name: str
    advice: str

    @property
    def shape(self) -> tuple[int, int]:
        """Conditions and channels."""
        n, *axes = self.tensor.shape
        return int(n), int(np.prod(axes))

    def refused(self, what: str) -> ValueError:
        """Return the error of something that is computed on the host only."""
        return ValueError(
            f"{what} is not computed on a device, and {self.name} is on {self.tensor.device}; {self.advice}"
        )


#: Activations of one RDM, on the host or on a device.
AnyMember: TypeAlias = Member | TensorMember


@dataclass(frozen=True)
class RowSource:
    """Rows (conditions, channels), available some conditions at a time, and the memory that takes."""

    n_conditions: int
    n_channels: int
    #: First condition, the one after the last, threads → rows.
    take: Callable[[int, int, int | None], Rows]
    #: Raises ValueError that says where, if there is NaN or infinity.
    check_finite: Callable[[], None]
    kind: Kind
    #: Memory of each condition taken, and of any call.
    row_bytes: int = 0
    work_bytes: int = 0

    def scaled(self, exponent: int) -> "RowSource":
        """Return the source divided by a power of two."""

        def take(begin: int, end: int, n_threads: int | None) -> Rows:
            return np.ldexp(np.asarray(self.take(begin, end, n_threads), np.float64), -exponent)

        kind = Kind(np.dtype(np.float64), discrete=self.kind.discrete)
        row_bytes = self.row_bytes + 8 * self.n_channels
        return replace(self, take=take, kind=kind, row_bytes=row_bytes)


class Term(NamedTuple):
    """A source, and the weight of its dissimilarities in a sum."""

    weight: float
    source: RowSource
    #: Indices of its conditions, if some are missing.
    members: Index | None = None


class SourceSum(NamedTuple):
    """Weighted sum of the sources' dissimilarities, over a divisor or one for each pair."""

    terms: list[Term]
    divisor: float | Floats = 1.0


def single(source: RowSource) -> SourceSum:
    """Return the sum of one source."""
    return SourceSum([Term(1, source)])


def in_place(member: Member, kind: Kind) -> RowSource:
    """Return the activations without any change."""
    rows, name = member
    return RowSource(
        len(rows),
        rows.shape[1],
        lambda begin, end, _: rows[begin:end],
        lambda: check_finite(rows, name, ("condition", "channel")),
        kind,
    )


def ranked(source: RowSource, n_threads: int) -> RowSource:
    """Return average ranks of each condition's channels; exact in float32 for up to 2**23 channels."""
    n, n_channels = source.n_conditions, source.n_channels
    dtype = np.dtype(np.float32 if n_channels < 1 << 23 else np.float64)
    block_rows = max(1, _RANKED_BYTES // (8 * n_channels), n_threads)

    def take(begin: int, end: int, n_threads: int | None) -> Rows:
        ranks = np.empty((end - begin, n_channels), dtype)
        for start in range(begin, end, block_rows):
            stop = min(start + block_rows, end)
            block = np.ascontiguousarray(source.take(start, stop, n_threads), np.float64)
            ranks[start - begin : stop - begin] = _kernels.rank(block, n_threads)
        return ranks

    # Each ranking thread holds two rows of keys.
    work = (min(block_rows, n) + n_threads) * 16 * n_channels
    exact, discrete = n_channels <= _EXACT_RANKS, source.kind.discrete
    kind = Kind(np.dtype(np.float64) if exact or discrete else dtype, exact, discrete=discrete)
    row_bytes = dtype.itemsize * n_channels
    return replace(source, take=take, kind=kind, row_bytes=row_bytes, work_bytes=work)


def whitened(source: RowSource, noise: Noise, n_threads: int) -> RowSource:
    """Return each condition's products with the filters that whiten its channels."""
    n_channels = source.n_channels

    def take(begin: int, end: int, n_threads: int | None) -> Rows:
        rows = np.ascontiguousarray(source.take(begin, end, n_threads), np.float64)
        return _kernels.cross(rows, noise.filters, n_threads)

    # The threads' sums and their total, and blocks of both operands.
    row_bytes = source.row_bytes + 3 * 8 * n_channels
    kernel = n_threads * ((1 << 23) + n_channels * (1 << 13))
    work = source.work_bytes + 8 * n_channels**2 + max(noise.work_bytes, kernel)
    kind = Kind(np.dtype(np.float64), discrete=source.kind.discrete)
    return replace(source, take=take, kind=kind, row_bytes=row_bytes, work_bytes=work)
