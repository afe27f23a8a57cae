"""Responses in the forms that callers pass → one array (repeats, conditions, units) for each subject."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import (
    Labels,
    as_floats,
    check_finite,
    common_labels,
    counted,
    depth,
    labels_of,
    names_of,
)
from fastrdm.responses.repeats import Floats, mean_of_repeats, n_present, standardised

_EXPECTED = (
    "expected (subjects, conditions, units) or (subjects, repeats, conditions, units), (conditions, units) for one"
    " subject, or a list or dict of subjects"
)
_AXES = ("subjects", "repeats", "conditions", "units")
#: Names of axes in xarray objects and files, by the axis that they denote.
AXIS_NAMES: Mapping[str, str] = {
    **{name: "subjects" for name in ("subject", "subjects", "participant", "participants")},
    **{
        name: "repeats"
        for name in (
            *("repeat", "repeats", "repetition", "repetitions", "trial", "trials"),
            *("session", "sessions", "run", "runs"),
        )
    },
    **{
        name: "conditions"
        for name in (
            *("condition", "conditions", "stimulus", "stimuli", "stimulus_id", "image", "images"),
            "presentation",
        )
    },
    **{
        name: "units"
        for name in (
            *("unit", "units", "neuron", "neurons", "neuroid", "voxel", "voxels"),
            *("channel", "channels", "sensor", "sensors", "electrode", "electrodes", "vertex"),
            "vertices",
        )
    },
}


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
    """

    arrays: tuple[Floats, ...]
    names: tuple[str, ...] | None = None
    conditions: Labels | None = None
    units: tuple[Labels | None, ...] = ()
    name: str = "responses"

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
        each = per_subject(sessions, self, "sessions")
        arrays = [
            standardised(array, labels, self.label(k), f"sessions of {self.label(k)}")
            for k, (array, labels) in enumerate(zip(self.arrays, each, strict=True))
        ]
        return replace(self, arrays=tuple(map(_read_only, arrays)))

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
                _read_only(array[:, :, which])
                for array, which in zip(self.arrays, chosen, strict=True)
            ),
            units=tuple(
                labels and replace(labels, values=tuple(labels.values[i] for i in which))
                for labels, which in zip(self.units, chosen, strict=True)
            ),
        )


