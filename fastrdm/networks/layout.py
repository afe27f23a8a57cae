"""The entries of a network's state dict, and whether weights fit them."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import first_sentence, list_names, parse_json
from fastrdm.networks.errors import WeightsError
from fastrdm.networks.file_names import names_in_files
from fastrdm.networks.tensor_files import numpy_dtype, type_name

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

# torchvision's DenseNet files date from when module names could hold a dot: norm.1 is now norm1.
_DOTTED = re.compile(r"(\.denselayer\d+\.(?:norm|relu|conv))\.(?=[12]\.)")
# What torch.compile, activation checkpointing and FSDP add to names of inner modules (at the beginning: prefixes).
_WRAPPERS = re.compile(r"(?<=\.)(?:_orig_mod|_checkpoint_wrapped_module|_fsdp_wrapped_module)\.")


@dataclass(frozen=True)
class Layout:
    """Type ("float32", "bfloat16", ...) and shape of each entry of a state dict, and groups of names of one tensor.

    `in_files` has the name of an entry by another one that it has in files, as from `names_in_files`.
    """

    entries: Mapping[str, tuple[str, tuple[int, ...]]]
    tied: tuple[tuple[str, ...], ...] = ()
    in_files: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, module: "torch.nn.Module") -> "Layout":
        """Return the layout of a module's state dict; ValueError for entries that are not tensors."""
        state = module.state_dict()
        same: dict[object, list[str]] = {}
        for name, value in state.items():
            if not hasattr(value, "numel"):
                raise ValueError(
                    f"the entry {name!r} in the state dict of {type(module).__name__} is a {type(value).__name__}, not"
                    " a tensor; networks with extra state run only as live modules (fastrdm.TorchModel, fastrdm.Scorer)"
                )
            place = (value.data_ptr(), value.shape, value.stride()) if value.numel() else name
            same.setdefault(place, []).append(name)
        return cls(
            {name: (type_name(value), tuple(value.shape)) for name, value in state.items()},
            tuple(tuple(names) for names in same.values() if len(names) > 1),
            names_in_files(module),
        )

    @classmethod
    def from_json(cls, text: str) -> "Layout":
        """Inverse of `to_json`; raise ValueError for any other text."""
        try:
            content = parse_json(text)
            return cls(
                {name: (kind, tuple(shape)) for name, (kind, shape) in content["entries"].items()},
                tuple(tuple(names) for names in content["tied"]),
                dict(content.get("in_files", {})),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not a layout of a state dict: {first_sentence(error)}") from None

    def to_json(self) -> str:
        """Return the layout as one line of text."""
        content = {"entries": dict(self.entries), "tied": self.tied}
        if self.in_files:
            content["in_files"] = dict(self.in_files)
        return json.dumps(content, separators=(",", ":"))


Differences = dict[str, dict[str, str]]
"""Kind of difference → name of an entry → its text in messages."""


def find_differences(weights: Mapping[str, Any], layout: Layout) -> Differences:
    """Return the differences of weights from a network's entries, by their names, shapes and types alone.

    `num_batches_tracked` may differ or be missing, because evaluation does not use it. Of tied names one is enough.
    """
    replaced = {name for group in layout.tied if weights.keys() & group for name in group}
    missing, shapes, types = {}, {}, {}
    unexpected = {name: name for name in weights if name not in layout.entries}
    for name, (kind, shape) in layout.entries.items():
        is_counter = name.endswith("num_batches_tracked")
        value = weights.get(name)
        if value is None:
            if name not in replaced and not is_counter:
                missing[name] = name
            continue
        if tuple(value.shape) != shape:
            shapes[name] = f"{name} {tuple(value.shape)} for {shape}"
        if _kind(type_name(value)) != _kind(kind) and not is_counter:
            types[name] = f"{name} {type_name(value)} for {kind}"
    return {
        "missing": missing,
        "unexpected": unexpected,
        "of another shape": shapes,
        "of another type": types,
    }


def describe(differences: Differences) -> str:
    """Return the first differences of each kind as text; empty if there are none."""
    lists = ((kind, names.values()) for kind, names in differences.items() if names)
    return "; ".join(f"{kind}: {list_names(names)}" for kind, names in lists)


def check_tied(weights: Mapping[str, Any], layout: Layout, path: str | Path, network: str) -> None:
    """Raise WeightsError unless tied names hold equal values."""
    different = [
        f"{name} and {first}"
        for first, *others in filter(None, ([n for n in g if n in weights] for g in layout.tied))
        for name in others
        if not _equal(weights[first], weights[name])
    ]
    if different:
        raise WeightsError(
            f"{path} does not fit {network}; "
            f"different, but one tensor in the network: {list_names(different)}"
        )


def check_fit(
    weights: "Mapping[str, torch.Tensor] | Mapping[str, NDArray[Any]]",
    layout: Layout,
    path: str | Path,
    network: str,
) -> None:
    """Raise WeightsError unless weights fit a network.

    Names and shapes must agree, floating-point numbers meet floating-point numbers, and tied names hold equal values;
    the message lists the first differences, as for `find_differences`. `path` and `network` are names in messages.
    """
    if text := describe(find_differences(weights, layout)):
        raise WeightsError(f"{path} does not fit {network}; {text}")
    check_tied(weights, layout, path, network)


def fit_weights(
    weights: Mapping[str, NDArray[Any]], layout: Layout, path: str | Path, network: str
) -> dict[str, NDArray[Any]]:
    """Return weights in the types of a network's state dict, C-contiguous; raise WeightsError as `check_fit` does.

    An array is copied only if it is not contiguous or has another floating-point type, which is rounded to the nearest
    value as in `torch.nn.Module.load_state_dict`. Tied names share an array.
    """
    fitted = with_current_names(weights, layout)
    check_fit(fitted, layout, path, network)
    return convert(fitted, layout)


def convert(weights: Mapping[str, NDArray[Any]], layout: Layout) -> dict[str, NDArray[Any]]:
    """Return weights that fit as `fit_weights` does; entries without weights are left out."""
    fitted = dict(weights)
    for group in layout.tied:
        if present := [name for name in group if name in fitted]:
            fitted.update(dict.fromkeys(group, fitted[present[0]]))
    # torch also overflows to infinity without a warning.
    with np.errstate(over="ignore"):
        return {
            name: np.require(fitted[name], numpy_dtype(kind), ("C", "A"))
            for name, (kind, _) in layout.entries.items()
            if name in fitted
        }


def current_name(name: str, layout: Layout) -> str:
    """Return the name that a network gives to an entry with another name in files; other names as they are.

    Wrappers of inner modules, such as those of `torch.compile`, are removed.
    """
    inner = _WRAPPERS.sub("", name) if "._" in name and name not in layout.entries else name
    newer = (
        _DOTTED.sub(r"\1", inner) if ".denselayer" in inner else layout.in_files.get(inner, inner)
    )
    return newer if newer in layout.entries else name


def with_current_names(weights: Mapping[str, T], layout: Layout) -> dict[str, T]:
    """Rename weights from names in files to those of the network."""

    def current(name: str) -> str:
        newer = current_name(name, layout)
        return name if newer in weights else newer

    return {current(name): value for name, value in weights.items()}


def _kind(type_name: str) -> str:
    return next((kind for kind in ("float", "complex") if kind in type_name), "integer")


def _equal(a: Any, b: Any) -> bool:
    """Whether arrays or tensors hold the same values; NaN equal NaN, as after training that diverged."""
    return not bool(((a != b) & ((a == a) | (b == b))).any())
