"""Weight files: their formats, whether they are complete, and their hashes."""

import contextlib
import hashlib
import json
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import first_sentence, require
from fastrdm.networks.onnx_files import is_onnx

if TYPE_CHECKING:
    import torch

SUFFIXES = (".pth", ".pt", ".ckpt", ".bin", ".th", ".pth.tar", ".pt.tar", ".safetensors")
"""Suffixes of weight files, in any case; `.onnx` is not among them."""

# Keys under which training scripts store the weights beside the optimiser's state.
_NESTED = ("state_dict", "model_state_dict", "model")
# Only torch's newer files can be mapped: they are uncompressed zip archives.
_ZIP = b"PK\x03\x04"
_SAFETENSORS_TYPES = {
    **{f"U{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
    **{f"I{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"F{bits}": f"float{bits}" for bits in (16, 32, 64)},
    **{"BOOL": "bool", "BF16": "bfloat16", "C64": "complex64"},
    **{"F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"},
}


class WeightsError(ValueError):
    """A weight file cannot be read, or does not fit the network; the message names the file."""


def is_checkpoint(path: str | Path) -> bool:
    """Whether a file name ends as those of weights or ONNX files do, in any case."""
    return is_onnx(path) or str(path).lower().endswith(SUFFIXES)


def check_file(path: str | Path) -> None:
    """Raise WeightsError unless `path` is a file that is not empty."""
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: {'is a folder' if path.is_dir() else 'no such file'}")
    if not path.stat().st_size:
        raise WeightsError(f"{path}: the file is empty")


def load_state_dict(path: str | Path) -> "dict[str, torch.Tensor]":
    """Read a weight file without running any code in it.

    Parameters
    ----------
    path : path
        A `.safetensors` file, or a file of `torch.save` with any name: a state dict, plain or under
        "state_dict", "model_state_dict" or "model".

    Returns
    -------
    dict of str to torch.Tensor
        On the CPU, mapped from the file if its format allows. The prefix "module." (from `DataParallel`) is
        removed if all names have it.

    Raises
    ------
    WeightsError
        If the file is missing, empty or truncated, is a pickle that would run code (it is not executed),
        or holds no state dict.
    MissingExtraError
        If torch or safetensors is not installed.
    """
    torch = require("torch", "export", "to read weights")
    check_file(path)
    reader = _read_safetensors if _is_safetensors(path) else _read_torch
    return _state_dict(reader(Path(path)), torch.Tensor, path)


def read_weights(path: str | Path) -> dict[str, NDArray[Any]]:
    """Read a weight file as NumPy arrays, mapped from the file if its format allows.

    Weights are loaded into memory when they are first accessed. A mapped file must not be overwritten in place while
    the arrays exist; replacing it by a rename is harmless. `.safetensors` files are read without torch. The arrays are
    read-only and keep the types of the file; bfloat16 and float8 are those of `ml_dtypes`. Errors are those of
    `load_state_dict`; WeightsError also if a tensor is sparse or of a type that neither NumPy nor `ml_dtypes` has.
    """
    if _is_safetensors(path):
        check_file(path)
        return _state_dict(_map_safetensors(Path(path)), np.ndarray, path)
    return {
        name: _array(tensor, f"{path}: {name}") for name, tensor in load_state_dict(path).items()
    }


def hash_file(path: str | Path) -> str:
    """Return the SHA-256 of a file in hexadecimal; that of an `.onnx` file includes its weights in FILE.data."""
    path = Path(path)
    digest = hashlib.sha256()
    for part in (path, Path(f"{path}.data")):
        if part == path or (is_onnx(path) and part.is_file()):
            with part.open("rb") as file:
                hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()


def is_complete(path: str | Path) -> bool:
    """Whether a weight file is complete, as far as its format shows: a training may still be writing it.

    Archives of `torch.save` end with their directory, and `.safetensors` files state their length. Other files
    count as incomplete only if they are empty.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(8)
            if _is_safetensors(path):
                length = int.from_bytes(head, "little")
                if len(head) < 8 or 8 + length > size:
                    return False
                tensors = _safetensors_header(file.read(length))
                ends = [tensor["data_offsets"][1] for tensor in tensors.values()]
                return bool(8 + length + max(ends, default=0) == size)
        return zipfile.is_zipfile(path) if head.startswith(_ZIP) else size > 0
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


@contextlib.contextmanager
def check_unchanged(path: str | Path) -> Iterator[None]:
    """Raise WeightsError if a file is written to within the context."""
    check_file(path)
    before = Path(path).stat()
    yield
    after = Path(path).stat()
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise WeightsError(f"{path}: was written to while it was read")


def _is_safetensors(path: str | Path) -> bool:
    return str(path).lower().endswith(".safetensors")


def _state_dict(loaded: Any, kind: type, path: str | Path) -> dict[str, Any]:
    """Tensors by name in the contents of a file."""
    for key in _NESTED:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
            break
    if (
        not isinstance(loaded, Mapping)
        or not loaded
        or not all(isinstance(value, kind) for value in loaded.values())
    ):
        raise WeightsError(
            f"{path}: holds no state dict (tensors by name), plain or under {', '.join(_NESTED)}"
        )
    prefix = "module." if all(name.startswith("module.") for name in loaded) else ""
    return {name.removeprefix(prefix): value for name, value in loaded.items()}


def _read_torch(path: Path) -> Any:
    torch = require("torch", "export", "to read weights")
    with path.open("rb") as file:
        mapped = file.read(len(_ZIP)) == _ZIP
    try:
        # Its warning about another pickle protocol is not suppressed: that would suppress the warnings of
        # all threads.
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    # Damaged files raise UnpicklingError, RuntimeError, EOFError, OSError, IndexError and more.
    except Exception as error:
        if isinstance(error, pickle.UnpicklingError) and "Unsupported" in str(error):
            raise WeightsError(
                f"{path}: refused without running it, because it holds Python objects other than tensors; "
                "save the network's state_dict() alone"
            ) from error
        raise WeightsError(
            f"{path}: truncated, damaged or not a file of torch.save: {first_sentence(error)}"
        ) from error


def _read_safetensors(path: Path) -> Any:
    load_file = require("safetensors.torch", "export", "to read .safetensors").load_file
    with _safetensors_errors(path):
        return load_file(path)


def _map_safetensors(path: Path) -> Any:
    """Map the arrays of a file; the NumPy reader of safetensors copies, and does not support bfloat16."""
    safe_open = require("safetensors", "run", "to read .safetensors").safe_open
    # Opening checks that the file holds as many bytes as the shapes and types in its header need.
    with _safetensors_errors(path), safe_open(path, framework="numpy"):
        content = np.asarray(np.memmap(path, np.uint8, "r"))
    start = 8 + int.from_bytes(content[:8].tobytes(), "little")
    arrays = {}
    for name, entry in _safetensors_header(content[8:start].tobytes()).items():
        kind = entry["dtype"]
        if kind not in _SAFETENSORS_TYPES:
            raise WeightsError(f"{path}: {name} has the type {kind}, which is not supported")
        begin, end = entry["data_offsets"]
        values = content[start + begin : start + end].view(numpy_dtype(_SAFETENSORS_TYPES[kind]))
        arrays[name] = values.reshape(entry["shape"])
    return arrays


def _safetensors_header(text: bytes) -> dict[str, Any]:
    """Type, shape and place of each tensor of a `.safetensors` file."""
    header: dict[str, Any] = json.loads(text)
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


def _array(tensor: "torch.Tensor", name: str) -> NDArray[Any]:
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
