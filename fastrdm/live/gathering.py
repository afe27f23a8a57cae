"""A module as it is trained → the plain network with whole weights, in one process."""

import contextlib
import copy
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from fastrdm._base import first_line
from fastrdm.live.distributed import Place, Ranks, ranks_of
from fastrdm.live.training_wrappers import (
    INNER,
    communicates,
    hooks_of,
    inner_of,
    is_dtensor,
    is_flat,
    is_fully_sharded,
    is_zero3,
    name_of,
    network_of,
    original_class,
    tensors_of,
)
from fastrdm.tensors import device_of, is_out_of_memory, torch_package

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

# Attributes in which torch keeps the state of FSDP 2 and of composable DDP.
_STATE = "__composable_api_state_key"
# Where classes are defined whose objects copies share: process groups and meshes.
_SHARED = ("torch.distributed.", "torch._C._distributed")


class Gathering:
    """Computes with networks that several processes train, each time in one of them.

    A network inside a wrapper for all of it, such as DistributedDataParallel, runs as it is. If its parts are wrapped,
    or its weights divided, a copy runs that is made of the same parts without wrappers and hooks of torch.distributed.
    Copies remain between calls, but their gathered weights do not.
    """

    def __init__(self) -> None:
        self._copies: weakref.WeakKeyDictionary[torch.nn.Module, torch.nn.Module] = (
            weakref.WeakKeyDictionary()
        )
        self._sent: list[Place] = []
        # The store may end with this process, before others have read.
        weakref.finalize(self, _clear, self._sent)

    def once(
        self,
        module: "torch.nn.Module",
        compute: "Callable[[torch.nn.Module], T]",
        device: str = "auto",
    ) -> T:
        """Return `compute(network)`: computed by one process, the same in all that train the module.

        All processes in the module's process group have to call this, outside the forward and backward pass. For the
        same module, `network` is the same object in later calls. A module in this process alone is `network` itself,
        and nothing is communicated.

        Parameters
        ----------
        module : torch.nn.Module
            As it is trained: plain, or by DistributedDataParallel, FullyShardedDataParallel (FSDP 1), fully_shard
            (FSDP 2) or DeepSpeed, compiled or not.
        compute : callable
            Called in the first process alone. What it returns must be possible to pickle.
        device : str
            Where to put weights that processes share; "auto" for the device of this process' part of them.

        Raises
        ------
        ValueError
            If there is no process group, weights are divided by ZeRO stage 3 or still on the meta device, or the parts
            of the network cannot be copied.
        MemoryError
            If the device is too small for the whole weights.
        TimeoutError
            If other processes do not call this, in the first process.
        ConnectionError
            If the first process ends, in the others.
        Exception
            Every error of the first process is raised in all of them.
        """
        _check(module)
        ranks = ranks_of(module)
        if ranks is None:
            return compute(module)
        weights, network, failure = self._gathered(module, ranks, device)

        def run() -> T:
            if failure is not None:
                raise failure
            assert network is not None
            return compute(network)

        try:
            return ranks.share(run)
        finally:
            for value in weights:
                value.data = value.data.new_empty(0)

    def later(
        self,
        module: "torch.nn.Module",
        start: "Callable[[torch.nn.Module], Future[T]]",
        device: str = "auto",
    ) -> "Future[T]":
        """Return the future that `start(network)` returns in the first process, for all that train the module.

        `start` has to copy of the network what it needs later. Arguments and errors of starting as for `once`; results
        and errors of the future reach the others as theirs do, when they ask for them.
        """
        started: list[Future[T]] = []
        self.once(module, lambda network: started.append(start(network)), device)
        ranks = ranks_of(module)
        if ranks is None or len(ranks.members) == 1:
            return started[0]
        future, place = ranks.later(started[0] if started else None)
        if ranks.is_first:
            while self._sent and self._sent[0].clear(0):
                del self._sent[0]
            self._sent.append(place)
        return future

    def _gathered(
        self, module: "torch.nn.Module", ranks: Ranks, device: str
    ) -> "tuple[list[torch.Tensor], torch.nn.Module | None, Exception | None]":
        """In the first process, the gathered weights and the network that has them, or why there is none.

        An error of this process alone must not keep it from what all of them do together.
        """
        weights: dict[int, Any] = {}
        network, failure, target = None, None, None
        is_divided = any(map(is_flat, module.modules())) or any(map(is_dtensor, tensors_of(module)))
        if ranks.is_first:
            try:
                target = device_of(network_of(module), device)
            except Exception as error:
                failure = error
        with torch_package().no_grad(), _whole_weights(module) as dtypes:
            for value in tensors_of(module):
                whole = value.full_tensor() if is_dtensor(value) else value
                if target is None or failure is not None or not is_divided:
                    continue
                try:
                    weights[id(value)] = _placed(value, whole, target, dtypes)
                except Exception as error:
                    failure = _described(error, module, target)
            kept = {id(value) for value in tensors_of(module)}
            if target is not None and failure is None:
                try:
                    network = self._network(module, weights)
                except Exception as error:
                    failure = error
        gathered = [value for value in weights.values() if id(value) not in kept]
        return gathered, network, failure

    def _network(
        self, module: "torch.nn.Module", weights: "Mapping[int, torch.Tensor]"
    ) -> "torch.nn.Module":
        """The plain network of a module, with other tensors for those of these ids.

        It is the network itself if nothing in it is wrapped and no tensor is replaced.
        """
        network = network_of(module)
        values = {id(value): weights.get(id(value), value) for value in tensors_of(network)}
        if all(key == id(value) for key, value in values.items()) and not any(
            map(_is_changed, network.modules())
        ):
            return network
        parts: dict[int, tuple[Any, Any]] = {}
        memo: dict[int, Any] = dict(values)
        for part in module.modules():
            plain = network_of(part)
            if id(plain) not in parts:
                parts[id(plain)] = plain, self._copy_of(plain)
            memo[id(part)] = parts[id(plain)][1]
        for plain, copied in parts.values():
            _fill(copied, plain, memo)
        whole: torch.nn.Module = parts[id(network)][1]
        return whole

    def _copy_of(self, plain: "torch.nn.Module") -> "torch.nn.Module":
        """An empty module of the same class, without FSDP 2; the same one in each call."""
        cls: Any = original_class(plain) or type(plain)
        copied = self._copies.get(plain)
        if type(copied) is not cls:
            copied = self._copies[plain] = object.__new__(cls)
        return copied


