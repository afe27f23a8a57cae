"""RDMs within a bound of memory: tiles of pairs of conditions, over stripes of channels where those must be copied."""

import re
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrdm.measures import Measure, Measured, within
from fastrdm.products import Floats, Reading
from fastrdm.sources import Source

# Channels copied at a time: enough that products cost more than adding them up.
_WIDTH = 1024
# float64 tiles alive at once: the kernel's sums and result, the total, and what its correction takes.
_TILES = 6
# Bytes that a thread may hold of sums of its own, and of each row of its packed operands.
_OWN_SUMS = 1 << 23
_PACKED_ROW = 1 << 13

_UNITS = {"": 1, "b": 1} | {
    f"{prefix}{infix}b": base ** (power + 1)
    for infix, base in (("", 1000), ("i", 1024))
    for power, prefix in enumerate("kmgt")
}


def n_bytes(max_memory: int | str) -> int:
    """Bytes as a number, or written with a unit: ``"500MB"``, ``"2GiB"``."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", str(max_memory).lower())
    unit = _UNITS.get(found[2]) if found else None
    if isinstance(max_memory, bool) or found is None or unit is None:
        raise ValueError(
            f"max_memory {max_memory!r} is no number of bytes; give one such as 500_000_000, '500MB' or '2GiB'"
        )
    return int(float(found[1]) * unit)


class _Cost(NamedTuple):
    """Memory that tiles of a height take: a constant, a share for each row of a tile, another for each entry."""

    fixed: int
    row: int
    entry: int
    own_sums: int

    @classmethod
    def of(cls, source: Source, n_threads: int) -> "_Cost":
        n = source.n_conditions
        width = min(_WIDTH, source.n_channels)
        # Shifts, sums and norms of all conditions; the centre, its sample and the checks' temporaries.
        fixed = 64 * n + 64 * source.n_channels + source.work_bytes + n_threads * 48 * _PACKED_ROW
        # Of both tiles what was taken, a stripe of it in float64 and the packed operands; of one what near pairs need.
        row = 2 * (source.row_bytes + 8 * width + n_threads * _PACKED_ROW) + 16 * width
        return cls(fixed, row, 8 * _TILES, n_threads)

    def bytes(self, height: int) -> int:
        entries = height**2
        return (
            self.fixed
            + self.row * height
            + self.entry * entries
            + self.own_sums * min(8 * entries, _OWN_SUMS)
        )


def fill(
    out: Floats,
    terms: list[tuple[float, Source]],
    measure: Measure,
    max_memory: int,
    n_threads: int,
) -> NDArray[np.intp]:
    """Put the condensed sum of the terms' dissimilarities into `out`; gives the conditions that have none."""
    heights = [_height(source, max_memory, n_threads) for _, source in terms]
    undefined: NDArray[np.intp] = np.empty(0, np.intp)
    for term, ((weight, source), height) in enumerate(zip(terms, heights, strict=True)):
        norms = _fill_term(_Condensed(out, weight, term > 0), source, measure, height, n_threads)
        if measure.undefined:
            undefined = np.flatnonzero(norms == 0)
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
    """The condensed RDM as tiles of the square one see it."""

    def __init__(self, out: Floats, weight: float, add: bool) -> None:
        self._out, self._weight, self._add = out, weight, add

    def put(self, n: int, tile: Floats, first_row: int, first_column: int) -> None:
        """Put what lies above the diagonal of a tile."""
        if self._weight != 1:
            tile *= self._weight
        for i, row in enumerate(tile, first_row):
            j = max(first_column, i + 1)
            begin = i * n - i * (i + 1) // 2 + j - i - 1
            entries = row[j - first_column :]
            to = self._out[begin : begin + len(entries)]
            if self._add:
                to += entries
            else:
                to[:] = entries


def _fill_term(
    out: _Condensed, source: Source, measure: Measure, height: int, n_threads: int
) -> Floats:
    n = source.n_conditions
    norms = np.empty(n)
    centre = source.centre(n_threads) if measure.centred else None

    def read(begin: int) -> Reading:
        rows = source.take(begin, min(begin + height, n), n_threads)
        return Reading.of(rows, _WIDTH, centre)

    #: How each tile's conditions were read, without the rows that it was read from.
    seen: list[_Seen] = []
    for begin in range(0, n, height):
        found = within(measure, read(begin), source.check_finite, n_threads)
        own = norms[begin : begin + height]
        own[:] = found.product.diagonal()
        measure.finish(found.product, own, own)
        out.put(n, found.product, begin, begin)
        later = found._replace(product=np.empty((0, 0)))
        del found
        for earlier in seen:
            other = norms[earlier.begin : earlier.begin + height]
            tile = measure.between(
                earlier.measured(read(earlier.begin)), later, other, own, n_threads
            )
            measure.finish(tile, other, own)
            out.put(n, tile, earlier.begin, begin)
            del tile
        seen.append(_Seen.of(begin, later))
    return norms


class _Seen(NamedTuple):
    begin: int
    dtype: np.dtype[Any]
    shift: Floats | None
    scale: Floats | None
    sums: Floats

    @classmethod
    def of(cls, begin: int, found: Measured) -> "_Seen":
        read = found.read
        return cls(begin, read.dtype, read.shift, read.scale, found.sums)

    def measured(self, read: Reading) -> Measured:
        again = read._replace(dtype=self.dtype, shift=self.shift, scale=self.scale)
        return Measured(again, np.empty((0, 0)), self.sums)
