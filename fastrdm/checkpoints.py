"""Weight files → models that run: a network's constructor, its weights, the exported graph."""

import difflib
import importlib
import pickle
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastrdm._extras import require
from fastrdm.export import export_onnx
from fastrdm.layers import Taps
from fastrdm.onnx_model import OnnxModel

if TYPE_CHECKING:
    import torch

# Where training scripts put the weights beside the optimiser's state.
_NESTED = ("state_dict", "model_state_dict", "model")
_SHOWN = 3


class WeightsError(ValueError):
    """A weight file cannot be read, or is another network's; one line that names the file."""


def import_arch(arch: str) -> "Callable[[], torch.nn.Module]":
    """Import the callable that builds a network, from the current folder too.

    Parameters
    ----------
    arch : str
        "module:callable", as in "torchvision.models:densenet201" or "models.networks:resnet20".

    Returns
    -------
    callable
        Builds the network when called without arguments; ValueError where that gives no
        `torch.nn.Module`.

    Raises
    ------
    ValueError
        If `arch` has another form, there is no such module, or no such callable in it.
    """
    module_name, colon, attribute = arch.partition(":")
    if not (module_name and colon and attribute):
        raise ValueError(f"arch {arch!r} must have the form module:callable")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        target: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # A module that is there but fails to import another one says so itself.
        if not error.name or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise ValueError(
            f"arch {arch!r}: there is no module {error.name!r}, neither installed nor in {here}"
        ) from None
    for part in attribute.split("."):
        if not hasattr(target, part):
            public = [name for name in dir(target) if not name.startswith("_")]
            nearest = ", ".join(difflib.get_close_matches(part, public, cutoff=0))
            raise ValueError(
                f"arch {arch!r}: {module_name} has no {attribute!r}; nearest: {nearest}"
            )
        target = getattr(target, part)
    if not callable(target):
        raise ValueError(f"arch {arch!r} is a {type(target).__name__}, which cannot be called")
    return partial(_build, arch, target)


def load_state_dict(path: str | Path) -> "dict[str, torch.Tensor]":
    """Read a weight file without running anything that it holds.

    Parameters
    ----------
    path : path
        `.safetensors`, or what `torch.save` wrote: a state dict, plain or under "state_dict",
        "model_state_dict" or "model".

    Returns
    -------
    dict of str to torch.Tensor
        On the CPU. Names lose "module." (from `DataParallel`) where all of them have it.

    Raises
    ------
    WeightsError
        If the file is missing, empty, truncated, a pickle that would run code (which is refused
        unread), or holds no state dict.
    MissingExtraError
        If torch or safetensors is not installed.
    """
    path = Path(path)
    torch = require("torch", "export", "to read weights")
    if not path.is_file():
        raise WeightsError(f"{path}: {'is a folder' if path.is_dir() else 'no such file'}")
    if not path.stat().st_size:
        raise WeightsError(f"{path}: the file is empty")
    reader = _read_safetensors if path.suffix == ".safetensors" else _read_torch
    loaded = reader(path)
    for key in _NESTED:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
            break
    if (
        not isinstance(loaded, Mapping)
        or not loaded
        or not all(isinstance(value, torch.Tensor) for value in loaded.values())
    ):
        raise WeightsError(
            f"{path}: holds no state dict (tensors by name), plain or under {', '.join(_NESTED)}"
        )
    prefix = "module." if all(name.startswith("module.") for name in loaded) else ""
    return {name.removeprefix(prefix): value for name, value in loaded.items()}


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
        If the file cannot be read, or names or shapes differ from the module's; the first ones are
        named. A missing `num_batches_tracked`, which evaluation does not use, is no difference.
    """
    weights, own = load_state_dict(path), module.state_dict()
    differences = {
        "missing": [
            name for name in own if name not in weights and not name.endswith("num_batches_tracked")
        ],
        "unexpected": [name for name in weights if name not in own],
        "of another shape": [
            f"{name} {tuple(weights[name].shape)} for {tuple(own[name].shape)}"
            for name in own
            if name in weights and weights[name].shape != own[name].shape
        ],
    }
    found = [f"{kind}: {_first(names)}" for kind, names in differences.items() if names]
    if found:
        raise WeightsError(f"{path} does not fit {type(module).__name__}; {'; '.join(found)}")
    module.load_state_dict(weights, strict=False)


def open_checkpoint(
    path: str | Path,
    arch: str | None = None,
    taps: Taps | None = None,
    *,
    provider: str = "auto",
    precision: str | None = None,
    provider_options: Mapping[str, str] | None = None,
    batch_size: int = 32,
    n_threads: int | None = None,
) -> OnnxModel:
    """Make a checkpoint ready to run, whatever kind of file it is.

    Parameters
    ----------
    path : path
        An `.onnx` file, from `export_onnx` or any other source, or weights as for `load_state_dict`.
    arch : str, optional
        What builds the network for the weights, as for `import_arch`; an `.onnx` file needs none.
    taps : mapping or sequence, optional
        As for `export_onnx`; for an `.onnx` file, as for `OnnxModel`.
    provider, precision, provider_options, batch_size, n_threads
        As for `OnnxModel`.

    Returns
    -------
    OnnxModel

    Raises
    ------
    WeightsError
        If the weights cannot be read or are another network's.
    ValueError
        If weights are given without `arch`; otherwise as for `import_arch`, `export_onnx` and
        `OnnxModel`.
    """
    options = {
        "provider": provider,
        "precision": precision,
        "provider_options": provider_options,
        "batch_size": batch_size,
        "n_threads": n_threads,
    }
    if Path(path).suffix == ".onnx":
        return OnnxModel(path, taps=taps, **options)  # type: ignore[arg-type]
    if arch is None:
        raise ValueError(
            f"{path}: weights need arch, the module:callable that builds their network"
        )
    module = import_arch(arch)()
    load_weights(module, path)
    with tempfile.TemporaryDirectory(prefix="fastrdm-") as folder:
        exported = export_onnx(module, Path(folder) / "network.onnx", taps, architecture=arch)
        return OnnxModel(exported, **options)  # type: ignore[arg-type]


def _build(arch: str, target: "Callable[[], object]") -> "torch.nn.Module":
    torch = require("torch", "export", "to build a network")
    module = target()
    if not isinstance(module, torch.nn.Module):
        raise ValueError(f"arch {arch!r} gives a {type(module).__name__}, not a torch.nn.Module")
    return module


def _read_safetensors(path: Path) -> Any:
    load_file = require("safetensors.torch", "export", "to read .safetensors").load_file
    try:
        return load_file(path)
    except Exception as error:
        raise WeightsError(f"{path}: cannot be read as safetensors: {_reason(error)}") from error


def _read_torch(path: Path) -> Any:
    torch = require("torch", "export", "to read weights")
    try:
        with warnings.catch_warnings(action="ignore"):
            return torch.load(path, map_location="cpu", weights_only=True)
    # Damaged files raise UnpicklingError, RuntimeError, EOFError, OSError, IndexError and more, by
    # where the damage is.
    except Exception as error:
        if isinstance(error, pickle.UnpicklingError) and "Unsupported" in str(error):
            raise WeightsError(
                f"{path}: refused without running it: it holds Python objects other than tensors; "
                "save the network's state_dict() alone"
            ) from error
        raise WeightsError(
            f"{path}: truncated, damaged or no file of torch.save: {_reason(error)}"
        ) from error


def _reason(error: Exception) -> str:
    """First sentence of an error, on one line."""
    return " ".join(str(error).split()).partition(". ")[0][:120] or type(error).__name__


def _first(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
