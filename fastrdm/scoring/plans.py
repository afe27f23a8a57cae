"""What a sweep has to do, what it would take, and what it did."""

from dataclasses import dataclass
from typing import Any

from fastrdm.scoring.jobs import Elsewhere, Failed, Known, Outcome
from fastrdm.scoring.listing import LeftOut


@dataclass(frozen=True)
class Plan:
    """Numbers of checkpoints to score, with scores, and failed and unchanged since; size of the new ones.

    `left_out` are files that are not checkpoints, `missing` an error for each named file that does not exist and each
    folder, glob or list without a checkpoint.
    """

    new: int = 0
    done: int = 0
    failed: int = 0
    n_bytes: int = 0
    left_out: tuple[LeftOut, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def note(self) -> str:
        """A sentence if there is nothing to score because all checkpoints were tried before, else empty."""
        total = self.done + self.failed
        if self.new or not total:
            return ""
        scored = f"{self.done} of {total} {'was' if self.done == 1 else 'were'} scored before"
        if not self.failed:
            return f"{scored}; nothing to do"
        again = "tries it again" if self.failed == 1 else "tries them again"
        return f"{scored}, {self.failed} failed before; nothing to do; --retry-failed {again}"


@dataclass(frozen=True)
class Summary:
    """What a sweep did: "finished", or "stopped" by a signal; checkpoints scored, recognised and failed; the plan.

    `elsewhere` counts checkpoints that other sweeps on the same store scored meanwhile, `signal` is the signal's
    number. Missing files are among the failed ones of every run.
    """

    outcome: str
    scored: int
    known: int
    failed: int
    elsewhere: int
    before: Plan
    seconds: float
    signal: int = 0


@dataclass(frozen=True)
class Estimate:
    """Seconds that a sweep would take with all workers, and a worker's peak memory in bytes."""

    plan: Plan
    seconds: float
    memory: int
    workers: int


def kind_of(outcome: Outcome) -> str:
    """The event of an outcome."""
    is_failure = isinstance(outcome, Elsewhere) and outcome.error
    return "failed" if is_failure else type(outcome).__name__.lower()


def event_of(outcome: Outcome) -> dict[str, Any]:
    """An outcome as an event."""
    event: dict[str, Any] = {
        "event": kind_of(outcome),
        "checkpoint": outcome.job.path,
        "worker": "" if isinstance(outcome, Elsewhere) else outcome.worker,
    }
    if isinstance(outcome, Elsewhere):
        return event | ({"error": outcome.error, "traceback": ""} if outcome.error else {})
    if isinstance(outcome, Failed):
        return event | {"error": outcome.error, "traceback": outcome.traceback}
    event |= {"sha256": outcome.sha256, "seconds": round(outcome.seconds, 3)}
    return event if isinstance(outcome, Known) else event | {"warnings": list(outcome.warnings)}
