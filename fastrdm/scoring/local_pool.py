"""Workers on this machine: in the calling process, or in processes of their own."""

import contextlib
import os
import pickle
import queue
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias, TypeVar

from fastrdm._kernels import kernels
from fastrdm.runtimes import TORCH
from fastrdm.scoring.accelerators import accelerators
from fastrdm.scoring.jobs import (
    Handshake,
    Job,
    Outcome,
    WorkerLostError,
    WorkerPoolError,
    WorkerSetup,
)
from fastrdm.scoring.scheduler import WorkerHandle
from fastrdm.scoring.worker import Worker
from fastrdm.scoring.worker_process import command, death_of, dump_setup, skip_start

T = TypeVar("T")

# Seconds in which a worker without work must end by itself.
_END_S = 10.0


class InProcessPool:
    """One worker in the calling process, which starts without delay and cannot be lost alone.

    It has every device of this process, whatever the provider.
    """

    lost: tuple[type[BaseException], ...] = ()
    depth = 1
    start_advice = ""

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

    def submit(self, job: Job, following: Sequence[Job], name: str) -> "Future[Outcome]":
        return _done(self._worker.score(job, following, name))

    def close(self, now: bool) -> None:
        self._worker.close()


def _done(value: T) -> "Future[T]":
    future: Future[T] = Future()
    future.set_result(value)
    return future


class LocalPool:
    """Processes on this machine: one for each accelerator, or one for all processors; one for a device that is named.

    Without accelerators several workers share the processors.
    """

    lost: tuple[type[BaseException], ...] = (WorkerLostError,)
    depth = 2
    start_advice = "the machine may be busy or its disk slow"

    def __init__(self, workers: int | None = None, provider: str = "auto") -> None:
        if workers is not None and workers < 1:
            raise WorkerPoolError(f"workers must be at least 1, not {workers}")
        self._workers, self._provider = workers, provider
        self._launchers: list[Callable[[], WorkerHandle]] = []

    def launchers(self, setup: WorkerSetup) -> Iterator[Callable[[], WorkerHandle]]:
        """As for `WorkerPool`."""
        # Not in advance: the drivers' programs and the providers' packages take longer than a sweep without work.
        if not self._launchers:
            provider = self._provider
            if provider == "auto" and setup.uses_torch:
                provider = TORCH
            variable, devices = accelerators(provider)
            count = self._workers or len(devices) or 1
            shared = None if devices or count == 1 else max(1, kernels().n_threads // count)
            threads = setup.options.n_threads or shared
            setup = replace(setup, options=replace(setup.options, n_threads=threads))
            environments = [
                {variable: devices[i % len(devices)]} if devices else {} for i in range(count)
            ]
            self._launchers = [partial(_Process, setup, each) for each in environments]
        yield from self._launchers

    def first(self) -> "LocalPool":
        """Return a pool of the first worker alone, with its share of the processors and its device."""
        alone = LocalPool(1, self._provider)
        alone._launchers = self._launchers[:1]
        return alone

    def close(self) -> None:
        """As for `WorkerPool`."""


# What is sent, and the future of the answer.
_Request: TypeAlias = "tuple[Any, Future[Any]]"


class _Process:
    """A worker process, with a thread that sends requests and receives answers.

    The process does not import the caller's main module, so that a script needs no `if __name__ == "__main__"`. This
    process holds only its own ends of the pipes: when the worker dies, writing and reading fail at once, however much
    of a message was transferred.
    """

    def __init__(self, setup: WorkerSetup, environment: Mapping[str, str]) -> None:
        self._owner = os.getpid()
        # A forked worker would inherit locks of threads, and share the accelerator.
        self._process = subprocess.Popen(
            command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **environment},
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._to_worker, self._from_worker = self._process.stdin, self._process.stdout
        self._requests: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._handshake: Future[Handshake | Exception] = self._request(setup)
        # A daemon: the interpreter must not wait for it.
        threading.Thread(target=self._serve, daemon=True).start()

    def handshake(self) -> "Future[Handshake | Exception]":
        return self._handshake

    def submit(self, job: Job, following: Sequence[Job], name: str) -> "Future[Outcome]":
        return self._request((job, following, name))

    def close(self, now: bool) -> None:
        # In a process that the caller forked, the worker is still its parent's.
        if os.getpid() != self._owner:
            return
        self._requests.put(None)
        if now:
            self._process.kill()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _request(self, message: object) -> "Future[Any]":
        answer: Future[Any] = Future()
        self._requests.put((message, answer))
        return answer

    def _serve(self) -> None:
        while (request := self._requests.get()) is not None:
            message, answer = request
            try:
                answer.set_result(self._ask(message))
            # Whatever it is, the scheduler waits for this future.
            except BaseException as error:
                answer.set_exception(error)
        for pipe in (self._to_worker, self._from_worker):
            with contextlib.suppress(OSError):
                pipe.close()

    def _ask(self, message: object) -> Any:
        try:
            # The answer explains why a worker ended before it had read the request.
            with contextlib.suppress(BrokenPipeError):
                if isinstance(message, WorkerSetup):
                    skip_start(self._from_worker)
                    dump_setup(message, self._to_worker)
                else:
                    pickle.dump(message, self._to_worker)
                self._to_worker.flush()
            return pickle.load(self._from_worker)
        except (OSError, EOFError, pickle.UnpicklingError):
            raise WorkerLostError(death_of(self._process)) from None
