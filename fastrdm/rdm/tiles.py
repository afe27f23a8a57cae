"""Sources → an RDM: in one piece, or as tiles of pairs of conditions that fit into a memory limit.

The dissimilarity of a pair does not depend, by a bit, on its tile.
"""

from bisect import bisect_right
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrdm import _kernels
from fastrdm.rdm.conditions import (
    Conditions,
    OutOfRangeError,
    crossed,
    multiplied,
    out_of_range,
)
from fastrdm.rdm.measures import Measure
from fastrdm.rdm.pairs import dissimilarities
from fastrdm.rdm.products import Floats, Index
from fastrdm.rdm.sources import RowSource, SourceSum, Term

# float64 tiles alive at the same time: the kernel's sums and result, dissimilarities, and temporaries of refinement.
_TILES = 6
# Bytes of a thread's private sums, and of each row of its packed operands.
_THREAD_SUMS = 1 << 21
_PACKED_ROW = 1 << 13


def _tile_bytes(source: RowSource, height: int, n_threads: int) -> int:
    """Return the memory of tiles of so many conditions."""
    n, n_channels, entries = source.n_conditions, source.n_channels, height**2
    width = min(_kernels.share(n_channels, 8), n_channels)
    # Shifts, sums and norms of all conditions; the centre, its sample and temporaries of the checks.
    fixed = 64 * n + 64 * n_channels + source.work_bytes + n_threads * 48 * _PACKED_ROW
    # Both tiles: their rows, a stripe in float64 and the packed operands; one tile: what near pairs need.
    row = 2 * (source.row_bytes + 8 * width + n_threads * _PACKED_ROW) + 16 * width
    sums = (n_threads + 2) * min(8 * entries, _THREAD_SUMS)
    return fixed + row * height + 8 * _TILES * entries + sums


def fill(
    out: Floats, total: SourceSum, measure: Measure, max_memory: int | None, n_threads: int
) -> NDArray[np.intp]:
    """Write the condensed RDM of a sum of sources into `out`; return the conditions without dissimilarities."""
    try:
        undefined = _fill(out, total.terms, measure, max_memory, n_threads)
        exponent = 0
    except OutOfRangeError:
        for term in total.terms:
            term.source.check_finite()
        if measure.undefined:
            raise
        exponent = max(_exponent(term.source, n_threads) for term in total.terms)
        scaled = [term._replace(source=term.source.scaled(exponent)) for term in total.terms]
        undefined = _fill(out, scaled, measure, max_memory, n_threads)
    if np.ndim(total.divisor) or total.divisor != 1:
        out /= total.divisor
    if measure.root:
        np.sqrt(out, out=out)
    if exponent:
        # Lengths may be as small as the smallest number; squares lose digits long before.
        least = (
            np.finfo(np.float64).smallest_subnormal if measure.root else np.finfo(np.float64).tiny
        )
        _unscale(out, exponent if measure.root else 2 * exponent, float(least))
    return undefined


def _exponent(source: RowSource, n_threads: int) -> int:
    """Return the binary exponent of the largest magnitude."""
    largest = 0.0
    for i in range(source.n_conditions):
        row = source.take(i, i + 1, n_threads)
        largest = max(largest, -float(row.min()), float(row.max()))
    return int(np.frexp(largest)[1])


def _unscale(out: Floats, exponent: int, least: float) -> None:
    with np.errstate(all="ignore"):
        power, lowest = np.abs(out).max(), np.abs(out[out != 0]).min(initial=np.inf)
        if not np.ldexp(power, exponent) < np.inf or np.ldexp(lowest, exponent) < least:
            raise out_of_range("large or small")
        np.ldexp(out, exponent, out=out)


def _fill(
    out: Floats, terms: list[Term], measure: Measure, max_memory: int | None, n_threads: int
) -> NDArray[np.intp]:
    heights = [height_of(source, max_memory, n_threads) for _, source, _ in terms]
    undefined: NDArray[np.intp] = np.empty(0, np.intp)
    if terms[0].members is not None:
        out[:] = 0
    for k, (term, height) in enumerate(zip(terms, heights, strict=True)):
        into = _Condensed(out, term.weight, k > 0 or term.members is not None, term.members)
        norms = _fill_term(into, term.source, measure, height, n_threads)
        if measure.undefined:
            undefined = np.flatnonzero(np.isnan(norms))
    return undefined