def _clear(places: "list[Place]") -> None:
    """Wait until others have read what was left at places, in their order."""
    # Without a store, or if others do not read one of them, there is nobody to wait for.
    with contextlib.suppress(RuntimeError):
        while places and places[0].clear():
            del places[0]


def _check(module: "torch.nn.Module") -> None:
    """Raise ValueError for weights that cannot be gathered, in all processes."""
    for value in tensors_of(module):
        if is_zero3(value):
            raise ValueError(
                f"DeepSpeed's ZeRO stage 3 divides the weights of {name_of(module)} among processes, and fastrdm cannot"
                " gather them; train with stage 2, or score the file that zero_to_fp32.py writes"
            )
        if torch_package().nn.parameter.is_lazy(value):
            raise ValueError(
                f"{name_of(module)} has lazy layers without weights; run it once before it is scored"
            )
        if value.is_meta:
            raise ValueError(
                f"{name_of(module)} has weights on the meta device, which hold no values; load them first"
            )


@contextlib.contextmanager
def _whole_weights(module: "torch.nn.Module") -> "Iterator[dict[int, torch.dtype] | None]":
    """Let the first process see whole weights of FSDP 1, in this context alone.

    Yield the types that buffers, by their ids, had before FSDP 1 rounded them; None without FSDP 1.
    """
    flat: list[Any] = [part for part in module.modules() if is_flat(part)]
    if not flat:
        yield None
        return
    fsdp = torch_package().distributed.fsdp
    # torch cannot move weights to the host if they are there (2.6 frees them), or if a part is not divided.
    can_move = all(
        part.compute_device.type != "cpu"
        and part.sharding_strategy != fsdp.ShardingStrategy.NO_SHARD
        for part in flat
    )
    with fsdp.FullyShardedDataParallel.summon_full_params(
        module, writeback=False, rank0_only=True, offload_to_cpu=can_move
    ):
        yield _buffer_dtypes(flat)


def _buffer_dtypes(flat: Sequence[Any]) -> "dict[int, torch.dtype]":
    found = {}
    for part in flat:
        before = getattr(part, "_buffer_name_to_orig_dtype", {})
        for name, value in part.named_buffers():
            for wrapper in INNER:
                name = name.replace(f"{wrapper}.", "")
            found[id(value)] = before.get(name, value.dtype)
    return found


def _placed(
    value: "torch.Tensor",
    whole: "torch.Tensor",
    target: "torch.device",
    dtypes: "Mapping[int, torch.dtype] | None",
) -> "torch.Tensor":
    """A tensor with whole weights on a device: the same one if it already is that, and remains."""
    if whole is value and value.device == target and dtypes is None:
        return value
    nn = torch_package().nn
    dtype = (dtypes or {}).get(id(value), value.dtype)
    whole = whole.detach().to(target, dtype, copy=dtypes is not None)
    if isinstance(value, nn.Parameter):
        placed: torch.Tensor = nn.Parameter(whole, requires_grad=value.requires_grad)
        return placed
    return whole


def _described(error: Exception, module: "torch.nn.Module", target: "torch.device") -> Exception:
    if not is_out_of_memory(error):
        return error
    advice = "" if target.type == "cpu" else "; pass device='cpu'"
    return MemoryError(
        f"{target} has too little memory for the whole weights of {name_of(module)}{advice}"
    )


def _is_changed(module: "torch.nn.Module") -> bool:
    """Whether one module, without its parts, is a wrapper or communicates when it runs."""
    return (
        inner_of(module) is not None
        or is_fully_sharded(module)
        or any(communicates(hook) for hooks in hooks_of(module) for hook in hooks.values())
    )


def _fill(copied: "torch.nn.Module", plain: "torch.nn.Module", memo: dict[int, Any]) -> None:
    """Give a copy the attributes of a module, with the parts, tensors and others in `memo` replaced."""
    torch = torch_package()
    for hooks in hooks_of(plain):
        memo[id(hooks)] = type(hooks)(
            (key, hook) for key, hook in hooks.items() if not communicates(hook)
        )
    state = {k: v for k, v in plain.__getstate__().items() if not str(k).startswith(_STATE)}
    for value in state.values():
        if id(value) in memo:
            continue
        if type(value).__module__.startswith(_SHARED):
            memo[id(value)] = value
        elif isinstance(value, torch.Tensor):
            # Values that a module stores when it runs are not leaves, which torch does not copy.
            memo[id(value)] = value.detach()
    for name, value in state.items():
        try:
            state[name] = copy.deepcopy(value, memo)
        except Exception as error:
            raise ValueError(
                f"the attribute {name!r} of {name_of(plain)} cannot be copied ({first_line(error)}), but a network"
                " whose weights or parts are distributed is copied before it is scored"
            ) from error
    vars(copied).clear()
    copied.__setstate__(state)
