"""What a sweep has to do, what it would take, and what it did."""

from dataclasses import dataclass

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


@dataclass(frozen=True)
class Summary:
    """What a sweep did: "finished", or "stopped" by a signal; checkpoints scored, recognised and failed; the plan.

    Missing files are among the failed ones of every run.
    """

    outcome: str
    scored: int
    known: int
    failed: int
    before: Plan
    seconds: float


@dataclass(frozen=True)
class Estimate:
    """Seconds that a sweep would take with all workers, and a worker's peak memory in bytes."""

    plan: Plan
    seconds: float
    memory: int
    workers: int
