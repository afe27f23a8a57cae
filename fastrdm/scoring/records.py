"""What a store keeps: how a checkpoint was scored, against whom, and what came of it."""

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastrdm.networks import is_onnx
from fastrdm.scoring.scorer import StudyScores

if TYPE_CHECKING:
    pass


class StoreError(ValueError):
    """A store cannot be opened, read or written; one sentence that names it."""


@dataclass(frozen=True)
class Stamp:
    """Size and time of last change of a file, by which it is known again without reading it; −1 where there is none."""

    size: int = -1
    mtime_ns: int = -1

    @classmethod
    def of(cls, path: str | Path) -> "Stamp":
        """The stamp of what is at `path` now; of an `.onnx` file together with its weights in FILE.data."""
        # Not by pathlib, which takes five times as long: a resume asks this of every checkpoint.
        try:
            found = [os.stat(path)]  # noqa: PTH116
        except OSError:
            return cls()
        if is_onnx(path):
            with contextlib.suppress(OSError):
                found.append(os.stat(f"{path}.data"))  # noqa: PTH116
        return cls(sum(s.st_size for s in found), max(s.st_mtime_ns for s in found))


@dataclass(frozen=True)
class Method:
    """How RDMs are made of weights.

    Attributes
    ----------
    arch : str
        What tables call the network; no part of the key.
    graph : str
        The architecture's fingerprint, or what is taken of files that bring their own graph.
    preprocessing : str
        As JSON.
    precision : str
        Of the network.
    kernels : str
        fastrdm's version and the name of its kernels.
    """

    arch: str
    graph: str
    preprocessing: str
    precision: str
    kernels: str

    @property
    def key(self) -> str:
        """SHA-256 of all but the name."""
        facts = asdict(self) | {"arch": None, "rdm": "correlation"}
        return digest_of(facts)


@dataclass(frozen=True)
class Subjects:
    """What layers are scored against: one region of one study.

    Attributes
    ----------
    study, region : str
        Their names, which are part of the key.
    stimuli, subjects : str
        SHA-256 of the images in their order, and of the subjects' RDMs.
    protocol : str
        As JSON, with what becomes of NaN.
    ceiling : float
        That scores are a share of.
    n_subjects : int
    synthetic : bool
        Whether the brains are simulated.
    """

    study: str
    region: str
    stimuli: str
    subjects: str
    protocol: str
    ceiling: float
    n_subjects: int
    synthetic: bool

    @property
    def key(self) -> str:
        """SHA-256 of it all."""
        return digest_of(asdict(self))


@dataclass(frozen=True)
class Report:
    """One checkpoint's results on their way into a store.

    Attributes
    ----------
    path : str
    stamp : Stamp
        Of the file when its SHA-256 was taken.
    sha256 : str
    labels : dict of str to str
    studies : tuple of StudyScores
    seconds : float
        That the checkpoint took.
    warnings : tuple of str
        What was warned of meanwhile.
    """

    path: str
    stamp: Stamp
    sha256: str
    labels: Mapping[str, str]
    studies: tuple[StudyScores, ...]
    seconds: float
    warnings: tuple[str, ...] = ()


def digest_of(facts: Mapping[str, Any]) -> str:
    """SHA-256 of a text."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
