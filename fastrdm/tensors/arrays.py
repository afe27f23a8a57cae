"""Arrays of other libraries: on a device, as torch tensors that share their memory; results as arrays of their kind."""

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import first_line, require
from fastrdm.tensors.devices import has_double

if TYPE_CHECKING:
    import torch

# Devices whose memory NumPy reads: torch's type, and DLPack's numbers of CPU memory, also pinned for CUDA or ROCm.
_HOST: frozenset[str | int] = frozenset({"cpu", 1, 3, 11})
# Devices of DLPack by torch's names. Managed memory of CUDA is on a CUDA device, and ROCm has the names of CUDA.
_NAMES = {2: "cuda", 8: "mps", 10: "cuda", 13: "cuda", 14: "xpu"}


def device_tensor(values: Any, name: str) -> "torch.Tensor | None":
    """Return an array in the memory of a device as a torch tensor that shares it; None for all other values.

    Also None for tensors that hold no real numbers, which `as_array` refuses. ValueError for an array that torch cannot
    read, MissingExtraError without torch.
    """
    # A tensor can exist only if torch is imported.
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(values, getattr(torch, "Tensor", ())):
        tensor: Any = values
        return tensor.detach() if _is_on_device(tensor, torch) else None
    if isinstance(values, np.ndarray) or not _has_dlpack(values):
        return None
    if values.__dlpack_device__()[0] in _HOST:
        return None
    package = require("torch", "export", f"to use {name}, which is on a device")
    try:
        tensor = package.from_dlpack(values)
    except Exception as error:
        raise ValueError(
            f"{name} is an array of {_library(values)} on a device that torch cannot read"
            f" ({first_line(error)}); copy it to the host"
        ) from error
    return tensor if _is_on_device(tensor, package) else None


def host_advice(values: Any, name: str) -> str:
    """Return what to do about an array on a device that only the host can use."""
    torch = sys.modules.get("torch")
    is_tensor = torch is not None and isinstance(values, torch.Tensor)
    return f"pass {name}.cpu()" if is_tensor else f"copy {name} to the host"


def check_like(like: Any) -> None:
    """Raise ValueError if `like` is no array of NumPy, torch or a library with DLPack; None is NumPy."""
    if isinstance(like, type):
        raise ValueError(f"like must be an array, not the class {like.__name__}")
    if like is None or isinstance(like, np.ndarray) or _has_dlpack(like):
        return
    raise ValueError(
        f"like must be an array of NumPy, torch or another library with DLPack, not {type(like).__name__}"
    )


def in_kind(result: NDArray[Any], like: Any) -> Any:
    """Return a result as an array of the library of `like`, on its device; itself for None and NumPy arrays.

    Types are kept, except that float64 becomes float32 on devices without it. Host memory is shared where the library
    can do so. ValueError if the library cannot take it.
    """
    check_like(like)
    if like is None or isinstance(like, np.ndarray):
        return result
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(like, torch.Tensor):
        return _tensor(result, like.device, torch)
    kind, number = like.__dlpack_device__()
    package = None if kind in _HOST else require("torch", "export", "to put results on a device")
    shared: Any = result
    try:
        if package is not None:
            shared = _tensor(result, package.device(_device_name(kind), number), package)
        return _namespace(like).from_dlpack(shared)
    except Exception as error:
        raise ValueError(
            f"results cannot be arrays of {_library(like)}, as asked for by like: {first_line(error)}"
        ) from error


def _tensor(result: NDArray[Any], device: "torch.device", torch: Any) -> "torch.Tensor":
    # Torch refuses reversed strides, and warns of read-only arrays.
    shared = np.require(result, requirements=["C", "W"])
    tensor: torch.Tensor = torch.from_numpy(shared)
    if tensor.dtype == torch.float64 and not has_double(device):
        tensor = tensor.float()
    return tensor.to(device)


def _device_name(kind: int) -> str:
    """Return torch's name of a type of device of DLPack."""
    if kind not in _NAMES:
        raise ValueError(f"torch has no name for devices of type {int(kind)} of DLPack")
    return _NAMES[kind]


def _namespace(like: Any) -> Any:
    """Return the array library of an array."""
    if hasattr(like, "__array_namespace__"):
        return like.__array_namespace__()
    return sys.modules[_library(like)]


def _library(values: Any) -> str:
    return type(values).__module__.partition(".")[0]


def _has_dlpack(values: Any) -> bool:
    return hasattr(values, "__dlpack__") and hasattr(values, "__dlpack_device__")


def _is_on_device(tensor: Any, torch: Any) -> bool:
    """Whether a tensor of real numbers has memory on a device."""
    if tensor.is_nested or tensor.layout is not torch.strided or tensor.is_meta:
        return False
    refused = tensor.is_quantized or tensor.is_complex() or type(tensor).__name__ == "MaskedTensor"
    return not refused and tensor.device.type not in _HOST
