"""Rows of text as aligned columns."""

import itertools
import shutil
import sys
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import IO, Any

from fastrdm._base import printable
from fastrdm.cli.printing import console, echo

# Rows up to which rich prints a table, which takes a millisecond for three.
_MOST_ROWS = 500
# Characters to which a column of text may shrink on a narrow terminal.
_LEAST_WIDTH = 10


def aligned(
    rows: Callable[[], Iterable[Sequence[str]]], right: Collection[str] = ()
) -> Iterator[str]:
    """Yield rows as lines with aligned columns; those that the first row names in `right` end at one place.

    `rows` is called twice, so that a long table need not be in memory.
    """
    lines = _printable(rows)
    header = next(lines)
    widths = [_width(cell) for cell in header]
    for cells in lines:
        widths = [max(width, _width(cell)) for width, cell in zip(widths, cells, strict=True)]
    for cells in _printable(rows):
        padded = []
        for name, cell, width in zip(header, cells, widths, strict=True):
            space = " " * (width - _width(cell))
            padded.append(space + cell if name in right else cell + space)
        yield "  ".join(padded).rstrip()


def _width(text: str) -> int:
    """Columns that a terminal takes to show text."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return len(text) + wide - sum(map(_has_no_width, text))


def _has_no_width(character: str) -> bool:
    return unicodedata.category(character) in ("Mn", "Me")


def _printable(rows: Callable[[], Iterable[Sequence[str]]]) -> Iterator[list[str]]:
    for cells in rows():
        yield list(map(printable, cells))


def print_rows(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table, by rich where it is installed."""
    try:
        import rich.console  # noqa: F401
        from rich.table import Table
    except ImportError:
        for line in aligned(lambda: [header, *rows] if header else rows):
            echo(line)
        return
    table = Table(*header, show_header=bool(header), box=None, pad_edge=False)
    for row in rows:
        table.add_row(*map(printable, row))
    with console(width=200) as out:
        out.print(table)


def print_table(
    rows: Callable[[], Iterable[Sequence[str]]],
    right: Collection[str] = (),
    file: IO[str] | None = None,
) -> None:
    """Print rows, of which the first has the names of columns: on a terminal by rich, as wide as it is, else aligned.

    On a terminal, long texts continue on the next line. Lines are as long as they need to be for a long table, without
    rich, and where the numbers alone are wider than the terminal. `right` is as for `aligned`.
    """
    if file in (None, sys.stdout) and sys.stdout.isatty():
        table = _rich_table(list(itertools.islice(_printable(rows), _MOST_ROWS + 2)), right)
        if table is not None:
            with console(width=0) as out:
                out.print(table)
            return
    for line in aligned(rows, right):
        echo(line, file)


def _rich_table(cells: Sequence[Sequence[str]], right: Collection[str]) -> Any:
    """The table; None if it cannot be shown on the terminal."""
    if len(cells) > _MOST_ROWS + 1:
        return None
    try:
        from rich.table import Table
    except ImportError:
        return None
    width, table = 0, Table(box=None, pad_edge=False, header_style="bold")
    for name, *column in zip(*cells, strict=True):
        needed = max(map(_width, (name, *column)))
        if name in right:
            table.add_column(name, justify="right", no_wrap=True)
        else:
            needed = min(needed, _LEAST_WIDTH)
            table.add_column(name, overflow="fold", min_width=needed)
        # With the spaces between columns.
        width += needed + 2
    for row in cells[1:]:
        table.add_row(*row)
    return table if width <= shutil.get_terminal_size().columns else None
