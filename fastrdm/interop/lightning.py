"""Scores of a network that Lightning trains: a callback."""

import importlib.util
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from fastrdm._base import require
from fastrdm.live import Schedule, ScoreHistory, StepScores, check_monitored, is_key

if TYPE_CHECKING:
    import torch

if importlib.util.find_spec("lightning") or not importlib.util.find_spec("pytorch_lightning"):
    _Callback: Any = require("lightning.pytorch", "lightning", "to score while it trains").Callback
else:
    # The same package under its other name.
    _Callback = importlib.import_module("pytorch_lightning").Callback


class LightningScoring(_Callback):  # type: ignore[misc]
    """Scores the network of a Lightning module, for its loggers, `ModelCheckpoint` and `EarlyStopping`.

    Scores are logged by the trainer's loggers under the keys of `Scorer`; the step is ``trainer.global_step``. They are
    in ``trainer.callback_metrics`` before the validation of an epoch, and before checkpoints are written:
    ``ModelCheckpoint(monitor="brain/92/it/best", mode="max")``. Where nothing is scored, callbacks that monitor a score
    find the last one, so give them the same ``every_n_epochs`` or ``every_n_train_steps``. Sanity checks of the
    validation are not scored, and a resumed training continues with the history of its checkpoint.

    The weights, modes, gradients and random states are as before after each score, so that the training ends with the
    same bits as without the callback.

    Parameters
    ----------
    scorer : Scorer
        Or any function from a module to a dict of numbers. It gets the Lightning module with the trainer's wrapper,
        such as `DistributedDataParallel`; the argument `network` of `Scorer` chooses a part. With ``mode="async"``,
        scores are logged when they are complete, under the step they belong to, and cannot be monitored.
    every_n_epochs, every_n_steps, at_start, at_end, on_error
        As for `LoopScoring`. Steps are those of ``trainer.global_step``.

    Attributes
    ----------
    history : tuple of StepScores
        What was scored so far in this training: `step`, `epoch` (from 0, as in Lightning) and `scores`.

    Raises
    ------
    ValueError
        As `LoopScoring`; when the training begins, if a callback monitors scores that are computed asynchronously, or a
        score that does not exist.
    MissingExtraError
        If Lightning is not installed.
    """

    def __init__(
        self,
        scorer: Callable[["torch.nn.Module"], Any],
        *,
        every_n_epochs: int | None = None,
        every_n_steps: int | None = None,
        at_start: bool = True,
        at_end: bool = True,
        on_error: str = "raise",
    ) -> None:
        super().__init__()
        self._schedule = Schedule(every_n_epochs, every_n_steps, at_start, at_end)
        self._history = ScoreHistory(scorer, self._report, on_error)
        self._studies = [study.name for study in getattr(scorer, "studies", ())]
        self._asynchronous = getattr(scorer, "mode", "sync") == "async"
        self._trainer: Any = None

    @property
    def history(self) -> tuple[StepScores, ...]:
        """What was scored so far."""
        return tuple(self._history.steps)

    @property
    def state_key(self) -> str:
        """The key of the history in checkpoints, another one for scorers of other studies."""
        key: str = self._generate_state_key(studies=self._studies)
        return key

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Check what other callbacks monitor."""
        if stage != "fit":
            return
        self._trainer = trainer
        for clause, name in _monitored(trainer):
            if self._asynchronous and is_key(name):
                raise ValueError(
                    f"{clause} {name!r}, which an asynchronous scorer computes too late; make the scorer with"
                    " mode='sync'"
                )

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Score the network before the first step, unless the training resumes."""
        if trainer.global_step == 0:
            self._history.restart()
            if self._schedule.at_start:
                self._score(trainer, pl_module)
            if sum(isinstance(callback, LightningScoring) for callback in trainer.callbacks) == 1:
                for clause, name in _monitored(trainer):
                    check_monitored(name, self._history.of_step(0), clause)

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Score the network after a step or the last step of an epoch, before the validation begins."""
        self._history.collect()
        ends = trainer.is_last_batch and self._schedule.after_epoch(trainer.current_epoch + 1)
        if ends or self._schedule.after_step(trainer.global_step):
            self._score(trainer, pl_module, on_step=True)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Score the network if the epoch has ended before its last batch."""
        if self._schedule.after_epoch(trainer.current_epoch + 1):
            self._score(trainer, pl_module, on_step=False)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Score the network as it is at the end, and wait for all scores."""
        if self._schedule.at_end:
            self._score(trainer, pl_module)
        self._history.collect(wait=True)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Log what is complete."""
        self._history.collect_after_error()

    def state_dict(self) -> dict[str, Any]:
        """Return the history, for checkpoints."""
        return self._history.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue with the history of a checkpoint."""
        self._history.load_state_dict(state_dict)

    def _score(self, trainer: Any, pl_module: Any, *, on_step: bool | None = None) -> None:
        """Score this step if it is not scored yet, where values can be logged also for callbacks that monitor them."""
        step, epoch = trainer.global_step, trainer.current_epoch
        if self._history.score(trainer.strategy.model, step, epoch) and on_step is not None:
            # All processes have the same scores. Lightning expects the reduction of values of an epoch all the same.
            pl_module.log_dict(
                self._history.of_step(step),
                on_step=on_step,
                on_epoch=not on_step,
                logger=False,
                batch_size=1,
                sync_dist=not on_step,
            )

    def _report(self, found: StepScores) -> None:
        for logger in self._trainer.loggers:
            logger.log_metrics({**found.scores, "epoch": found.epoch}, step=found.step)
            logger.save()


def _monitored(trainer: Any) -> Iterator[tuple[str, str]]:
    """Yield which callbacks monitor something, as the beginning of a sentence, and what."""
    for callback in trainer.callbacks:
        if name := getattr(callback, "monitor", None):
            yield f"{type(callback).__name__} monitors", name
