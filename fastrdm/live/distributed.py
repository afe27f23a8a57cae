"""Several processes that train one module: who they are, and one result or error for all."""

import pickle
import time
from collections.abc import Callable, Iterator
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
# Seconds between looks at the store: the first, and the longest.
_SOON, _OFTEN = 0.001, 0.1


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
        store = torch_package().distributed.distributed_c10d._get_default_store()
        prefix = "fastrdm/" + "-".join(map(str, self.members))
        # The store counts calls, so that the n-th calls of all processes belong together.
        call = store.add(f"{prefix}/calls/{self.rank}", 1)
        place = f"{prefix}/{call}"
        store.add(f"{place}/arrived", 1)
        if not self.is_first:
            received: T = self._received(store, place)
            return received
        try:
            value = compute()
            packed = pickle.dumps((value, None))
            self._wait_for_others(store, place)
        except BaseException as error:
            store.set(place, pickle.dumps((None, _portable(error))))
            raise
        store.set(place, packed)
        if call > 1:
            # Those who have arrived here have read the result before.
            for key in (f"{prefix}/{call - 1}", f"{prefix}/{call - 1}/arrived"):
                store.delete_key(key)
        return value

    def _wait_for_others(self, store: Any, place: str) -> None:
        n = len(self.members)
        for waited in _pauses():
            arrived = store.add(f"{place}/arrived", 0)
            if arrived == n:
                return
            if waited > _LATE:
                raise TimeoutError(
                    f"{arrived} of {n} processes called the scorer within {_LATE:.0f} s; call it in all of them, or"
                    " pass the module inside the wrapper to score in one process"
                )

    def _received(self, store: Any, place: str) -> Any:
        try:
            for _ in _pauses():
                if store.check([place]):
                    break
            value, error = pickle.loads(store.get(place))
        except RuntimeError as lost:
            raise ConnectionError(
                f"the process of rank {self.members[0]} ended before it shared its scores"
            ) from lost
        if error is not None:
            raise error
        return value


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
    """Yield the seconds since the start, with growing pauses; short ones let signals through."""
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
