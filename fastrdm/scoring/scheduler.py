"""Hands jobs to the workers of a pool, a few at a time, and reassigns those of workers that die."""

import concurrent.futures
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeAlias

from fastrdm._base import one_line
from fastrdm.scoring.jobs import (
    Failed,
    Handshake,
    Job,
    Outcome,
    Stamp,
    WorkerPoolError,
    WorkerSetup,
)

Event: TypeAlias = dict[str, Any]
Notify: TypeAlias = Callable[[Event], None]

# A checkpoint is given up after this many deaths of its workers. After the first it runs alone, so that it is to blame.
_MAX_DEATHS = 3
_POLL_S = 0.3
# After a request to stop, checkpoints in work have this many seconds, and this many times what the longest has taken.
_GRACE_S, _GRACE_FACTOR = 60.0, 3.0
# Between two looks at the workers; more passes only while this process is stopped.
_LONG_STEP_S = 5.0


class WorkerHandle(Protocol):
    """A pool's connection to one worker."""

    def handshake(self) -> "Future[Handshake | Exception]":
        """Future of the worker's handshake, or of the error that prevents its start."""

    def submit(self, job: Job, following: Sequence[Job], name: str) -> "Future[Outcome]":
        """Queue a job after those submitted before; `following` are those that may come next."""

    def close(self, now: bool) -> None:
        """End the worker: immediately, or after its submitted jobs."""


class WorkerPool(Protocol):
    """Starts workers.

    The futures of a worker that died raise one of `lost`. A worker has up to `depth` jobs submitted, so that it runs
    while results are stored.
    """

    lost: tuple[type[BaseException], ...]
    depth: int

    @property
    def start_advice(self) -> str:
        """Why no worker is ready in time, and what to do."""

    def launchers(self, setup: WorkerSetup) -> Iterator[Callable[[], WorkerHandle]]:
        """Yield a function to start each worker wanted now; the same functions as long as nothing changes."""

    def close(self) -> None:
        """Release what does not belong to a worker."""


@dataclass(eq=False)
class _Slot:
    """A worker, the jobs submitted to it, and those that it will get next."""

    name: str
    handle: WorkerHandle
    starting: "Future[Handshake | Exception]"
    running: "dict[Future[Outcome], Job]" = field(default_factory=dict)
    held: deque[Job] = field(default_factory=deque)
    handshake: Handshake | None = None

    @property
    def is_exclusive(self) -> bool:
        return any(job.deaths for job in self.running.values())


@dataclass
class _Elapsed:
    """Seconds for which something has been so, without the time in which this process was stopped."""

    seconds: float = 0.0
    looked: float | None = None

    def lasts(self, is_so: bool) -> float:
        now = time.monotonic()
        step = 0.0 if self.looked is None else min(now - self.looked, _LONG_STEP_S)
        self.seconds = self.seconds + step if is_so else 0.0
        self.looked = now
        return self.seconds


def run_jobs(
    pool: WorkerPool,
    setup: WorkerSetup,
    jobs: Iterator[Job | Outcome | None],
    is_stopped: Callable[[], bool] = lambda: False,
    notify: Notify = lambda event: None,
) -> Generator[Outcome, None, None]:
    """Run jobs on the workers of a pool, and yield their outcomes in order of completion.

    `jobs` is advanced when a worker has room; None means that no job is ready yet, and an outcome is yielded as it is.
    When `is_stopped` returns true, only the submitted jobs are finished, and those that take too long are given up.
    `notify` is called when a worker is ready or lost, or is given a job. Raises the error that prevents a worker's
    start, and `WorkerPoolError` if workers repeatedly die while starting, or if none is ready for `start_timeout`
    seconds.
    """
    scheduler = _Scheduler(pool, setup, jobs, is_stopped, notify)
    try:
        yield from scheduler.outcomes()
    finally:
        scheduler.close()


