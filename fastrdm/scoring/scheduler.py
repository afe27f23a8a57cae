"""Where a sweep's work runs: worker processes of this machine, or actors of a Ray cluster.

An engine makes workers and finds out which are gone. What both have in common is `run`: it hands tasks to workers a few
at a time, and those of a worker that died to others.
"""

import concurrent.futures
import itertools
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeAlias

from fastrdm.scoring.records import Stamp
from fastrdm.scoring.worker import EngineError, Hello, Load, Outcome, Task, Worker

Notify: TypeAlias = Callable[[dict[str, Any]], None]

# In work and waiting at a worker, beside the one whose follower is not known yet: while results of one are stored, the
# next one runs.
_AT_WORKER = 2
# A checkpoint whose worker died this often is given up; after the first time it runs alone, so that it is to blame.
_DEATHS = 3
_POLL_S = 0.3


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


class Remote:
    """A worker that says why it cannot start instead of dying of it."""

    def __init__(self, load: Load) -> None:
        self._made: Worker | Exception
        try:
            self._made = Worker(load)
        except Exception as error:
            self._made = error

    def hello(self) -> Hello | Exception:
        """What the worker says of itself, or why there is none."""
        return self._made if isinstance(self._made, Exception) else self._made.hello()

    def score(self, task: Task, following: Task | None, name: str) -> Outcome:
        """Score a task; the next one is opened meanwhile."""
        if isinstance(self._made, Exception):
            raise self._made
        return self._made.score(task, following, name)
