"""What is chosen of a file of RDMs: variables by their keys, which may be stacked, and RDMs by their names."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from fastrdm._base import UNNAMED, suggestion
from fastrdm.studies.rdm_formats import Variables, describe
from fastrdm.studies.rdm_stacks import RdmStack, without_single_axes


def choose_keys(
    variables: Variables, key: str | Sequence[str] | None, path: Path, argument: str
) -> list[str]:
    """Return the keys that are meant; ValueError lists those of the file."""
    known = variables.by_key
    if not key:
        if variables.default:
            return list(variables.default)
        if len(known) == 1:
            # It may hold no RDMs, which is an error of its own.
            return list(known)
        what = "several arrays are" if known else "no array is"
        raise ValueError(
            f"{argument} is missing, and {what} in {path.name}: it holds {describe(variables)}"
        )
    keys: list[str] = []
    for each in [key] if isinstance(key, str) else key:
        exact = each if each in known else each.lstrip("/")
        found = [exact] if exact in known else [k for k in known if fnmatchcase(k, each)]
        if not found:
            listed = ", ".join(known) or "no array"
            raise ValueError(
                f"{argument} = {each!r} is not in {path.name}: it holds {listed}{suggestion(each, known)}"
            )
        keys += found
    if repeated := next((each for each in keys if keys.count(each) > 1), None):
        raise ValueError(f"{argument} = {key!r} names {repeated} twice")
    return keys


def is_pattern(key: str | Sequence[str] | None, variables: Variables) -> bool:
    """Return whether a key is no variable but a pattern of several."""
    return isinstance(key, str) and key not in variables.by_key and any(c in key for c in "*?[")


def source_of(keys: Sequence[str], path: Path) -> str:
    """Return the keys and the file as messages name them."""
    if list(keys) == [UNNAMED]:
        return str(path)
    return f"{keys[0] if len(keys) == 1 else f'{keys[0]} … {keys[-1]}'} of {path}"


def select_names(
    stack: RdmStack,
    names: str | Sequence[str],
    source: str,
    argument: str,
    descriptors: Mapping[str, Sequence[str]],
) -> RdmStack:
    """Return the RDMs with these names, or with these values of another descriptor."""
    patterns = [names] if isinstance(names, str) else list(names)
    if stack.names is None:
        raise ValueError(f"{argument} = {names!r}: the RDMs of {source} have no names")
    present = [str(name) for name in stack.names.ravel()]
    for values in descriptors.values():
        if not _all_match(patterns, present) and _all_match(patterns, values):
            present = list(values)
    for pattern in patterns:
        if not _all_match([pattern], present):
            raise ValueError(
                f"{argument} = {pattern!r} is not a name of {source}; the names are"
                f" {', '.join(dict.fromkeys(present))}{suggestion(pattern, present)}"
            )
    if stack.axes is None:
        stack = without_single_axes(stack)
    wanted = np.array([any(_matches(name, each) for each in patterns) for name in present])
    kept = wanted.reshape(stack.lead)
    if sum(n > 1 for n in stack.lead) > 1:
        for axis in range(kept.ndim):
            others = tuple(i for i in range(kept.ndim) if i != axis)
            if np.array_equal(
                kept, np.broadcast_to(np.expand_dims(kept.all(others), others), kept.shape)
            ):
                keep = np.flatnonzero(kept.all(others))
                return RdmStack(
                    stack.rdms.take(keep, axis),
                    stack.axes,
                    np.asarray(stack.names).take(keep, axis),
                    stack.is_shared,
                )
        raise ValueError(
            f"{argument} = {names!r} selects neither whole subjects nor whole sessions of {source}"
        )
    rdms = stack.rdms.reshape(len(present), -1)[wanted]
    return RdmStack(
        rdms,
        stack.axes if len(stack.lead) == 1 else None,
        np.ravel(np.asarray(stack.names))[wanted],
        stack.is_shared,
    )


def _all_match(patterns: Sequence[str], names: Sequence[str]) -> bool:
    return all(any(_matches(name, pattern) for name in names) for pattern in patterns)


def _matches(name: str, pattern: str) -> bool:
    return name == pattern or fnmatchcase(name, pattern)
