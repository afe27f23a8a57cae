"""Weight files: reading them, whether they fit a network, and their hashes."""

import contextlib
import hashlib
import json
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import first_sentence, list_names, require
from fastrdm.networks.onnx_files import is_onnx as is_onnx

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

SUFFIXES = (".pth", ".pt", ".ckpt", ".bin", ".th", ".pth.tar", ".pt.tar", ".safetensors")
"""Endings of weight files, in any case; `.onnx` files, which bring their weights along, have one of their own."""

# Where training scripts put the weights beside the optimiser's state.
_NESTED = ("state_dict", "model_state_dict", "model")
# Only torch's newer files can be mapped: they are zip archives that compress nothing.
_ZIP = b"PK\x03\x04"
# torchvision's DenseNet files are from when the name of a module could hold a dot: norm.1 is norm1.
_DOTTED = re.compile(r"(\.denselayer\d+\.(?:norm|relu|conv))\.(?=[12]\.)")
_SAFETENSORS_TYPES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "U16": "uint16",
    "I16": "int16",
    "U32": "uint32",
    "I32": "int32",
    "U64": "uint64",
    "I64": "int64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
    "C64": "complex64",
}


class WeightsError(ValueError):
    """A weight file cannot be read, or is another network's; one line that names the file."""


@dataclass(frozen=True)
class Layout:
    """What a network's state dict looks like.

    Attributes
    ----------
    entries : mapping of str to (str, tuple of int)
        Type ("float32", "bfloat16", ...) and shape by name.
    tied : tuple of tuple of str
        Names that are one tensor under several names.
    """

    entries: Mapping[str, tuple[str, tuple[int, ...]]]
    tied: tuple[tuple[str, ...], ...] = ()

    @classmethod
    def of(cls, module: "torch.nn.Module") -> "Layout":
        """The layout of a module's state dict."""
        state = module.state_dict()
        same: dict[object, list[str]] = {}
        for name, value in state.items():
            place = (value.data_ptr(), value.shape, value.stride()) if value.numel() else name
            same.setdefault(place, []).append(name)
        return cls(
            {name: (_type_name(value), tuple(value.shape)) for name, value in state.items()},
            tuple(tuple(names) for names in same.values() if len(names) > 1),
        )

    @classmethod
    def from_json(cls, text: str) -> "Layout":
        """Inverse of `to_json`; ValueError where the text is another one."""
        try:
            content = json.loads(text)
            return cls(
                {name: (kind, tuple(shape)) for name, (kind, shape) in content["entries"].items()},
                tuple(tuple(names) for names in content["tied"]),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"no layout of a state dict: {first_sentence(error)}") from None

    def to_json(self) -> str:
        """The layout as one line of text."""
        return json.dumps({"entries": dict(self.entries), "tied": self.tied}, separators=(",", ":"))


def is_checkpoint(path: str | Path) -> bool:
    """Whether a path is called as weights or as an ONNX file, in any case."""
    return is_onnx(path) or str(path).lower().endswith(SUFFIXES)


def check_file(path: str | Path) -> None:
    """Raise WeightsError, one sentence, unless `path` is a file with something in it."""
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: {'is a folder' if path.is_dir() else 'no such file'}")
    if not path.stat().st_size:
        raise WeightsError(f"{path}: the file is empty")


def load_state_dict(path: str | Path) -> "dict[str, torch.Tensor]":
    """Read a weight file without running anything that it holds.

    Parameters
    ----------
    path : path
        `.safetensors`, in any case, or what `torch.save` wrote under any name: a state dict, plain or under
        "state_dict", "model_state_dict" or "model".

    Returns
    -------
    dict of str to torch.Tensor
        On the CPU, mapped from the file where its format allows. Names lose "module." (from
        `DataParallel`) where all of them have it.

    Raises
    ------
    WeightsError
        If the file is missing, empty, truncated, a pickle that would run code (which is refused
        unread), or holds no state dict.
    MissingExtraError
        If torch or safetensors is not installed.
    """
    torch = require("torch", "export", "to read weights")
    check_file(path)
    reader = _read_safetensors if _is_safetensors(path) else _read_torch
    return _state_dict(reader(Path(path)), torch.Tensor, path)


def read_weights(path: str | Path) -> dict[str, NDArray[Any]]:
    """Read a weight file as NumPy arrays, mapped from the file where its format allows.

    Nothing of the weights is in memory before it is looked at. A mapped file must not be overwritten
    in place before the arrays are gone; replacing it by a rename is harmless.

    Parameters
    ----------
    path : path
        As for `load_state_dict`; `.safetensors` are read without torch.

    Returns
    -------
    dict of str to ndarray
        In the file's types; bfloat16 and float8 as those of `ml_dtypes`. Not for writing.

    Raises
    ------
    WeightsError
        As for `load_state_dict`, or if a tensor has a type that NumPy and `ml_dtypes` do not know,
        or is sparse.
    MissingExtraError
        If safetensors, or torch for another file, is not installed.
    """
    if _is_safetensors(path):
        check_file(path)
        return _state_dict(_map_safetensors(Path(path)), np.ndarray, path)
    return {
        name: _array(tensor, f"{path}: {name}") for name, tensor in load_state_dict(path).items()
    }


