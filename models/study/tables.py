"""Tables of scores as CSV, as Markdown and on the terminal."""

import csv
import io
import sys
from collections.abc import Mapping, Sequence
from typing import Any

HEADER = {
    "network": "network",
    "study": "study",
    "layer": "best layer",
    "evc": "EVC",
    "evc_rho": "mean ρ",
    "evc_published": "published",
    "evc_difference": "difference",
    "it": "IT",
    "it_rho": "mean ρ",
    "it_published": "published",
    "it_difference": "difference",
    "score": "score",
    "score_published": "published",
    "score_difference": "difference",
    "score_std": "SD",
    "evc_p": "p EVC",
    "it_p": "p IT",
    "note": "note",
}
"""Columns of the short tables, of `models.study.comparison.rows`, and their headings."""

_TEXT = ("network", "study", "layer")


def csv_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows with the same keys as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def markdown(
    headings: Sequence[str], lines: Sequence[Sequence[str]], text: Sequence[str] | None = None
) -> str:
    """Return a Markdown table; the columns headed by `text`, by default all, are not numbers."""
    rule = ["---" if text is None or heading in text else "---:" for heading in headings]
    return "".join(f"| {' | '.join(line)} |\n" for line in (headings, rule, *lines))


def scores_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the columns of `HEADER` as a Markdown table."""
    lines = [[cell(row[key], key) for key in HEADER] for row in rows]
    return markdown(list(HEADER.values()), lines)


def cell(value: Any, key: str) -> str:
    """Format a value: differences with sign, p in powers of ten, ‡ for a mean ρ below 0, empty for None."""
    if value is None:
        return ""
    if not isinstance(value, float):
        return str(value)
    if key.endswith("_p"):
        return f"{value:.1e}"
    if key.endswith("_rho"):
        return f"{value:+.3f}{' ‡' if value < 0 else ''}"
    return f"{value:+.2f}" if key.endswith("_difference") else f"{value:.2f}"


def print_scores(rows: Sequence[Mapping[str, Any]], caption: str) -> None:
    """Print the columns of `HEADER` and the notes."""
    from rich.console import Console
    from rich.table import Table

    drawn = Table(title="percent of noise ceiling", caption=caption or None, title_justify="left")
    headings = {key: heading for key, heading in HEADER.items() if key != "note"}
    for key, heading in headings.items():
        text = key in _TEXT
        drawn.add_column(heading, justify="left" if text else "right", no_wrap=text)
    console = Console(width=None if sys.stdout.isatty() else 200)
    for row in rows:
        if not row["note"]:
            drawn.add_row(*(cell(row[key], key) for key in headings))
    if drawn.row_count:
        console.print(drawn)
    for row in rows:
        if row["note"]:
            note = f"{row['network']}: not scored: {row['note']}"
            console.print(note, highlight=False, soft_wrap=True)
