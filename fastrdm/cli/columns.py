"""Rows of text as aligned columns."""

import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence


def aligned(
    rows: Callable[[], Iterable[Sequence[str]]], right: Collection[str] = ()
) -> Iterator[str]:
    """Yield rows as lines with aligned columns; those that the first row names in `right` end at one place.

    `rows` is called twice, so that a long table need not be in memory.
    """
    lines = iter(rows())
    header = next(lines)
    widths = [len(cell) for cell in header]
    for cells in lines:
        widths = [max(width, len(cell)) for width, cell in zip(widths, cells, strict=True)]
    justify = [str.rjust if name in right else str.ljust for name in header]
    for cells in rows():
        padded = (pad(text, width) for pad, text, width in zip(justify, cells, widths, strict=True))
        yield "  ".join(padded).rstrip()


def print_rows(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table, by rich where it is installed."""
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        print(*aligned(lambda: [header, *rows] if header else rows), sep="\n")
        return
    table = Table(*header, show_header=bool(header), box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 200, markup=False).print(table, highlight=False)
