"""Rows and tables as commands print them."""

import contextlib
import csv
import dataclasses
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from fastrdm.scoring import scorer as scoring

_SIGNIFICANT = 0.05


def plain(result: scoring.Result) -> dict[str, Any]:
    """A result for JSON, which has no NaN."""
    return {
        key: None if isinstance(value, float) and math.isnan(value) else value
        for key, value in dataclasses.asdict(result).items()
    }


def csv_writer(stack: contextlib.ExitStack, path: str | None) -> Any:
    """A writer of rows as CSV."""
    if path is None:
        return lambda results: None
    file: IO[str] = stack.enter_context(Path(path).open("w", newline="", encoding="utf-8"))  # noqa: SIM115
    writer = csv.DictWriter(file, [field.name for field in dataclasses.fields(scoring.Result)])
    writer.writeheader()

    def write(results: Sequence[scoring.Result]) -> None:
        writer.writerows(dataclasses.asdict(result) for result in results)
        file.flush()

    return write


def cell_of(result: scoring.Result, squared: bool) -> str:
    """A value as a table shows it."""
    sign = f" {result.mean_rho:+.3f}{'‡' if result.mean_rho < 0 else ' '}" if squared else ""
    if math.isnan(result.low):
        return f"{result.percent_nc:.2f} ± {100 * result.std / result.ceiling:.2f}{sign}"
    mark = "†" if result.p_corrected < _SIGNIFICANT else " "
    return f"{result.percent_nc:.2f} [{result.low:.1f}, {result.high:.1f}]{mark}{sign}"


def print_rows(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table, by rich where it is installed."""
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        lines = [*([header] if header else []), *rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for line in lines:
            cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            print("  ".join(cells).rstrip())
        return
    table = Table(*header, show_header=bool(header), box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 200, markup=False).print(table, highlight=False)
