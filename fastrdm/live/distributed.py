"""Several processes that train one module: who they are, and one result or error for all."""

import contextlib
import math
import pickle
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from fastrdm._base import error_text
from fastrdm.live.training_wrappers import (
    communicates,
    hooks_of,
    is_dtensor,
    is_engine,
    is_flat,
    is_fully_sharded,
    name_of,
)
from fastrdm.tensors import torch_package

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

# Seconds in which all processes have to call the same scorer; the time limit of NCCL's operations.
_LATE = 600.0
# Seconds in which the others have to read a result.
_READ = 10.0
# Seconds between looks at the store: the first, and the longest pause.
_SOON, _OFTEN = 0.001, 0.05


@dataclass(frozen=True)
class Ranks:
    """The processes that train a module together, by their global ranks in ascending order.

    Results go through the key-value store of `torch.distributed`, not through collective operations: these would fail
    at the time limit of the process group while the first process computes, and mix with those of training.
    """

    members: tuple[int, ...]
    rank: int

    @property
    def is_first(self) -> bool:
        """Whether this process computes for all."""
        return self.rank == self.members[0]

    def share(self, compute: Callable[[], T]) -> T:
        """Call `compute` in the first process, and return its result in all of them; all have to call this.

        An error of the first process is raised in all processes, with the same text.
        """
        if len(self.members) == 1:
            return compute()
        place = self._place("calls")
        place.count("arrived")
        if not self.is_first:
            received: T = place.receive()
            return received
        try:
            value = compute()
            packed = pickle.dumps((value, None))
        except BaseException as error:
            place.send_error(error)
            if isinstance(error, Exception):
                place.clear()
            raise
        n = len(self.members)
        if not place.wait_for("arrived", n, _LATE):
            late = TimeoutError(
                f"not all of {n} processes called the scorer within {_LATE:.0f} s; call it in all of them, or pass the"
                " module inside the wrapper to score in one process"
            )
            place.send_error(late)
            raise late
        place.send(packed)
        place.clear()
        return value

    def later(self, started: "Future[T] | None") -> "tuple[Future[T], Place]":
        """Return a future with what `started`, of the first process, will have; all have to call this.

        In the other processes the result is fetched when it is asked for, so that only then callbacks of the future
        run. The first process should `clear` the place before it ends.
        """
        place = self._place("later")
        if started is None:
            return StoredFuture(place), place

        def send(future: "Future[T]") -> None:
            # Nobody waits for it if the store has ended.
            with contextlib.suppress(RuntimeError):
                try:
                    place.send(pickle.dumps((future.result(), None)))
                except Exception as error:
                    place.send_error(error)

        started.add_done_callback(send)
        return started, place

    def _place(self, kind: str) -> "Place":
        """Where to exchange the result of this call, the n-th of its kind in each process."""
        store = torch_package().distributed.distributed_c10d._get_default_store()
        prefix = f"fastrdm/{'-'.join(map(str, self.members))}/{kind}"
        call = store.add(f"{prefix}/{self.rank}", 1)
        return Place(store, f"{prefix}/call {call}", self.members)


class Place:
    """A key of the store of torch.distributed, at which the first of several processes leaves a result for others."""

    def __init__(self, store: Any, key: str, members: tuple[int, ...]) -> None:
        self._store, self._key, self._members = store, key, members

    def count(self, what: str) -> None:
        """Add this process to those that have done something."""
        self._store.add(f"{self._key}/{what}", 1)

    def wait_for(self, what: str, n: int, limit: float) -> bool:
        """Wait until n processes have done something; return whether they did so within `limit` seconds."""
        for waited in _pauses():
            if self._store.add(f"{self._key}/{what}", 0) >= n:
                return True
            if waited > limit:
                return False
        raise AssertionError

    def send(self, packed: bytes) -> None:
        """Leave a pickled pair of a result and an error."""
        self._store.set(self._key, packed)

    def send_error(self, error: BaseException) -> None:
        """Leave an error."""
        self.send(pickle.dumps((None, _portable(error))))

    def clear(self, limit: float | None = None) -> bool:
        """Wait until the others have what was left, for some seconds, and delete it; return whether they have.

        The store may end with this process.
        """
        is_read = self.wait_for("read", len(self._members) - 1, _READ if limit is None else limit)
        if is_read:
            for key in ("", "/arrived", "/read"):
                self._store.delete_key(f"{self._key}{key}")
        return is_read

    def has_arrived(self, seconds: float = 0) -> bool:
        """Whether there is a result, or an error, after waiting for at most some seconds.

        The store can wait too, but the end of the time would be a warning in the log of each process.
        """
        try:
            for waited in _pauses():
                is_there = bool(self._store.check([self._key]))
                if is_there or waited >= seconds:
                    return is_there
        except RuntimeError as error:
            raise ConnectionError(self._lost) from error
        raise AssertionError

    def receive(self) -> Any:
        """Wait for the result and return it, or raise the error."""
        self.has_arrived(math.inf)
        try:
            value, error = pickle.loads(self._store.get(self._key))
            self.count("read")
        except RuntimeError as lost:
            raise ConnectionError(self._lost) from lost
        if error is not None:
            raise error
        return value

    @property
    def _lost(self) -> str:
        return f"the process of rank {self._members[0]} ended before it shared its scores"


