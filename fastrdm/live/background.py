"""A thread that computes scores in the order of the calls."""

import threading
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for

from fastrdm._base import error_text, issue, recorded_warnings
from fastrdm.live.pending import Outcome, PendingScores
from fastrdm.scoring import Result


class Background:
    """Runs jobs one after the other in a thread; at most `max_pending` wait or run."""

    def __init__(
        self, max_pending: int, flatten: Callable[[Sequence[Result]], dict[str, float]]
    ) -> None:
        self._slots = threading.Semaphore(max_pending)
        self._flatten = flatten
        self._thread: ThreadPoolExecutor | None = None
        self._futures: deque[tuple[PendingScores, Future[Outcome]]] = deque()

    def submit(
        self, label: Hashable, prepare: Callable[[], Callable[[], tuple[Result, ...]]]
    ) -> PendingScores:
        """Wait for a place, prepare a job in the calling thread, and let the other thread run it."""
        self._slots.acquire()
        try:
            job = prepare()
        except BaseException:
            self._slots.release()
            raise
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "fastrdm-scorer")
        future = self._thread.submit(self._run, job)
        pending = PendingScores(label, future, self._flatten)
        while self._futures and self._futures[0][0].seen:
            self._futures.popleft()
        self._futures.append((pending, future))
        return pending

    def _run(self, job: Callable[[], tuple[Result, ...]]) -> Outcome:
        try:
            with recorded_warnings() as caught:
                results = job()
            return results, caught
        finally:
            self._slots.release()

    def finished(self) -> list[PendingScores]:
        """Return what is finished and has not been returned or asked for, in the order of the calls."""
        found = []
        while self._futures and self._futures[0][0].done():
            pending, _ = self._futures.popleft()
            if not pending.seen:
                found.append(pending)
        return found

    def wait(self, timeout: float | None) -> list[PendingScores]:
        """Wait for all jobs, and return what `finished` returns; TimeoutError if they take longer."""
        running = wait_for([future for _, future in self._futures], timeout).not_done
        if running:
            raise TimeoutError(f"{len(running)} calls of the scorer are not finished")
        return self.finished()

    def close(self) -> None:
        """Wait for all jobs, and end the thread; warn of errors that nobody has asked for."""
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None
        for pending in self.finished():
            if error := pending.exception():
                which = "" if pending.label is None else f" of {pending.label}"
                issue(
                    RuntimeWarning(f"the scores{which} failed: {error_text(error)}"), stacklevel=3
                )
