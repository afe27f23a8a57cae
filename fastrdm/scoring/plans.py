"""What a sweep has to do, what it would take, and what it did."""

from dataclasses import dataclass

from fastrdm.scoring.listing import LeftOut


@dataclass(frozen=True)
class Plan:
    """What there is to do.

    Attributes
    ----------
    new, done, failed : int
        Checkpoints to score, with scores, and with an earlier failure and unchanged since.
    n_bytes : int
        Total size of the new checkpoints.
    left_out : tuple of LeftOut
        Files in folders and globs that are not checkpoints.
    missing : tuple of str
        An error message for each named file that does not exist, and each folder, glob or list without a checkpoint.
    """

    new: int = 0
    done: int = 0
    failed: int = 0
    n_bytes: int = 0
    left_out: tuple[LeftOut, ...] = ()
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Summary:
    """What a sweep did.

    Attributes
    ----------
    outcome : {"finished", "stopped"}
        Whether it reached its end, or a signal stopped it.
    scored, known, failed : int
        Checkpoints scored, recognised under another name, and failed; missing files are among the failed ones of every
        run.
    before : Plan
        What there was to do.
    seconds : float
    """

    outcome: str
    scored: int
    known: int
    failed: int
    before: Plan
    seconds: float


@dataclass(frozen=True)
class Estimate:
    """What a sweep would take, measured on the first new checkpoints of each network.

    Attributes
    ----------
    plan : Plan
    seconds : float
        With all workers, including the time to open checkpoints.
    memory : int
        Peak memory of a worker in bytes.
    workers : int
    """

    plan: Plan
    seconds: float
    memory: int
    workers: int
