"""Scores of a network that the Trainer of Hugging Face transformers trains: a callback."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastrdm._base import require
from fastrdm.live import Schedule, ScoreHistory, StepScores, check_monitored, is_key

if TYPE_CHECKING:
    import torch

_Callback: Any = require(
    "transformers", "transformers", "to score while its Trainer trains"
).TrainerCallback

# The prefix that the Trainer gives to metrics of an evaluation.
_PREFIX = "eval_"


class TransformersScoring(_Callback):  # type: ignore[misc]
    """Scores the network of a Hugging Face Trainer, for its reports and the choice of its best model.

    ``trainer.add_callback(TransformersScoring(scorer, trainer))``. Scores are logged by ``trainer.log``, and so by all
    that the Trainer reports to, under the keys of `Scorer`. The metrics of an evaluation also have the scores of its
    step, with the prefix ``eval_`` that the Trainer requires: ``metric_for_best_model="brain/92/it/best"`` and
    `EarlyStoppingCallback` work. If the metric of the best model is a score, every evaluation is scored.

    The weights, modes, gradients and random states are as before after each score, so that the training ends with the
    same bits as without the callback.

    Parameters
    ----------
    scorer : Scorer
        Or any function from a module to a dict of numbers. It gets the Trainer's model with its wrapper, such as
        `DistributedDataParallel`; the argument `network` of `Scorer` chooses a part. With ``mode="async"``, scores are
        logged when they are complete, under the step they belong to; an evaluation waits for them if the best model
        depends on them.
    trainer : transformers.Trainer
        The Trainer to which the callback is added. The default None is refused with a
        sentence that shows how: the callback cannot be in the Trainer's argument `callbacks`, as callbacks alone cannot
        log.
    every_n_epochs, every_n_steps, at_start, at_end, on_error
        As for `LoopScoring`. Steps are those of ``trainer.state.global_step``.

    Attributes
    ----------
    history : tuple of StepScores
        What was scored so far in this training: `step`, `epoch` (with the fraction that is complete) and `scores`. A
        resumed training has the earlier scores in ``trainer.state.log_history``.

    Raises
    ------
    TypeError
        If `trainer` is missing or not a Trainer.
    ValueError
        As `LoopScoring`; when the training begins, if it is that of another Trainer, or the metric of the best model is
        a score that does not exist.
    MissingExtraError
        If transformers is not installed.
    """

    def __init__(
        self,
        scorer: Callable[["torch.nn.Module"], Any],
        trainer: Any = None,
        *,
        every_n_epochs: int | None = None,
        every_n_steps: int | None = None,
        at_start: bool = True,
        at_end: bool = True,
        on_error: str = "raise",
    ) -> None:
        if not hasattr(trainer, "callback_handler"):
            raise TypeError(
                f"trainer must be a transformers.Trainer, not {type(trainer).__name__}; make the trainer first, then"
                " call trainer.add_callback(TransformersScoring(scorer, trainer))"
            )
        self._schedule = Schedule(every_n_epochs, every_n_steps, at_start, at_end)
        self._history = ScoreHistory(scorer, self._report, on_error)
        self._trainer = trainer

    @property
    def history(self) -> tuple[StepScores, ...]:
        """What was scored so far."""
        return tuple(self._history.steps)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Come before other callbacks, such as early stopping; score the network, unless the training resumes."""
        callbacks = self._trainer.callback_handler.callbacks
        if self not in callbacks:
            raise ValueError(
                "this TransformersScoring was made for another Trainer; call"
                " trainer.add_callback(TransformersScoring(scorer, trainer)) with the same trainer twice"
            )
        callbacks.remove(self)
        callbacks.insert(0, self)
        if state.global_step == 0:
            self._history.restart()
            if self._schedule.at_start:
                self._score()
            scores = self._history.of_step(0)
            check_monitored(_best_metric(args), scores, "metric_for_best_model is")

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Score the network after a step."""
        self._history.collect()
        if self._schedule.after_step(state.global_step):
            self._score()

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Score the network after an epoch, before it is evaluated and saved."""
        # The last epoch of a training with max_steps ends before its last batch.
        complete = round(state.epoch) if math.isclose(state.epoch, round(state.epoch)) else 0
        ends = control.should_training_stop or state.global_step >= state.max_steps
        if self._schedule.after_epoch(complete) or (ends and self._schedule.at_end):
            self._score()

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: dict[str, float], **kwargs: Any
    ) -> None:
        """Add the scores of this step to the metrics of an evaluation during training."""
        if not self._trainer.is_in_train:
            return
        if is_key(_best_metric(args)):
            self._score()
            self._history.collect(wait=True)
        for name, value in self._history.of_step(state.global_step).items():
            metrics[_PREFIX + name] = value

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Score the network as it is at the end, and wait for all scores."""
        # A best model that was loaded again is that of an earlier step.
        if self._schedule.at_end and not args.load_best_model_at_end:
            self._score()
        self._history.collect(wait=True)

    def _score(self) -> None:
        state = self._trainer.state
        self._history.score(self._trainer.model_wrapped, state.global_step, state.epoch)

    def _report(self, found: StepScores) -> None:
        """Log scores by the Trainer, under their step, without a change of what it logs next."""
        state, control = self._trainer.state, self._trainer.control
        now = state.global_step, state.epoch, control.should_log
        state.global_step, state.epoch = found.step, found.epoch
        try:
            self._trainer.log(dict(found.scores))
        finally:
            state.global_step, state.epoch, control.should_log = now


def _best_metric(args: Any) -> str:
    """The metric of the best model, without the prefix of evaluations; empty without one."""
    return (args.metric_for_best_model or "").removeprefix(_PREFIX)
