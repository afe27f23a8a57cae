"""Warnings that are recorded instead of issued, in any thread.

`warnings.catch_warnings` changes the filters of the whole process: two threads that enter and leave it in turn leave
wrong filters behind. Outside the main thread, only the warnings of fastrdm are therefore recorded.
"""

import contextlib
import sys
import threading
import warnings
from collections.abc import Iterator
from contextvars import ContextVar

_RECORD: ContextVar[list[Warning] | None] = ContextVar("fastrdm_warnings", default=None)


def issue(warning: Warning, stacklevel: int = 1) -> None:
    """Issue a warning for a caller, or record it in a block of `recorded_warnings`."""
    record = _RECORD.get()
    if record is None:
        warnings.warn(warning, stacklevel=stacklevel + 1)
    else:
        record.append(warning)


def warn_caller(message: str | Warning, category: type[Warning] = RuntimeWarning) -> None:
    """Issue a warning for the line outside fastrdm that made the call; a `Warning` keeps its class."""
    level, frame = 1, sys._getframe()
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] == "fastrdm":
        level, frame = level + 1, frame.f_back
    warning = message if isinstance(message, Warning) else category(message)
    issue(warning, stacklevel=level)


@contextlib.contextmanager
def recorded_warnings() -> Iterator[list[Warning]]:
    """Record warnings; yields their list, which is complete at the end of the block."""
    record: list[Warning] = []
    if threading.current_thread() is not threading.main_thread():
        token = _RECORD.set(record)
        try:
            yield record
        finally:
            _RECORD.reset(token)
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield record
        finally:
            for each in caught:
                message = each.message
                record.append(
                    message if isinstance(message, Warning) else each.category(str(message))
                )
