"""What a proof has found so far, in `proof.json` and `proof.md`."""

import json
import math
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastrdm._base import new_file, one_line

Row = Mapping[str, Any]


class Record:
    """The rows of each section; both files are replaced after each row."""

    def __init__(self, folder: Path, title: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._title = folder, title
        self._sections: dict[str, dict[str, Any]] = {}
        self._start = 0.0

    def begin(self, name: str, title: str, text: str) -> None:
        """Begin a section."""
        self._start = time.monotonic()
        self._sections[name] = {"title": title, "text": text, "seconds": 0.0, "rows": []}
        self._write(name)

    def add(self, name: str, row: Row) -> None:
        """Add a row to a section."""
        self._sections[name]["rows"].append(dict(row))
        self._write(name)

    def rows(self) -> dict[str, list[Row]]:
        """Return the rows of each section."""
        return {name: section["rows"] for name, section in self._sections.items()}

    def _write(self, name: str) -> None:
        self._sections[name]["seconds"] = time.monotonic() - self._start
        parts = [f"# {self._title}"]
        for section in self._sections.values():
            parts += [f"## {section['title']}", section["text"], table(section["rows"])]
            parts += [f"{section['seconds']:.0f} s."]
        texts = {
            "proof.json": json.dumps(_plain(self._sections), indent=1, allow_nan=False),
            "proof.md": "\n\n".join(filter(None, parts)),
        }
        for file, text in texts.items():
            with new_file(self._folder / file) as out:
                out.write((text + "\n").encode())


def failure(error: Exception) -> dict[str, str]:
    """Print the traceback of an error that is being handled, and return what a row says of it."""
    traceback.print_exc()
    return {"error": f"{type(error).__name__}: {one_line(error)}"}


def table(rows: Sequence[Row]) -> str:
    """Return rows as a Markdown table."""
    if not rows:
        return ""
    head = list(dict.fromkeys(name for row in rows for name in row))
    lines = [head, ["---"] * len(head), *([_text(row.get(name)) for name in head] for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _text(value: Any) -> str:
    if value is None:
        return "–"
    text = f"{value:.3g}" if isinstance(value, float) and abs(value) < 1000 else str(value)
    if isinstance(value, float) and abs(value) >= 1000:
        text = f"{value:.0f}"
    return text.replace("|", "\\|").replace("\n", " ")


def _plain(value: Any) -> Any:
    """The same for JSON, which has no NaN and no infinity."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
