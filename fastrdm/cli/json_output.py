"""JSON on standard output: one document for each command, with rows that are written as they come.

A document is an array of objects or one object; with rows, each stands on a line of its own. NaN is null.
"""

import argparse
import math
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

from fastrdm._base import json_text
from fastrdm.cli.printing import OutputClosedError, write


def add_json(parser: argparse._ActionsContainer, content: str = "one JSON object") -> None:
    """Add `--json`, with what it prints."""
    parser.add_argument("--json", action="store_true", help=f"print {content} on standard output")


def echo_json_rows(rows: Iterable[Any]) -> None:
    """Write an array of rows to standard output, each on a line of its own."""
    text = ",\n".join(map(json_text, rows))
    write(f"[\n{text}\n]\n" if text else "[]\n", flush=True)


def without_nan(value: Any) -> Any:
    """Return a value with None in place of NaN, which JSON does not have."""
    return None if isinstance(value, float) and math.isnan(value) else value


class JsonRows:
    """One JSON object on standard output: the list `name`, whose rows are written as they come, then other members.

    As a context, it ends the object also when an error or a signal stops the command after the first row. Without a
    row, an error leaves standard output empty.
    """

    def __init__(self, name: str, *lists: str) -> None:
        self._start, self._n = json_text(name), 0
        #: Members that follow the rows; `lists` are empty lists among them.
        self.more: dict[str, Any] = {each: [] for each in lists}

    def add(self, row: Any) -> None:
        """Write a row."""
        start = ",\n" if self._n else f"{{{self._start}: [\n"
        write(f"{start}{json_text(row)}", flush=True)
        self._n += 1

    def __enter__(self) -> Self:
        """Return the object; nothing is written yet."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Write the other members, and end the object."""
        if isinstance(error, OutputClosedError) or (error is not None and not self._n):
            return
        start = "\n]" if self._n else f"{{{self._start}: []"
        more = "".join(
            f", {json_text(name)}: {json_text(value)}" for name, value in self.more.items()
        )
        write(f"{start}{more}}}\n", flush=True)
