"""Responses in files → an array for each subject, with the labels that the file has of its rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import (
    CELL,
    GROUP,
    NUMBERS,
    TEXT,
    Contents,
    as_floats,
    kind_of,
    list_names,
    open_contents,
)
from fastrdm.studies.axis_names import response_axis
from fastrdm.studies.label_sets import coordinates_of, text_labels, texts_of
from fastrdm.studies.rdm_choice import choose_keys, is_pattern, source_of
from fastrdm.studies.rdm_formats import Loaded, Variable, Variables

#: Names of axes of responses.
RESPONSE_AXES = ("subjects", "sessions", "repeats", "conditions", "units", "times")

# Axes of arrays without names: of one subject, and of all subjects.
_OF_ONE = {2: ("conditions", "units"), 3: ("repeats", "conditions", "units")}
_OF_ALL = {
    2: ("conditions", "units"),
    3: ("subjects", "conditions", "units"),
    4: ("subjects", "repeats", "conditions", "units"),
}


@dataclass(frozen=True, eq=False)
class SubjectRows:
    """One subject's responses as a file has them.

    Attributes
    ----------
    values : ndarray, shape (repeats, rows, units, times)
        A row is a condition, or one presentation of it. Sessions are repeats too.
    sessions : ndarray or None, shape (repeats,)
        The session of each repeat, if the file has an axis of sessions.
    labels : dict of str to tuple of str
        Sets of labels of the rows, by name.
    contents : Contents
        The file, for other variables of it.
    name, source : str
        Name of the subject, empty if unknown; the variable and the file.
    axes : tuple of str
        Names of the array's axes in the order of the file.
    shape : tuple of int
        Shape in the file.
    element : int or None
        Which element of a cell array of MATLAB the subject is.
    units : dict of str to tuple of str
        Sets of labels of the units of named axes, by name.
    """

    values: NDArray[np.floating[Any]]
    sessions: NDArray[np.intp] | None
    labels: Mapping[str, tuple[str, ...]]
    contents: Contents
    name: str
    source: str
    axes: tuple[str, ...]
    shape: tuple[int, ...]
    element: int | None = None
    units: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return int(self.values.shape[1])


def check_response_axes(axes: Sequence[str], where: str) -> None:
    """Refuse names of axes that are unknown, repeated, or lack conditions or units."""
    for name in axes:
        if name not in RESPONSE_AXES:
            raise ValueError(
                f"{where}axes: {name!r} is not the name of an axis of responses: {', '.join(RESPONSE_AXES)}"
            )
        if list(axes).count(name) > 1:
            raise ValueError(f"{where}axes = {list(axes)} names {name} twice")
    if axes and not {"conditions", "units"} <= set(axes):
        raise ValueError(f"{where}axes = {list(axes)} must name conditions and units")


def read_subjects(
    paths: Sequence[Path],
    key: str | Sequence[str] | None,
    axes: Sequence[str],
    where: str,
    subject: str | None = None,
) -> list[SubjectRows]:
    """Read the responses of all subjects: one for each file, key, element of a cell array, or row of their axis.

    `axes` are those of each array in the file's order, or nothing. `where` precedes the names of fields in errors.
    `subject` is the coordinate of the units of which each value is a subject.
    """
    subjects: list[SubjectRows] = []
    for path in paths:
        of_file = _read_file(path, key, axes, len(paths) > 1, where)
        if len(paths) > 1 and len(of_file) > 1:
            raise ValueError(
                f"{of_file[0].source} holds {len(of_file)} subjects, but {where}responses names a file for each"
                " subject; name one file, or axes without subjects"
            )
        subjects += of_file
    names = [path.stem for path in paths]
    if subject is not None:
        return _by_unit(subjects, subject, where)
    if len(paths) > 1:
        if len(set(names)) < len(names):
            names = [str(path) for path in paths]
        subjects = [replace(each, name=name) for each, name in zip(subjects, names, strict=True)]
    return subjects


def _by_unit(subjects: Sequence[SubjectRows], name: str, where: str) -> list[SubjectRows]:
    """Divide the units of a file between the subjects that a coordinate of the units names."""
    if len(subjects) > 1:
        raise ValueError(
            f"{where}subject = {name!r} divides the units of one array, but there are {len(subjects)} subjects"
        )
    (one,) = subjects
    known = one.units
    if name not in known:
        raise ValueError(
            f"{where}subject = {name!r} is not a coordinate of the units of {one.source}; it has"
            f" {list_names(known, 10) or 'none'}"
        )
    labels = np.array(known[name])
    return [
        replace(one, values=one.values[:, :, labels == each], name=each)
        for each in dict.fromkeys(known[name])
    ]


def _read_file(
    path: Path,
    key: str | Sequence[str] | None,
    axes: Sequence[str],
    is_one: bool,
    where: str,
) -> list[SubjectRows]:
    named = [key] if isinstance(key, str) else key
    contents = open_contents(path).with_fields(named)
    variables = _variables(contents)
    keys = choose_keys(variables, key, path, f"{where}key")
    several = len(keys) > 1 or (
        key is not None and (not isinstance(key, str) or is_pattern(key, variables))
    )
    found: list[SubjectRows] = []
    for each in keys:
        value = contents.read(each)
        source = source_of([each], path)
        if kind_of(value) == CELL:
            of_key = _cells(np.asarray(value), contents, each, axes, source, where)
        else:
            of_key = _array(value, contents, each, axes, source, is_one or several, where)
        if several and len(of_key) > 1:
            raise ValueError(
                f"{source} holds {len(of_key)} subjects, but each key is a subject; name one key, or axes without"
                " subjects"
            )
        found += [replace(one, name=each) for one in of_key] if several else of_key
    return found


def _variables(contents: Contents) -> Variables:
    """Return what may hold responses; the default is the only one of two axes or more that is not a coordinate."""
    entries = contents.entries
    known = {
        key: Variable(str(entry), lambda key=key: Loaded(contents.read(key)))  # type: ignore[misc]
        for key, entry in entries.items()
        if entry.kind not in (TEXT, GROUP)
    }
    large = [
        key
        for key in known
        if entries[key].kind == NUMBERS and sum(n > 1 for n in entries[key].shape) > 1
    ]
    if not large:
        large = [
            key
            for key in known
            if entries[key].kind == CELL and texts_of(contents.read(key)) is None
        ]
    return Variables(known, tuple(large) if len(large) == 1 else ())


def _cells(
    value: NDArray[Any],
    contents: Contents,
    key: str,
    axes: Sequence[str],
    source: str,
    where: str,
) -> list[SubjectRows]:
    """A subject for each element of a cell array."""
    if sum(n > 1 for n in value.shape) > 1:
        raise ValueError(
            f"{source} is a cell array with shape {value.shape}; its elements must be subjects, in one row or column"
        )
    found: list[SubjectRows] = []
    for i, each in enumerate(value.ravel()):
        element = f"{source}, element {i + 1}"
        if kind_of(each) != NUMBERS:
            raise ValueError(f"{element} is not an array of numbers")
        of_element = _array(each, contents, key, axes, element, True, where)
        found += [replace(subject, element=i) for subject in of_element]
    return found


def _array(
    value: Any,
    contents: Contents,
    key: str,
    axes: Sequence[str],
    source: str,
    is_one: bool,
    where: str,
) -> list[SubjectRows]:
    """Return the subjects of an array; `is_one` if it is that of one subject."""
    if kind_of(value) != NUMBERS:
        raise ValueError(f"{source} is {_kind(value)}, not an array of responses")
    array = as_floats(value, source, masked_as_nan=True)
    entry = contents.entries[key]
    own = entry.axes if len(entry.axes) == array.ndim else ()
    names = _axes_of(array.shape, own, axes, source, is_one, where)
    if len(names) < array.ndim:
        array = array.reshape([n for n in array.shape if n != 1])
    is_named = bool(own) and len(own) == len(names)
    rows_axis = own[names.index("conditions")] if is_named else ""
    units_axis = own[names.index("units")] if is_named else ""
    shape = array.shape
    if 0 in shape:
        raise ValueError(f"{source} has shape {shape}, without a response")
    present = [names.index(name) for name in RESPONSE_AXES if name in names]
    array = array.transpose(present)
    array = array[tuple(slice(None) if n in names else None for n in RESPONSE_AXES)]
    n_subjects, n_sessions, n_repeats = array.shape[:3]
    sessions = np.repeat(np.arange(n_sessions), n_repeats) if "sessions" in names else None
    labels = _labels(contents, key, rows_axis, array.shape[3])
    units = _labels(contents, key, units_axis, array.shape[4]) if units_axis else {}
    return [
        SubjectRows(
            each.reshape(n_sessions * n_repeats, *array.shape[3:]),
            sessions,
            labels,
            contents,
            "",
            source,
            tuple(names),
            shape,
            units=units,
        )
        for each in array[:n_subjects]
    ]


def _axes_of(
    shape: tuple[int, ...],
    own: Sequence[str],
    axes: Sequence[str],
    source: str,
    is_one: bool,
    where: str,
) -> list[str]:
    """Return the names of an array's axes: those given, those of the file, or those of its number of axes."""
    if axes:
        names = [name for name in axes if name != "subjects"] if is_one else list(axes)
        long = [n for n in shape if n != 1]
        for each in (list(axes), names):
            if len(each) in (len(shape), len(long)):
                return each
        raise ValueError(
            f"{source} has shape {shape}, {len(shape)} axes, but {where}axes = {list(axes)} names {len(axes)}"
        )
    known = [response_axis(name) for name in own]
    if {"conditions", "units"} <= set(known):
        if all(known) and len(set(known)) == len(known):
            return known
        listed = ", ".join(f"{name} {n}" for name, n in zip(own, shape, strict=True))
        raise ValueError(
            f"{source} has the axes ({listed}), which are not all known; name them in {where}axes, of"
            f" {', '.join(RESPONSE_AXES)}"
        )
    table = _OF_ONE if is_one else _OF_ALL
    if len(shape) not in table:
        expected = " or ".join(f"({', '.join(each)})" for each in table.values())
        raise ValueError(
            f"{source} has shape {shape}; expected {expected}, or the names of its axes in {where}axes"
        )
    return list(table[len(shape)])


def _labels(
    contents: Contents, key: str, rows_axis: str, n_rows: int
) -> dict[str, tuple[str, ...]]:
    """Return the sets of labels of the rows by name; several rows may have one label."""
    if rows_axis:
        coordinates = coordinates_of(contents, [rows_axis])
        texts = {name: texts_of(value) for name, value in coordinates.items()}
        return {name: text for name, text in texts.items() if text and len(text) == n_rows}
    return text_labels(contents, key, n_rows, unique=False)


def _kind(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"a group of {list_names(value, 10)}"
    return f"{kind_of(value)} with shape {np.shape(value)} ({prod(np.shape(value))} values)"
