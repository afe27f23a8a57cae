"""Checkpoints of jobs, read, hashed and prepared ahead in threads."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeAlias

from fastrdm.networks import Probes, Selection, check_unchanged, hash_file
from fastrdm.runtimes import (
    Architecture,
    PreparedWeights,
    SwappedOnnx,
    SwappedTorch,
    TorchArchitecture,
    Workspace,
    open_checkpoint,
)
from fastrdm.scoring.jobs import Job, NetworkSetup, RunOptions, Stamp, WorkerSetup

_Opener: TypeAlias = "SwappedTorch | SwappedOnnx | _OwnModels"
# Bytes of files that may be open ahead; the next one always is.
_MOST_BYTES = 2**31


@dataclass(frozen=True)
class OpenedCheckpoint:
    """A checkpoint's weights, None if they are known, and remarks on what was taken of the file."""

    stamp: Stamp
    sha256: str
    weights: PreparedWeights | None = None
    remarks: tuple[str, ...] = ()


class Openings:
    """Opens the checkpoints of the networks of a set-up, some of them ahead, in `n_threads` threads."""

    def __init__(self, setup: WorkerSetup, n_threads: int = 1) -> None:
        self._networks, self._options = setup.networks, setup.options
        self._shared: dict[str, Any] = {"workspace": Workspace(), "probes": Probes()}
        self._pool = ThreadPoolExecutor(n_threads, "fastrdm-ahead")
        self._openers: dict[int, _Opener | Exception] = {}
        self._ahead: dict[tuple[str, int], tuple[Stamp, Future[OpenedCheckpoint]]] = {}

    def take(self, job: Job) -> tuple[Stamp, Future[OpenedCheckpoint]]:
        """Return the opening of a checkpoint, begun now if it was not begun ahead.

        The stamp is from before it is read, so that a file replaced since is new.
        """
        return self._ahead.pop(job.key, None) or self._begin(job)

    def look(self, job: Job) -> Future[OpenedCheckpoint] | None:
        """Return the opening of a checkpoint that was begun ahead, which remains so."""
        begun = self._ahead.get(job.key)
        return begun and begun[1]

    def keep_ahead(self, jobs: Sequence[Job]) -> None:
        """Begin to open the checkpoints of the jobs that follow, and drop others that were begun.

        Of those with a model of their own, only the next one, since it takes as much memory as the one that runs.
        """
        wanted = {job.key for job in jobs}
        for key in self._ahead.keys() - wanted:
            self._drop(self._ahead.pop(key)[1])
        n_bytes = 0
        for job in jobs:
            if job.key not in self._ahead:
                if n_bytes > _MOST_BYTES or (self._ahead and not self._is_swapped(job)):
                    return
                self._ahead[job.key] = self._begin(job)
            n_bytes += max(0, self._ahead[job.key][0].size)

    def close(self) -> None:
        """End the threads; drop what they have not begun."""
        self._pool.shutdown(cancel_futures=True)

    def _begin(self, job: Job) -> tuple[Stamp, Future[OpenedCheckpoint]]:
        stamp = Stamp.of(job.path)
        if job.network not in self._openers:
            self._openers[job.network] = self._made(self._networks[job.network])
        return stamp, self._pool.submit(self._open, job)

    def _is_swapped(self, job: Job) -> bool:
        opener = self._openers.get(job.network)
        return opener is not None and not isinstance(opener, Exception) and opener.is_swapped

    def _made(self, network: NetworkSetup) -> "_Opener | Exception":
        """What opens the files of a network, or why they cannot be opened; a network of torch is built."""
        if network.error:
            return ValueError(network.error)
        with warnings.catch_warnings():
            # They were given when the sweep began.
            warnings.simplefilter("ignore")
            try:
                return _opener(network, self._options, self._shared)
            except Exception as error:
                return error

    @staticmethod
    def _drop(opening: Future[OpenedCheckpoint]) -> None:
        """Release the weights of an opening that nobody needs any more."""

        def release(done: Future[OpenedCheckpoint]) -> None:
            if not done.cancelled() and done.exception() is None and done.result().weights:
                done.result().weights.release()  # type: ignore[union-attr]

        if not opening.cancel():
            opening.add_done_callback(release)

    def _open(self, job: Job) -> OpenedCheckpoint:
        network, opener = self._networks[job.network], self._openers[job.network]
        if isinstance(opener, Exception):
            raise opener
        stamp = Stamp.of(job.path)
        with check_unchanged(job.path):
            sha256 = hash_file(job.path)
            if network.knows(sha256) or sha256 in job.known:
                return OpenedCheckpoint(stamp, sha256)
            # Not as warnings, which would be those of the checkpoint that is scored meanwhile.
            remarks: list[str] = []
            selection = Selection.of(**network.selection)
            weights = opener.prepare(job.path, selection, remarks.append)
        return OpenedCheckpoint(stamp, sha256, weights, tuple(remarks))


class _OwnModels:
    """Opens each `.onnx` file as a model of its own."""

    is_swapped = False

    def __init__(self, network: NetworkSetup, options: Mapping[str, Any]) -> None:
        wanted = {"taps": network.taps, "preprocessing": network.preprocessing}
        self._options = {**options, **wanted}

    def prepare(
        self, path: str, selection: Selection, on_remark: Callable[[str], None]
    ) -> PreparedWeights:
        return PreparedWeights.of(open_checkpoint(path, on_remark=on_remark, **self._options))


def _opener(network: NetworkSetup, options: RunOptions, shared: Mapping[str, Any]) -> "_Opener":
    if isinstance(network.architecture, TorchArchitecture):
        workspace = shared["workspace"]
        return SwappedTorch(network.architecture, workspace=workspace, **options.torch_model)
    if isinstance(network.architecture, Architecture):
        return SwappedOnnx(network.architecture, **shared, **options.model, **options.images)
    return _OwnModels(network, {**shared, **options.model})
