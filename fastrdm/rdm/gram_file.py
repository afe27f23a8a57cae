"""The file of a Gram matrix."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import ArrayFormat, Labels, damaged, write_blocks
from fastrdm.rdm.gram_parts import GRAM_METHODS, NO_DIGITS, Digits, Parts
from fastrdm.rdm.numbers import Kind
from fastrdm.rdm.products import Floats

# Number of axes of each array. Of one that a file lacks there is none, or it is empty.
_PARTS = {"product": 2, "raw": 2, "sums": 1, "shift": 1, "scale": 1, "constants": 1}
_AXES = _PARTS | {"features": 2}
_DIGITS = ("places", "values", "undefined")
_AXES |= {f"{method} {what}": 1 for method in GRAM_METHODS for what in _DIGITS}
_REQUIRED = ("product", "sums", "constants")
_TYPES = ("float32", "float64")


def _missing(arrays: Collection[str]) -> str:
    return ", ".join(f"the array {name}" for name in _REQUIRED if name not in arrays)


_FORMAT = ArrayFormat(b"fastrdm Gram\n", "a Gram matrix", 1, _AXES, ("<f8", "<i8"), _missing)


def write_gram(path: Path, parts: Parts, features: Floats | None, labels: Labels | None) -> None:
    """Write a Gram; the file appears when it is complete."""
    arrays: dict[str, Any] = {name: getattr(parts, name) for name in _PARTS}
    arrays["features"] = features
    digits = {}
    for method, each in parts.digits.items():
        digits[method] = {
            "all": each.places is None,
            "rooted": each.rooted,
            "error": each.error,
        }
        for what in _DIGITS:
            arrays[f"{method} {what}"] = getattr(each, what)
    facts = {
        "n_channels": parts.n_channels,
        "n_original": parts.n_original,
        "kind": [parts.kind.dtype.name, parts.kind.exact, parts.kind.shift, parts.kind.discrete],
        "stored": parts.stored.name,
        "rounding": repr(parts.rounding),
        "summed": parts.summed,
        "digits": digits,
        "labels": None if labels is None else labels.facts(),
    }
    kept = {name: array for name, array in arrays.items() if array is not None and array.size}
    typed = {name: np.asarray(array, _type_of(name)) for name, array in kept.items()}
    write_blocks(path, _FORMAT.pack(typed, facts))


def _type_of(name: str) -> str:
    return "<i8" if name.endswith((" places", " undefined")) else "<f8"


def read_gram(path: Path) -> tuple[Parts, Floats | None, Labels | None]:
    """Return parts, features and labels of a Gram, with mapped arrays; errors as in `Gram.load`."""
    facts, arrays = _FORMAT.read(path)
    _check_arrays(path, arrays)
    try:
        dtype, exact, shift, discrete = facts["kind"]
        digits = {method: _digits_of(method, facts, arrays) for method in facts["digits"]}
        if not set(digits) <= set(GRAM_METHODS) or not {dtype, facts["stored"]} <= set(_TYPES):
            raise ValueError("a method or a type is unknown")
        parts = Parts(
            int(facts["n_channels"]),
            arrays["product"],
            arrays["sums"],
            arrays.get("shift"),
            arrays.get("scale"),
            arrays["constants"],
            Kind(np.dtype(dtype), bool(exact), float(shift), bool(discrete)),
            np.dtype(facts["stored"]),
            float(facts["rounding"]),
            digits,
            bool(facts["summed"]),
            int(facts["n_original"]),
            arrays.get("raw"),
        )
        labels = Labels.of(facts["labels"])
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(path, f"its header does not describe a Gram matrix ({error})") from None
    return parts, arrays.get("features"), labels


def _check_arrays(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Refuse arrays whose shapes, types or places do not fit each other."""
    n = len(arrays["sums"])
    for name, axes in _PARTS.items():
        shape = (n,) * axes
        if name in arrays and arrays[name].shape != shape:
            raise damaged(path, f"{name} has shape {arrays[name].shape} instead of {shape}")
    if "features" in arrays and len(arrays["features"]) != n:
        raise damaged(path, f"features have shape {arrays['features'].shape} for {n} conditions")
    for name, array in arrays.items():
        if array.dtype != np.dtype(_type_of(name)):
            raise damaged(path, f"the type of {name} is {array.dtype}")
        bound = n if name.endswith(" undefined") else n * (n - 1) // 2
        if array.dtype.kind == "i" and not 0 <= array.min() <= array.max() < bound:
            raise damaged(path, f"{name} has places beyond {bound}")
    for method in GRAM_METHODS:
        sizes = [
            arrays[key].size if key in arrays else 0
            for key in (f"{method} places", f"{method} values")
        ]
        if sizes[0] != sizes[1] and (sizes[0] or sizes[1] != n * (n - 1) // 2):
            raise damaged(path, f"{method} has {sizes[1]} values for {sizes[0]} places")


def _digits_of(method: str, facts: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Digits:
    stored = facts["digits"][method]
    places, values, undefined = (
        arrays.get(f"{method} {what}", getattr(NO_DIGITS, what)) for what in _DIGITS
    )
    if stored["all"] != (len(places) != len(values)):
        raise ValueError(f"{method} lacks values")
    return Digits(
        None if stored["all"] else places,
        values,
        bool(stored["rooted"]),
        str(stored["error"]),
        undefined,
    )
