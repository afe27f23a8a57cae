"""Sources → an RDM: all at once, or within a bound of memory as tiles of pairs of conditions.

A pair has the same dissimilarity, to the bit, in whichever tile it is.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrdm import _kernels
from fastrdm.rdm.measures import Found, Measure, OutOfRangeError, between, within
from fastrdm.rdm.products import Floats, Index
from fastrdm.rdm.sources import Part, Parts, Source

# float64 tiles alive at once: the kernel's sums and result, dissimilarities, and what their refinement takes.
_TILES = 6
# Bytes that a thread may hold of sums of its own, and of each row of its packed operands.
_OWN_SUMS = 1 << 21
_PACKED_ROW = 1 << 13


class _Cost(NamedTuple):
    """Memory that tiles of a height take: a constant, a share for each row of a tile, another for each entry."""

    fixed: int
    row: int
    entry: int
    own_sums: int

    @classmethod
    def of(cls, source: Source, n_threads: int) -> "_Cost":
        n = source.n_conditions
        width = min(_kernels.share(source.n_channels, 8), source.n_channels)
        # Shifts, sums and norms of all conditions; the centre, its sample and the checks' temporaries.
        fixed = 64 * n + 64 * source.n_channels + source.work_bytes + n_threads * 48 * _PACKED_ROW
        # Of both tiles what was taken, a stripe of it in float64 and the packed operands; of one what near pairs need.
        row = 2 * (source.row_bytes + 8 * width + n_threads * _PACKED_ROW) + 16 * width
        return cls(fixed, row, 8 * _TILES, n_threads + 2)

    def bytes(self, height: int) -> int:
        entries = height**2
        return (
            self.fixed
            + self.row * height
            + self.entry * entries
            + self.own_sums * min(8 * entries, _OWN_SUMS)
        )


def fill(
    out: Floats, made: Parts, measure: Measure, max_memory: int | None, n_threads: int
) -> NDArray[np.intp]:
    """Put the condensed sum of the parts' dissimilarities into `out`; gives the conditions that have none."""
    try:
        undefined = _fill(out, made.parts, measure, max_memory, n_threads)
        exponent = 0
    except OutOfRangeError:
        for part in made.parts:
            part.source.check_finite()
        if measure.undefined:
            raise
        exponent = max(_exponent(part.source, n_threads) for part in made.parts)
        scaled = [part._replace(source=part.source.scaled(exponent)) for part in made.parts]
        undefined = _fill(out, scaled, measure, max_memory, n_threads)
    if np.ndim(made.divisor) or made.divisor != 1:
        out /= made.divisor
    if measure.root:
        np.sqrt(out, out=out)
    if exponent:
        # Lengths may be as small as the smallest numbers that there are, squares have lost digits long before.
        least = (
            np.finfo(np.float64).smallest_subnormal if measure.root else np.finfo(np.float64).tiny
        )
        _unscale(out, exponent if measure.root else 2 * exponent, float(least))
    return undefined


def _exponent(source: Source, n_threads: int) -> int:
    """Power of two of the largest number."""
    largest = 0.0
    for i in range(source.n_conditions):
        row = source.take(i, i + 1, n_threads)
        largest = max(largest, -float(row.min()), float(row.max()))
    return int(np.frexp(largest)[1])


def _unscale(out: Floats, exponent: int, least: float) -> None:
    with np.errstate(all="ignore"):
        power, lowest = np.abs(out).max(), np.abs(out[out != 0]).min(initial=np.inf)
        if not np.ldexp(power, exponent) < np.inf or np.ldexp(lowest, exponent) < least:
            raise OutOfRangeError(
                "activations are so large or small that their squares leave the range of float64"
            )
        np.ldexp(out, exponent, out=out)


