"""When to score a network in training."""

from dataclasses import dataclass

from fastrdm._base import check_integer


@dataclass(frozen=True)
class Schedule:
    """Steps and epochs after which a network is scored; 0 is never.

    By default it is scored after every epoch, unless `every_n_steps` is given, and at the start and the end.
    """

    every_n_epochs: int | None = None
    every_n_steps: int | None = None
    at_start: bool = True
    at_end: bool = True

    def __post_init__(self) -> None:
        """Fill in the defaults; raise ValueError for anything but counts, and if nothing is ever scored."""
        steps = 0 if self.every_n_steps is None else self.every_n_steps
        epochs = int(not steps) if self.every_n_epochs is None else self.every_n_epochs
        check_integer(steps, "every_n_steps", 0)
        check_integer(epochs, "every_n_epochs", 0)
        if not (steps or epochs or self.at_start or self.at_end):
            raise ValueError(
                "nothing would be scored: every_n_epochs and every_n_steps are 0, at_start and at_end are False"
            )
        object.__setattr__(self, "every_n_steps", steps)
        object.__setattr__(self, "every_n_epochs", epochs)

    def after_step(self, step: int) -> bool:
        """Whether to score when `step` optimiser steps are complete."""
        return _is_due(step, self.every_n_steps)

    def after_epoch(self, epoch: int) -> bool:
        """Whether to score when `epoch` epochs are complete."""
        return _is_due(epoch, self.every_n_epochs)


def _is_due(count: int, every: int | None) -> bool:
    return every is not None and every > 0 and count > 0 and count % every == 0