def least_bytes(source: RowSource, n_threads: int) -> int:
    """Return the memory of tiles of one condition."""
    return _tile_bytes(source, 1, n_threads)


def height_of(source: RowSource, max_memory: int | None, n_threads: int) -> int:
    """Return the conditions of a tile: all, or as many as a memory limit allows."""
    return source.n_conditions if max_memory is None else _height(source, max_memory, n_threads)


def _height(source: RowSource, max_memory: int, n_threads: int) -> int:
    """Return the conditions of a tile: all, or equal shares as large as the limit allows."""
    n = source.n_conditions
    least = least_bytes(source, n_threads)
    if least > max_memory:
        raise ValueError(
            f"max_memory of {max_memory} bytes is too small for {n} conditions × {source.n_channels} channels on"
            f" {n_threads} threads; the minimum is {least} bytes"
        )
    heights = range(1, n + 1)
    fitting = bisect_right(heights, max_memory, key=lambda h: _tile_bytes(source, h, n_threads))
    tiles = -(-n // fitting)
    return -(-n // tiles)


class _Condensed:
    """Condensed RDM that tiles of the square RDM are written to; `members` are the tiles' conditions, if not all."""

    def __init__(self, out: Floats, weight: float, add: bool, members: Index | None) -> None:
        self._out, self._weight, self._add, self._members = out, weight, add, members
        self._n = (1 + int(np.sqrt(1 + 8 * len(out)))) // 2

    def put(self, tile: Floats, first_row: int, first_column: int) -> None:
        """Write a tile above the diagonal."""
        for i, row in enumerate(tile, first_row):
            self._row(i, first_column, row)

    def put_condensed(self, tile: Floats, first: int, height: int) -> None:
        """Write a condensed tile on the diagonal."""
        if height == self._n and self._members is None:
            self._add_to(self._out, tile)
            return
        begin = 0
        for i in range(height - 1):
            end = begin + height - 1 - i
            self._row(first + i, first + i + 1, tile[begin:end])
            begin = end

    def _row(self, i: int, j: int, entries: Floats) -> None:
        if self._members is None:
            begin = i * self._n - i * (i + 1) // 2 + j - i - 1
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


class Tile(NamedTuple):
    """Products of some conditions with others; on the diagonal of the square RDM, both sides are the same."""

    row: int
    column: int
    sides: tuple[Conditions, Conditions]
    product: Floats

    @property
    def is_diagonal(self) -> bool:
        """Whether both sides are the same conditions."""
        return self.row == self.column


def products_of(source: RowSource, height: int, n_threads: int) -> Iterator[Tile]:
    """Multiply all pairs of conditions: tiles of so many conditions, on the diagonal and above it."""
    n = source.n_conditions

    def rows(begin: int) -> Any:
        return source.take(begin, min(begin + height, n), n_threads)

    # Earlier conditions without their rows, which are taken again.
    earlier: list[tuple[int, Conditions]] = []
    for begin in range(0, n, height):
        columns, product = multiplied(source.kind.read(rows(begin)), source.kind, n_threads)
        yield Tile(begin, begin, (columns, columns), product)
        del product
        for start, side in earlier:
            again = side.with_rows(rows(start))
            yield Tile(start, begin, (again, columns), crossed(again, columns, n_threads))
            del again
        if begin + height < n:
            earlier.append((begin, columns.with_rows(np.empty((0, 0)))))


def _fill_term(
    out: _Condensed, source: RowSource, measure: Measure, height: int, n_threads: int
) -> Floats:
    norms = np.empty(source.n_conditions)
    for tile in products_of(source, height, n_threads):
        operand, values, _ = dissimilarities(
            measure, tile.sides, tile.product, tile.is_diagonal, n_threads
        )
        if tile.is_diagonal:
            norms[tile.row : tile.row + height] = operand.norms
            out.put_condensed(values, tile.row, operand.read.n)
        else:
            out.put(values.reshape(tile.product.shape), tile.row, tile.column)
        del tile, operand, values
    return norms
