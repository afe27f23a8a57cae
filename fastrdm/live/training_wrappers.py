"""What other packages put around modules to train them: wrappers, hooks, and weights divided among processes."""

import functools
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fastrdm.tensors import torch_package

if TYPE_CHECKING:
    import torch

# Children that hold the module which a wrapper runs: of torch.compile, FSDP 1 and activation checkpointing.
INNER = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
_FSDP = "_fsdp_wrapped_module"
# Packages whose hooks communicate with other processes.
_COMMUNICATING = ("torch.distributed.", "torch.nn.parallel.", "deepspeed.")


def inner_of(module: "torch.nn.Module") -> "torch.nn.Module | None":
    """Return the module that a wrapper runs, or None if this is not a wrapper."""
    nn = torch_package().nn
    if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel) or is_engine(
        module
    ):
        return module.module
    return next((module._modules[name] for name in INNER if name in module._modules), None)


def network_of(module: "torch.nn.Module") -> "torch.nn.Module":
    """Return the module inside all wrappers around it; wrappers of its parts stay."""
    while (inner := inner_of(module)) is not None:
        module = inner
    return module


def name_of(module: "torch.nn.Module") -> str:
    """Return the name of the network's class, without wrappers."""
    network = network_of(module)
    return (original_class(network) or type(network)).__name__


def is_engine(module: "torch.nn.Module") -> bool:
    """Whether this is the module in which DeepSpeed wraps a network."""
    return any(
        each.__name__ == "DeepSpeedEngine" and each.__module__.startswith("deepspeed.")
        for each in type(module).__mro__
    )


def is_flat(module: "torch.nn.Module") -> bool:
    """Whether this is a wrapper of FSDP 1 (FullyShardedDataParallel)."""
    return _FSDP in module._modules


def is_fully_sharded(module: Any) -> bool:
    """Whether FSDP 2 (fully_shard) has changed the class of a module."""
    # If it was not imported, no module can be of it; the import takes seconds.
    fsdp = sys.modules.get("torch.distributed.fsdp")
    return fsdp is not None and isinstance(module, fsdp.FSDPModule)


def original_class(module: "torch.nn.Module") -> "type[torch.nn.Module] | None":
    """Return the class that a module had before FSDP 2 changed it, or None if it did not."""
    if not is_fully_sharded(module):
        return None
    fsdp = sys.modules["torch.distributed.fsdp"]
    return next(
        (each for each in type(module).__bases__ if not issubclass(each, fsdp.FSDPModule)), None
    )


def is_dtensor(value: Any) -> bool:
    """Whether a tensor is divided among processes as a DTensor."""
    package = sys.modules.get("torch.distributed.tensor")
    return package is not None and isinstance(value, package.DTensor)


def is_zero3(value: Any) -> bool:
    """Whether ZeRO stage 3 of DeepSpeed divides a parameter."""
    return hasattr(value, "ds_id")


def communicates(hook: Any) -> bool:
    """Whether a hook belongs to a package that trains in several processes."""
    hook = getattr(hook, "hook", hook)
    while isinstance(hook, functools.partial):
        hook = hook.func
    return f"{getattr(hook, '__module__', None)}.".startswith(_COMMUNICATING)


def hooks_of(module: "torch.nn.Module") -> Iterator[dict[int, Any]]:
    """Yield the module's dicts of hooks."""
    for name, value in vars(module).items():
        if name.endswith("_hooks") and isinstance(value, dict):
            yield value


def tensors_of(module: "torch.nn.Module") -> "Iterator[torch.Tensor]":
    """Yield the parameters and buffers of a module and its parts, tied ones once, in an order that ranks share."""
    seen: set[int] = set()
    for part in module.modules():
        for value in (*part._parameters.values(), *part._buffers.values()):
            if value is not None and id(value) not in seen:
                seen.add(id(value))
                yield value
