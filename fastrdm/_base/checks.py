"""Checks of arguments: each returns or raises a ValueError that names the argument and its value."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")

# Values are searched in pieces, to bound the memory of the mask.
_MASK_BYTES = 1 << 24


def check_choice(value: object, options: Iterable[str], name: str) -> None:
    """Refuse a value that is not one of `options`."""
    if value not in (options := tuple(options)):
        raise ValueError(f"{name} {value!r} is not one of: {', '.join(options)}")


def choose(key: str, table: Mapping[str, T], name: str) -> T:
    """Return the table's entry for a key; refuse an unknown key."""
    check_choice(key, table, name)
    return table[key]


def check_integer(number: object, name: str, least: int | None = None) -> None:
    """Refuse anything but an integer of at least `least`."""
    if isinstance(number, bool) or not isinstance(number, (int, np.integer)):
        raise ValueError(f"{name} must be an integer, not {number!r}")
    if least is not None and number < least:
        raise ValueError(f"{name} must be at least {least}, not {number}")


def check_fraction(number: float, name: str) -> None:
    """Refuse a number that is not between 0 and 1, both excluded."""
    if not 0 < number < 1:
        raise ValueError(f"{name} must be between 0 and 1, not {number}")


def check_finite(
    array: NDArray[Any], name: str, axes: Iterable[str] = (), *, allow_nan: bool = False
) -> None:
    """Refuse NaN and infinity; the error gives the place of the first, with `axes` as names of the leading axes."""
    # A sum is finite only if all its terms are; in the usual case this avoids the masks.
    with np.errstate(all="ignore"):
        if np.isfinite(np.sum(array)):
            return
    items = array.reshape(1) if array.ndim == 0 else array
    step = max(1, _MASK_BYTES // max(1, items[:1].size))
    count, first = 0, None
    for start in range(0, len(items), step):
        block = items[start : start + step]
        bad = np.isinf(block) if allow_nan else ~np.isfinite(block)
        n_bad = int(bad.sum())
        if n_bad and first is None:
            item, *rest = np.unravel_index(int(np.argmax(bad)), bad.shape)
            first = (start + int(item), *(int(i) for i in rest))
        count += n_bad
    if first is None:
        return
    axes = (*axes, *(f"axis {i}" for i in range(len(tuple(axes)), array.ndim)))
    where = ", ".join(f"{axis} {i}" for axis, i in zip(axes, first, strict=False))
    raise finite_error(name, count, float(items[first]), where)


def finite_error(name: str, count: int, first: float, where: str) -> ValueError:
    """Return the error of values that are not finite, with the first of them and its place."""
    value = "NaN" if np.isnan(first) else "infinity"
    if count == 1:
        return ValueError(f"{name} has a value that is not finite: {value} at {where}")
    return ValueError(
        f"{name} has {count} values that are not finite; the first is {value} at {where}"
    )
