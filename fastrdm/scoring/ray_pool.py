"""Workers on the nodes of a Ray cluster."""

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import require
from fastrdm.scoring.accelerators import LISTS
from fastrdm.scoring.jobs import (
    Handshake,
    Job,
    Outcome,
    PixelsKey,
    WorkerLostError,
    WorkerPoolError,
    WorkerSetup,
)
from fastrdm.scoring.layer_scoring import stimuli_of
from fastrdm.scoring.ray_cluster import cause_of, connect, finish
from fastrdm.scoring.scheduler import WorkerHandle
from fastrdm.scoring.worker import Worker

# Seconds between two queries of the free resources of the cluster.
_QUERY_S = 2.0
# Seconds for the cluster to end an actor, or this process's connection.
_END_S = 30.0


class RayPool:
    """Actors on a Ray cluster, as many as its nodes have room for at any time.

    Graphs, targets and stimuli go to each node once, through the object store; checkpoints are read where they are
    scored, from a file system that all nodes share. Ray places the actors and reports lost ones, whose jobs go to
    other actors, and which are replaced.

    By default the cluster is the one this process is connected to, else that of `RAY_ADDRESS`, else a new one on this
    machine, whose ports only accept connections from it, because Ray has no authentication. Each actor has one
    processor, and one GPU if the provider runs on GPUs or, with "auto" and "torch", if any node has one.
    """

    depth = 2

    def __init__(
        self,
        workers: int | None = None,
        provider: str = "auto",
        *,
        address: str | None = None,
        num_cpus: float | None = None,
        num_gpus: float | None = None,
        start_timeout: float = 120.0,
    ) -> None:
        self._ray = require("ray", "ray", "to sweep on a Ray cluster")
        gone = require("ray.exceptions", "ray", "to sweep on a Ray cluster")
        self.lost: tuple[type[BaseException], ...] = (
            WorkerLostError,
            gone.RayActorError,
            gone.WorkerCrashedError,
            gone.OutOfMemoryError,
            gone.ObjectLostError,
        )
        self._is_ours = not self._ray.is_initialized()
        if self._is_ours:
            connect(self._ray, address, start_timeout)
        self._limit = workers
        if num_gpus is None:
            has_gpus = any(node["Resources"].get("GPU") for node in self._nodes())
            needs_gpu = provider in LISTS or provider.startswith("torch:cuda")
            num_gpus = 1.0 if needs_gpu or (provider in ("auto", "torch") and has_gpus) else 0.0
        needs = [amount for amount in (num_cpus, num_gpus) if amount is not None]
        if num_cpus == num_gpus == 0 or not all(0 <= amount < math.inf for amount in needs):
            raise WorkerPoolError(
                f"a worker cannot have {num_cpus} CPUs and {num_gpus} GPUs; it needs some of either"
            )
        self._resources = {"CPU": 1.0 if num_cpus is None else num_cpus, "GPU": num_gpus}
        self._launchers: list[Callable[[], WorkerHandle]] = []
        self._setup: Any = None
        self._queried = -math.inf
        self._capacity = 0

    def _nodes(self) -> list[dict[str, Any]]:
        return [node for node in self._ray.nodes() if node["Alive"]]

    @property
    def start_advice(self) -> str:
        """As for `WorkerPool`."""
        needs = ", ".join(
            f"{amount:g} {name}" for name, amount in self._resources.items() if amount
        )
        if self._capacity:
            return (
                f"others may occupy the cluster, of which each worker needs {needs}, or its processes cannot start; see"
                " `ray status` and the logs of its nodes"
            )
        nodes = "; ".join(
            ", ".join(f"{node['Resources'].get(name, 0):g} {name}" for name in self._resources)
            for node in self._nodes()
        )
        return (
            f"no node of the Ray cluster has room for a worker, which needs {needs} (nodes: {nodes or 'none'});"
            " add nodes, or ask for less with --num-cpus and --num-gpus (num_cpus, num_gpus)"
        )

    def launchers(self, setup: WorkerSetup) -> Iterator[Callable[[], WorkerHandle]]:
        """As for `WorkerPool`."""
        if self._setup is None:
            threads = None if self._resources["GPU"] else max(1, int(self._resources["CPU"]))
            options = replace(setup.options, n_threads=setup.options.n_threads or threads)
            pixels: dict[PixelsKey, NDArray[np.uint8]] = {}
            # Other networks' preprocessing is unknown until their checkpoints are opened.
            for network in setup.networks:
                if network.architecture is not None:
                    for study in setup.studies:
                        stimuli_of(study, network.architecture.preprocessing, pixels)
            self._setup = self._ray.put(replace(setup, pixels=pixels, options=options))
        if time.monotonic() - self._queried > _QUERY_S:
            self._queried = time.monotonic()
            self._capacity = sum(self._room(node["Resources"]) for node in self._nodes())
        wanted = self._capacity if self._limit is None else min(self._capacity, self._limit)
        while len(self._launchers) < wanted:
            launch = partial(_Actor, self._ray, self._setup, self._resources, self.lost)
            self._launchers.append(launch)
        yield from self._launchers[:wanted]

    def _room(self, node: Mapping[str, float]) -> int:
        required = {name: amount for name, amount in self._resources.items() if amount}
        return int(min(node.get(name, 0) / amount for name, amount in required.items()))

    def close(self) -> None:
        """As for `WorkerPool`."""
        self._setup = None
        self._launchers.clear()
        if self._is_ours:
            finish(_END_S, self._ray.shutdown)


class RayWorker(Worker):
    """A worker that reads relative paths as the sweep does, where its node has the sweep's current folder."""

    def __init__(self, setup: WorkerSetup, folder: str) -> None:
        with contextlib.suppress(OSError):
            os.chdir(folder)
        super().__init__(setup)


class _Actor:
    def __init__(
        self,
        ray: Any,
        setup: Any,
        resources: Mapping[str, float],
        lost: tuple[type[BaseException], ...],
    ) -> None:
        self._ray, self._lost = ray, lost
        cpus, gpus = resources["CPU"], resources["GPU"]
        # Ray would restart a lost actor only if there is room, and keep its jobs waiting until then.
        options = {"num_cpus": cpus, "num_gpus": gpus, "max_restarts": 0}
        self._actor = ray.remote(RayWorker).options(**options).remote(setup, str(Path.cwd()))

    def handshake(self) -> "Future[Handshake | Exception]":
        return self._answer(self._actor.handshake.remote())

    def submit(self, job: Job, following: Sequence[Job], name: str) -> "Future[Outcome]":
        return self._answer(self._actor.score.remote(job, following, name))

    def _answer(self, reference: Any) -> "Future[Any]":
        """The future of an answer, with Ray's long errors of lost workers on one line."""
        answer: Future[Any] = Future()

        def finish_answer(found: "Future[Any]") -> None:
            error = found.exception()
            if error is None:
                answer.set_result(found.result())
            else:
                is_lost = isinstance(error, self._lost)
                answer.set_exception(WorkerLostError(cause_of(error)) if is_lost else error)

        reference.future().add_done_callback(finish_answer)
        return answer

    def close(self, now: bool) -> None:
        # Whatever is wrong with the cluster, the sweep ends.
        finish(_END_S, partial(self._ray.kill, self._actor))
