"""Responses as all functions take them: one array (repeats, conditions, units) for each subject."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import Labels, counted
from fastrdm.responses.repeats import Floats, mean_of_repeats, n_present, standardised


@dataclass(frozen=True, eq=False)
class MeasuredResponses:
    """Responses of each subject's units to the same conditions.

    Attributes
    ----------
    arrays : tuple of ndarray of float32 or float64, shape (repeats, conditions, units)
        One for each subject, read-only. NaN where a repeat is lacking; repeats and units may differ between subjects.
    names : tuple of str or None
        Names of the subjects, from a dict or from the labels of an xarray object.
    conditions : Labels or None
        Labels of the conditions, from pandas and xarray objects.
    units : tuple of Labels or None
        For each subject, the labels of its units.
    name : str
        Name of the argument in errors.
    orders : tuple of ndarray or None
        For each subject whose conditions were brought into another order by their labels, where they were.
    """

    arrays: tuple[Floats, ...]
    names: tuple[str, ...] | None = None
    conditions: Labels | None = None
    units: tuple[Labels | None, ...] = ()
    name: str = "responses"
    orders: tuple[NDArray[np.intp] | None, ...] = ()

    @property
    def n_subjects(self) -> int:
        """Number of subjects."""
        return len(self.arrays)

    @property
    def n_conditions(self) -> int:
        """Number of conditions."""
        return int(self.arrays[0].shape[1])

    @property
    def n_units(self) -> tuple[int, ...]:
        """Number of units of each subject."""
        return tuple(array.shape[2] for array in self.arrays)

    @property
    def n_repeats(self) -> tuple[int, ...]:
        """Length of each subject's axis of repeats; single conditions may have fewer."""
        return tuple(len(array) for array in self.arrays)

    def __repr__(self) -> str:
        return (
            f"MeasuredResponses({counted(self.n_subjects, 'subject')}, {counted(self.n_conditions, 'condition')},"
            f" {_range(self.n_units, 'unit')}, {_range(self.n_repeats, 'repeat')})"
        )

    def label(self, subject: int) -> str:
        """Return the name of a subject's array in errors, such as ``responses['sub-01']``."""
        key = repr(self.names[subject]) if self.names else str(subject)
        return self.name if self.n_subjects == 1 and not self.names else f"{self.name}[{key}]"

    def means(self) -> list[Floats]:
        """Return for each subject the means over repeats, (conditions, units); NaN where there is none."""
        return [mean_of_repeats(array) for array in self.arrays]

    def counts(self) -> list[NDArray[np.intp]]:
        """Return for each subject the number of repeats of each condition and unit, (conditions, units)."""
        return [n_present(array) for array in self.arrays]

    def zscored(self, sessions: Any = None) -> "MeasuredResponses":
        """Return the responses z-scored within sessions.

        In each session, the mean over all its measurements is subtracted from each unit, and the result is divided by
        the standard deviation (of the population, as in `scipy.stats.zscore`). Differences between sessions in
        baseline and gain are thereby removed.

        Parameters
        ----------
        sessions : array_like, or a list or dict of these for each subject, optional
            The session of each repeat, (repeats,), or of each measurement, (repeats, conditions), as numbers or
            strings. By default all measurements of a subject are one session.

        Warns
        -----
        RuntimeWarning
            If units are constant in a session, where they become NaN.
        """
        each = per_measurement(sessions, self, "sessions")
        arrays = [
            standardised(array, labels, self.label(k), f"sessions of {self.label(k)}")
            for k, (array, labels) in enumerate(zip(self.arrays, each, strict=True))
        ]
        return replace(self, arrays=tuple(map(read_only, arrays)))

    def of_units(self, units: Any) -> "MeasuredResponses":
        """Return the responses of some units.

        Parameters
        ----------
        units : array_like of bool, shape (units,), or of int; or a list or dict of these for each subject
            A mask, or indices.
        """
        chosen = [
            _units_of(mask, self.n_units[k], f"units of {self.label(k)}")
            for k, mask in enumerate(per_subject(units, self, "units"))
        ]
        return replace(
            self,
            arrays=tuple(
                read_only(array[:, :, which])
                for array, which in zip(self.arrays, chosen, strict=True)
            ),
            units=tuple(
                labels and replace(labels, values=tuple(labels.values[i] for i in which))
                for labels, which in zip(self.units, chosen, strict=True)
            ),
        )


def per_subject(values: Any, responses: MeasuredResponses, what: str) -> list[Any]:
    """Return an option for each subject: the same for all, a list with one each, or a dict by the subjects' names."""
    n = responses.n_subjects
    if isinstance(values, Mapping):
        if responses.names is None or set(map(str, values)) != set(responses.names):
            known = ", ".join(responses.names) if responses.names else "not named"
            raise ValueError(
                f"{what} is a dict of {', '.join(map(str, values))}, but the subjects of {responses.name} are {known}"
            )
        by_name = {str(key): value for key, value in values.items()}
        return [by_name[name] for name in responses.names]
    # A list of labels is one for all subjects; a list of arrays has one for each.
    is_nested = isinstance(values, (list, tuple)) and any(
        value is None or isinstance(value, (list, tuple)) or np.ndim(value) > 0 for value in values
    )
    if not is_nested:
        return [values] * n
    if len(values) != n:
        raise ValueError(
            f"{what} is a list of {len(values)}, but {responses.name} has {counted(n, 'subject')}; pass one for each"
        )
    return list(values)


def per_measurement(values: Any, responses: MeasuredResponses, what: str) -> list[Any]:
    """As `per_subject`, with labels of measurements (repeats, conditions) in the order of the responses' conditions."""
    each = per_subject(values, responses, what)
    for k, order in enumerate(responses.orders):
        if order is not None and each[k] is not None and np.shape(each[k])[1:] == order.shape:
            each[k] = np.asarray(each[k])[:, order]
    return each


def in_form_of(given: Any, responses: MeasuredResponses, values: list[NDArray[Any]]) -> Any:
    """Return an array of each subject in the form in which the subjects were given: as a dict, list or array."""
    if isinstance(given, Mapping):
        return dict(zip(given, values, strict=True))
    if isinstance(given, (list, tuple, MeasuredResponses, str, os.PathLike)):
        return values
    return np.stack(values)


def read_only(array: Floats) -> Floats:
    """Return a view that cannot be written to."""
    view = array.view()
    view.flags.writeable = False
    return view


def _units_of(units: Any, n_units: int, name: str) -> NDArray[np.intp]:
    chosen = np.arange(n_units) if units is None else np.asarray(units)
    if chosen.dtype == bool:
        if chosen.shape != (n_units,):
            raise ValueError(
                f"{name}: the mask has shape {chosen.shape}, but there are {n_units} units"
            )
        chosen = np.flatnonzero(chosen)
    elif chosen.ndim != 1 or chosen.dtype.kind not in "iu":
        raise ValueError(
            f"{name} must be a mask or indices, got dtype {chosen.dtype} and shape {chosen.shape}"
        )
    elif len(chosen) and not (-n_units <= chosen.min() and chosen.max() < n_units):
        outside = chosen[(chosen < -n_units) | (chosen >= n_units)][0]
        raise ValueError(f"{name}: index {outside} is out of range for {n_units} units")
    if not len(chosen):
        raise ValueError(f"{name}: none of {n_units} units is chosen")
    return chosen.astype(np.intp)


def _range(numbers: tuple[int, ...], what: str) -> str:
    least, most = min(numbers), max(numbers)
    return counted(most, what) if least == most else f"{least} to {most} {what}s"
