"""The columns of a store's tables: their names and types, and settings as short texts."""

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

from fastrdm.scoring.records import Pipeline
from fastrdm.scoring.results import COLUMNS

# What was taken of the weights' file.
TAKEN = ("key", "prefix", "ema", "missing")
# What tells settings in one store apart; `settings` is the start of the pipeline's key.
SETTINGS = (
    *("taps", "precision", "provider", "preprocessing", "kernels", "measure", "protocol"),
    *TAKEN,
    "settings",
)
SIGN_FLIPS = ("p_sign_flip", "p_corrected")
# The challenge's score of the best layer, and whether a path still holds the content.
SCORE, HELD = "score", "held"
# Beside the score: the layer that the other studies choose for the region, and its percentage of the noise ceiling.
HELD_OUT: Mapping[str, type] = {"held_out_layer": str, "held_out": float}
_HEAD, _PLACE = ("checkpoint", "arch"), ("study", "layer", "region")
# The time point of a result, if time points have scores of their own.
TIME = "time"
_OF_SUBJECTS: Mapping[str, type] = {"subject": int, "rho": float}
NAMES = frozenset(
    {*_HEAD, *_PLACE, TIME, *_OF_SUBJECTS, *COLUMNS, "ceiling", "mean_rho", *SIGN_FLIPS}
    | {SCORE, HELD}
    | {*HELD_OUT}
    | {*SETTINGS, "sha256"}
)

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
# Fields of the preprocessing that are shown only if they differ.
_USUAL = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "channel_order": "RGB"}


@dataclass(frozen=True)
class LabelColumn:
    """A label in a table: its name in the store, its column's name, and its type.

    The type is int or float if all values are numbers, else str. A label with the name of another column, which older
    versions accepted, has the prefix ``label_``.
    """

    name: str
    column: str
    kind: type

    def value(self, labels: Mapping[str, str]) -> Any:
        """The value among a path's labels; if there is none, an empty text, None or NaN."""
        text = labels.get(self.name, "")
        if self.kind is str:
            return text
        if not text:
            return None if self.kind is int else float("nan")
        return self.kind(text)


def label_columns(found: Iterable[tuple[str, str]]) -> list[LabelColumn]:
    """The columns of labels, from pairs of name and value, by name."""
    values: dict[str, set[str]] = {}
    for name, value in found:
        values.setdefault(name, set()).add(value)
    columns: list[LabelColumn] = []
    used = {*NAMES, *values}
    for name in sorted(values):
        column = name
        if name in NAMES:
            while column in used:
                column = f"label_{column}"
        used.add(column)
        columns.append(LabelColumn(name, column, _kind(values[name])))
    return columns


def _kind(values: Collection[str]) -> type:
    texts = [value for value in values if value]
    if texts and all(map(_INTEGER.fullmatch, texts)):
        return int
    is_number = texts and all(_NUMBER.fullmatch(text) and isfinite(float(text)) for text in texts)
    return float if is_number else str


def table_columns(
    labels: Iterable[LabelColumn],
    *,
    subjects: bool = False,
    history: bool = False,
    sign_flips: bool = False,
    score: bool = False,
    times: bool = False,
) -> dict[str, type]:
    """Names and types of the columns of a table, in order."""
    numbers = [*COLUMNS, "ceiling", "mean_rho"]
    if sign_flips:
        numbers += SIGN_FLIPS
    if score:
        numbers.append(SCORE)
    texts = [*SETTINGS, *((HELD,) if history else ()), "sha256"]
    return {
        **dict.fromkeys(_HEAD, str),
        **{label.column: label.kind for label in labels},
        **dict.fromkeys(_PLACE, str),
        **({TIME: float} if times else {}),
        **(_OF_SUBJECTS if subjects else {}),
        **dict.fromkeys(numbers, float),
        **(HELD_OUT if score else {}),
        **dict.fromkeys(texts, str),
    }


def pipeline_settings(pipeline: Pipeline, layers: Iterable[str]) -> dict[str, str]:
    """The settings of a pipeline, and of the layers that it scored, by the names of their columns."""
    return {
        "arch": pipeline.arch,
        "taps": pipeline.taps or ",".join(layers),
        "precision": pipeline.precision,
        "preprocessing": preprocessing_text(pipeline.preprocessing),
        "settings": pipeline.key[:8],
    }


def preprocessing_text(text: str) -> str:
    """A pipeline's preprocessing as a short text: the size, the filter, and what differs from the default."""
    try:
        fields = json.loads(text)
    except ValueError:
        return text
    if not isinstance(fields, dict):
        return text
    size, resize = fields.pop("size", None), fields.pop("resize", "")
    parts = (
        [] if size is None else ["×".join(map(str, size)) if isinstance(size, list) else str(size)]
    )
    parts += [str(resize)] if resize else []
    for name, value in fields.items():
        if value and value != _USUAL.get(name):
            parts.append(f"{name} {_plain(value)}")
    return " ".join(parts)


def protocol_text(text: str) -> str:
    """A target's protocol as a short text: its name, and the NaN policy unless it is "raise"."""
    facts = json.loads(text)
    name, policy = str(facts.get("name", "")), facts.get("nan_policy", "raise")
    each = " over_time each" if facts.get("over_time") == "each" else ""
    return f"{name}{each}" if policy == "raise" else f"{name} nan_policy {policy}{each}"


def _plain(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
