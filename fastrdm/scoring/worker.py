"""What scores checkpoints in a process of its own or in the caller's: the same for a sweep of a few and of thousands.

A worker holds graphs, stimuli and targets, opens the next checkpoint while the current one runs, and gives back scores;
it never sees the store.
"""

import os
import socket
import sys
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import __version__, versions
from fastrdm._kernels import kernels
from fastrdm.images import Preprocessing, cached_pixels
from fastrdm.networks import Probes, Taps, check_unchanged, hash_file
from fastrdm.runtimes import (
    Architecture,
    OnnxModel,
    Workspace,
    open_checkpoint,
    open_session,
    probe_graph,
)
from fastrdm.scoring.records import Report, Stamp
from fastrdm.scoring.scorer import StudyScores, best_layers, results_of, score_study, sign_remarks
from fastrdm.studies import Study

Pixels: TypeAlias = Mapping[tuple[str, tuple[int, int], str], NDArray[np.uint8]]


@dataclass(frozen=True)
class Network:
    """What a group of checkpoints has in common.

    Attributes
    ----------
    architecture : Architecture or None
        None for `.onnx` checkpoints, to which taps and preprocessing apply.
    taps, preprocessing
        As for `OnnxModel`.
    known : ndarray of bytes
        SHA-256 of the weights that are scored already, sorted.
    """

    architecture: Architecture | None
    taps: Taps | None = None
    preprocessing: Preprocessing | None = None
    known: NDArray[np.bytes_] = field(default_factory=lambda: np.empty(0, "S32"))

    def knows(self, sha256: str) -> bool:
        """Whether weights are scored already."""
        digest = np.array(bytes.fromhex(sha256), "S32")
        place = int(np.searchsorted(self.known, digest))
        return bool(place < len(self.known) and self.known[place] == digest)


@dataclass(frozen=True)
class Load:
    """All that a worker needs beside the checkpoints' paths.

    Attributes
    ----------
    networks : tuple of Network
    studies : tuple of Study
    stimuli : tuple of str
        SHA-256 of each study's stimuli.
    options : dict
        As for `OnnxModel`.
    kernels : str
        What the worker's must be, as `kernels_version` says.
    keep_rdms : bool
        Whether RDMs come back too.
    test_images : tuple of Path
        Images of which the RDM of the best layer is wanted, by modality.
    test_background : str or None
        As for `OnnxModel.rdms`, of those images.
    progress : bool
        Whether progress bars are shown on stderr.
    pixels : mapping of (study, size, filter) to ndarray
        Stimuli that travel with the load; others are taken from the worker's cache.
    """

    networks: tuple[Network, ...]
    studies: tuple[Study, ...]
    stimuli: tuple[str, ...]
    options: Mapping[str, Any]
    kernels: str
    keep_rdms: bool = False
    test_images: tuple[Path, ...] = ()
    test_background: str | None = None
    progress: bool = False
    pixels: Pixels = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """A checkpoint to score: its file, its network's number, its labels, how often its worker died, what names it."""

    path: str
    network: int
    labels: Mapping[str, str] = field(default_factory=dict)
    deaths: int = 0
    row: str = ""

    @property
    def key(self) -> tuple[str, int]:
        """What no two tasks at a time have in common."""
        return self.path, self.network


@dataclass(frozen=True)
class Outcome:
    """What came of a task.

    Attributes
    ----------
    task : Task
    worker : str
        Name of the worker.
    report : Report or None
        Scores; without studies where the weights were known; None where the checkpoint could not be scored.
    stamp : Stamp
        Of the file.
    error, traceback : str
        Why it could not.
    memory : int
        Bytes that the worker has taken at most so far.
    test_rdms : dict of str to ndarray, shape (pairs,)
        Modality → the best layer's RDM of the test images, where they are asked for.
    warned : dict of str to type
        What was warned of, and the kinds of warning.
    """

    task: Task
    worker: str
    report: Report | None = None
    stamp: Stamp = field(default_factory=Stamp)
    error: str = ""
    traceback: str = ""
    memory: int = 0
    test_rdms: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    warned: Mapping[str, type[Warning]] = field(default_factory=dict)


@dataclass(frozen=True)
class Hello:
    """What a worker says when it is ready: its process, and what it runs on."""

    pid: int
    host: str
    facts: Mapping[str, Any]


class EngineError(RuntimeError, ValueError):
    """The workers cannot be had; one sentence."""


def peak_memory() -> int:
    """Bytes of main memory that this process has taken at most; 0 where the system does not say."""
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def kernels_version() -> str:
    """What of the kernels belongs to a result's key: version and name."""
    return f"fastrdm {__version__} {kernels().name}"


