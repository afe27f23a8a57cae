"""Whether weights fit a network, and putting them into it."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import first_sentence, list_names
from fastrdm.networks.weight_files import WeightsError, load_state_dict, numpy_dtype, type_name

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

# torchvision's DenseNet files date from when module names could hold a dot: norm.1 is now norm1.
_DOTTED = re.compile(r"(\.denselayer\d+\.(?:norm|relu|conv))\.(?=[12]\.)")


@dataclass(frozen=True)
class Layout:
    """Type ("float32", "bfloat16", ...) and shape of each entry of a state dict, and groups of names of one tensor."""

    entries: Mapping[str, tuple[str, tuple[int, ...]]]
    tied: tuple[tuple[str, ...], ...] = ()

    @classmethod
    def of(cls, module: "torch.nn.Module") -> "Layout":
        """Return the layout of a module's state dict."""
        state = module.state_dict()
        same: dict[object, list[str]] = {}
        for name, value in state.items():
            place = (value.data_ptr(), value.shape, value.stride()) if value.numel() else name
            same.setdefault(place, []).append(name)
        return cls(
            {name: (type_name(value), tuple(value.shape)) for name, value in state.items()},
            tuple(tuple(names) for names in same.values() if len(names) > 1),
        )

    @classmethod
    def from_json(cls, text: str) -> "Layout":
        """Inverse of `to_json`; raise ValueError for any other text."""
        try:
            content = json.loads(text)
            return cls(
                {name: (kind, tuple(shape)) for name, (kind, shape) in content["entries"].items()},
                tuple(tuple(names) for names in content["tied"]),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not a layout of a state dict: {first_sentence(error)}") from None

    def to_json(self) -> str:
        """Return the layout as one line of text."""
        return json.dumps({"entries": dict(self.entries), "tied": self.tied}, separators=(",", ":"))


def check_fit(
    weights: "Mapping[str, torch.Tensor] | Mapping[str, NDArray[Any]]",
    layout: Layout,
    path: str | Path,
    network: str,
) -> None:
    """Raise WeightsError unless weights fit a network.

    Names and shapes must agree, floating-point numbers meet floating-point numbers, and tied names hold equal values;
    the message lists the first differences. `num_batches_tracked` may differ or be missing, because evaluation does not
    use it. Of tied names one is enough. `path` and `network` are names in messages.
    """
    replaced = {name for group in layout.tied if weights.keys() & group for name in group}
    differences: dict[str, list[str]] = {
        "missing": [],
        "unexpected": [name for name in weights if name not in layout.entries],
        "of another shape": [],
        "of another type": [],
    }
    for name, (kind, shape) in layout.entries.items():
        is_counter = name.endswith("num_batches_tracked")
        if name not in weights:
            if name not in replaced and not is_counter:
                differences["missing"].append(name)
            continue
        value = weights[name]
        if tuple(value.shape) != shape:
            differences["of another shape"].append(f"{name} {tuple(value.shape)} for {shape}")
        if _kind(type_name(value)) != _kind(kind) and not is_counter:
            differences["of another type"].append(f"{name} {type_name(value)} for {kind}")
    if not any(differences.values()):
        differences["different, but one tensor in the network"] = [
            f"{name} and {first}"
            for first, *others in ([n for n in group if n in weights] for group in layout.tied)
            for name in others
            if not _equal(weights[first], weights[name])
        ]
    lists = [f"{kind}: {list_names(names)}" for kind, names in differences.items() if names]
    if lists:
        raise WeightsError(f"{path} does not fit {network}; {'; '.join(lists)}")


def fit_weights(
    weights: Mapping[str, NDArray[Any]], layout: Layout, path: str | Path, network: str
) -> dict[str, NDArray[Any]]:
    """Return weights in the types of a network's state dict, C-contiguous; raise WeightsError as `check_fit` does.

    An array is copied only if it is not contiguous or has another floating-point type, which is rounded to the nearest
    value as in `torch.nn.Module.load_state_dict`. Tied names share an array.
    """
    fitted = _renamed(weights, layout)
    check_fit(fitted, layout, path, network)
    for group in layout.tied:
        fitted.update(dict.fromkeys(group, next(fitted[name] for name in group if name in fitted)))
    # torch also overflows to infinity without a warning.
    with np.errstate(over="ignore"):
        return {
            name: np.require(fitted[name], numpy_dtype(kind), ("C", "A"))
            for name, (kind, _) in layout.entries.items()
            if name in fitted
        }


def load_weights(module: "torch.nn.Module", path: str | Path) -> None:
    """Load the weights of a file into a network; leave the network unchanged if they do not fit.

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


def _renamed(weights: Mapping[str, T], layout: Layout) -> dict[str, T]:
    """Rename weights from older names to those of the network."""

    def current(name: str) -> str:
        newer = _DOTTED.sub(r"\1", name)
        return newer if newer in layout.entries and newer not in weights else name

    return {current(name): value for name, value in weights.items()}


def _kind(type_name: str) -> str:
    return next((kind for kind in ("float", "complex") if kind in type_name), "integer")


def _equal(a: Any, b: Any) -> bool:
    """Whether arrays or tensors hold the same values; NaN equal NaN, as after training that diverged."""
    return not bool(((a != b) & ((a == a) | (b == b))).any())
