"""What a sweep and its workers exchange: the set-up, jobs, outcomes."""

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import __version__
from fastrdm._kernels import kernels
from fastrdm.images import Preprocessing
from fastrdm.networks import Taps, is_onnx
from fastrdm.runtimes import Architecture
from fastrdm.similarity import Score
from fastrdm.studies import Study

Pixels: TypeAlias = Mapping[tuple[str, tuple[int, int], str], NDArray[np.uint8]]


class WorkerPoolError(RuntimeError, ValueError):
    """Workers are unavailable; one sentence."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How checkpoints are scored.

    Attributes
    ----------
    provider, precision, provider_options, batch_size, allow_inconsistent, n_threads
        As for `OnnxModel`.
    keep_rdms : bool
        Whether the RDMs of the layers are kept with the scores.
    progress : bool
        Whether to show progress bars on stderr.
    """

    provider: str = "auto"
    precision: str | None = None
    provider_options: Mapping[str, str] | None = None
    batch_size: int = 32
    allow_inconsistent: bool = False
    n_threads: int | None = None
    keep_rdms: bool = False
    progress: bool = False

    @property
    def model(self) -> dict[str, Any]:
        """Arguments for `OnnxModel`."""
        return {
            each.name: getattr(self, each.name)
            for each in fields(self)
            if each.name not in ("keep_rdms", "progress")
        }


@dataclass(frozen=True)
class NetworkSetup:
    """What a worker needs to open the checkpoints of one network.

    Attributes
    ----------
    architecture : Architecture or None
        None for `.onnx` checkpoints, to which taps and preprocessing apply.
    taps, preprocessing
        As for `OnnxModel`.
    error : str
        Why the architecture is unavailable; its checkpoints fail with this message.
    known : ndarray of bytes
        SHA-256 of the weights that already have scores, sorted.
    """

    architecture: Architecture | None
    taps: Taps | None = None
    preprocessing: Preprocessing | None = None
    error: str = ""
    known: NDArray[np.bytes_] = field(default_factory=lambda: np.empty(0, "S32"))

    def knows(self, sha256: str) -> bool:
        """Whether weights already have scores."""
        digest = np.array(bytes.fromhex(sha256), "S32")
        place = int(np.searchsorted(self.known, digest))
        return bool(place < len(self.known) and self.known[place] == digest)


@dataclass(frozen=True)
class WorkerSetup:
    """All that a worker needs beside its jobs.

    Attributes
    ----------
    networks : tuple of NetworkSetup
    studies : tuple of Study
    options : RunOptions
    kernels : str
        Version and name of the kernels that every worker must have, from `kernels_version`.
    submit : bool
        Whether to return the RDMs of the best layers for the test images.
    pixels : mapping of (study, size, filter) to ndarray
        Decoded stimuli sent with the set-up; others come from the worker's cache.
    """

    networks: tuple[NetworkSetup, ...]
    studies: tuple[Study, ...]
    options: RunOptions
    kernels: str
    submit: bool = False
    pixels: Pixels = field(default_factory=dict)


@dataclass(frozen=True)
class Stamp:
    """Size and modification time of a file, which identify it without reading; −1 for a missing file."""

    size: int = -1
    mtime_ns: int = -1

    @classmethod
    def of(cls, path: str | Path) -> "Stamp":
        """The current stamp of a file; of an `.onnx` file together with its weights in FILE.data."""
        # os.stat takes a fifth of pathlib's time, and a resumed sweep calls this for every checkpoint.
        try:
            found = [os.stat(path)]  # noqa: PTH116
        except OSError:
            return cls()
        if is_onnx(path):
            with contextlib.suppress(OSError):
                found.append(os.stat(f"{path}.data"))  # noqa: PTH116
        return cls(sum(s.st_size for s in found), max(s.st_mtime_ns for s in found))


@dataclass(frozen=True)
class Job:
    """A checkpoint to score.

    Attributes
    ----------
    path : str
    network : int
        Index of its network in the set-up.
    labels : dict of str to str
    row : str
        Row of the list or manifest that names the checkpoint; empty if none does.
    deaths : int
        How many workers died while scoring it.
    number : int
        Position in the order of the checkpoints given.
    """

    path: str
    network: int
    labels: Mapping[str, str] = field(default_factory=dict)
    row: str = ""
    deaths: int = 0
    number: int = 0

    @property
    def key(self) -> tuple[str, int]:
        """Path and network, which identify what is computed."""
        return self.path, self.network

    def explain(self, error: str) -> str:
        """An error about the checkpoint that names its row."""
        return f"{self.row}: {error}" if self.row else error


@dataclass(frozen=True)
class Scored:
    """A checkpoint's scores.

    Attributes
    ----------
    job : Job
    stamp : Stamp
        Of the file when its SHA-256 was taken.
    sha256 : str
    layers : tuple of str
    scores : dict of (str, str) to Score
        (Study, region) → scores, a row a layer.
    rdms : dict of str to ndarray of float32, shape (layers, pairs)
        Study → RDMs, where they are kept.
    test_rdms : dict of str to ndarray, shape (pairs,)
        Modality → RDM of the best layer for the test images, where a submission is requested.
    seconds : float
    memory : int
        Peak memory of the worker in bytes.
    warnings : dict of str to type
        Warnings issued, and their categories.
    worker : str
    """

    job: Job
    stamp: Stamp
    sha256: str
    layers: tuple[str, ...]
    scores: Mapping[tuple[str, str], Score]
    rdms: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    test_rdms: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    seconds: float = 0.0
    memory: int = 0
    warnings: Mapping[str, type[Warning]] = field(default_factory=dict)
    worker: str = ""


@dataclass(frozen=True)
class Known:
    """A checkpoint whose weights already have scores under another path."""

    job: Job
    stamp: Stamp
    sha256: str
    seconds: float = 0.0
    worker: str = ""


@dataclass(frozen=True)
class Failed:
    """A checkpoint without scores, and the reason in one sentence."""

    job: Job
    stamp: Stamp
    error: str
    traceback: str = ""
    worker: str = ""


Outcome: TypeAlias = Scored | Known | Failed


@dataclass(frozen=True)
class Handshake:
    """What a worker reports when it is ready: its process and its environment."""

    pid: int
    host: str
    facts: Mapping[str, Any]


def kernels_version() -> str:
    """Version and name of the kernels, which are part of a result's key."""
    return f"fastrdm {__version__} {kernels().name}"
