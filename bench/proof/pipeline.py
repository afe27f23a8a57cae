"""Checkpoints one after the other: weights are folded in another thread, copied to the device and run."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from bench.proof.networks import State

Rdms = list[dict[str, Any]]
WARM = 3
"""Checkpoints that run before the clock starts."""


class CheckpointPipeline:
    """Runs checkpoints on a model: `TorchModel`, whose RDMs are waited for one checkpoint later, or `DeviceModel`.

    `shown` are the stimuli of each set, `states` the weights of the checkpoints, used in turn.
    """

    def __init__(
        self, model: Any, shown: Sequence[Any], states: Sequence[Any], score: Callable[[Rdms], Any]
    ) -> None:
        self._model, self._shown, self._states, self._score = model, shown, states, score
        # One is loaded, one waits for its RDMs, and one is filled.
        self._free = [model.fold(states[0]) for _ in range(3)]

    def rate(self, n: int, *, score: bool = False) -> tuple[float, Rdms]:
        """Return checkpoints per second, and the RDMs of the last one; with `score`, another thread scores them."""
        with ThreadPoolExecutor(1) as folding, ThreadPoolExecutor(1) as scoring:
            start, waiting, scored = 0.0, None, []
            following = folding.submit(self._fold, 0)
            for k in range(-WARM, n):
                if k == 0:
                    start = time.perf_counter()
                folded = following.result()
                self._model.load(folded)
                begun = folded, self._start()
                if waiting is not None:
                    self._finish(waiting, scoring if score else None, scored)
                following = folding.submit(self._fold, max(k + 1, 0))
                waiting = begun
            rdms = self._finish(waiting, scoring if score else None, scored)
            self._free.append(following.result())
            for each in scored:
                each.result()
            return n / (time.perf_counter() - start), rdms

    def _fold(self, k: int) -> Any:
        return self._model.fold(self._states[k % len(self._states)], self._free.pop())

    def _start(self) -> Callable[[], Rdms]:
        if hasattr(self._model, "start_sets"):
            begun = self._model.start_sets(self._shown)
            return lambda: [each.rdms() for each in begun]
        rdms = [self._model.rdms(each) for each in self._shown]
        return lambda: rdms

    def _finish(
        self, begun: Any, scoring: ThreadPoolExecutor | None, scored: list[Future[Any]]
    ) -> Rdms:
        rdms: Rdms = begun[1]()
        self._free.append(begun[0])
        if scoring is not None:
            scored.append(scoring.submit(self._score, rdms))
        return rdms


def last_state(states: Sequence[State], n: int) -> State:
    """Return the state of the last of n checkpoints."""
    return states[(n - 1) % len(states)]
