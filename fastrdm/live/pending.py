"""Scores that are being computed while the training goes on."""

from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from typing import TypeAlias

from fastrdm._base import issue, printable
from fastrdm.scoring import Result

# Results, and the warnings of scoring.
Outcome: TypeAlias = tuple[tuple[Result, ...], Sequence[Warning]]


class PendingScores:
    """Scores of one call of a `Scorer` in mode "async", which become available later.

    Attributes
    ----------
    label : hashable
        As given at the call, such as the step of the training.
    """

    def __init__(
        self,
        label: Hashable,
        future: "Future[Outcome]",
        flatten: Callable[[Sequence[Result]], dict[str, float]],
    ) -> None:
        self.label = label
        self.seen = self._has_warned = False
        self._future, self._flatten = future, flatten

    def __repr__(self) -> str:
        state = "pending"
        if self.done():
            state = "failed" if self._future.exception() else "finished"
        return f"<PendingScores {printable(repr(self.label))}, {state}>"

    def done(self) -> bool:
        """Whether the scores, or an error, are available."""
        return self._future.done()

    def result(self, timeout: float | None = None) -> dict[str, float]:
        """Wait for the scores, and return the dict that ``scorer(module)`` returns in mode "sync".

        Raise the error of scoring, and TimeoutError after `timeout` seconds without either.
        """
        return self._flatten(self.results(timeout))

    def results(self, timeout: float | None = None) -> tuple[Result, ...]:
        """Wait for the scores, and return the results that `Scorer.results` returns; errors as for `result`."""
        self.exception(timeout)
        results, warnings = self._future.result(timeout)
        if not self._has_warned:
            self._has_warned = True
            for warning in warnings:
                issue(warning, stacklevel=3)
        return results

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for the scores, and return the error of scoring, or None; TimeoutError as for `result`."""
        try:
            error = self._future.exception(timeout)
        except TimeoutError:
            raise TimeoutError(f"{self!r} after waiting for {timeout:g} s") from None
        self.seen = True
        return error

    def add_done_callback(self, function: "Callable[[PendingScores], object]") -> None:
        """Call a function with this object as soon as the scores are available, in the thread that computed them."""
        self._future.add_done_callback(lambda _: function(self))