def measured(responses: Any, name: str = "responses") -> MeasuredResponses:
    """Return responses of any accepted form as one array (repeats, conditions, units) for each subject.

    Memory is shared with the argument where its type allows.

    Parameters
    ----------
    responses : array_like, list, tuple or dict
        An array (subjects, conditions, units), or (subjects, repeats, conditions, units) with NaN where a repeat is
        lacking. A list or tuple of subjects, or a dict of named ones, whose members are (conditions, units) or
        (repeats, conditions, units); units and repeats may differ between them. A single table or array of two axes
        is one subject, (conditions, units). NumPy and masked arrays (masked values are NaN), torch tensors, pandas
        and xarray objects are accepted; the labels of conditions, units and subjects are kept. The axes of an xarray
        object whose dimensions all have known names, such as ``subject``, ``repetition``, ``stimulus``, ``neuroid``,
        are recognised in any order; otherwise the order counts.
    name : str
        Name of the argument in errors.

    Returns
    -------
    MeasuredResponses

    Raises
    ------
    ValueError
        If a shape is none of those above or empty, subjects differ in the number or the labels of their conditions, a
        value is infinite, or a subject is NaN throughout.
    """
    if isinstance(responses, MeasuredResponses):
        return responses
    members, names = _members(responses, name)
    arrays: list[Floats] = []
    conditions: list[Labels | None] = []
    units: list[Labels | None] = []
    for member, label in members:
        table = _in_order(member, label, _AXES[1:])
        array = _of_subject(table, label)
        if arrays and array.shape[1] != arrays[0].shape[1]:
            raise ValueError(
                f"{label} has {array.shape[1]} conditions and {members[0][1]} {arrays[0].shape[1]}; all subjects need"
                " the same conditions"
            )
        arrays.append(array)
        conditions.append(labels_of(table, -2, label, "condition"))
        units.append(labels_of(table, -1, label, "unit"))
    common = common_labels(conditions)
    return MeasuredResponses(
        tuple(map(_read_only, arrays)),
        names,
        common and replace(common, name=name),
        tuple(units),
        name,
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


def in_form_of(given: Any, responses: MeasuredResponses, values: list[NDArray[Any]]) -> Any:
    """Return an array of each subject in the form in which the subjects were given: as a dict, list or array."""
    if isinstance(given, Mapping):
        return dict(zip(given, values, strict=True))
    if isinstance(given, (list, tuple, MeasuredResponses)):
        return values
    return np.stack(values)


def _members(responses: Any, name: str) -> tuple[list[tuple[Any, str]], tuple[str, ...] | None]:
    """Return the subjects with their names in errors, and their names if they have any."""
    if isinstance(responses, Mapping):
        if not responses:
            raise ValueError(f"{name} is an empty dict; it must hold at least one subject")
        names = names_of(responses) or []
        return [(responses[key], f"{name}[{key!r}]") for key in responses], tuple(names)
    if isinstance(responses, (list, tuple)) and (not len(responses) or depth(responses) > 2):
        if not len(responses):
            raise ValueError(f"{name} is an empty list; it must hold at least one subject")
        return [(member, f"{name}[{k}]") for k, member in enumerate(responses)], None
    table = _in_order(responses, name, _AXES)
    n_axes = depth(table)
    if n_axes == 2:
        return [(table, name)], None
    if n_axes not in (3, 4):
        raise ValueError(f"{name} has {_shape(table)}; {_EXPECTED}")
    if not len(table):
        raise ValueError(f"{name} has {_shape(table)}, which holds no subject")
    labels = labels_of(table, 0, name, "subject")
    names = [str(value) for value in labels.values] if labels else []
    # Converted once, and not for each subject; xarray objects keep their labels.
    whole = table if hasattr(table, "dims") else as_floats(table, name, masked_as_nan=True)
    keys: Iterable[Any] = names or range(len(whole))
    return [(whole[k], f"{name}[{key!r}]") for k, key in enumerate(keys)], tuple(names) or None


def _in_order(values: Any, name: str, axes: tuple[str, ...]) -> Any:
    """Return an xarray object with its axes in this order if all their names are known, other values as they are."""
    if not (hasattr(values, "dims") and hasattr(values, "transpose")):
        return values
    known = [AXIS_NAMES.get(str(dim).lower()) for dim in values.dims]
    if None in known:
        return values
    if len(set(known)) < len(known) or not {"conditions", "units"} <= set(known) <= set(axes):
        raise ValueError(
            f"{name} has dimensions ({', '.join(map(str, values.dims))}); expected {', '.join(axes)}, each at most"
            " once, with conditions and units"
        )
    order = sorted(range(len(known)), key=lambda k: axes.index(str(known[k])))
    table = values.transpose(*(values.dims[k] for k in order))
    # Repeats of one subject must not be taken for subjects.
    if axes == _AXES and "subjects" not in known and "repeats" in known:
        table = table.expand_dims("subject")
    return table


def _of_subject(member: Any, name: str) -> Floats:
    array = as_floats(member, name, masked_as_nan=True)
    if array.ndim not in (2, 3):
        raise ValueError(
            f"{name} has shape {array.shape}; a subject is (conditions, units) or (repeats, conditions, units)"
        )
    if 0 in array.shape:
        raise ValueError(f"{name} has shape {array.shape}, which is empty")
    axes = ("repeat", "condition", "unit")[3 - array.ndim :]
    check_finite(array, name, axes, allow_nan=True)
    if np.isnan(array.ravel()[0]) and np.isnan(array).all():
        raise ValueError(f"{name} with shape {array.shape} is NaN throughout")
    return array if array.ndim == 3 else array[None]


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


def _read_only(array: Floats) -> Floats:
    view = array.view()
    view.flags.writeable = False
    return view


def _shape(values: Any) -> str:
    return f"shape {tuple(values.shape)}" if hasattr(values, "shape") else f"{depth(values)} axes"


def _range(numbers: tuple[int, ...], what: str) -> str:
    least, most = min(numbers), max(numbers)
    return counted(most, what) if least == most else f"{least} to {most} {what}s"