def check_fit(
    weights: "Mapping[str, torch.Tensor] | Mapping[str, NDArray[Any]]",
    layout: Layout,
    path: str | Path,
    network: str,
) -> None:
    """Check that weights are those of a network.

    Parameters
    ----------
    weights : mapping of str to torch.Tensor or ndarray
        By name.
    layout : Layout
        Of the network's state dict.
    path, network : str
        What messages call the weights and the network.

    Raises
    ------
    WeightsError
        If names or shapes differ, floating numbers meet other ones, or tied names hold different
        values; the first ones are named. What `num_batches_tracked` is, and whether it is there, is
        no difference: evaluation does not use it. Of tied names one is enough.
    """
    found = {name: (_type_name(value), tuple(value.shape)) for name, value in weights.items()}
    expected = layout.entries
    replaced = {
        name for group in layout.tied if not found.keys().isdisjoint(group) for name in group
    }
    both = [name for name in expected if name in found]
    differences = {
        "missing": [
            name
            for name in expected
            if name not in found and name not in replaced and not _is_counter(name)
        ],
        "unexpected": [name for name in found if name not in expected],
        "of another shape": [
            f"{name} {found[name][1]} for {expected[name][1]}"
            for name in both
            if found[name][1] != expected[name][1]
        ],
        "of another type": [
            f"{name} {found[name][0]} for {expected[name][0]}"
            for name in both
            if _kind(found[name][0]) != _kind(expected[name][0]) and not _is_counter(name)
        ],
    }
    if not any(differences.values()):
        differences["different, but one tensor in the network"] = [
            f"{name} and {first}"
            for first, *others in ([n for n in group if n in found] for group in layout.tied)
            for name in others
            if not _equal(weights[first], weights[name])
        ]
    told = [f"{kind}: {list_names(names)}" for kind, names in differences.items() if names]
    if told:
        raise WeightsError(f"{path} does not fit {network}; {'; '.join(told)}")


def fit_weights(
    weights: Mapping[str, NDArray[Any]], layout: Layout, path: str | Path, network: str
) -> dict[str, NDArray[Any]]:
    """Check that weights are those of a network, and give them the types of its state dict.

    Parameters
    ----------
    weights : mapping of str to ndarray
        As from `read_weights`.
    layout, path, network
        As for `check_fit`.

    Returns
    -------
    dict of str to ndarray
        C-contiguous; copies only of what is not, or has another floating type, which is rounded to
        the nearest as `torch.nn.Module.load_state_dict` does. Tied names share an array.

    Raises
    ------
    WeightsError
        As for `check_fit`.
    """
    given = _renamed(weights, layout)
    check_fit(given, layout, path, network)
    for group in layout.tied:
        given.update(dict.fromkeys(group, next(given[name] for name in group if name in given)))
    # Beyond the range of 16 bits, torch gives infinity without a word, too.
    with np.errstate(over="ignore"):
        return {
            name: np.require(given[name], _dtype(kind), ("C", "A"))
            for name, (kind, _) in layout.entries.items()
            if name in given
        }


def load_weights(module: "torch.nn.Module", path: str | Path) -> None:
    """Put a file's weights into a network; a network that they do not fit is left as it was.

    Parameters
    ----------
    module : torch.nn.Module
        Changed in place.
    path : path
        As for `load_state_dict`.

    Raises
    ------
    WeightsError
        If the file cannot be read, or does not fit, as for `check_fit`.
    """
    layout = Layout.of(module)
    weights = _renamed(load_state_dict(path), layout)
    check_fit(weights, layout, path, type(module).__name__)
    module.load_state_dict(weights, strict=False)


