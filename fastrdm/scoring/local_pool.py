"""Workers on this machine: in the calling process, or in processes of their own."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import partial
from typing import TypeVar

from fastrdm._kernels import kernels
from fastrdm.scoring.accelerators import accelerators
from fastrdm.scoring.jobs import Handshake, Job, Outcome, WorkerPoolError, WorkerSetup
from fastrdm.scoring.scheduler import WorkerHandle
from fastrdm.scoring.worker import Worker

T = TypeVar("T")


class InProcessPool:
    """One worker in the calling process, which starts without delay and cannot be lost alone.

    It has every device of this process, whatever the provider.
    """

    lost: tuple[type[BaseException], ...] = ()
    depth = 1

    def __init__(self, workers: int | None = None, provider: str = "auto") -> None:
        if workers not in (None, 1):
            raise WorkerPoolError(
                f'the engine "in-process" has one worker, not {workers}; use "local"'
            )
        self._launch: Callable[[], WorkerHandle] | None = None

    def launchers(self, setup: WorkerSetup) -> Iterator[Callable[[], WorkerHandle]]:
        """As for `WorkerPool`."""
        self._launch = self._launch or partial(_InProcessHandle, setup)
        yield self._launch

    def close(self) -> None:
        """As for `WorkerPool`."""
        self._launch = None


class _InProcessHandle:
    def __init__(self, setup: WorkerSetup) -> None:
        self._worker = Worker(setup)

    def handshake(self) -> "Future[Handshake | Exception]":
        return _done(self._worker.handshake())

    def submit(self, job: Job, following: Job | None, name: str) -> "Future[Outcome]":
        return _done(self._worker.score(job, following, name))

    def close(self, now: bool) -> None:
        self._worker.close()


def _done(value: T) -> "Future[T]":
    future: Future[T] = Future()
    future.set_result(value)
    return future


class LocalPool:
    """Processes on this machine: one for each accelerator, or one for all processors.

    Without accelerators several workers share the processors.
    """

    lost: tuple[type[BaseException], ...] = (BrokenProcessPool,)
    depth = 2

    def __init__(self, workers: int | None = None, provider: str = "auto") -> None:
        if workers is not None and workers < 1:
            raise WorkerPoolError(f"workers must be at least 1, not {workers}")
        self._workers, self._provider = workers, provider
        self._launchers: list[Callable[[], WorkerHandle]] = []

    def launchers(self, setup: WorkerSetup) -> Iterator[Callable[[], WorkerHandle]]:
        """As for `WorkerPool`."""
        # Not in advance: the drivers' programs and the providers' packages take longer than a sweep without work.
        if not self._launchers:
            variable, devices = accelerators(self._provider)
            count = self._workers or len(devices) or 1
            shared = None if devices or count == 1 else max(1, kernels().n_threads // count)
            threads = setup.options.n_threads or shared
            setup = replace(setup, options=replace(setup.options, n_threads=threads))
            environments = [
                {variable: devices[i % len(devices)]} if devices else {} for i in range(count)
            ]
            self._launchers = [partial(_Process, setup, each) for each in environments]
        yield from self._launchers

    def close(self) -> None:
        """As for `WorkerPool`."""


class _Process:
    """A pool of one process, so that a process that dies is replaced alone."""

    def __init__(self, setup: WorkerSetup, environment: Mapping[str, str]) -> None:
        # A forked process would inherit locks of threads, and share the accelerator.
        self._pool = ProcessPoolExecutor(
            1, multiprocessing.get_context("spawn"), _start, (setup, environment)
        )
        self._handshake: Future[Handshake | Exception] = self._pool.submit(_handshake)

    def handshake(self) -> "Future[Handshake | Exception]":
        return self._handshake

    def submit(self, job: Job, following: Job | None, name: str) -> "Future[Outcome]":
        return self._pool.submit(_score, job, following, name)

    def close(self, now: bool) -> None:
        is_ready = self._handshake.done() and not self._handshake.exception()
        answer = self._handshake.result() if is_ready else None
        if now and isinstance(answer, Handshake):
            with contextlib.suppress(ProcessLookupError):
                os.kill(answer.pid, signal.SIGKILL)
        # A process that is still starting ends with this one at the latest.
        self._pool.shutdown(wait=not now or answer is not None, cancel_futures=True)


# The worker of this process; a pool's process can keep it only in a global.
_here: dict[str, Worker] = {}


def _start(setup: WorkerSetup, environment: Mapping[str, str]) -> None:
    os.environ.update(environment)
    # Ctrl-C reaches every process of a terminal, and a batch system's signal every process of a job; the sweep lets
    # its workers finish and then ends them.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _here["worker"] = Worker(setup)


def _end_with_parent() -> None:
    """End this process when its parent is killed, which a pool's process does not notice."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _handshake() -> Handshake | Exception:
    return _here["worker"].handshake()


def _score(job: Job, following: Job | None, name: str) -> Outcome:
    return _here["worker"].score(job, following, name)