class Worker:
    """Scores checkpoints in the process where it is made.

    Parameters
    ----------
    load : Load

    Raises
    ------
    ValueError
        If the kernels are others than the load's, or the provider cannot be had.
    """

    def __init__(self, load: Load) -> None:
        if kernels_version() != load.kernels:
            raise EngineError(
                f"{socket.gethostname()} has {kernels_version()}, and the sweep is of {load.kernels}; install the same"
            )
        self._load = load
        self._pixels = dict(load.pixels)
        self._options = {"workspace": Workspace(), "probes": Probes(), **load.options}
        # As small as can be: whether the provider loads is told before any checkpoint fails by it.
        keys = {"provider": "provider", "precision": "precision", "provider_options": "options"}
        asked = {own: load.options[key] for key, own in keys.items() if key in load.options}
        self._provider = open_session(probe_graph(), **asked).provider
        self._pool = ThreadPoolExecutor(1, "fastrdm-ahead")
        self._ahead: dict[tuple[str, int], Future[tuple[Stamp, str, OnnxModel | None]]] = {}

    def hello(self) -> Hello:
        """Say what there is."""
        facts = {
            "provider": self._provider,
            "kernels": kernels().name,
            "isa": kernels().isa,
            "host": socket.gethostname(),
            "versions": dict(versions()),
        }
        return Hello(os.getpid(), socket.gethostname(), facts)

    def close(self) -> None:
        """Let go the thread that opens the next checkpoint; what has not begun is left."""
        self._pool.shutdown(cancel_futures=True)

    def score(self, task: Task, following: Task | None = None, name: str = "") -> Outcome:
        """Score a checkpoint, and open the one that follows meanwhile; any error is part of the outcome."""
        opening = self._ahead.pop(task.key, None) or self._pool.submit(self._open, task)
        self._ahead = {}
        if following is not None:
            self._ahead[following.key] = self._pool.submit(self._open, following)
        start = time.perf_counter()
        stamp = Stamp.of(task.path)
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                stamp, sha256, model = opening.result()
                studies = () if model is None else tuple(self._studies(model))
                test_rdms = {} if model is None else self._test_rdms(model, studies)
            warned = {str(warning.message): warning.category for warning in caught}
            seconds = time.perf_counter() - start
            report = Report(task.path, stamp, sha256, task.labels, studies, seconds, tuple(warned))
            return Outcome(
                task,
                name,
                report,
                stamp,
                memory=peak_memory(),
                test_rdms=test_rdms,
                warned=warned,
            )
        # Whatever a file does to the readers, the others are not to suffer from it.
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            return Outcome(task, name, None, stamp, reason, traceback.format_exc())

    def _open(self, task: Task) -> tuple[Stamp, str, OnnxModel | None]:
        network = self._load.networks[task.network]
        stamp = Stamp.of(task.path)
        with check_unchanged(task.path):
            sha256 = hash_file(task.path)
            if network.knows(sha256):
                return stamp, sha256, None
            own = {} if network.architecture else {"preprocessing": network.preprocessing}
            model = open_checkpoint(
                task.path, network.architecture, network.taps, **self._options, **own
            )
        return stamp, sha256, model

    def _studies(self, model: OnnxModel) -> Iterator[StudyScores]:
        for study, stimuli in zip(self._load.studies, self._load.stimuli, strict=True):
            yield score_study(
                model,
                study,
                self._pixels_of(study, model.preprocessing),
                stimuli=stimuli,
                keep_rdms=self._load.keep_rdms,
                progress=self._load.progress,
            )

    def _test_rdms(
        self, model: OnnxModel, scores: Sequence[StudyScores]
    ) -> dict[str, NDArray[np.float64]]:
        if not self._load.test_images:
            return {}
        results = results_of("", self._load.studies, scores, n_draws=0)
        best = best_layers(results)
        for remark in sign_remarks(results):
            warnings.warn(f"of the submission, {remark}", RuntimeWarning, stacklevel=2)
        rdms = model.rdms(
            list(self._load.test_images),
            layers=sorted(set(best.values())),
            progress=self._load.progress,
            background=self._load.test_background,
        )
        return {modality: rdms[layer] for modality, layer in best.items()}

    def _pixels_of(self, study: Study, preprocessing: Preprocessing) -> Any:
        key = (study.name, preprocessing.size, preprocessing.resize)
        if key not in self._pixels:
            self._pixels[key] = cached_pixels(
                list(study.stimuli), preprocessing, background=study.background
            )
        return self._pixels[key]
