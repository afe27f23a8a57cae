"""Where a sweep's work runs: worker processes of this machine, or actors of a Ray cluster.

An engine makes workers and finds out which are gone. What both have in common is `run`: it hands tasks to workers a few
at a time, and those of a worker that died to others.
"""

import concurrent.futures
import contextlib
import itertools
import math
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeAlias

from fastrdm._extras import require
from fastrdm._kernels import kernels
from fastrdm.environment import ask
from fastrdm.provider_table import PROVIDERS
from fastrdm.records import Stamp
from fastrdm.stimuli_cache import cached_pixels
from fastrdm.worker import EngineError, Hello, Load, Outcome, Pixels, Task, Worker

Notify: TypeAlias = Callable[[dict[str, Any]], None]

# In work and waiting at a worker, beside the one whose follower is not known yet: while results of one are stored, the
# next one runs.
_AT_WORKER = 2
# A checkpoint whose worker died this often is given up; after the first time it runs alone, so that it is to blame.
_DEATHS = 3
_POLL_S = 0.3
# How often a cluster is asked what room it has.
_LOOK_S = 2.0
# The processors' programs that list them, and the variable that chooses among them.
_NVIDIA = ("CUDA_VISIBLE_DEVICES", ("nvidia-smi", "--query-gpu=index", "--format=csv,noheader"))
_AMD = ("HIP_VISIBLE_DEVICES", ("rocm-smi", "--showuniqueid", "--csv"))
_LISTS = {"cuda": _NVIDIA, "tensorrt": _NVIDIA, "rocm": _AMD, "migraphx": _AMD}


class Hand(Protocol):
    """An engine's hold on one worker."""

    def hello(self) -> "Future[Hello | Exception]":
        """Be told when the worker is ready, or why it cannot be."""

    def submit(self, task: Task, following: Task | None, name: str) -> "Future[Outcome]":
        """Have a task done, after those submitted before."""

    def close(self, now: bool) -> None:
        """Let the worker go: now, or when it has done what it was given."""


class Engine(Protocol):
    """Makes workers."""

    lost: tuple[type[BaseException], ...]

    def hands(self, load: Load) -> Iterator[Callable[[], Hand]]:
        """Yield how to make each worker that there should be now, the same ones at each call where nothing changed."""

    def close(self) -> None:
        """Let go what is not a worker's."""


@dataclass(eq=False)
class _Seat:
    name: str
    hand: Hand
    hello: "Future[Hello | Exception]"
    running: "dict[Future[Outcome], Task]" = field(default_factory=dict)
    held: Task | None = None
    said: Hello | None = None

    @property
    def is_alone(self) -> bool:
        return any(task.deaths for task in self.running.values())


def run(
    engine: Engine,
    load: Load,
    tasks: Iterator[Task | None],
    stop: Callable[[], bool] = lambda: False,
    notify: Notify = lambda event: None,
) -> Generator[Outcome, None, None]:
    """Have tasks done by an engine's workers.

    Parameters
    ----------
    engine : Engine
    load : Load
    tasks : iterator of Task or None
        Asked for one when a worker has room for it; None says that there is none at present.
    stop : callable
        Asked between tasks; once true, only what workers have been given is finished.
    notify : callable
        Told of workers that come and go, and of what they are given.

    Yields
    ------
    Outcome
        One a task, in the order in which they are done.

    Raises
    ------
    EngineError
        If workers die as they start.
    Exception
        What a worker raises that cannot start.
    """
    session = _Run(engine, load, tasks, stop, notify)
    try:
        yield from session.outcomes()
    finally:
        session.close()


