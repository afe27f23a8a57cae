"""The times of a file's time points: a variable of numbers, one for each."""

from typing import Any

import numpy as np

from fastrdm._base import NUMBERS, Contents, suggestion

# Names of variables and of axes begin with it.
_TIME = "time"


def times_of(
    contents: Contents, chosen: str | None, n_times: int, source: str, argument: str
) -> tuple[float, ...] | None:
    """Return the times of RDMs with a time axis, None if the file has none.

    `chosen` names their variable; `argument` is its name in errors. By default it is the variable whose name, or whose
    only axis, begins with "time" (``times`` and ``time`` come first), if it has an increasing number for each time
    point. ValueError if the chosen variable does not exist or is not such numbers.
    """
    if chosen is not None:
        if chosen not in contents.entries:
            raise ValueError(
                f"{argument} = {chosen!r} is not a variable of {contents.path}"
                f"{suggestion(chosen, contents.entries)}"
            )
        found = _increasing(contents.read(chosen), n_times)
        if found is None:
            raise ValueError(
                f"{argument} = {chosen!r} of {contents.path}, {contents.entries[chosen]}, does not have an increasing"
                f" number for each of the {n_times} time points of {source}"
            )
        return found
    for _, key in sorted((_rank(contents, key), key) for key in contents.entries):
        if _rank(contents, key) > _LAST:
            break
        if (found := _increasing(contents.read(key), n_times)) is not None:
            return found
    return None


# The rank of the last variables that may be times.
_LAST = 2


def _rank(contents: Contents, key: str) -> int:
    entry, name = contents.entries[key], key.rpartition("/")[2].lower()
    if entry.kind != NUMBERS or sum(n > 1 for n in entry.shape) > 1:
        return _LAST + 1
    if name in ("times", _TIME):
        return 0
    if name.startswith(_TIME):
        return 1
    is_coordinate = len(entry.axes) == 1 and entry.axes[0].lower().startswith(_TIME)
    return 2 if is_coordinate else _LAST + 1


def _increasing(value: Any, n_times: int) -> tuple[float, ...] | None:
    array = np.asarray(value)
    if array.dtype.kind not in "iuf" or array.size != n_times:
        return None
    times = array.ravel().astype(np.float64)
    is_right = np.isfinite(times).all() and (np.diff(times) > 0).all()
    return tuple(times.tolist()) if is_right else None