class StoredFuture(Future[Any]):
    """A result that the first process computes, in another one: fetched when it is asked for."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self._place = place

    def done(self) -> bool:
        """Whether there is a result or an error."""
        self._look(0)
        return super().done()

    def result(self, timeout: float | None = None) -> Any:
        """Return the result; errors as those of `Future`."""
        self._wait(timeout)
        return super().result(0)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return the error of the first process, or None."""
        self._wait(timeout)
        return super().exception(0)

    def _wait(self, timeout: float | None) -> None:
        self._look(math.inf if timeout is None else timeout)

    def _look(self, seconds: float) -> None:
        """Fetch what there is after waiting for some seconds."""
        if super().done():
            return
        try:
            if self._place.has_arrived(seconds):
                self.set_result(self._place.receive())
        except Exception as error:
            self.set_exception(error)


def ranks_of(module: "torch.nn.Module") -> Ranks | None:
    """Return the processes that train a module, or None if it is in this process alone.

    Raise ValueError if the module is divided or copied among processes but there is no process group, or this process
    is not in it.
    """
    dist = torch_package().distributed
    if not dist.is_available():
        return None
    members: set[int] = set()
    found = ""
    for part in module.modules():
        if is_fully_sharded(part):
            # Between forward and backward, and after validation, weights may be whole: not those to be gathered.
            part.reshard()
        for found, place in _places(part):
            try:
                members.update(_global_ranks(place))
            except (ValueError, RuntimeError, KeyError):
                raise ValueError(
                    f"{name_of(module)} is trained by {found}, but torch.distributed has no process group for it; call"
                    " init_process_group first, or pass the module inside the wrapper"
                ) from None
    if not found:
        return None
    rank = dist.get_rank()
    if rank not in members:
        raise ValueError(
            f"rank {rank} is not in the process group of {name_of(module)}; call the scorer in the others only"
        )
    return Ranks(tuple(sorted(members)), rank)


def _places(module: "torch.nn.Module") -> "Iterator[tuple[str, Any]]":
    """Yield what divides one module, without its parts, among processes: its name, and a group, a mesh or None."""
    if isinstance(module, torch_package().nn.parallel.DistributedDataParallel):
        yield "DistributedDataParallel", module.process_group
    elif is_flat(module):
        # Hybrid sharding has a group for each node.
        hybrid = "HYBRID" in module.sharding_strategy.name
        yield "FullyShardedDataParallel", None if hybrid else module.process_group
    elif is_engine(module):
        yield "DeepSpeed", None
    for value in (*module._parameters.values(), *module._buffers.values()):
        if is_dtensor(value):
            yield "fully_shard or another user of DTensor", value.device_mesh
    if not is_fully_sharded(module) and any(
        communicates(hook) for hooks in hooks_of(module) for hook in hooks.values()
    ):
        yield "hooks of torch.distributed", None


def _global_ranks(place: Any) -> list[int]:
    """Ranks of a process group, a mesh, or all processes."""
    dist = torch_package().distributed
    if not dist.is_initialized():
        raise ValueError("no process group")
    if place is None:
        return list(range(dist.get_world_size()))
    if hasattr(place, "mesh"):
        return [int(rank) for rank in place.mesh.flatten()]
    return list(dist.get_process_group_ranks(place))


def _pauses() -> Iterator[float]:
    """Yield the seconds since the start without end, with growing pauses."""
    start, pause = time.monotonic(), _SOON
    while True:
        yield time.monotonic() - start
        time.sleep(pause)
        pause = min(2 * pause, _OFTEN)


def _portable(error: BaseException) -> Exception:
    """Return an error that another process can raise: of the same type if it can be copied with its text."""
    if not isinstance(error, Exception):
        return RuntimeError(f"the first process was interrupted ({type(error).__name__})")
    try:
        copied = pickle.loads(pickle.dumps(error))
    except Exception:
        copied = None
    if isinstance(copied, Exception) and str(copied) == str(error):
        return copied
    return RuntimeError(error_text(error))
