"""Workers in processes of this machine."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace

from fastrdm._kernels import kernels
from fastrdm.scoring.accelerators import accelerators
from fastrdm.scoring.scheduler import Hand, Remote
from fastrdm.scoring.worker import EngineError, Hello, Load, Outcome, Task


class LocalEngine:
    """Processes of this machine: one for each accelerator, or one for all processors.

    Parameters
    ----------
    workers : int, optional
        How many; by default as many as the provider's accelerators, else one. Several on processors alone share them.
    provider : str
        What the networks will run on.
    """

    lost: tuple[type[BaseException], ...] = (BrokenProcessPool,)

    def __init__(self, workers: int | None = None, provider: str = "auto") -> None:
        if workers is not None and workers < 1:
            raise EngineError(f"workers must be at least 1, not {workers}")
        variable, devices = accelerators(provider)
        count = workers or len(devices) or 1
        cores = kernels().n_threads
        self.n_threads = None if devices or count == 1 else max(1, cores // count)
        self._places = [
            {variable: devices[i % len(devices)]} if devices else {} for i in range(count)
        ]
        self._makers: list[Callable[[], Hand]] = []

    def hands(self, load: Load) -> Iterator[Callable[[], Hand]]:
        """As `Engine`."""
        if not self._makers:
            options = {"n_threads": self.n_threads, **load.options}
            own = replace(load, options=options)
            self._makers = [_ProcessMaker(own, place) for place in self._places]
        yield from self._makers

    def close(self) -> None:
        """As `Engine`."""


@dataclass(frozen=True, eq=False)
class _ProcessMaker:
    load: Load
    environment: Mapping[str, str]

    def __call__(self) -> Hand:
        return _Process(self.load, self.environment)


class _Process:
    """A pool of one process: it is replaced alone when it dies."""

    def __init__(self, load: Load, environment: Mapping[str, str]) -> None:
        # Forked, a process would share threads' locks and the accelerator with this one.
        self._pool = ProcessPoolExecutor(
            1, multiprocessing.get_context("spawn"), _begin, (load, environment)
        )
        self._hello: Future[Hello | Exception] = self._pool.submit(_hello)

    def hello(self) -> "Future[Hello | Exception]":
        return self._hello

    def submit(self, task: Task, following: Task | None, name: str) -> "Future[Outcome]":
        return self._pool.submit(_score, task, following, name)

    def close(self, now: bool) -> None:
        said = None
        if self._hello.done() and not self._hello.exception():
            said = self._hello.result()
        if now and isinstance(said, Hello):
            with contextlib.suppress(ProcessLookupError):
                os.kill(said.pid, signal.SIGKILL)
        # One that only starts ends with this process, if not before.
        self._pool.shutdown(wait=not now or said is not None, cancel_futures=True)


# What this process is as a worker: pools give their processes no other place to keep it.
_here: dict[str, Remote] = {}


def _begin(load: Load, environment: Mapping[str, str]) -> None:
    os.environ.update(environment)
    # Ctrl-C reaches all processes of a terminal, and a batch system's signal all of a job; the sweep lets its
    # workers finish, who go with it.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _here["worker"] = Remote(load)


def _end_with_parent() -> None:
    """A pool's process does not notice by itself that the one it works for was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _hello() -> Hello | Exception:
    return _here["worker"].hello()


def _score(task: Task, following: Task | None, name: str) -> Outcome:
    return _here["worker"].score(task, following, name)