def hash_file(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal; of an `.onnx` file together with its weights in FILE.data."""
    path = Path(path)
    digest = hashlib.sha256()
    for part in (path, Path(f"{path}.data")):
        if part == path or (is_onnx(path) and part.is_file()):
            with part.open("rb") as file:
                hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()


def is_complete(path: str | Path) -> bool:
    """Whether a weight file has its end, as far as its format says: a training may be writing it.

    Archives of `torch.save` have their directory last, `.safetensors` say how long they are. Of other files only an
    empty one is known to be incomplete.
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
                header = json.loads(file.read(length))
                header.pop("__metadata__", None)
                ends = [entry["data_offsets"][1] for entry in header.values()]
                return bool(8 + length + max(ends, default=0) == size)
        return zipfile.is_zipfile(path) if head.startswith(_ZIP) else size > 0
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


@contextlib.contextmanager
def check_unchanged(path: str | Path) -> Iterator[None]:
    """Raise WeightsError if a file is written to while the context lasts."""
    check_file(path)
    before = Path(path).stat()
    yield
    after = Path(path).stat()
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise WeightsError(f"{path}: was written to while it was read")


def _is_safetensors(path: str | Path) -> bool:
    return str(path).lower().endswith(".safetensors")


def _state_dict(loaded: Any, kind: type, path: str | Path) -> dict[str, Any]:
    """The tensors by name in what a file holds."""
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


def _renamed(weights: Mapping[str, T], layout: Layout) -> dict[str, T]:
    """Weights under the network's names, where the file has older ones."""

    def current(name: str) -> str:
        newer = _DOTTED.sub(r"\1", name)
        return newer if newer in layout.entries and newer not in weights else name

    return {current(name): value for name, value in weights.items()}


def _read_torch(path: Path) -> Any:
    torch = require("torch", "export", "to read weights")
    with path.open("rb") as file:
        mapped = file.read(len(_ZIP)) == _ZIP
    try:
        # Its one warning, of another pickle protocol, is left: to hide it is to hide those of all
        # threads.
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    # Damaged files raise UnpicklingError, RuntimeError, EOFError, OSError, IndexError and more, by
    # where the damage is.
    except Exception as error:
        if isinstance(error, pickle.UnpicklingError) and "Unsupported" in str(error):
            raise WeightsError(
                f"{path}: refused without running it: it holds Python objects other than tensors; "
                "save the network's state_dict() alone"
            ) from error
        raise WeightsError(
            f"{path}: truncated, damaged or no file of torch.save: {first_sentence(error)}"
        ) from error


def _read_safetensors(path: Path) -> Any:
    load_file = require("safetensors.torch", "export", "to read .safetensors").load_file
    with _safetensors_errors(path):
        return load_file(path)


def _map_safetensors(path: Path) -> Any:
    """Arrays that lie in the file: the package's own reader of NumPy copies, and knows no bfloat16."""
    safe_open = require("safetensors", "onnx", "to read .safetensors").safe_open
    # Opening checks the header: each tensor's bytes are there, as many as its shape and type take.
    with _safetensors_errors(path), safe_open(path, framework="numpy"):
        content = np.asarray(np.memmap(path, np.uint8, "r"))
    start = 8 + int.from_bytes(content[:8].tobytes(), "little")
    header = json.loads(content[8:start].tobytes())
    header.pop("__metadata__", None)
    arrays = {}
    for name, entry in header.items():
        if entry["dtype"] not in _SAFETENSORS_TYPES:
            raise WeightsError(f"{path}: {name} has the type {entry['dtype']}, which is not read")
        begin, end = entry["data_offsets"]
        values = content[start + begin : start + end].view(
            _dtype(_SAFETENSORS_TYPES[entry["dtype"]])
        )
        arrays[name] = values.reshape(entry["shape"])
    return arrays


@contextlib.contextmanager
def _safetensors_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise WeightsError(
            f"{path}: cannot be read as safetensors: {first_sentence(error)}"
        ) from error


def _array(tensor: "torch.Tensor", name: str) -> NDArray[Any]:
    """A tensor's memory as an array."""
    torch = require("torch", "export", "to read weights")
    tensor = tensor.detach()
    # torch has no bfloat16 and no float8 for NumPy, but their bits.
    bits = {torch.float8_e4m3fn: torch.uint8, torch.float8_e5m2: torch.uint8}
    bits[torch.bfloat16] = torch.uint16
    try:
        if tensor.dtype in bits:
            return np.asarray(tensor.view(bits[tensor.dtype])).view(_dtype(_type_name(tensor)))
        return np.asarray(tensor)
    except (RuntimeError, TypeError) as error:
        kind = f"{tensor.layout} {tensor.dtype}".replace("torch.", "")
        raise WeightsError(
            f"{name} is {kind}, which is not read: {first_sentence(error)}"
        ) from error


def _dtype(name: str) -> np.dtype[Any]:
    known: type = getattr(np, name, None) or getattr(
        require("ml_dtypes", "onnx", f"for weights in {name}"), name
    )
    return np.dtype(known)


def _type_name(value: Any) -> str:
    """Name of an array's or a tensor's type, the same for both."""
    return str(value.dtype).removeprefix("torch.")


def _kind(type_name: str) -> str:
    return next((kind for kind in ("float", "complex") if kind in type_name), "integer")


def _equal(a: Any, b: Any) -> bool:
    """Whether arrays or tensors hold the same values; NaN, of training that diverged, are equal."""
    return not bool(((a != b) & ((a == a) | (b == b))).any())


def _is_counter(name: str) -> bool:
    return name.endswith("num_batches_tracked")
