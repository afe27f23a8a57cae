"""One file of tensors, of `torch.save` or safetensors, in memory or mapped."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import first_sentence, parse_json, require
from fastrdm.networks.errors import WeightsError
from fastrdm.networks.pickles import read_torch
from fastrdm.networks.torch_archives import map_torch

if TYPE_CHECKING:
    import torch

_SAFETENSORS_TYPES = {
    **{f"U{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
    **{f"I{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"F{bits}": f"float{bits}" for bits in (16, 32, 64)},
    **{"BOOL": "bool", "BF16": "bfloat16", "C64": "complex64"},
    **{"F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"},
}


def is_safetensors(path: str | Path) -> bool:
    """Whether a file name is that of a safetensors file."""
    return str(path).lower().endswith(".safetensors")


def read_tensors(path: Path) -> Any:
    """Read a file as torch does: tensors by name, or whatever `torch.save` has saved."""
    if not is_safetensors(path):
        return read_torch(path)
    load_file = require("safetensors.torch", "export", "to read .safetensors").load_file
    with _safetensors_errors(path):
        return load_file(path)


def map_tensors(path: Path) -> Any:
    """Map the arrays of a file without torch; raise `NotPlainError` if only torch can read it."""
    return map_safetensors(path) if is_safetensors(path) else map_torch(path)


def map_safetensors(path: Path) -> Any:
    """Map the arrays of a file; the NumPy reader of safetensors copies, and does not support bfloat16."""
    safe_open = require("safetensors", "run", "to read .safetensors").safe_open
    # Opening checks that the file holds as many bytes as the shapes and types in its header need.
    with _safetensors_errors(path), safe_open(path, framework="numpy"):
        content = np.asarray(np.memmap(path, np.uint8, "r"))
    start = 8 + int.from_bytes(content[:8].tobytes(), "little")
    arrays = {}
    for name, entry in safetensors_header(content[8:start].tobytes()).items():
        kind = entry["dtype"]
        if kind not in _SAFETENSORS_TYPES:
            raise WeightsError(f"{path}: {name} has the type {kind}, which is not supported")
        begin, end = entry["data_offsets"]
        values = content[start + begin : start + end].view(numpy_dtype(_SAFETENSORS_TYPES[kind]))
        arrays[name] = values.reshape(entry["shape"])
    return arrays


def safetensors_header(text: bytes) -> dict[str, Any]:
    """Type, shape and place of each tensor of a `.safetensors` file."""
    header: dict[str, Any] = parse_json(text)
    header.pop("__metadata__", None)
    return header


@contextlib.contextmanager
def _safetensors_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise WeightsError(
            f"{path}: cannot be read as safetensors: {first_sentence(error)}"
        ) from error


def to_array(tensor: "torch.Tensor", name: str) -> NDArray[Any]:
    """Return an array on a tensor's memory."""
    torch = require("torch", "export", "to read weights")
    tensor = tensor.detach()
    # torch converts bfloat16 and float8 to NumPy only as bits.
    bits = {torch.float8_e4m3fn: torch.uint8, torch.float8_e5m2: torch.uint8}
    bits[torch.bfloat16] = torch.uint16
    try:
        if tensor.dtype in bits:
            return np.asarray(tensor.view(bits[tensor.dtype])).view(numpy_dtype(type_name(tensor)))
        return np.asarray(tensor)
    except (RuntimeError, TypeError) as error:
        kind = f"{tensor.layout} {tensor.dtype}".replace("torch.", "")
        raise WeightsError(
            f"{name} is {kind}, which is not supported: {first_sentence(error)}"
        ) from error


def numpy_dtype(name: str) -> np.dtype[Any]:
    """Return NumPy's type of a name, or that of `ml_dtypes`."""
    known: type = getattr(np, name, None) or getattr(
        require("ml_dtypes", "run", f"for weights in {name}"), name
    )
    return np.dtype(known)


def type_name(value: Any) -> str:
    """Return the name of the type of an array or tensor, without torch's prefix."""
    return str(value.dtype).removeprefix("torch.")
