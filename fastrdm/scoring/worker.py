"""A worker: scores checkpoints in the process that it is made in.

It holds graphs, stimuli and targets, opens the next checkpoints while the current one runs, and returns scores; it
never sees the store. Where a device computes, it gets the next checkpoint before the scores of the current one are
computed on the host.
"""

import contextlib
import os
import socket
import sys
import time
import traceback
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import error_text, issue, recorded_warnings
from fastrdm._kernels import kernels
from fastrdm.runtimes import PendingRdms, PreparedWeights, ScorableModel
from fastrdm.scoring.jobs import (
    Failed,
    Handshake,
    Job,
    Known,
    Outcome,
    Scored,
    WorkerPoolError,
    WorkerSetup,
    environment_facts,
    kernels_version,
)
from fastrdm.scoring.layer_scoring import LayerScoring
from fastrdm.scoring.opening import OpenedCheckpoint, Openings
from fastrdm.scoring.outcome_results import results_of
from fastrdm.scoring.results import RSA, best_layers, sign_remarks
from fastrdm.scoring.worker_providers import has_device, providers_of

# Checkpoints that are open ahead of the one that a device computes. Reading, hashing and folding the 47 MB of a
# ResNet-20 take a processor 0.1 s.
_MOST_AHEAD = 8


def peak_memory() -> int:
    """Peak memory of this process in bytes; 0 where the system does not report it."""
    # Not with getrusage on Linux, where the peak of a new process begins with that of the process that started it.
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


@dataclass(frozen=True)
class _Started:
    """A checkpoint whose weights are in its model, and the work that the model's device has begun for it."""

    opened: OpenedCheckpoint
    model: ScorableModel
    pending: Mapping[str, PendingRdms]
    warnings: Sequence[Warning]


class Worker:
    """Scores checkpoints; its handshake comes first.

    `where` is that of `LayerScoring`.
    """

    def __init__(self, setup: WorkerSetup, where: str = "auto") -> None:
        self._setup = setup
        self._scoring = LayerScoring(
            setup.studies, setup.scorers, setup.options, setup.pixels, where
        )
        self._openings = Openings(setup)
        # The next checkpoint, if the device has begun with it.
        self._started: _Started | None = None

    def handshake(self) -> Handshake | Exception:
        """Report the process and its environment; the error if it has other kernels, or the provider does not load."""
        host = socket.gethostname()
        if kernels_version() != self._setup.kernels:
            return WorkerPoolError(
                f"{host} has {kernels_version()}, but the sweep uses {self._setup.kernels};"
                " install the same version everywhere"
            )
        try:
            providers = providers_of(self._setup)
        except Exception as error:
            return error
        # Where a device computes, reading and folding in one thread would be slower than it.
        n_ahead = min(_MOST_AHEAD, kernels().n_threads) if any(map(has_device, providers)) else 1
        self._openings = Openings(self._setup, n_ahead)
        return Handshake(os.getpid(), host, environment_facts(" ".join(providers)), n_ahead)

    def close(self) -> None:
        """End the threads that open checkpoints; drop what they have not begun."""
        self._openings.close()

    def score(self, job: Job, following: Sequence[Job] = (), name: str = "") -> Outcome:
        """Score a checkpoint while the following ones are opened; errors become part of the outcome."""
        stamp, opening = self._openings.take(job)
        self._openings.keep_ahead(following)
        start = time.perf_counter()
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                opened = opening.result()
                stamp = opened.stamp
                if opened.weights is None:
                    seconds = time.perf_counter() - start
                    return Known(job, stamp, opened.sha256, seconds, name)
                for remark in opened.remarks:
                    warnings.warn(remark, RuntimeWarning, stacklevel=2)
                scored = self._scored(job, opened, opened.weights, following)
            return replace(
                scored,
                worker=name,
                seconds=time.perf_counter() - start,
                memory=peak_memory(),
                warnings={str(warning.message): warning.category for warning in caught},
            )
        # One bad file must not stop the rest, whatever error it causes.
        except Exception as error:
            return Failed(job, stamp, self._explain(job, error), traceback.format_exc(), name)

    def _scored(
        self,
        job: Job,
        opened: OpenedCheckpoint,
        weights: PreparedWeights,
        following: Sequence[Job],
    ) -> Scored:
        """Score a checkpoint; before its results come from the device, give this the next one."""
        started, self._started = self._started, None
        try:
            # By identity: its file may have been opened anew since.
            if started is None or started.opened is not opened:
                started = self._start(job, opened, weights)
            for each in started.warnings:
                issue(each, stacklevel=2)
            if started.pending and following and not self._setup.submit:
                self._start_next(following[0])
            done = _done(job, opened.sha256)
            found = self._scoring.finish(started.model, started.pending, done)
            scored = Scored(job, opened.stamp, opened.sha256, taken=weights.taken, **found)
            if self._setup.submit:
                scored = replace(scored, test_rdms=self._test_rdms(started.model, scored))
            return scored
        finally:
            weights.release()

    def _start(self, job: Job, opened: OpenedCheckpoint, weights: PreparedWeights) -> _Started:
        with recorded_warnings() as caught:
            model = weights.load()
            pending = self._scoring.start(model, _done(job, opened.sha256))
        return _Started(opened, model, pending, caught)

    def _start_next(self, job: Job) -> None:
        """Start the work of a device for a checkpoint, if it is open; an error comes up again at its turn."""
        opening = self._openings.look(job)
        if opening is None or not opening.done() or opening.exception() is not None:
            return
        opened = opening.result()
        if opened.weights is not None:
            with contextlib.suppress(Exception):
                self._started = self._start(job, opened, opened.weights)

    def _explain(self, job: Job, error: Exception) -> str:
        """An error that names the checkpoint, unless it is about its network."""
        text = error_text(error)
        # Line breaks in a name are spaces in an error on one line.
        text = text.replace(" ".join(job.path.split()), job.path)
        is_named = job.path in text or text == self._setup.networks[job.network].error
        return text if is_named else f"{job.path}: {text}"

    def _test_rdms(self, model: ScorableModel, scored: Scored) -> Mapping[str, NDArray[np.float64]]:
        scorers = [scorer for scorer in self._setup.scorers if scorer.measure == RSA]
        results = results_of(scored, scorers, n_draws=0)
        best = best_layers(results)
        if not best:
            raise ValueError("no layer has a score, so none can be submitted")
        for remark in sign_remarks(results):
            warnings.warn(f"of the submission, {remark}", RuntimeWarning, stacklevel=2)
        study = next(study for study in self._setup.studies if study.test_stimuli)
        options: dict[str, Any] = {"background": study.background, **self._setup.options.images}
        if self._setup.options.progress:
            options["progress"] = True
        layers = sorted(set(best.values()))
        rdms = model.rdms(list(study.test_stimuli), layers=layers, **options)
        return {modality: rdms[layer] for modality, layer in best.items()}


def _done(job: Job, sha256: str) -> frozenset[tuple[str, str, str]]:
    """The scores that weights already have."""
    return job.scored if sha256 == job.scored_sha256 else frozenset()
