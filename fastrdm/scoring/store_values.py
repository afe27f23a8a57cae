"""Values of a store's rows, checked when they are read: other programs can change them."""

import json
import math
import os
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import encodable

_SHA256 = re.compile("[0-9a-f]{64}")


def stored(path: str) -> str | bytes:
    """A path as a store holds it: text, or the bytes of a file name that is not UTF-8."""
    return path if encodable(path) == path else os.fsencode(path)


class RowError(ValueError):
    """A value in a store is not what its column holds; the message names the column."""


def text(value: Any, column: str) -> str:
    """Return a text."""
    if not isinstance(value, str):
        raise RowError(f"{column} is {_shown(value)}, not text")
    return value


def path(value: Any, column: str = "a path") -> str:
    """Return a path that `stored` has converted."""
    return os.fsdecode(value) if isinstance(value, bytes) else text(value, column)


def integer(value: Any, column: str, least: int = 0) -> int:
    """Return an integer of at least `least`."""
    if not isinstance(value, int) or value < least:
        raise RowError(f"{column} is {_shown(value)}, not an integer of at least {least}")
    return value


def number(value: Any, column: str) -> float:
    """Return a number; NaN for None, because SQLite has no NaN."""
    if value is None:
        return math.nan
    if not isinstance(value, float):
        raise RowError(f"{column} is {_shown(value)}, not a number")
    return value


def sha256(value: Any, column: str) -> str:
    """Return a SHA-256 in hexadecimal digits."""
    if not isinstance(value, str) or not _SHA256.fullmatch(value):
        raise RowError(f"{column} is {_shown(value)}, not a SHA-256")
    return value


def facts(value: Any, column: str) -> dict[str, Any]:
    """Return a JSON object."""
    try:
        found = json.loads(text(value, column))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise RowError(f"{column} is {_shown(value)}, not a JSON object")
    return found


def texts(value: Any, column: str) -> dict[str, str]:
    """Return a JSON object whose values are texts."""
    return {name: text(each, f"{name} in {column}") for name, each in facts(value, column).items()}


def similarities(value: Any, column: str) -> NDArray[np.float64]:
    """Return the similarities of one or more subjects."""
    if not isinstance(value, bytes) or not value or len(value) % 8:
        raise RowError(f"{column} is {_shown(value)}, not the numbers of subjects")
    return np.frombuffer(value, "<f8")


def _shown(value: Any) -> str:
    return "missing" if value is None else f"{value!r:.40}"