class _Run:
    def __init__(
        self,
        engine: Engine,
        load: Load,
        tasks: Iterator[Task | None],
        stop: Callable[[], bool],
        notify: Notify,
    ) -> None:
        self.engine, self.load, self.tasks = engine, load, tasks
        self.stop, self.notify = stop, notify
        self.seats: dict[Callable[[], Hand], _Seat] = {}
        self.again: deque[Task] = deque()
        self.numbers = itertools.count(1)
        self.is_over = False
        self.false_starts = 0

    def outcomes(self) -> Iterator[Outcome]:
        while True:
            self._seat_workers()
            ready = [seat for seat in self.seats.values() if seat.said]
            for seat in ready:
                self._feed(seat)
            if self.is_over:
                self._share(ready)
            waiting: list[Future[Any]] = [
                future for seat in self.seats.values() for future in seat.running
            ]
            if not waiting and (self.stop() or (self.is_over and not self.again)):
                return
            starting: list[Future[Any]] = [
                seat.hello for seat in self.seats.values() if not seat.said
            ]
            if waiting or starting:
                concurrent.futures.wait(
                    [*waiting, *starting], _POLL_S, concurrent.futures.FIRST_COMPLETED
                )
            else:
                time.sleep(_POLL_S)
            for make, seat in list(self.seats.items()):
                yield from self._collect(make, seat)

    def _seat_workers(self) -> None:
        wanted = list(self.engine.hands(self.load))
        for make in wanted:
            if make not in self.seats:
                hand = make()
                self.seats[make] = _Seat(f"worker {next(self.numbers)}", hand, hand.hello())
        for make, seat in list(self.seats.items()):
            # One that has work goes when it is lost, not before.
            if make not in wanted and not seat.running and not seat.held:
                seat.hand.close(now=True)
                del self.seats[make]

    def _feed(self, seat: _Seat) -> None:
        while len(seat.running) < _AT_WORKER and not seat.is_alone and not self.stop():
            if self.again and self.again[0].deaths:
                if not seat.running and not seat.held:
                    self._submit(seat, self.again.popleft(), None)
                    return
                # One that has work lets it be done first.
                task = None
            else:
                task = self.again.popleft() if self.again else self._next()
            if seat.held:
                self._submit(seat, seat.held, task)
            seat.held = task
            if task is None:
                return

    def _next(self) -> Task | None:
        if self.is_over:
            return None
        try:
            return next(self.tasks)
        except StopIteration:
            self.is_over = True
            return None

    def _share(self, ready: Sequence[_Seat]) -> None:
        """At the end, let workers without work have what others hold or have not begun."""
        idle = [seat for seat in ready if not seat.running and not seat.held]
        for seat in idle:
            giver = next((other for other in ready if other.held), None)
            if giver is None or giver.held is None or self.stop():
                return
            task, giver.held = giver.held, None
            self._submit(seat, task, None)

    def _submit(self, seat: _Seat, task: Task, following: Task | None) -> None:
        seat.running[seat.hand.submit(task, following, seat.name)] = task
        self._tell(seat, "given", checkpoint=task.path)

    def _tell(self, seat: _Seat, event: str, **facts: Any) -> None:
        said = {"pid": seat.said.pid, "host": seat.said.host} if seat.said else {}
        self.notify({"event": event, "worker": seat.name, **said, **facts})

    def _collect(self, make: Callable[[], Hand], seat: _Seat) -> Iterator[Outcome]:
        try:
            if not seat.said and seat.hello.done():
                said = seat.hello.result()
                if isinstance(said, Exception):
                    raise said
                seat.said = said
                self.false_starts = 0
                self._tell(seat, "ready", facts=dict(seat.said.facts))
            for future in [future for future in seat.running if future.done()]:
                outcome = future.result()
                del seat.running[future]
                yield outcome
        except self.engine.lost as error:
            del self.seats[make]
            self._tell(seat, "lost", error=" ".join(str(error).split()))
            seat.hand.close(now=True)
            if not seat.said:
                self.false_starts += 1
                if self.false_starts >= 2 * _DEATHS:
                    raise EngineError(f"workers die as they start: {error}") from error
            yield from self._reassign(seat)

    def _reassign(self, seat: _Seat) -> Iterator[Outcome]:
        for future, task in seat.running.items():
            if future.done() and not future.cancelled() and future.exception() is None:
                yield future.result()
            elif task.deaths + 1 >= _DEATHS:
                reason = (
                    f"{task.path}: the worker that scored it died {_DEATHS} times, of which it was alone"
                    f" {_DEATHS - 1}; its memory may not have sufficed"
                )
                yield Outcome(task, seat.name, None, Stamp.of(task.path), reason)
            else:
                self.again.append(replace(task, deaths=task.deaths + 1))
        if seat.held:
            self.again.appendleft(seat.held)

    def close(self) -> None:
        for seat in self.seats.values():
            seat.hand.close(now=bool(seat.running) or not seat.said)
        self.engine.close()


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


