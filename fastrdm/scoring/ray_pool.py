"""Workers on the nodes of a Ray cluster."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

from fastrdm._base import require
from fastrdm.images import cached_pixels
from fastrdm.scoring.accelerators import LISTS
from fastrdm.scoring.scheduler import Hand, Remote
from fastrdm.scoring.worker import EngineError, Hello, Load, Outcome, Pixels, Task

# How often a cluster is asked what room it has.
_LOOK_S = 2.0


class RayEngine:
    """Actors of a Ray cluster, as many as its nodes have room for at any time.

    Graphs, targets and stimuli go to each node once, by the object store; checkpoints are read where they are scored,
    from a file system that all nodes share. Ray places the actors and says which are lost. Their tasks go to others,
    and another actor is asked for in their place.

    Parameters
    ----------
    workers : int, optional
        How many at most; by default what the cluster has room for.
    provider : str
        What the networks will run on.
    address : str, optional
        Of the cluster; by default `RAY_ADDRESS`, else the one that this process is connected to, else one of this
        machine alone.
    num_cpus, num_gpus : float, optional
        What each actor takes: by default one processor, and one GPU where the provider is one of GPUs or, with "auto",
        where any node has one.

    Raises
    ------
    EngineError
        If the cluster cannot be reached.
    MissingExtraError
        If ray is not installed.
    """

    def __init__(
        self,
        workers: int | None = None,
        provider: str = "auto",
        *,
        address: str | None = None,
        num_cpus: float | None = None,
        num_gpus: float | None = None,
    ) -> None:
        self._ray = require("ray", "ray", "to sweep on a Ray cluster")
        gone = require("ray.exceptions", "ray", "to sweep on a Ray cluster")
        self.lost: tuple[type[BaseException], ...] = (
            gone.RayActorError,
            gone.WorkerCrashedError,
            gone.OutOfMemoryError,
            gone.ObjectLostError,
        )
        self._is_ours = not self._ray.is_initialized()
        if self._is_ours:
            try:
                self._ray.init(address=address, log_to_driver=False, logging_level="ERROR")
            except (ConnectionError, RuntimeError, ValueError) as error:
                reason = " ".join(str(error).split())
                raise EngineError(
                    f"the Ray cluster {address or ''} cannot be reached: {reason}"
                ) from None
        self._most = workers
        if num_gpus is None:
            has_gpus = any(node["Resources"].get("GPU") for node in self._nodes())
            num_gpus = 1.0 if provider in LISTS or (provider == "auto" and has_gpus) else 0.0
        self._takes = {"CPU": 1.0 if num_cpus is None else num_cpus, "GPU": num_gpus}
        self._makers: list[Callable[[], Hand]] = []
        self._load: Any = None
        self._looked = -math.inf
        self._room = 0

    def _nodes(self) -> list[dict[str, Any]]:
        return [node for node in self._ray.nodes() if node["Alive"]]

    def hands(self, load: Load) -> Iterator[Callable[[], Hand]]:
        """As `Engine`."""
        if self._load is None:
            threads = None if self._takes["GPU"] else max(1, int(self._takes["CPU"]))
            own = replace(
                load, pixels=_pixels(load), options={"n_threads": threads, **load.options}
            )
            self._load = self._ray.put(own)
        if time.monotonic() - self._looked > _LOOK_S:
            self._looked = time.monotonic()
            asked = {name: amount for name, amount in self._takes.items() if amount}
            self._room = sum(
                int(min(node["Resources"].get(name, 0) / amount for name, amount in asked.items()))
                for node in self._nodes()
            )
        wanted = self._room if self._most is None else min(self._room, self._most)
        while len(self._makers) < wanted:
            self._makers.append(_ActorMaker(self._ray, self._load, self._takes))
        yield from self._makers[:wanted]

    def close(self) -> None:
        """As `Engine`."""
        self._load = None
        self._makers.clear()
        if self._is_ours:
            self._ray.shutdown()


def _pixels(load: Load) -> Pixels:
    """Stimuli of the networks whose preprocessing is known before their checkpoints are opened."""
    found = {}
    for network in load.networks:
        if network.architecture is not None:
            preprocessing = network.architecture.preprocessing
            for study in load.studies:
                key = (study.name, preprocessing.size, preprocessing.resize)
                if key not in found:
                    found[key] = cached_pixels(
                        list(study.stimuli), preprocessing, background=study.background
                    )
    return found


@dataclass(frozen=True, eq=False)
class _ActorMaker:
    ray: Any
    load: Any
    takes: Mapping[str, float]

    def __call__(self) -> Hand:
        # Ray would restart a lost actor only where there is room, and keep its tasks waiting until then.
        options = {"num_cpus": self.takes["CPU"], "num_gpus": self.takes["GPU"], "max_restarts": 0}
        return _Actor(self.ray, self.ray.remote(Remote).options(**options).remote(self.load))


class _Actor:
    def __init__(self, ray: Any, actor: Any) -> None:
        self._ray, self._actor = ray, actor

    def hello(self) -> "Future[Hello | Exception]":
        future: Future[Hello | Exception] = self._actor.hello.remote().future()
        return future

    def submit(self, task: Task, following: Task | None, name: str) -> "Future[Outcome]":
        future: Future[Outcome] = self._actor.score.remote(task, following, name).future()
        return future

    def close(self, now: bool) -> None:
        self._ray.kill(self._actor)
