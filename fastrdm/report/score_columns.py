"""Results of a store → the columns of a report: numbers as base64, texts once."""

import base64
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrdm._base import printable
from fastrdm.report.score_places import ScorePlaces
from fastrdm.report.training_runs import progress_label, runs_of
from fastrdm.scoring import StoredResult, best_layers, layer_scores, modalities

# A similarity that is NaN, as a 16-bit integer.
_MISSING = -32768
_LARGEST = 32767
# JavaScript has all integers up to this one.
_LARGEST_INTEGER = 2**53
# Bytes of subjects' similarities in a report, before base64.
_MOST_SUBJECT_BYTES = 2_700_000


@dataclass(frozen=True)
class CheckpointRows:
    """The results of one path under one pipeline."""

    results: Sequence[StoredResult]

    @property
    def first(self) -> StoredResult:
        """A result, for what all of them have in common."""
        return self.results[0]


class Names:
    """Numbers of texts in the order in which they come first."""

    def __init__(self) -> None:
        self._numbers: dict[Any, int] = {}

    def number(self, name: Any) -> int:
        """The number of a text."""
        return self._numbers.setdefault(name, len(self._numbers))

    @property
    def all(self) -> list[Any]:
        """The texts."""
        return list(self._numbers)


@dataclass
class _Numbers:
    """The numbers of all rows."""

    percent: list[float] = field(default_factory=list)
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)
    rho: list[float] = field(default_factory=list)


def _finite(percent: float) -> float:
    """NaN in place of the infinity that a ceiling of 0 gives."""
    return percent if math.isfinite(percent) else math.nan


def checkpoints_of(results: Iterable[StoredResult]) -> list[CheckpointRows]:
    """Group results by path and pipeline; they come in this order."""
    groups = groupby(results, lambda r: (r.checkpoint, r.settings))
    return [CheckpointRows(list(group)) for _, group in groups]


def columns_of(
    checkpoints: Sequence[CheckpointRows], places: ScorePlaces, progress: str | None
) -> dict[str, Any]:
    """The part of a report's data that has a value for each checkpoint or row.

    Rows of a checkpoint are in the order of its results. Checkpoints with the same layers and regions share a shape.
    Each subject's similarity is a 16-bit integer; where those of all checkpoints take too many bytes, only the best
    checkpoints have them.
    """
    layers, archs, settings, shapes = Names(), Names(), Names(), Names()
    numbers, of_checkpoint = _Numbers(), _Facts()
    for rows in checkpoints:
        shape = []
        for r in rows.results:
            place, time = places.place(r)
            shape.append((place, layers.number(printable(r.layer)), time))
            numbers.percent.append(_finite(r.percent_nc))
            numbers.low.append(_finite(r.low))
            numbers.high.append(_finite(r.high))
            numbers.rho.append(r.mean_rho)
        of_checkpoint.add(
            rows.first,
            archs.number(printable(rows.first.arch)),
            settings.number(printable(rows.first.settings)),
            shapes.number(tuple(shape)),
        )
    scale, with_subjects, subjects = _subjects(checkpoints)
    chosen = progress_label([rows.first.labels for rows in checkpoints], progress)
    return {
        "layers": layers.all,
        "archs": [arch or "not named" for arch in archs.all],
        "settings": settings.all,
        "shapes": [_shape(shape) for shape in shapes.all],
        "percent": encoded(numbers.percent, "<f4"),
        "low": encoded(numbers.low, "<f4"),
        "high": encoded(numbers.high, "<f4"),
        "rho": encoded(_quantised(np.array(numbers.rho), scale), "<i2"),
        "rho_scale": scale,
        "subjects": encoded(subjects, "<i2"),
        "with_subjects": with_subjects,
        "labels": _labels(checkpoints),
        "progress": None if chosen is None else printable(chosen),
        "scores": _scores(checkpoints, layers),
        "first": best_first(checkpoints)[0] if checkpoints else -1,
        "checkpoints": vars(of_checkpoint)
        | {"run": runs_of(checkpoints_facts(checkpoints), chosen)},
    }


@dataclass
class _Facts:
    """A value for each checkpoint."""

    name: list[str] = field(default_factory=list)
    arch: list[int] = field(default_factory=list)
    settings: list[int] = field(default_factory=list)
    sha256: list[str] = field(default_factory=list)
    shape: list[int] = field(default_factory=list)

    def add(self, first: StoredResult, arch: int, settings: int, shape: int) -> None:
        self.name.append(printable(first.checkpoint))
        self.sha256.append(first.sha256)
        self.arch.append(arch)
        self.settings.append(settings)
        self.shape.append(shape)