@dataclass(eq=False)
class _Scheduler:
    pool: WorkerPool
    setup: WorkerSetup
    jobs: Iterator[Job | Outcome | None]
    is_stopped: Callable[[], bool]
    notify: Notify
    slots: dict[Callable[[], WorkerHandle], _Slot] = field(default_factory=dict)
    retries: deque[Job] = field(default_factory=deque)
    settled: deque[Outcome] = field(default_factory=deque)
    n_launched: int = 0
    is_exhausted: bool = False
    is_dry: bool = False
    failed_starts: int = 0
    longest: float = 0.0
    unready: _Elapsed = field(default_factory=_Elapsed)
    stopping: _Elapsed = field(default_factory=_Elapsed)

    def outcomes(self) -> Iterator[Outcome]:
        while True:
            self._launch()
            ready = [slot for slot in self.slots.values() if slot.handshake]
            for slot in ready:
                self._feed(slot)
            if self.is_dry:
                self._rebalance(ready)
            while self.settled:
                yield self.settled.popleft()
            is_idle = not any(slot.running for slot in self.slots.values())
            if is_idle and (self.is_stopped() or (self.is_exhausted and not self.retries)):
                return
            if self.stopping.lasts(self.is_stopped()) > _GRACE_S + _GRACE_FACTOR * self.longest:
                return
            self._check_start(bool(ready))
            pending: list[Future[Any]] = []
            for slot in self.slots.values():
                pending += slot.running if slot.handshake else [slot.starting]
            if pending:
                concurrent.futures.wait(pending, _POLL_S, concurrent.futures.FIRST_COMPLETED)
            else:
                time.sleep(_POLL_S)
            for launch, slot in list(self.slots.items()):
                yield from self._collect(launch, slot)

    def _check_start(self, is_ready: bool) -> None:
        timeout = self.setup.options.start_timeout
        if self.unready.lasts(not is_ready) > timeout:
            names = ", ".join(slot.name for slot in self.slots.values()) or "none"
            raise WorkerPoolError(
                f"no worker was ready within {timeout:g} s (starting: {names}): {self.pool.start_advice};"
                " --start-timeout (start_timeout) sets how long to wait"
            )

    def _launch(self) -> None:
        wanted = list(self.pool.launchers(self.setup))
        for launch in wanted:
            if launch not in self.slots:
                handle = launch()
                self.n_launched += 1
                name = f"worker {self.n_launched}"
                self.slots[launch] = _Slot(name, handle, handle.handshake())
        for launch, slot in list(self.slots.items()):
            # An unwanted worker with jobs finishes them first.
            if launch not in wanted and not slot.running and not slot.held:
                slot.handle.close(now=True)
                del self.slots[launch]

    def _feed(self, slot: _Slot) -> None:
        while len(slot.running) < self.pool.depth and not slot.is_exclusive:
            if self.is_stopped():
                return
            if self.retries and self.retries[0].deaths:
                if not slot.running and not slot.held:
                    self._submit(slot, self.retries.popleft(), ())
                    return
                # This worker must be idle before it takes the job that killed another one.
                job = None
            else:
                job = self.retries.popleft() if self.retries else self._next()
            if job is not None:
                slot.held.append(job)
                if len(slot.held) <= (slot.handshake.n_ahead if slot.handshake else 1):
                    continue
            if not slot.held:
                return
            self._submit(slot, slot.held.popleft(), slot.held)

    def _next(self) -> Job | None:
        item: Job | Outcome | None = None
        while not self.is_exhausted:
            try:
                item = next(self.jobs)
            except StopIteration:
                self.is_exhausted, item = True, None
            if item is None or isinstance(item, Job):
                break
            self.settled.append(item)
        self.is_dry = item is None
        return item if isinstance(item, Job) else None

    def _rebalance(self, ready: Sequence[_Slot]) -> None:
        """Give idle workers the jobs that others hold, while no new jobs come."""
        for slot in ready:
            if slot.running or slot.held:
                continue
            donor = max(ready, key=lambda other: len(other.held))
            if not donor.held or self.is_stopped():
                return
            # The last one, which its worker may not have opened yet.
            self._submit(slot, donor.held.pop(), ())

    def _submit(self, slot: _Slot, job: Job, following: Sequence[Job]) -> None:
        self._report(slot, "given", checkpoint=job.path)
        try:
            future = slot.handle.submit(job, tuple(following), slot.name)
        # The worker may die between two polls.
        except self.pool.lost as error:
            future = Future()
            future.set_exception(error)
        slot.running[future] = job

    def _report(self, slot: _Slot, event: str, **facts: Any) -> None:
        ready = slot.handshake
        process = {"pid": ready.pid, "host": ready.host} if ready else {}
        self.notify({"event": event, "worker": slot.name, **process, **facts})

    def _collect(self, launch: Callable[[], WorkerHandle], slot: _Slot) -> Iterator[Outcome]:
        try:
            if not slot.handshake and slot.starting.done():
                answer = slot.starting.result()
                if isinstance(answer, Exception):
                    raise answer
                slot.handshake = answer
                self.failed_starts = 0
                self._report(slot, "ready", facts=dict(answer.facts))
            for future in [future for future in slot.running if future.done()]:
                outcome = future.result()
                del slot.running[future]
                self.longest = max(self.longest, getattr(outcome, "seconds", 0.0))
                yield outcome
        except self.pool.lost as error:
            del self.slots[launch]
            self._report(slot, "lost", error=one_line(error))
            slot.handle.close(now=True)
            if not slot.handshake:
                self.failed_starts += 1
                if self.failed_starts >= 2 * _MAX_DEATHS:
                    raise WorkerPoolError(
                        f"workers die while starting: {one_line(error)}"
                    ) from error
            yield from self._reassign(slot)

    def _reassign(self, slot: _Slot) -> Iterator[Outcome]:
        for future, job in slot.running.items():
            if future.done() and not future.cancelled() and future.exception() is None:
                yield future.result()
            elif job.deaths + 1 >= _MAX_DEATHS:
                reason = (
                    f"{job.path}: the worker that scored it died {_MAX_DEATHS} times, {_MAX_DEATHS - 1} of them with"
                    " no other checkpoint running; memory may be too small"
                )
                yield Failed(job, Stamp.of(job.path), reason, worker=slot.name)
            else:
                self.retries.append(replace(job, deaths=job.deaths + 1))
        self.retries.extendleft(reversed(slot.held))

    def close(self) -> None:
        for slot in self.slots.values():
            slot.handle.close(now=bool(slot.running) or not slot.handshake)
        self.pool.close()
