"""A thread that computes scores in the order of the calls."""

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from fastrdm._base import counted, error_text, issue, recorded_warnings
from fastrdm.live.pending import Outcome, PendingScores
from fastrdm.scoring import Result


class Background:
    """Runs jobs one after the other in a thread; at most `max_pending` wait or run."""

    def __init__(
        self, max_pending: int, flatten: Callable[[Sequence[Result]], dict[str, float]]
    ) -> None:
        self._places = threading.Semaphore(max_pending)
        self._flatten = flatten
        self._thread: ThreadPoolExecutor | None = None
        self._calls: deque[tuple[PendingScores, Future[Outcome]]] = deque()

    def start(self, prepare: Callable[[], Callable[[], tuple[Result, ...]]]) -> "Future[Outcome]":
        """Wait for a place, prepare a job in the calling thread, and let the other thread run it."""
        self._places.acquire()
        try:
            job = prepare()
            if self._thread is None:
                self._thread = ThreadPoolExecutor(1, "fastrdm-scorer")
            future = self._thread.submit(_outcome, job)
        except BaseException:
            self._places.release()
            raise
        future.add_done_callback(lambda _: self._places.release())
        return future

    def keep(self, label: Hashable, future: "Future[Outcome]") -> PendingScores:
        """Return the scores of a future, and keep them for `finished`."""
        pending = PendingScores(label, future, self._flatten)
        while self._calls and self._calls[0][0].seen:
            self._calls.popleft()
        self._calls.append((pending, future))
        return pending

    def finished(self) -> list[PendingScores]:
        """Return what is finished and has not been returned or asked for, in the order of the calls."""
        found = []
        while self._calls and (self._calls[0][0].seen or self._calls[0][0].done()):
            pending, _ = self._calls.popleft()
            if not pending.seen:
                found.append(pending)
        return found

    def wait(self, timeout: float | None) -> list[PendingScores]:
        """Wait for all jobs, and return what `finished` returns; TimeoutError if they take longer."""
        end = None if timeout is None else time.monotonic() + timeout
        for _, future in self._calls:
            try:
                future.exception(None if end is None else max(0, end - time.monotonic()))
            except TimeoutError:
                n = sum(not future.done() for _, future in self._calls)
                raise TimeoutError(
                    f"{counted(n, 'call')} of the Scorer did not finish within {timeout:g} s"
                ) from None
        return self.finished()

    def close(self) -> None:
        """Wait for all jobs, and end the thread; warn of errors that nobody has asked for."""
        for pending in self.wait(None):
            if error := pending.exception():
                which = "" if pending.label is None else f" of {pending.label}"
                text = f"the scores{which} failed: {error_text(error)}"
                issue(RuntimeWarning(text), stacklevel=3)
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None


def _outcome(job: Callable[[], tuple[Result, ...]]) -> Outcome:
    with recorded_warnings() as caught:
        results = job()
    return results, caught
