"""What a sweep and its workers exchange: the set-up, jobs, outcomes."""

import contextlib
import hashlib
import os
import socket
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import __version__, check_integer, parse_bytes, versions
from fastrdm._kernels import kernels

if TYPE_CHECKING:
    # Not imported: who reads a store needs none of them.
    from fastrdm.networks import RequestedPreprocessing, Taps
    from fastrdm.rdm import Gram, SparseProjection
    from fastrdm.runtimes import Architecture, TorchArchitecture
    from fastrdm.scoring.region_scorers import RegionScorer
    from fastrdm.similarity import Score
    from fastrdm.studies import Study

# In nanoseconds.
_SECOND = 10**9

# Images in one run of ONNX Runtime.
DEFAULT_BATCH = 32

# A study's name; size, filter and crop.
PixelsKey: TypeAlias = tuple[str, tuple[tuple[int, int], str, int | float | None]]


class WorkerPoolError(RuntimeError, ValueError):
    """Workers are unavailable; one sentence."""


class WorkerLostError(RuntimeError):
    """A worker ended before it answered; how, in one sentence."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How checkpoints are scored: arguments of `OnnxModel` and of its `rdms` and `grams`, what is kept, what is shown.

    `projection` is the number of components, or a projection. `start_timeout` is how many seconds may pass until a
    worker is ready. Without `batch_size` it is 32, or on a GPU by torch as many images as fit.
    """

    provider: str = "auto"
    precision: str | None = None
    provider_options: Mapping[str, str] | None = None
    batch_size: int | None = None
    allow_inconsistent: bool = False
    n_threads: int | None = None
    max_memory: int | str | None = None
    projection: "int | SparseProjection | None" = None
    keep_rdms: bool = False
    keep_grams: bool = False
    progress: bool = False
    start_timeout: float = 120.0

    def __post_init__(self) -> None:
        for name in ("batch_size", "n_threads"):
            if getattr(self, name) is not None:
                check_integer(getattr(self, name), name, 1)
        if not self.start_timeout > 0:
            raise ValueError(f"start_timeout must be positive, not {self.start_timeout}")
        if self.max_memory is not None:
            object.__setattr__(self, "max_memory", parse_bytes(self.max_memory))
        if self.projection is not None:
            object.__setattr__(self, "projection", _projection(self.projection))

    @property
    def model(self) -> dict[str, Any]:
        """Arguments for `OnnxModel`."""
        names = ("provider", "precision", "provider_options", "allow_inconsistent", "n_threads")
        arguments = {name: getattr(self, name) for name in names}
        return arguments | {"batch_size": self.batch_size or DEFAULT_BATCH}

    @property
    def torch_model(self) -> dict[str, Any]:
        """Arguments for `SwappedTorch`."""
        names = ("provider", "precision", "provider_options", "allow_inconsistent", "n_threads")
        return {name: getattr(self, name) for name in (*names, "batch_size")}

    @property
    def images(self) -> dict[str, Any]:
        """Arguments for `OnnxModel.rdms` and `OnnxModel.grams` that change numbers."""
        return {"max_memory": self.max_memory, "projection": self.projection}

    def facts(self) -> dict[str, Any]:
        """The options as values of JSON."""
        return {**vars(self), "projection": self.projection_facts()}

    def projection_facts(self) -> dict[str, Any]:
        """What the projected numbers depend on; empty without a projection."""
        projection: Any = self.projection
        if projection is None:
            return {}
        numbers = {name: int(getattr(projection, name)) for name in ("n_components", "seed")}
        return {**numbers, "density": projection.density}


def _projection(projection: Any) -> "SparseProjection":
    # Not at the top: few sweeps project.
    from fastrdm.rdm import SparseProjection

    if isinstance(projection, SparseProjection):
        return projection
    check_integer(projection, "projection", 1)
    return SparseProjection(int(projection))


@dataclass(frozen=True)
class NetworkSetup:
    """What a worker needs to open the checkpoints of one network.

    The type of the architecture tells whether ONNX Runtime or torch runs it. `.onnx` checkpoints have taps and
    preprocessing in place of an architecture. Checkpoints of an architecture with an `error` fail with this message.
    `known` has the SHA-256 of the weights that already have scores, sorted. `selection` is which weights of a file are
    taken: arguments of `Architecture.open`.
    """

    architecture: "Architecture | TorchArchitecture | None"
    taps: "Taps | None" = None
    preprocessing: "RequestedPreprocessing | None" = None
    error: str = ""
    known: NDArray[np.bytes_] = field(default_factory=lambda: np.empty(0, "S32"))
    selection: Mapping[str, Any] = field(default_factory=dict)

    def knows(self, sha256: str) -> bool:
        """Whether weights already have scores."""
        digest = np.array(bytes.fromhex(sha256), "S32")
        place = int(np.searchsorted(self.known, digest))
        return bool(place < len(self.known) and self.known[place] == digest)


