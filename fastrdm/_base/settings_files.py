"""Files of settings, TOML and JSON: read within a bound of size, and damaged ones refused in one sentence."""

import csv
import io
import json
import os
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastrdm._base.files import open_regular
from fastrdm._base.text import one_line
from fastrdm._base.units import format_bytes

_MAX_BYTES = 64 * 2**20
# A dotted key of 100 parts; the time and memory that `tomllib` takes grow with the square of their number.
_LONG_KEY = re.compile(r"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){100}""")


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file; ValueError if it is damaged, too large or nested too deeply."""
    content: dict[str, Any] = _read(path, _parse_toml, "TOML")
    return content


def _parse_toml(text: str) -> dict[str, Any]:
    if _LONG_KEY.search(text):
        raise ValueError("it has a key of more than 100 parts")
    return tomllib.loads(text)


def read_json(path: Path) -> Any:
    """Read a JSON file; ValueError if it is damaged, too large or nested too deeply."""
    return _read(path, parse_json, "JSON")


def parse_json(text: str | bytes) -> Any:
    """Read JSON; ValueError if it is damaged, or nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_lines(path: Path, name: str) -> list[str]:
    """Read the lines of a text file, which has a name in messages; ValueError if it is not UTF-8, or too large."""
    # Spreadsheet programs write a byte-order mark.
    return _text(path, "utf-8-sig", name, "UTF-8 text").splitlines()


def read_column(lines: list[str], column: str, name: str) -> list[str] | None:
    """Return a column of CSV, with empty text where it is missing; None if the first line does not name it.

    `name` is that of the file in the ValueError for damaged ones.
    """
    try:
        rows = csv.DictReader(lines)
        if column not in (rows.fieldnames or ()):
            return None
        return [row[column] or "" for row in rows]
    except csv.Error as error:
        raise ValueError(f"{name} is not valid CSV: {error}") from None


def _read(path: Path, parse: Callable[[str], Any], kind: str) -> Any:
    text = _text(path, "utf-8", str(path), f"valid {kind}")
    try:
        return parse(text)
    # Damage is a ValueError; TOML has none of its own for deep nesting.
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid {kind}: {one_line(error)}") from error


def _text(path: Path, encoding: str, name: str, kind: str) -> str:
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > _MAX_BYTES:
            raise ValueError(f"{name} is not {kind} that is read: it has {format_bytes(size)}")
        content = file.read(_MAX_BYTES)
    try:
        return io.TextIOWrapper(io.BytesIO(content), encoding).read()
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} is not {kind}: {one_line(error)}") from error
