"""Scores at each time point: similarities (models, subjects, times) → scores (models, times), and their table."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastrdm._base import Labels, as_floats, check_choice, list_names
from fastrdm.similarity.numerics import Floats
from fastrdm.similarity.protocol import Score, score_similarities

OVER_TIME = ("mean", "each")
# Width of the lines of a table.
_WIDTH = 100
# In place of NaN.
_NONE = "–"
# Values of a table, and the number of decimals with which they are printed.
_DECIMALS = {"percent_nc": 2, "r2": 4, "mean_rho": 4, "value": 4, "p": 4, "std": 4}


def check_over_time(over_time: str) -> None:
    """Raise ValueError for what is not a way to score several time points."""
    check_choice(over_time, OVER_TIME, "over_time")


def check_times(times: ArrayLike, n_times: int, name: str) -> Floats:
    """Return times of the time axis as a read-only array; ValueError unless they are increasing numbers, one for each.

    `name` is the name of what has the time axis.
    """
    array = np.array(as_floats(times, f"times of {name}"), np.float64)
    if array.shape != (n_times,):
        raise ValueError(
            f"times of {name} have shape {array.shape}, but its time axis has length {n_times}"
        )
    if not np.isfinite(array).all():
        raise ValueError(f"times of {name} must be finite, got {array}")
    if (falls := np.flatnonzero(np.diff(array) <= 0)).size:
        i = int(falls[0])
        raise ValueError(f"times of {name} must increase, got {array[i]:g}, then {array[i + 1]:g}")
    array.flags.writeable = False
    return array


def labelled_times(labels: Labels, n_times: int) -> Floats:
    """Return the labels of a time axis as times; errors as for `check_times`."""
    try:
        numbers = [float(label) for label in labels.values]
    except (TypeError, ValueError):
        raise ValueError(
            f"the labels of the time axis of {labels.name} are not numbers"
            f" ({list_names(map(repr, labels.values), 3)}); pass times"
        ) from None
    return check_times(numbers, n_times, labels.name)


@dataclass(frozen=True)
class TimeScore(Score):
    """Scores of models against one target at each time point.

    The attributes of `Score` have an axis of time points after that of models: `rho` has shape
    (n_models, n_times, n_subjects), all others (n_models, n_times). Nothing is averaged over time.

    Attributes
    ----------
    times : ndarray, shape (n_times,)
        Times of the target, in its unit; 0, 1, ... without any.
    lower, upper : ndarray, shape (n_times,)
        Both bounds of the noise ceiling of each time point; NaN for a target with one subject.
    names : tuple of str
        Names of the models: keys of a dict, or else numbers.
    """

    times: Floats
    lower: Floats
    upper: Floats
    names: tuple[str, ...]

    def at(self, time: int) -> Score:
        """Return the scores at one time point, by its position."""
        own = {f: getattr(self, f)[:, time] for f in Score.__dataclass_fields__}
        return Score(**own)

    def best(self) -> tuple[str | None, ...]:
        """Return the name of the model with the highest value at each time point; None where all values are NaN."""
        values = as_floats(self.value, "value")
        known = np.isfinite(values)
        highest = np.where(known, values, -np.inf).argmax(axis=0)
        return tuple(
            self.names[i] if known[i, time] else None for time, i in enumerate(highest.tolist())
        )

    def table(self, value: str = "percent_nc") -> "TimeTable":
        """Return a table with a row for each model and a column for each time point.

        Parameters
        ----------
        value : {"percent_nc", "r2", "mean_rho", "value", "p", "std"}
            The attribute that it shows.
        """
        check_choice(value, tuple(_DECIMALS), "value")
        return TimeTable(value, self.names, self.times, getattr(self, value))

    def __str__(self) -> str:
        n_models, n_times, n_subjects = self.rho.shape
        facts = f"{n_models} models, {n_times} time points, {n_subjects} subjects"
        return f"{facts}; percent of the noise ceiling:\n{self.table()}"


class TimeTable:
    """Values of models over time, to print and to write.

    `str` shows models in rows and time points in columns, in several blocks if lines would be long.
    `fastrdm.scoring.write_table` writes the table as CSV, JSON, Parquet or Excel. `marks` are printed after the values.

    Attributes
    ----------
    columns : dict of str to type
        Name and type of each column: ``layer``, then the times.
    values : ndarray, shape (n_models, n_times)
        The values.
    """

    def __init__(
        self,
        value: str,
        names: Sequence[str],
        times: Floats,
        values: Floats,
        marks: Sequence[Sequence[str]] | None = None,
    ) -> None:
        self._value, self._names, self._heads = value, names, time_texts(times)
        self._marks = marks or [[""] * len(times)] * len(names)
        self.values = values
        self.columns: dict[str, type] = {"layer": str, **dict.fromkeys(self._heads, float)}

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """Yield the rows."""
        for name, row in zip(self._names, self.values.tolist(), strict=True):
            yield name, *row

    def __str__(self) -> str:
        pad = max((len(mark) for marks in self._marks for mark in marks), default=0)
        cells = [
            [f"{self._text(each)}{mark:{pad}}" for each, mark in zip(row, marks, strict=True)]
            for row, marks in zip(self.values.tolist(), self._marks, strict=True)
        ]
        columns = [
            [head + " " * pad, *(row[time] for row in cells)]
            for time, head in enumerate(self._heads)
        ]
        first = _aligned(["", *self._names], left=True)
        blocks: list[list[str]] = []
        for column in map(_aligned, columns):
            if not blocks or len(blocks[-1][0]) + 2 + len(column[0]) > _WIDTH:
                blocks.append(first)
            blocks[-1] = [f"{a}  {b}" for a, b in zip(blocks[-1], column, strict=True)]
        return "\n\n".join("\n".join(line.rstrip() for line in block) for block in blocks)

    def _text(self, value: float) -> str:
        return _NONE if math.isnan(value) else f"{value:.{_DECIMALS[self._value]}f}"


def _aligned(cells: Sequence[str], left: bool = False) -> list[str]:
    width = max(map(len, cells))
    return [cell.ljust(width) if left else cell.rjust(width) for cell in cells]


def time_texts(times: Floats) -> list[str]:
    """Return times as short texts that tell them apart."""
    texts = [f"{time:g}" for time in times.tolist()]
    return texts if len(set(texts)) == len(texts) else [repr(time) for time in times.tolist()]


def time_runs(labels: Sequence[Any], times: Floats) -> list[tuple[Any, str]]:
    """Return the runs of time points with the same label: the label, and the times as text, such as "80 to 120"."""
    texts, runs = time_texts(times), []
    for label, group in itertools.groupby(
        zip(labels, texts, strict=True), key=lambda pair: pair[0]
    ):
        first, *_, last = [text for _, text in group] * 2
        runs.append((label, first if first == last else f"{first} to {last}"))
    return runs


def score_each_time(
    similarities: Floats,
    *,
    squared: bool,
    ceiling: Floats,
    **facts: Any,
) -> TimeScore:
    """Return the scores of similarities (models, subjects, times), given a ceiling for each model and time.

    `facts` are the attributes of the result that `Score` does not have.
    """
    n_models, n_subjects, n_times = similarities.shape
    rows = np.ascontiguousarray(similarities.transpose(0, 2, 1)).reshape(-1, n_subjects, 1)
    flat = score_similarities(rows, squared=squared, ceiling=ceiling.ravel())
    shaped = {
        name: values.reshape(n_models, n_times, *values.shape[1:])
        for name, values in vars(flat).items()
    }
    return TimeScore(**shaped, **facts)
