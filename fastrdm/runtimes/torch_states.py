"""States of the process and the device around a run of a torch module, and what a failure of it means."""

import contextlib
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING

from fastrdm._base import first_line
from fastrdm.networks import check_hooks
from fastrdm.tensors import is_out_of_memory, rounding, torch_package

if TYPE_CHECKING:
    import torch


# Whether another thread draws random numbers and computes meanwhile.
_BESIDE: ContextVar[bool] = ContextVar("fastrdm_beside", default=False)
# Held while a module runs.
_RUNNING = threading.RLock()


@contextlib.contextmanager
def beside_training() -> Iterator[None]:
    """Leave states that all threads share as they are, for a thread beside one that trains."""
    token = _BESIDE.set(True)
    try:
        yield
    finally:
        _BESIDE.reset(token)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Wait until no other thread runs a module: hooks, modes and the states here are those of all threads.

    Beside a training this does not wait, because a copy of the module runs and the states stay as they are.
    """
    with contextlib.nullcontext() if _BESIDE.get() else _RUNNING:
        yield


@contextlib.contextmanager
def random_kept(device: "torch.device") -> Iterator[None]:
    """Restore torch's random states of the CPU and the device."""
    if _BESIDE.get():
        yield
        return
    torch = torch_package()
    host = torch.get_rng_state()
    accelerator = None if device.type == "cpu" else getattr(torch, device.type)
    place = () if device.type == "mps" else (device,)
    # A CUDA graph has a random state of its own, and the state cannot be set while it is recorded.
    if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
        accelerator = None
    state = None if accelerator is None else accelerator.get_rng_state(*place)
    try:
        yield
    finally:
        torch.set_rng_state(host)
        if accelerator is not None:
            accelerator.set_rng_state(state, *place)


@contextlib.contextmanager
def threads(n: int | None) -> Iterator[None]:
    """Run torch's operations on the CPU on so many threads; None leaves their number."""
    torch = torch_package()
    before = torch.get_num_threads()
    if n is None or n == before or _BESIDE.get():
        yield
        return
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def in_precision(precision: str, device: "torch.device") -> Iterator[None]:
    """Round operands in a precision; beside a training, ValueError if its settings round more."""
    with rounding(precision, device, shared=_BESIDE.get()):
        yield


@contextlib.contextmanager
def uncompiled(module: "torch.nn.Module") -> Iterator[None]:
    """Run parts that were compiled in place (`Module.compile`) as they are: compiled ones ignore later hooks."""
    with contextlib.ExitStack() as stack:
        for part in module.modules():
            if (compiled := vars(part).get("_compiled_call_impl")) is not None:
                stack.callback(setattr, part, "_compiled_call_impl", compiled)
                part._compiled_call_impl = None
        yield


def check_parts(module: "torch.nn.Module", name: str) -> None:
    """Raise ValueError for parts inside a wrapper of torch.compile, whose layers would have other names.

    Also for TorchScript, as `check_hooks`, and for sparse tensors.
    """
    check_hooks(module)
    torch = torch_package()
    for path, part in module.named_modules():
        if "_orig_mod" in part._modules:
            raise ValueError(
                f"{path!r} of {name} is wrapped by torch.compile; compile it in place, with its method compile, or"
                f" score {name} by fastrdm.Scorer"
            )
    for entry, value in (*module.named_parameters(), *module.named_buffers()):
        if value.layout is not torch.strided:
            raise ValueError(f"{entry!r} of {name} is sparse, but must be dense; call to_dense()")


def check_place(module: "torch.nn.Module", name: str, device: "torch.device") -> None:
    """Raise ValueError if weights are no longer on the device."""
    for entry, value in (*module.named_parameters(), *module.named_buffers()):
        if value.device != device:
            raise ValueError(
                f"{entry!r} of {name} is on {value.device}, but TorchModel was made for {device}; move it back, or make"
                " a new TorchModel"
            )


@contextlib.contextmanager
def memory_named(name: str, device: "torch.device") -> Iterator[None]:
    """Say in one sentence that a device has too little memory, or that a module uses tensors on another one."""
    try:
        yield
    except Exception as error:
        # Some functions name the network in an error of their own, from the device's.
        for each in (error, error.__cause__):
            if each is not None and is_out_of_memory(each):
                raise MemoryError(
                    f"{device} has too little memory for {name}; pass max_memory or a smaller batch_size"
                ) from error
            if isinstance(each, RuntimeError) and "same device" in str(each):
                raise ValueError(
                    f"{name} uses tensors on another device than {device}, where its weights are; register them as"
                    f" buffers: {first_line(each)}"
                ) from error
        raise
