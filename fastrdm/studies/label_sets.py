"""Labels of conditions in a file: variables of text, and coordinates of named axes."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from fastrdm._base import CELL, TEXT, Contents


def texts_of(value: Any) -> tuple[str, ...] | None:
    """Return a list of text or whole numbers as text; None for other values."""
    if isinstance(value, Mapping):
        # rsatoolbox writes lists of mixed types as groups, named by position.
        if not value or not all(str(key).isdigit() for key in value):
            return None
        value = [value[key] for key in sorted(value, key=lambda key: int(str(key)))]
        value = [np.asarray(each).item() if np.size(each) == 1 else each for each in value]
        if not all(isinstance(each, (str, bytes, int)) for each in value):
            return None
    array = np.asarray(value)
    if array.dtype == object:
        items = [np.asarray(each) for each in array.flat]
        if not all(each.size == 1 and each.dtype.kind in "US" for each in items):
            return None
        array = np.array([each.item() for each in items])
    if array.ndim > 1:
        array = array.ravel() if max(array.shape) == array.size else array
    if array.ndim != 1 or array.dtype.kind not in "USiu":
        return None
    texts = (
        t.decode("utf-8", "replace") if isinstance(t, bytes) else str(t) for t in array.tolist()
    )
    return tuple(text.strip() for text in texts)


def label_sets(
    values: Mapping[str, Any], n: int, *, unique: bool = True
) -> dict[str, tuple[str, ...]]:
    """Return those values that give each of n conditions a label, by default each another one."""
    sets = {}
    for name, value in values.items():
        texts = texts_of(value)
        if texts is None or len(texts) != n or not all(texts):
            continue
        if not unique or len(set(texts)) == n:
            sets[name] = texts
    return sets


def coordinates_of(contents: Contents, axes: Sequence[str]) -> dict[str, Any]:
    """Return the coordinates of axes."""
    return {
        key.rpartition("/")[2]: contents.read(key)
        for key, entry in contents.entries.items()
        if len(entry.axes) == 1 and entry.axes[0] in axes
    }


def text_labels(
    contents: Contents, key: str, n: int, *, unique: bool = True
) -> dict[str, tuple[str, ...]]:
    """Return the variables of text with n values in the same group or above it, by name without the group.

    Of equal names, that in the nearest group counts. By default all values of a variable differ.
    """
    found: dict[str, Any] = {}
    for path, entry in sorted(contents.entries.items(), key=lambda item: len(item[0])):
        sizes = {TEXT: (prod(entry.shape), *entry.shape[:1]), CELL: (prod(entry.shape),)}
        at = max(path.rfind("/"), path.rfind(".") if entry.is_nested else -1) + 1
        if key.startswith(path[:at]) and n in sizes.get(entry.kind, ()):
            value = contents.read(path)
            if not _is_numeric(value):
                found[path[at:]] = value
    return label_sets(found, n, unique=unique)


def _is_numeric(value: Any) -> bool:
    return np.asarray(value).dtype.kind in "biufc"
