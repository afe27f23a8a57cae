"""Processes as Linux lists them: those below another one, which of them are alive, and signals for them."""

import contextlib
import os
from pathlib import Path


def children_of(pid):
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return []


def _stat(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def birth_of(pid):
    """When a process was started, which tells it from a later one with the same number; None if there is none."""
    stat = _stat(pid)
    return stat and stat[19]


def is_alive(pid):
    stat = _stat(pid)
    return bool(stat) and stat[0] not in "ZX"


def send(pid, number):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
