"""Rows of text as aligned columns."""

import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from fastrdm._base import printable
from fastrdm.cli.printing import console, echo


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
    """A table, by rich where it is installed."""
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
