"""The state dicts in the contents of a file, under any key at any nesting, and which of them are averaged weights."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastrdm._base import list_names
from fastrdm.networks.errors import WeightsError
from fastrdm.networks.selection import Selection

TOP = "."
"""Key of the tensors at the top level of a file."""

COUNTER = "n_averaged"
"""Entry that `torch.optim.swa_utils.AveragedModel` adds to the weights."""

_DEPTH = 8
# A file whose dicts contain each other has no end of places.
_MAX_VISITS, _MAX_FOUND = 100_000, 1000
_NESTS = (dict, list, tuple)
_AVERAGED = re.compile(r"(?<![a-z])(ema|swa|averaged?|avg|polyak)(?![a-z])")
# The order in which files without a network were read before other keys were known.
_USUAL = ("state_dict", "model_state_dict", "model")


@dataclass(frozen=True, eq=False)
class StateDict:
    """Tensors by name, under a dotted key; `is_average` is whether they are averaged weights, such as EMA."""

    key: str
    tensors: Mapping[str, Any]
    is_average: bool

    @property
    def place(self) -> str:
        """The key in messages, such as "under net"."""
        return "at the top level" if self.key == TOP else f"under {self.key}"

    @property
    def is_weights(self) -> bool:
        """Whether there are tensors that are not single numbers."""
        return any(len(tensor.shape) for tensor in self.tensors.values())


def is_average(name: str) -> bool:
    """Whether a key or prefix is one of averaged weights, as in "state_dict_ema" or "swa_model."."""
    return bool(_AVERAGED.search(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()))


def find_state_dicts(contents: Any, kind: type, path: str | Path) -> list[StateDict]:
    """Return all state dicts with their tensors of a `kind`, the top level first; WeightsError if there are none."""
    found = list(_walk(contents, (), kind, (), iter(range(_MAX_VISITS))))
    if len(found) > _MAX_FOUND:
        raise WeightsError(f"{path}: holds more than {_MAX_FOUND} state dicts")
    if not found:
        raise WeightsError(_why_no_state_dict(contents, path))
    known = {each.key for each in found}
    # Lightning's WeightAveraging swaps them.
    if {"state_dict", "current_model_state"} <= known and "averaging_state" in contents:
        found = [
            StateDict(each.key, each.tensors, each.key == "state_dict" or each.is_average)
            for each in found
        ]
    return found


def _why_no_state_dict(contents: Any, path: str | Path) -> str:
    place = _place_of_arrays(contents, ())
    if place:
        return (
            f"{path}: the weights {place} are NumPy arrays, not tensors; save tensors: "
            "torch.save({name: torch.from_numpy(array) for name, array in weights.items()}, "
            '"weights.pth")'
        )
    keys = ""
    if isinstance(contents, Mapping):
        keys = f"; it holds {list_names(contents, 6)}" if contents else "; it is an empty dict"
    return f"{path}: holds no state dict (tensors by name) under any key{keys}"


def _place_of_arrays(value: Any, place: tuple[str, ...]) -> str:
    """The place of a dict of NumPy arrays, for which `read_torch` puts inert objects; empty if there is none."""
    if not isinstance(value, dict) or len(place) > _DEPTH:
        return ""
    arrays = [each for each in value.values() if type(each).__qualname__ == "_reconstruct"]
    if len(arrays) > len(value) / 2:
        return f"under {'.'.join(place)}" if place else "at the top level"
    places = (_place_of_arrays(each, (*place, str(name))) for name, each in value.items())
    return next(filter(None, places), "")


def _walk(
    value: Any,
    place: tuple[str, ...],
    kind: type,
    above: tuple[int, ...],
    visits: Iterator[int],
) -> Iterator[StateDict]:
    """The state dicts at a place and below it, as far as there are visits left."""
    # A file may hold a single value.
    if not isinstance(value, _NESTS):
        return
    if id(value) in above or len(place) > _DEPTH or next(visits, None) is None:
        return
    # Pickles hold no other mappings than dicts.
    if isinstance(value, dict):
        tensors = {k: v for k, v in value.items() if isinstance(k, str) and isinstance(v, kind)}
        key = ".".join(place)
        if tensors:
            yield StateDict(key or TOP, tensors, is_average(key) or COUNTER in tensors)
        if len(tensors) == len(value):
            return
        # An optimiser numbers its tensors.
        inner = [(k, v) for k, v in value.items() if isinstance(k, str) and isinstance(v, _NESTS)]
    else:
        inner = [(str(i), each) for i, each in enumerate(value) if isinstance(each, _NESTS)]
    for name, each in inner:
        yield from _walk(each, (*place, name), kind, (*above, id(value)), visits)


def under_key(found: list[StateDict], key: str | None, path: str | Path) -> list[StateDict]:
    """The state dicts at or below a key; all without one. WeightsError lists the keys if there is none."""
    if key is None:
        return found
    if chosen := [each for each in found if each.key == key] or [
        each for each in found if each.key.startswith(f"{key}.")
    ]:
        return chosen
    raise WeightsError(
        f"{path}: holds no state dict under the key {key!r}; there are state dicts under {list_keys(found)}"
    )


def list_keys(found: list[StateDict]) -> str:
    """The keys of state dicts, those with most tensors first."""
    ordered = sorted(found, key=lambda each: -len(each.tensors))
    return list_names([_shown(each.key) for each in ordered], 8)


def _shown(key: str) -> str:
    return '"." (the top level)' if key == TOP else key


def find_unnamed_averages(contents: Any, kind: type) -> str:
    """Return the key of averaged weights that are a list without names, such as "ema.shadow_params"; else empty."""
    return next(_unnamed(contents, (), kind), "")


def _unnamed(value: Any, place: tuple[str, ...], kind: type) -> Iterator[str]:
    if not isinstance(value, dict) or len(place) > _DEPTH:
        return
    for name, each in value.items():
        if not isinstance(name, str):
            continue
        key = ".".join((*place, name))
        if isinstance(each, list | tuple):
            is_weights = len(each) > 1 and all(isinstance(tensor, kind) for tensor in each)
            if is_weights and (is_average(key) or name == "shadow_params"):
                yield key
        else:
            yield from _unnamed(each, (*place, name), kind)


def only_state_dict(
    found: list[StateDict], selection: Selection, path: str | Path
) -> tuple[StateDict, list[StateDict]]:
    """The state dict to take without knowing the network, and averaged weights that are passed over.

    One under the usual keys, or the largest by far; averaged weights only if they are asked for, or there are no
    others. WeightsError if it is not clear which to take.
    """
    chosen = [each for each in found if each.is_weights] or found
    passed_over: list[StateDict] = []
    if selection.key is None:
        averages = [each for each in chosen if each.is_average]
        if selection.ema and not averages:
            raise WeightsError(f"{path}: holds no EMA weights; its keys are {list_keys(found)}")
        chosen = averages if selection.ema else [e for e in chosen if not e.is_average] or averages
        passed_over = [] if chosen == averages else averages
    usual = [each for key in _USUAL for each in chosen if each.key == key]
    ordered = usual or sorted(chosen, key=lambda each: -len(each.tensors))
    if not usual and len(ordered) > 1 and 2 * len(ordered[1].tensors) > len(ordered[0].tensors):
        raise WeightsError(
            f"{path}: holds several state dicts, choose one with --key NAME (key=): {list_keys(ordered)}"
        )
    return ordered[0], passed_over
