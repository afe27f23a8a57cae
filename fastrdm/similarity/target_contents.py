"""What the file of a target holds → the arguments of a target, if they can be right.

A right checksum shows only that the file is as it was written. Values that no target can have are refused here, so
that a file made or changed by other programs ends in an error, not in wrong scores.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import Labels, damaged, n_conditions
from fastrdm._kernels import FLOAT64, Prepared
from fastrdm.similarity.ceiling import check_ceiling
from fastrdm.similarity.numerics import Floats, blocks_of
from fastrdm.similarity.protocol import Protocol
from fastrdm.similarity.sides import NAN_POLICIES, check_values
from fastrdm.similarity.table import SIMILARITIES, Similarity
from fastrdm.similarity.time_scores import OVER_TIME, check_times

# Numbers that a check holds in memory.
_BLOCK_SIZE = 1 << 18
# Relative error of a stored sum of squares.
_ROUNDING = 1e-6
# Similarities whose prepared values do not have the order of the RDM's entries.
_UNORDERED = ("corr_cov", "cosine_cov")
# Sums of squares that do not follow from the values, for n pairs.
_SQUARES: Mapping[str, Callable[[int], float]] = {
    "rho-a": lambda n: (float(n) ** 3 - n) / 3,
    "tau-a": lambda n: 1.0,
    "tau-b": lambda n: 1.0,
}


def checked_facts(path: Path, facts: Mapping[str, Any], shape: tuple[int, ...]) -> dict[str, Any]:
    """Return the facts of a target as its attributes; ValueError that names the file and the fact.

    `shape` is that of the subjects' RDMs, (subjects, times, pairs).
    """
    _, n_times, n_pairs = shape
    _check_pairs(path, n_pairs)
    policy, name = facts.get("nan_policy"), facts.get("name")
    protocol = _protocol(path, facts.get("protocol"))
    # Files of version 1 do not record these.
    is_computed, bound = facts.get("is_computed", False), facts.get("tie_bound", FLOAT64)
    over_time = facts.get("over_time", "mean")
    for what, value, is_right in (
        ("nan_policy", policy, policy in NAN_POLICIES),
        ("name", name, name is None or isinstance(name, str)),
        ("is_computed", is_computed, isinstance(is_computed, bool)),
        ("tie_bound", bound, isinstance(bound, float) and 0 <= bound < 1),
        ("over_time", over_time, over_time in OVER_TIME),
    ):
        if not is_right:
            raise damaged(path, f"{what} is {value!r}")
    # NaN: of subjects with NaN, or of those that agree at some time points only.
    may_be_unknown = policy == "propagate" or (over_time == "each" and is_computed)
    return {
        "protocol": protocol,
        "ceiling": _ceiling(path, facts.get("ceiling"), name, protocol, may_be_unknown),
        "is_computed": is_computed,
        "tie_bound": bound,
        "name": name,
        "nan_policy": policy,
        "labels": _labels(path, facts.get("labels"), n_pairs),
        "over_time": over_time,
        "times": _times(path, facts.get("times"), n_times),
    }


def _check_pairs(path: Path, n_pairs: int) -> None:
    try:
        n_conditions(n_pairs, "subjects")
    except ValueError as error:
        raise damaged(path, str(error)) from None


def _protocol(path: Path, stored: Any) -> Protocol:
    kinds = {field.name: (field.type, field.default) for field in fields(Protocol)}
    required = {name for name, (_, default) in kinds.items() if default is MISSING}
    if not isinstance(stored, dict) or not required <= stored.keys() <= kinds.keys():
        raise damaged(path, f"its protocol does not consist of {', '.join(kinds)}")
    for name, value in stored.items():
        if not isinstance(value, bool if kinds[name][0] in (bool, "bool") else str):
            raise damaged(path, f"{name} of its protocol is {value!r}")
    for name, options in (
        ("method", tuple(SIMILARITIES)),
        ("pool", ("raw", "rank")),
        ("bound", ("lower", "upper")),
    ):
        if stored[name] not in options:
            raise damaged(path, f"{name} of its protocol is {stored[name]!r}")
    return Protocol(**stored)


def _times(path: Path, stored: Any, n_times: int) -> Floats | None:
    if stored is None:
        return None
    if not (isinstance(stored, list) and all(isinstance(time, float) for time in stored)):
        raise damaged(path, "its times are not a list of numbers")
    try:
        return check_times(stored, n_times, "subjects")
    except ValueError as error:
        raise damaged(path, str(error)) from None


def _ceiling(
    path: Path, ceiling: Any, name: Any, protocol: Protocol, may_be_unknown: bool
) -> float:
    if not isinstance(ceiling, float):
        raise damaged(path, f"ceiling is {ceiling!r}")
    if not (math.isnan(ceiling) and may_be_unknown):
        check_ceiling(ceiling, f"{name or 'the target'} in {path}", protocol)
    return ceiling


def _labels(path: Path, stored: Any, n_pairs: int) -> Labels | None:
    if stored is None:
        return None
    lengths = {"condition": n_conditions(n_pairs), "pair": n_pairs}
    is_right = (
        isinstance(stored, dict)
        and stored.keys() == {"what", "values", "name"}
        and isinstance(stored["name"], str)
        and isinstance(stored["values"], list)
        and len(stored["values"]) == lengths.get(str(stored["what"]))
        and all(map(_is_label, stored["values"]))
    )
    if not is_right:
        raise damaged(path, f"its labels do not fit {lengths['condition']} conditions")
    return Labels.of(stored)


def _is_label(value: Any) -> bool:
    parts = value if isinstance(value, list) else [value]
    return all(isinstance(part, str) for part in parts)


def checked_prepared(
    path: Path, arrays: Mapping[str, NDArray[Any]], method: Similarity, nan_policy: str
) -> Prepared | None:
    """Check the subjects' RDMs, and return them as they are prepared in the file; None if they are not."""
    subjects = arrays["subjects"]
    try:
        check_values(subjects, "subjects", ("subject", "time", "pair"), nan_policy)
    except ValueError as error:
        raise damaged(path, str(error)) from None
    if "values" not in arrays:
        return None
    rows = subjects.reshape(-1, subjects.shape[2])
    values, squares = arrays["values"], arrays["squares"]
    width = method.prepared_length(rows.shape[1])
    expected = {"values": (len(rows), width), "squares": (len(rows),)}
    for name, shape in expected.items():
        if arrays[name].shape != shape:
            raise damaged(path, f"{name} has shape {arrays[name].shape} instead of {shape}")
    if values.dtype != method.sample.values.dtype or squares.dtype != np.float64:
        raise damaged(
            path,
            f"values and squares have types {values.dtype} and {squares.dtype} for {method.name}",
        )
    for row, prepared, square in zip(rows, values, squares, strict=True):
        if not _fits(row, prepared, float(square), method):
            raise damaged(
                path, f"its values are not the subjects' RDMs, prepared for {method.name}"
            )
    return Prepared(values, squares)


def _fits(row: NDArray[Any], prepared: NDArray[Any], square: float, method: Similarity) -> bool:
    """Whether prepared values have the order of an RDM's entries, and their squares this sum."""
    total, n = 0.0, len(row)
    for block in blocks_of(n - 1, 1, _BLOCK_SIZE):
        several = slice(block.start, block.stop + 1)
        steps = np.diff(prepared[several].astype(np.float64))
        with np.errstate(invalid="ignore"):
            agree = np.sign(steps) * np.sign(np.diff(row[several])) >= 0
        if not (agree.all() or method.name in _UNORDERED):
            return False
        if not np.isfinite(steps).all():
            return False
    for block in blocks_of(n, 1, _BLOCK_SIZE):
        part = prepared[block].astype(np.float64)
        total += float(part @ part)
    if prepared[n:].any():
        return False
    expected = _SQUARES[method.name](n) if method.name in _SQUARES else total
    return abs(square - expected) <= _ROUNDING * expected