@dataclass(frozen=True)
class WorkerSetup:
    """All that a worker needs beside its jobs.

    `scorers` are the regions of the studies, by study, under each measure. Every worker must have the kernels of
    `kernels_version`. `submit` asks for the best layers' RDMs of the test images.
    `pixels` are decoded stimuli by study, size, filter and crop; others come from the worker's cache.
    """

    networks: tuple[NetworkSetup, ...]
    studies: "tuple[Study, ...]"
    scorers: "tuple[RegionScorer, ...]"
    options: RunOptions
    kernels: str
    submit: bool = False
    pixels: Mapping[PixelsKey, NDArray[np.uint8]] = field(default_factory=dict)

    @property
    def uses_torch(self) -> bool:
        """Whether torch runs some of the networks."""
        from fastrdm.runtimes import TorchArchitecture

        return any(isinstance(each.architecture, TorchArchitecture) for each in self.networks)


@dataclass(frozen=True)
class Stamp:
    """Size and modification time of a file, which identify it without reading; −1 for a missing file."""

    size: int = -1
    mtime_ns: int = -1

    @classmethod
    def of(cls, path: str | Path) -> "Stamp":
        """The current stamp of a file, together with the other files of its checkpoint, as for `files_of`.

        Of several files, the size is the sum, and the time is that of the newest in whole seconds, with a fraction that
        depends on the size and time of each.
        """
        from fastrdm.networks import WeightsError, files_of, is_index, is_onnx

        # os.stat takes a fifth of pathlib's time, and a resumed sweep calls this for every checkpoint.
        try:
            found = [os.stat(path)]  # noqa: PTH116
        except OSError:
            return cls()
        if is_onnx(path) or is_index(path) or stat.S_ISDIR(found[0].st_mode):
            with contextlib.suppress(WeightsError):
                found = list(_stats(files_of(path))) or found
        size, time = sum(s.st_size for s in found), max(s.st_mtime_ns for s in found)
        if len(found) > 1:
            facts = repr([(s.st_size, s.st_mtime_ns) for s in found]).encode()
            fraction = int.from_bytes(hashlib.sha256(facts).digest()[:8], "big") % _SECOND
            time += fraction - time % _SECOND
        return cls(size, time)


def _stats(paths: Sequence[Path]) -> Iterator[os.stat_result]:
    for path in paths:
        with contextlib.suppress(OSError):
            yield os.stat(path)  # noqa: PTH116


@dataclass(frozen=True)
class Job:
    """A checkpoint to score.

    `network` is an index in the set-up, `row` the row of a list or manifest that names the checkpoint, `deaths` the
    number of workers that died while scoring it, `number` its position in the order given. `known` are the SHA-256 of
    weights that may be its own and that have scores since the set-up was made. `scored` are the study, region and
    measure of scores that weights with the SHA-256 `scored_sha256` already have.
    """

    path: str
    network: int
    labels: Mapping[str, str] = field(default_factory=dict)
    row: str = ""
    deaths: int = 0
    number: int = 0
    known: tuple[str, ...] = ()
    scored: frozenset[tuple[str, str, str]] = frozenset()
    scored_sha256: str = ""

    @property
    def key(self) -> tuple[str, int]:
        """Path and network, which identify what is computed."""
        return self.path, self.network

    @property
    def place(self) -> tuple[str, int]:
        """As `key`, and equal for all spellings of a path, such as "a" and "./a"."""
        return os.path.abspath(self.path), self.network  # noqa: PTH100

    def explain(self, error: str) -> str:
        """An error about the checkpoint that names its row."""
        return f"{self.row}: {error}" if self.row else error


@dataclass(frozen=True)
class Scored:
    """A checkpoint's scores by study, region and measure, a row for each layer.

    `rdms` and `grams` are the layers' RDMs and Gram matrices by study, if kept; `test_rdms` the best layer's RDM of the
    test images by modality, if a submission is requested; `memory` is the worker's peak in bytes; `warnings` has their
    categories. `taken` is what was taken of the weights' file ("key", "prefix", "ema", ...), without what is empty.
    """

    job: Job
    stamp: Stamp
    sha256: str
    layers: tuple[str, ...]
    scores: Mapping[tuple[str, str, str], "Score"]
    rdms: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    grams: "Mapping[str, tuple[Gram, ...]]" = field(default_factory=dict)
    test_rdms: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    seconds: float = 0.0
    memory: int = 0
    warnings: Mapping[str, type[Warning]] = field(default_factory=dict)
    worker: str = ""
    taken: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Known:
    """A checkpoint whose weights already have scores under another path, of this run or an earlier one."""

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


@dataclass(frozen=True)
class Elsewhere:
    """A checkpoint that another sweep on the same store has scored since it was planned here.

    If it could not be scored, `error` is the reason.
    """

    job: Job
    stamp: Stamp
    error: str = ""


Outcome: TypeAlias = Scored | Known | Failed | Elsewhere


@dataclass(frozen=True)
class Handshake:
    """What a worker reports when it is ready: its process and its environment.

    `n_ahead` is the number of jobs after the current one that it wants to know, to open their checkpoints.
    """

    pid: int
    host: str
    facts: Mapping[str, Any]
    n_ahead: int = 1


def environment_facts(provider: str) -> dict[str, Any]:
    """The environment of this process as stored with results: host, kernels, versions, and what the network runs on."""
    facts = {"kernels": kernels().name, "isa": kernels().isa, "versions": dict(versions())}
    return facts | {"host": socket.gethostname(), "provider": provider}


def kernels_version() -> str:
    """Version and name of the kernels, which are part of a result's key."""
    return f"fastrdm {__version__} {kernels().name}"
