"""Scores in a training loop that is written by hand."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from fastrdm.live.schedule import Schedule
from fastrdm.live.score_history import ScoreHistory, StepScores

if TYPE_CHECKING:
    from types import TracebackType

    import torch


class LoopScoring:
    """Scores a network in a plain training loop: a context, which counts the loop's steps and epochs.

    The network's weights, modes and gradients and all random states are as before after each score, so that the
    training ends with the same bits as without.

    Parameters
    ----------
    scorer : Scorer
        Or any function from a module to a dict of numbers.
    network : torch.nn.Module
        The network in training, with its wrapper if it has one (`DistributedDataParallel`, `torch.compile`).
    every_n_epochs : int, optional
        Score after every n-th epoch, 0: never. By default every epoch, or never if `every_n_steps` is given.
    every_n_steps : int, optional
        Score after every n-th step, 0: never (the default).
    at_start, at_end : bool
        Score before the first step, which shows at once what cannot be scored, and after the last step if it is not
        scored yet.
    log : callable, optional
        Called as ``log(scores, step)`` with the scores of each scored step, in the order of the steps and in the thread
        of the loop. With an asynchronous scorer this happens in a later step, or when the context ends.
    on_error : {"raise", "warn"}
        What to do if a step cannot be scored: raise the error of the scorer, or issue a RuntimeWarning and continue.

    Attributes
    ----------
    step, epoch : int
        Complete steps and epochs.
    history : tuple of StepScores
        What was scored so far: `step`, `epoch` and `scores`.

    Raises
    ------
    ValueError
        If a count is not an integer of at least 0, or nothing would ever be scored.
    RuntimeError
        If steps are counted outside the context.

    Examples
    --------
    >>> import torch
    >>> network, data = torch.nn.Linear(3, 1), torch.ones(8, 3)
    >>> optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    >>> def scorer(module):
    ...     return {"brain/92/it/best": 12.5}
    >>> with LoopScoring(scorer, network, log=print) as scoring:
    ...     for epoch in range(2):
    ...         for batch in data.split(4):
    ...             optimizer.zero_grad()
    ...             network(batch).mean().backward()
    ...             optimizer.step()
    ...             scoring.after_step()
    ...         scoring.after_epoch()
    {'brain/92/it/best': 12.5} 0
    {'brain/92/it/best': 12.5} 2
    {'brain/92/it/best': 12.5} 4
    >>> print(scoring.history[-1])
    step 4, epoch 2: brain/92/it/best 12.5
    """

    def __init__(
        self,
        scorer: Callable[["torch.nn.Module"], Any],
        network: "torch.nn.Module",
        *,
        every_n_epochs: int | None = None,
        every_n_steps: int | None = None,
        at_start: bool = True,
        at_end: bool = True,
        log: Callable[[dict[str, float], int], object] | None = None,
        on_error: str = "raise",
    ) -> None:
        self._schedule = Schedule(every_n_epochs, every_n_steps, at_start, at_end)
        self._history = ScoreHistory(scorer, self._report, on_error)
        self._network, self._log = network, log
        self._entered = False
        self.step = self.epoch = 0

    @property
    def history(self) -> tuple[StepScores, ...]:
        """What was scored so far."""
        return tuple(self._history.steps)

    def __enter__(self) -> "LoopScoring":
        self._entered = True
        if self._schedule.at_start and self.step == 0:
            self._score()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: "TracebackType | None",
    ) -> None:
        self._entered = False
        if kind is not None:
            self._history.collect_after_error()
            return
        if self._schedule.at_end:
            self._score()
        self._history.collect(wait=True)

    def after_step(self) -> None:
        """Count a step of the optimiser, and score the network if it is due."""
        self._check_entered()
        self.step += 1
        if self._schedule.after_step(self.step):
            self._score()
        self._history.collect()

    def after_epoch(self) -> None:
        """Count an epoch, and score the network if it is due."""
        self._check_entered()
        self.epoch += 1
        if self._schedule.after_epoch(self.epoch):
            self._score()

    def state_dict(self) -> dict[str, Any]:
        """Return steps, epochs and scores as plain values, for the checkpoint of the training."""
        return {"step": self.step, "epoch": self.epoch, **self._history.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a result of `state_dict`; call it before the context begins."""
        self.step, self.epoch = state["step"], state["epoch"]
        self._history.load_state_dict(state)

    def _score(self) -> None:
        self._history.score(self._network, self.step, self.epoch)

    def _report(self, found: StepScores) -> None:
        if self._log is not None:
            self._log(dict(found.scores), found.step)

    def _check_entered(self) -> None:
        if not self._entered:
            raise RuntimeError(
                "LoopScoring counts steps inside its context: with LoopScoring(…) as scoring: …"
            )
