"""Devices of torch: which one a network runs on, how it rounds, and what it can do."""

import contextlib
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fastrdm._base import check_choice, first_line, list_names, require

if TYPE_CHECKING:
    import torch

PRECISIONS = ("fp32", "tf32", "bf16", "fp16")


def torch_package() -> Any:
    """Return the torch package; MissingExtraError without it."""
    return require("torch", "export", "to run a torch module")


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
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {wanted!r} is not available: {first_line(error)}") from None
    return device


def has_double(device: "torch.device") -> bool:
    """Whether a device computes in float64."""
    return bool(device.type != "mps")


def check_precision(precision: str, device: "torch.device") -> str:
    """Return a precision that the device has; ValueError otherwise."""
    check_choice(precision, PRECISIONS, "precision")
    torch = torch_package()
    if precision == "tf32":
        if device.type != "cuda":
            raise ValueError(f"precision 'tf32' needs a CUDA device, not {device}")
        # Elsewhere torch would compute in fp32 without a message.
        if torch.version.hip or torch.cuda.get_device_capability(device) < (8, 0):
            name = torch.cuda.get_device_name(device)
            raise ValueError(f"precision 'tf32' needs an NVIDIA GPU from Ampere on, not {name}")
    if precision in _autocast_types():
        with warnings.catch_warnings(), rounding(precision, device):
            warnings.simplefilter("ignore")
            if not torch.is_autocast_enabled(device.type):
                raise ValueError(f"precision {precision!r} is not available on {device}")
    return precision


def _autocast_types() -> dict[str, Any]:
    torch = torch_package()
    return {"bf16": torch.bfloat16, "fp16": torch.float16}


@contextlib.contextmanager
def rounding(precision: str, device: "torch.device") -> Iterator[None]:
    """Run convolutions and matrix products in a precision, whatever the surrounding code has chosen."""
    torch, dtypes = torch_package(), _autocast_types()
    with contextlib.ExitStack() as stack:
        # Settings for all threads: on other devices they would change what another thread computes on a GPU.
        if device.type == "cuda":
            for place, name, value in _tf32_settings(precision == "tf32"):
                stack.callback(setattr, place, name, getattr(place, name))
                setattr(place, name, value)
        chosen = dtypes.get(precision, torch.bfloat16)
        stack.enter_context(torch.autocast(device.type, chosen, enabled=precision in dtypes))
        yield


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


def _tf32_settings(is_on: bool) -> list[tuple[Any, str, Any]]:
    """Places, names and values of torch's settings of TF32."""
    torch = torch_package()
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    try:
        # An error if the surrounding code has used the settings of torch 2.9, which must not be mixed with these.
        _ = matmul.allow_tf32, cudnn.allow_tf32
    except RuntimeError:
        value = "tf32" if is_on else "ieee"
        return [(place, "fp32_precision", value) for place in (matmul, cudnn.conv, cudnn.rnn)]
    return [(place, "allow_tf32", is_on) for place in (matmul, cudnn)]


def free_bytes(device: "torch.device") -> int | None:
    """Return the free memory of a device with memory of its own; None if unknown."""
    torch = torch_package()
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(free + kept)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device had too little memory."""
    # For the CPU, MPS and the libraries of CUDA, torch raises a RuntimeError with one of these texts.
    words = ("out of memory", "not enough memory", "can't allocate memory", "ALLOC_FAILED")
    return isinstance(error, torch_package().OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in words)
    )
