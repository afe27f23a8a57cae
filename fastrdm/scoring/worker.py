"""A worker: scores checkpoints in the process that it is made in.

It holds graphs, stimuli and targets, opens the next checkpoint while the current one runs, and returns scores; it never
sees the store.
"""

import os
import socket
import sys
import time
import traceback
import warnings
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import error_text
from fastrdm.networks import Probes, check_unchanged, hash_file
from fastrdm.runtimes import OnnxModel, Workspace, open_checkpoint, open_session, probe_graph
from fastrdm.scoring.jobs import (
    Failed,
    Handshake,
    Job,
    Known,
    Outcome,
    Scored,
    Stamp,
    WorkerPoolError,
    WorkerSetup,
    environment_facts,
    kernels_version,
)
from fastrdm.scoring.layer_scoring import LayerScoring
from fastrdm.scoring.outcome_results import results_of
from fastrdm.scoring.results import RSA, best_layers, sign_remarks

# Stamp, SHA-256, model (None if the weights are known), and remarks on what was taken of the file.
_Opened: TypeAlias = tuple[Stamp, str, OnnxModel | None, list[str]]


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


class Worker:
    """Scores checkpoints; its handshake comes first."""

    def __init__(self, setup: WorkerSetup) -> None:
        self._setup = setup
        self._scoring = LayerScoring(setup.studies, setup.scorers, setup.options, setup.pixels)
        self._options = {"workspace": Workspace(), "probes": Probes(), **setup.options.model}
        self._pool = ThreadPoolExecutor(1, "fastrdm-ahead")
        self._ahead: dict[tuple[str, int], tuple[Stamp, Future[_Opened]]] = {}

    def handshake(self) -> Handshake | Exception:
        """Report the process and its environment; the error if it has other kernels, or the provider does not load."""
        host, options = socket.gethostname(), self._setup.options
        if kernels_version() != self._setup.kernels:
            return WorkerPoolError(
                f"{host} has {kernels_version()}, but the sweep uses {self._setup.kernels};"
                " install the same version everywhere"
            )
        try:
            # A minimal session shows whether the provider loads before any checkpoint can fail because of it.
            session = open_session(
                probe_graph(),
                provider=options.provider,
                precision=options.precision,
                options=options.provider_options,
            )
        except Exception as error:
            return error
        return Handshake(os.getpid(), host, environment_facts(session.provider))

    def close(self) -> None:
        """End the thread that opens checkpoints; drop what it has not begun."""
        self._pool.shutdown(cancel_futures=True)

    def score(self, job: Job, following: Job | None = None, name: str = "") -> Outcome:
        """Score a checkpoint while the following one is opened; errors become part of the outcome."""
        ahead, self._ahead = self._ahead, {}
        stamp, opening = ahead.get(job.key) or self._begin(job)
        if following is not None:
            self._ahead[following.key] = self._begin(following)
        start = time.perf_counter()
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                stamp, sha256, model, remarks = opening.result()
                if model is None:
                    return Known(job, stamp, sha256, time.perf_counter() - start, name)
                for remark in remarks:
                    warnings.warn(remark, RuntimeWarning, stacklevel=2)
                done = job.scored if sha256 == job.scored_sha256 else frozenset()
                found = self._scoring.scores(model, done)
                scored = Scored(job, stamp, sha256, worker=name, taken=model.taken, **found)
                test_rdms = self._test_rdms(model, scored) if self._setup.submit else {}
            return replace(
                scored,
                test_rdms=test_rdms,
                seconds=time.perf_counter() - start,
                memory=peak_memory(),
                warnings={str(warning.message): warning.category for warning in caught},
            )
        # One bad file must not stop the rest, whatever error it causes.
        except Exception as error:
            return Failed(job, stamp, self._explain(job, error), traceback.format_exc(), name)

    def _explain(self, job: Job, error: Exception) -> str:
        """An error that names the checkpoint, unless it is about its network."""
        text = error_text(error)
        # Line breaks in a name are spaces in an error on one line.
        text = text.replace(" ".join(job.path.split()), job.path)
        is_named = job.path in text or text == self._setup.networks[job.network].error
        return text if is_named else f"{job.path}: {text}"

    def _begin(self, job: Job) -> tuple[Stamp, Future[_Opened]]:
        """Begin to open a checkpoint; a failure has the stamp from before, so that a file replaced since is new."""
        return Stamp.of(job.path), self._pool.submit(self._open, job)

    def _open(self, job: Job) -> _Opened:
        network = self._setup.networks[job.network]
        if network.error:
            raise ValueError(network.error)
        stamp = Stamp.of(job.path)
        with check_unchanged(job.path):
            sha256 = hash_file(job.path)
            if network.knows(sha256) or sha256 in job.known:
                return stamp, sha256, None, []
            # Not as warnings, which would be those of the checkpoint that is scored meanwhile.
            remarks: list[str] = []
            extra: dict[str, Any] = (
                {} if network.architecture else {"preprocessing": network.preprocessing}
            )
            model = open_checkpoint(
                job.path,
                network.architecture,
                network.taps,
                on_remark=remarks.append,
                **network.selection,
                **self._options,
                **extra,
            )
        return stamp, sha256, model, remarks

    def _test_rdms(self, model: OnnxModel, scored: Scored) -> Mapping[str, NDArray[np.float64]]:
        scorers = [scorer for scorer in self._setup.scorers if scorer.measure == RSA]
        results = results_of(scored, scorers, n_draws=0)
        best = best_layers(results)
        if not best:
            raise ValueError("no layer has a score, so none can be submitted")
        for remark in sign_remarks(results):
            warnings.warn(f"of the submission, {remark}", RuntimeWarning, stacklevel=2)
        study = next(study for study in self._setup.studies if study.test_stimuli)
        rdms = model.rdms(
            list(study.test_stimuli),
            layers=sorted(set(best.values())),
            progress=self._setup.options.progress,
            background=study.background,
            **self._setup.options.images,
        )
        return {modality: rdms[layer] for modality, layer in best.items()}