def encoded(values: ArrayLike, kind: str) -> str:
    """Numbers as base64 of their little-endian bytes."""
    return base64.b64encode(np.asarray(values, kind).tobytes()).decode()


def checkpoints_facts(
    checkpoints: Sequence[CheckpointRows],
) -> list[tuple[str, str, str, Mapping[str, Any]]]:
    """Path, network, settings and labels of each checkpoint."""
    firsts = [rows.first for rows in checkpoints]
    return [(r.checkpoint, r.arch, r.settings, r.labels) for r in firsts]


def _shape(shape: Sequence[tuple[int, int, int]]) -> dict[str, str]:
    columns = np.array(shape, "<u2").reshape(-1, 3).T
    return {
        name: encoded(column, "<u2")
        for name, column in zip(("place", "layer", "time"), columns, strict=True)
    }


def _quantised(values: NDArray[np.float64], scale: float) -> NDArray[np.int16]:
    known = np.isfinite(values)
    return np.where(known, np.rint(np.where(known, values, 0) * scale), _MISSING).astype(np.int16)


def _subjects(
    checkpoints: Sequence[CheckpointRows],
) -> tuple[float, list[int], NDArray[np.int16]]:
    """The scale of similarities, the checkpoints whose subjects are kept, and their similarities."""
    sizes = [sum(len(r.rho) for r in rows.results) for rows in checkpoints]
    left = _MOST_SUBJECT_BYTES
    kept: list[int] = []
    for i in best_first(checkpoints):
        left -= 2 * sizes[i]
        if left >= 0 or not kept:
            kept.append(i)
    kept.sort()
    found = [np.array(r.rho, float) for i in kept for r in checkpoints[i].results]
    values = np.concatenate(found) if found else np.empty(0)
    means = [abs(r.mean_rho) for rows in checkpoints for r in rows.results]
    most = np.nanmax([1.0, *np.abs(values), *means])
    scale = _LARGEST / float(most)
    return scale, kept, _quantised(values, scale)


def best_first(checkpoints: Sequence[CheckpointRows]) -> list[int]:
    """Numbers of checkpoints, those with the highest percentage first; those without a score last."""

    def highest(i: int) -> float:
        known = [r.percent_nc for r in checkpoints[i].results if np.isfinite(r.percent_nc)]
        return max(known, default=-np.inf)

    return sorted(range(len(checkpoints)), key=highest, reverse=True)


def _labels(checkpoints: Sequence[CheckpointRows]) -> list[dict[str, Any]]:
    """The labels, with a value for each checkpoint."""
    names = dict.fromkeys(name for rows in checkpoints for name in rows.first.labels)
    columns = []
    for name in names:
        values = [rows.first.labels.get(name) for rows in checkpoints]
        is_number = not any(_is_text(value) for value in values if value is not None)
        columns.append(
            {
                "name": printable(name),
                "is_number": is_number,
                "values": [_plain(value, is_number) for value in values],
            }
        )
    return columns


def _is_text(value: str | int | float) -> bool:
    """Whether a label's value is text, or an integer that JavaScript's numbers do not hold."""
    if isinstance(value, str):
        return value != ""
    return isinstance(value, int) and abs(value) > _LARGEST_INTEGER


def _plain(value: Any, is_number: bool) -> Any:
    if value is None or value != value:
        return None
    return value if is_number and not isinstance(value, str) else printable(str(value))


def _scores(checkpoints: Sequence[CheckpointRows], layers: Names) -> list[dict[str, Any]]:
    """The score over regions that chooses the best layer, and this layer; by measure and modality.

    Measures whose time points have scores of their own have none, and neither do those of one region.
    """
    found: dict[tuple[str, str], dict[int, tuple[float, str]]] = {}
    for i, rows in enumerate(checkpoints):
        for measure in dict.fromkeys(r.measure for r in rows.results):
            of_measure = [r for r in rows.results if r.measure == measure]
            if any(r.time is not None for r in of_measure):
                continue
            regions = Counter(modalities(of_measure).values())
            scores = layer_scores(of_measure)
            for modality, layer in best_layers(of_measure).items():
                if regions[modality] > 1:
                    found.setdefault((measure, modality), {})[i] = (scores[modality][layer], layer)
    columns = []
    for (measure, modality), values in found.items():
        percent = [values[i][0] if i in values else None for i in range(len(checkpoints))]
        numbers = [
            layers.number(printable(values[i][1])) if i in values else -1
            for i in range(len(checkpoints))
        ]
        columns.append(
            {
                "measure": measure,
                "name": f"score ({modality})" if modality else "score",
                "help": "of the best layer: mean value over the regions ÷ mean ceiling, then mean over the studies",
                "percent": percent,
                "layer": numbers,
            }
        )
    return columns
