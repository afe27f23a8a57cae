"""Checkpoints of jobs, read, hashed and prepared ahead in threads."""

import warnings
from collections.abc import Callable, Sequence
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

# Reads a file's weights, with the function that gets remarks.
_Prepare: TypeAlias = "Callable[[str, Callable[[str], None]], PreparedWeights]"
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
        self._prepare: dict[int, _Prepare | Exception] = {}
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
        """Begin to open the checkpoints of the jobs that follow, and drop others that were begun."""
        wanted = {job.key for job in jobs}
        for key in self._ahead.keys() - wanted:
            self._drop(self._ahead.pop(key)[1])
        n_bytes = 0
        for job in jobs:
            if job.key not in self._ahead:
                if n_bytes > _MOST_BYTES:
                    return
                self._ahead[job.key] = self._begin(job)
            n_bytes += max(0, self._ahead[job.key][0].size)

    def close(self) -> None:
        """End the threads; drop what they have not begun."""
        self._pool.shutdown(cancel_futures=True)

    def _begin(self, job: Job) -> tuple[Stamp, Future[OpenedCheckpoint]]:
        stamp = Stamp.of(job.path)
        if job.network not in self._prepare:
            self._prepare[job.network] = self._made(self._networks[job.network])
        return stamp, self._pool.submit(self._open, job)

    def _made(self, network: NetworkSetup) -> "_Prepare | Exception":
        """How the files of a network are read, or why they cannot be; a network of torch is built."""
        if network.error:
            return ValueError(network.error)
        with warnings.catch_warnings():
            # They were given when the sweep began.
            warnings.simplefilter("ignore")
            try:
                return _prepare_of(network, self._options, self._shared)
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
        network, prepare = self._networks[job.network], self._prepare[job.network]
        if isinstance(prepare, Exception):
            raise prepare
        stamp = Stamp.of(job.path)
        with check_unchanged(job.path):
            sha256 = hash_file(job.path)
            if network.knows(sha256) or sha256 in job.known:
                return OpenedCheckpoint(stamp, sha256)
            # Not as warnings, which would be those of the checkpoint that is scored meanwhile.
            remarks: list[str] = []
            weights = prepare(job.path, remarks.append)
        return OpenedCheckpoint(stamp, sha256, weights, tuple(remarks))


def _prepare_of(network: NetworkSetup, options: RunOptions, shared: dict[str, Any]) -> _Prepare:
    selection = Selection.of(**network.selection)
    swapped: SwappedTorch | SwappedOnnx
    if isinstance(network.architecture, TorchArchitecture):
        workspace = shared["workspace"]
        swapped = SwappedTorch(network.architecture, workspace=workspace, **options.torch_model)
    elif isinstance(network.architecture, Architecture):
        swapped = SwappedOnnx(network.architecture, **shared, **options.model, **options.images)
    else:

        def prepare(path: str, on_remark: Callable[[str], None]) -> PreparedWeights:
            wanted: dict[str, Any] = {"taps": network.taps, "preprocessing": network.preprocessing}
            model = open_checkpoint(
                path, None, on_remark=on_remark, **wanted, **shared, **options.model
            )
            return PreparedWeights.of(model)

        return prepare
    return lambda path, on_remark: swapped.prepare(path, selection, on_remark)