def _fill(
    out: Floats, parts: list[Part], measure: Measure, max_memory: int | None, n_threads: int
) -> NDArray[np.intp]:
    heights = [
        source.n_conditions if max_memory is None else _height(source, max_memory, n_threads)
        for _, source, _ in parts
    ]
    undefined: NDArray[np.intp] = np.empty(0, np.intp)
    if parts[0].members is not None:
        out[:] = 0
    for k, (part, height) in enumerate(zip(parts, heights, strict=True)):
        n = 0 if part.members is None else (1 + int(np.sqrt(1 + 8 * len(out)))) // 2
        into = _Condensed(out, part.weight, k > 0 or part.members is not None, part.members, n)
        norms = _fill_part(into, part.source, measure, height, n_threads)
        if measure.undefined:
            undefined = np.flatnonzero(np.isnan(norms))
    return undefined


def _height(source: Source, max_memory: int, n_threads: int) -> int:
    """Conditions of a tile: all, or equal shares as large as the bound allows."""
    cost = _Cost.of(source, n_threads)
    if cost.bytes(1) > max_memory:
        raise ValueError(
            f"max_memory of {max_memory} bytes is too small for {source.n_conditions} conditions ×"
            f" {source.n_channels} channels on {n_threads} threads; the least that serves is {cost.bytes(1)} bytes"
        )
    low, high = 1, source.n_conditions
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if cost.bytes(middle) <= max_memory else (low, middle - 1)
    tiles = -(-source.n_conditions // low)
    return -(-source.n_conditions // tiles)


class _Condensed:
    """The condensed RDM as tiles of the square one see it; of some of its `n` conditions where `members` says so."""

    def __init__(
        self, out: Floats, weight: float, add: bool, members: Index | None, n: int
    ) -> None:
        self._out, self._weight, self._add, self._members, self._n = out, weight, add, members, n

    def put(self, n: int, tile: Floats, first_row: int, first_column: int) -> None:
        """Put a tile that lies above the diagonal."""
        for i, row in enumerate(tile, first_row):
            self._row(n, i, first_column, row)

    def put_condensed(self, n: int, tile: Floats, first: int, height: int) -> None:
        """Put a condensed tile on the diagonal."""
        if height == n and self._members is None:
            self._add_to(self._out, tile)
            return
        begin = 0
        for i in range(height - 1):
            end = begin + height - 1 - i
            self._row(n, first + i, first + i + 1, tile[begin:end])
            begin = end

    def _row(self, n: int, i: int, j: int, entries: Floats) -> None:
        if self._members is None:
            begin = i * n - i * (i + 1) // 2 + j - i - 1
            self._add_to(self._out[begin : begin + len(entries)], entries)
            return
        row, columns = int(self._members[i]), self._members[j : j + len(entries)]
        places = row * self._n - row * (row + 1) // 2 + columns - row - 1
        self._out[places] += entries * self._weight

    def _add_to(self, to: Floats, entries: Floats) -> None:
        if self._weight != 1:
            entries = entries * self._weight
        if self._add:
            to += entries
        else:
            to[:] = entries


def _fill_part(
    out: _Condensed, source: Source, measure: Measure, height: int, n_threads: int
) -> Floats:
    n = source.n_conditions
    norms = np.empty(n)

    def rows(begin: int) -> Any:
        return source.take(begin, min(begin + height, n), n_threads)

    #: How each tile's conditions were read, without the rows that it was read from.
    seen: list[tuple[int, Found]] = []
    for begin in range(0, n, height):
        read = source.kind.read(rows(begin))
        found, own = within(measure, read, source.kind, n_threads)
        norms[begin : begin + height] = found.norms
        out.put_condensed(n, own, begin, found.read.n)
        del own, read
        for start, earlier in seen:
            again = earlier.reading(rows(start))
            tile = between(measure, again, found, n_threads)
            out.put(n, tile, start, begin)
            del tile, again
        if begin + height < n:
            seen.append((begin, found.reading(_NOTHING)))
    return norms


_NOTHING = np.empty((0, 0))
