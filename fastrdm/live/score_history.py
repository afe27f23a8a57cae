"""The scores of a training run, each step once, with those that arrive late under the step they belong to."""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastrdm._base import check_choice, counted, one_line, warn_caller

if TYPE_CHECKING:
    import torch

ON_ERROR = ("raise", "warn")


@dataclass(frozen=True)
class StepScores:
    """Scores of a network as it was after a step: numbers by the keys of `Scorer`.

    `step` counts optimiser steps, `epoch` is the epoch as the framework counts.
    """

    step: int
    epoch: float
    scores: Mapping[str, float]

    def __str__(self) -> str:
        best = {name: value for name, value in self.scores.items() if name.endswith("/best")}
        values = ", ".join(f"{name} {value:.1f}" for name, value in best.items())
        return f"step {self.step}, epoch {self.epoch:g}: {values or counted(len(self.scores), 'score')}"


class ScoreHistory:
    """Scores of a network in training, by any function from a module to scores, now or later.

    `scorer` returns a mapping, or an object with the methods `done` and `result`, as `Scorer` does with
    ``mode="async"``. `log` is called with each step's scores in the order of the steps, in the thread that trains. With
    ``on_error="warn"``, an error of the scorer is a RuntimeWarning that names the step; the default is "raise".
    """

    def __init__(
        self,
        scorer: Callable[["torch.nn.Module"], Any],
        log: Callable[[StepScores], None],
        on_error: str = "raise",
    ) -> None:
        if not callable(scorer):
            raise TypeError(f"scorer must be a fastrdm.Scorer, not {type(scorer).__name__}")
        check_choice(on_error, ON_ERROR, "on_error")
        self._scorer, self._log, self._on_error = scorer, log, on_error
        self._pending: deque[tuple[int, float, Any]] = deque()
        self._last_step: int | None = None
        self.steps: list[StepScores] = []

    def restart(self) -> None:
        """Forget the steps of a training that was before this one."""
        self._pending.clear()
        self._last_step = None
        self.steps = []

    def score(self, module: "torch.nn.Module", step: int, epoch: float) -> bool:
        """Score the module and return True, or return False if this is done for this step."""
        if step == self._last_step:
            return False
        self._last_step = step
        try:
            answer = self._scorer(module)
            if not (isinstance(answer, Mapping) or hasattr(answer, "done")):
                raise TypeError(
                    f"scorer must return a dict of numbers, not {type(answer).__name__}"
                )
        except Exception as error:
            self._failed(step, error, self._on_error)
        else:
            self._pending.append((step, epoch, answer))
        self.collect()
        return True

    def collect(self, *, wait: bool = False) -> None:
        """Log what is complete, or everything after waiting for it."""
        self._collect(wait, self._on_error)

    def collect_after_error(self) -> None:
        """Log what is complete after an error of the training; errors of scores are warnings, and do not hide it."""
        self._collect(False, "warn")

    def _collect(self, wait: bool, on_error: str) -> None:
        while self._pending:
            step, epoch, answer = self._pending[0]
            if not (wait or isinstance(answer, Mapping) or answer.done()):
                return
            self._pending.popleft()
            try:
                scores = answer if isinstance(answer, Mapping) else answer.result()
            except Exception as error:
                self._failed(step, error, on_error)
                continue
            found = StepScores(step, epoch, {name: float(scores[name]) for name in scores})
            self.steps.append(found)
            self._log(found)

    def of_step(self, step: int) -> dict[str, float]:
        """Return the scores of a step, none if it is not scored (yet)."""
        found = next((each.scores for each in reversed(self.steps) if each.step == step), {})
        return dict(found)

    def state_dict(self) -> dict[str, Any]:
        """Return what is complete as plain values, for a checkpoint."""
        return {"steps": [(each.step, each.epoch, dict(each.scores)) for each in self.steps]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a result of `state_dict`."""
        self.steps = [StepScores(step, epoch, scores) for step, epoch, scores in state["steps"]]
        self._last_step = self.steps[-1].step if self.steps else None

    def _failed(self, step: int, error: Exception, on_error: str) -> None:
        if on_error == "raise":
            raise error
        warn_caller(f"step {step} of the training could not be scored: {one_line(error)}")