class RayEngine:
    """Actors of a Ray cluster, as many as its nodes have room for at any time.

    Graphs, targets and stimuli go to each node once, by the object store; checkpoints are read where they are scored,
    from a file system that all nodes share. Ray places the actors and says which are lost. Their tasks go to others,
    and another actor is asked for in their place.

    Parameters
    ----------
    workers : int, optional
        How many at most; by default what the cluster has room for.
    provider : str
        What the networks will run on.
    address : str, optional
        Of the cluster; by default `RAY_ADDRESS`, else the one that this process is connected to, else one of this
        machine alone.
    num_cpus, num_gpus : float, optional
        What each actor takes: by default one processor, and one GPU where the provider is one of GPUs or, with "auto",
        where any node has one.

    Raises
    ------
    EngineError
        If the cluster cannot be reached.
    MissingExtraError
        If ray is not installed.
    """

    def __init__(
        self,
        workers: int | None = None,
        provider: str = "auto",
        *,
        address: str | None = None,
        num_cpus: float | None = None,
        num_gpus: float | None = None,
    ) -> None:
        self._ray = require("ray", "ray", "to sweep on a Ray cluster")
        gone = require("ray.exceptions", "ray", "to sweep on a Ray cluster")
        self.lost: tuple[type[BaseException], ...] = (
            gone.RayActorError,
            gone.WorkerCrashedError,
            gone.OutOfMemoryError,
            gone.ObjectLostError,
        )
        self._is_ours = not self._ray.is_initialized()
        if self._is_ours:
            try:
                self._ray.init(address=address, log_to_driver=False, logging_level="ERROR")
            except (ConnectionError, RuntimeError, ValueError) as error:
                reason = " ".join(str(error).split())
                raise EngineError(
                    f"the Ray cluster {address or ''} cannot be reached: {reason}"
                ) from None
        self._most = workers
        if num_gpus is None:
            has_gpus = any(node["Resources"].get("GPU") for node in self._nodes())
            num_gpus = 1.0 if provider in _LISTS or (provider == "auto" and has_gpus) else 0.0
        self._takes = {"CPU": 1.0 if num_cpus is None else num_cpus, "GPU": num_gpus}
        self._makers: list[Callable[[], Hand]] = []
        self._load: Any = None
        self._looked = -math.inf
        self._room = 0

    def _nodes(self) -> list[dict[str, Any]]:
        return [node for node in self._ray.nodes() if node["Alive"]]

    def hands(self, load: Load) -> Iterator[Callable[[], Hand]]:
        """As `Engine`."""
        if self._load is None:
            threads = None if self._takes["GPU"] else max(1, int(self._takes["CPU"]))
            own = replace(
                load, pixels=_pixels(load), options={"n_threads": threads, **load.options}
            )
            self._load = self._ray.put(own)
        if time.monotonic() - self._looked > _LOOK_S:
            self._looked = time.monotonic()
            asked = {name: amount for name, amount in self._takes.items() if amount}
            self._room = sum(
                int(min(node["Resources"].get(name, 0) / amount for name, amount in asked.items()))
                for node in self._nodes()
            )
        wanted = self._room if self._most is None else min(self._room, self._most)
        while len(self._makers) < wanted:
            self._makers.append(_ActorMaker(self._ray, self._load, self._takes))
        yield from self._makers[:wanted]

    def close(self) -> None:
        """As `Engine`."""
        self._load = None
        self._makers.clear()
        if self._is_ours:
            self._ray.shutdown()


def _pixels(load: Load) -> Pixels:
    """Stimuli of the networks whose preprocessing is known before their checkpoints are opened."""
    found = {}
    for network in load.networks:
        if network.architecture is not None:
            preprocessing = network.architecture.preprocessing
            for study in load.studies:
                key = (study.name, preprocessing.size, preprocessing.resize)
                if key not in found:
                    found[key] = cached_pixels(
                        list(study.stimuli), preprocessing, background=study.background
                    )
    return found


@dataclass(frozen=True, eq=False)
class _ActorMaker:
    ray: Any
    load: Any
    takes: Mapping[str, float]

    def __call__(self) -> Hand:
        # Ray would restart a lost actor only where there is room, and keep its tasks waiting until then.
        options = {"num_cpus": self.takes["CPU"], "num_gpus": self.takes["GPU"], "max_restarts": 0}
        return _Actor(self.ray, self.ray.remote(_Remote).options(**options).remote(self.load))


class _Actor:
    def __init__(self, ray: Any, actor: Any) -> None:
        self._ray, self._actor = ray, actor

    def hello(self) -> "Future[Hello | Exception]":
        future: Future[Hello | Exception] = self._actor.hello.remote().future()
        return future

    def submit(self, task: Task, following: Task | None, name: str) -> "Future[Outcome]":
        future: Future[Outcome] = self._actor.score.remote(task, following, name).future()
        return future

    def close(self, now: bool) -> None:
        self._ray.kill(self._actor)


class _Remote:
    """A worker that says why it cannot start instead of dying of it."""

    def __init__(self, load: Load) -> None:
        self._made: Worker | Exception
        try:
            self._made = Worker(load)
        except Exception as error:
            self._made = error

    def hello(self) -> Hello | Exception:
        return self._made if isinstance(self._made, Exception) else self._made.hello()

    def score(self, task: Task, following: Task | None, name: str) -> Outcome:
        if isinstance(self._made, Exception):
            raise self._made
        return self._made.score(task, following, name)


# What this process is as a worker: pools give their processes no other place to keep it.
_here: dict[str, _Remote] = {}


def _begin(load: Load, environment: Mapping[str, str]) -> None:
    os.environ.update(environment)
    # Ctrl-C reaches all processes of a terminal, and a batch system's signal all of a job; the sweep lets its
    # workers finish, who go with it.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _here["worker"] = _Remote(load)


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


def accelerators(provider: str) -> tuple[str, list[str]]:
    """The variable that chooses among a provider's accelerators, and its values for each of those visible here."""
    words = [provider]
    if provider == "auto":
        words = [word for word in _LISTS if word != "tensorrt" and _is_present(word)]
    for word in words:
        if word in _LISTS:
            variable, command = _LISTS[word]
            chosen = os.environ.get(variable)
            if chosen is not None:
                found = [name.strip() for name in chosen.split(",") if name.strip()]
            else:
                lines = [line for line in ask(*command).splitlines() if line.strip()]
                lines = [line for line in lines if not line.startswith("device,")]
                found = [str(i) for i in range(len(lines))]
            if found:
                return variable, found
    return "", []


def _is_present(word: str) -> bool:
    return any(source.is_present() for source in PROVIDERS[word].sources)
