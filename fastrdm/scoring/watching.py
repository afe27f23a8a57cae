"""Jobs of checkpoints that appear while a sweep runs."""

import contextlib
import time
from collections.abc import Callable, Iterator

from fastrdm.scoring.file_looks import FileLooks
from fastrdm.scoring.jobs import Job, Stamp

# Seconds between two looks at folders; without changes before a file counts as complete; and without changes before a
# file is tried although its format marks no end.
_WATCH_S, _SETTLED_S, _ABANDONED_S = 5.0, 3.0, 60.0


def watched(
    present: Callable[[], Iterator[tuple[Job, Stamp, str]]],
    in_work: set[tuple[str, int]],
    is_stopped: Callable[[], bool],
    patience: float | None,
) -> Iterator[Job | None]:
    """Yield new checkpoints when their files are complete, and None while there are none.

    `present` yields the present checkpoints with their stamps and states. Jobs that are yielded are added to `in_work`,
    and the caller removes them. Watching ends after `patience` seconds without work.
    """
    with contextlib.closing(FileLooks()) as looks:
        yield from _watched(present, in_work, is_stopped, patience, looks)


def _watched(
    present: Callable[[], Iterator[tuple[Job, Stamp, str]]],
    in_work: set[tuple[str, int]],
    is_stopped: Callable[[], bool],
    patience: float | None,
    looks: FileLooks,
) -> Iterator[Job | None]:
    submitted: dict[tuple[str, int], Stamp] = {}
    waiting: dict[str, tuple[Stamp, float]] = {}
    last = time.monotonic()
    while not is_stopped():
        seen, waiting = waiting, {}
        for job, stamp, state in present():
            if state != "new" or stamp.size < 0:
                continue
            if job.key in in_work or submitted.get(job.key) == stamp:
                continue
            before, since = seen.get(job.path, (None, 0.0))
            since = since if before == stamp else time.monotonic()
            # Both clocks count, because the file's may be another machine's.
            age = max(time.monotonic() - since, time.time() - stamp.mtime_ns / 1e9)
            if age > _ABANDONED_S or (age > _SETTLED_S and looks.is_complete(job.path, stamp)):
                submitted[job.key] = stamp
                in_work.add(job.key)
                yield job
            else:
                waiting[job.path] = stamp, since
        looked = time.monotonic()
        while time.monotonic() - looked < _WATCH_S and not is_stopped():
            if in_work or waiting:
                last = time.monotonic()
            elif patience is not None and time.monotonic() - last > patience:
                return
            yield None
