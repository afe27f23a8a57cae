"""Devices of torch: which one a network runs on, and what it can do."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fastrdm._base import first_line, list_names
from fastrdm.tensors.package import torch_package

if TYPE_CHECKING:
    import torch


def device_of(module: "torch.nn.Module", wanted: str) -> "torch.device":
    """Return the device to run a module on: the one that is named, or that of its weights for "auto".

    Raise ValueError if there is no such device, or if the weights are on several devices or on none.
    """
    torch = torch_package()
    name = type(module).__name__
    places = sorted({str(t.device) for t in (*module.parameters(), *module.buffers())})
    if "meta" in places:
        raise ValueError(
            f"{name} has weights on the meta device, which hold no values; load them first"
        )
    if lazy := [
        key for key, value in module.named_parameters() if torch.nn.parameter.is_lazy(value)
    ]:
        raise ValueError(
            f"{name} has parameters without values ({list_names(lazy)}); run it once before"
        )
    if wanted == "auto":
        if len(places) > 1:
            raise ValueError(
                f"{name} has weights on several devices ({list_names(places)}); move it to one of them"
            )
        return torch.device(places[0] if places else "cpu")
    try:
        device = torch.device(wanted)
        # Without a number, the current device.
        device = torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(f"device {wanted!r} is not available: {first_line(error)}") from None
    if device.type == "meta":
        raise ValueError("device 'meta' is not available: it holds no values")
    return device


def has_double(device: "torch.device") -> bool:
    """Whether a device computes in float64."""
    if device.type == "xpu":
        # GPUs for desktops have none.
        return bool(torch_package().xpu.get_device_capability(device)["has_fp64"])
    return bool(device.type != "mps")


@contextlib.contextmanager
def torch_on(device: "torch.device", name: str) -> Iterator[Any]:
    """Yield torch for arithmetic without gradients and autocast; MemoryError with a name if a device has too little.

    TF32 is left alone: its setting is that of all threads, and does not apply to float64.
    """
    torch = torch_package()
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        try:
            yield torch
        except Exception as error:
            if is_out_of_memory(error):
                raise MemoryError(f"{device} has too little memory for {name}") from error
            raise


def free_bytes(device: "torch.device") -> int | None:
    """Return the free memory of a device with memory of its own; None if unknown."""
    torch = torch_package()
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    package: Any = getattr(torch, device.type, None)
    if not hasattr(package, "mem_get_info"):
        return None
    free, _ = package.mem_get_info(device)
    kept = package.memory_reserved(device) - package.memory_allocated(device)
    return int(free + kept)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device had too little memory."""
    # For the CPU, MPS and the libraries of CUDA, torch raises a RuntimeError with one of these texts.
    words = ("out of memory", "not enough memory", "can't allocate memory", "ALLOC_FAILED")
    return isinstance(error, torch_package().OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in words)
    )
