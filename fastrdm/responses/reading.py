"""Responses in files of arrays → `MeasuredResponses`."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import (
    CELL,
    NUMBERS,
    STIMULUS,
    UNNAMED,
    Contents,
    Entry,
    as_floats,
    axis_of,
    list_names,
    open_contents,
    suggestion,
)
from fastrdm.responses.assemblies import Assembly, of_assemblies, responses_of
from fastrdm.responses.axes import AXES, named_axes
from fastrdm.responses.forms import of_arrays
from fastrdm.responses.subjects import MeasuredResponses

# Files may have axes of sessions and of repeats within them.
_SESSIONS = ("session", "sessions", "run", "runs")
_KNOWN = ("subjects", "sessions", *AXES[1:])


def read_responses(
    paths: Any,
    key: str | Sequence[str] | None = None,
    *,
    axes: Sequence[str] | None = None,
    stimulus: str | None = None,
) -> MeasuredResponses:
    """Read responses from files of NumPy, MATLAB, HDF5, netCDF (Brain-Score's assemblies) or AnnData.

    Formats are recognised by the content. Nothing in a file is run.

    A table of presentations and units whose rows have a coordinate of stimuli, as in Brain-Score's files and in the
    `obs` of AnnData's, becomes responses to each stimulus: several presentations are repeats, and each value of a
    coordinate of the units such as ``subject`` or ``animal`` is a subject. Conditions and units keep their names.

    Parameters
    ----------
    paths : path-like, sequence or dict of path-like
        A file, or a file for each subject. With several files, subjects have the names of the files, or those of the
        dict.
    key : str or sequence of str, optional
        The variable, by default the only one of two axes or more: ``group/name`` in HDF5, ``struct.field`` in MATLAB
        files. Of several variables, each is a subject. The elements of a cell array are subjects.
    axes : sequence of str, optional
        Names of the axes of each array, in the order of the file: ``"subjects"``, ``"sessions"``, ``"repeats"``,
        ``"conditions"``, ``"units"``. Sessions are repeats too; of both, the repeats of the first session come first.
        By default the names that netCDF files have; otherwise the axes are those of `measured`, (subjects, repeats,
        conditions, units) without those that are lacking, or (repeats, conditions, units) where each array is a
        subject.

    Returns
    -------
    MeasuredResponses
        It is accepted wherever responses are.

    Raises
    ------
    FileNotFoundError
        If a file does not exist.
    ValueError
        If a file cannot be read, the variable is unknown or not clear (the message lists those of the file), the axes
        do not fit, or for the reasons of `measured`.

    Examples
    --------
    >>> axes = ["units", "conditions", "repeats"]
    >>> v4 = read_responses("responses_210325.npy", axes=axes)  # doctest: +SKIP
    >>> v4  # doctest: +SKIP
    MeasuredResponses(1 subject, 640 conditions, 50 units, 10 repeats)
    """
    names = None if axes is None else _checked(axes)
    if isinstance(paths, (str, os.PathLike)):
        return _of_file(Path(paths), key, names, stimulus)
    if not len(paths):
        raise ValueError("paths is empty; pass at least one file")
    by_name = dict(paths) if isinstance(paths, Mapping) else _named(list(map(Path, paths)))
    tables = {name: _assembly(Path(path), key, names, stimulus) for name, path in by_name.items()}
    if all(tables.values()):
        assembled = of_assemblies(tables, "responses", stimulus)
        assert assembled is not None
        return assembled
    subjects = {}
    for name, path in by_name.items():
        found = list(_members(Path(path), key, names).values())
        if len(found) > 1:
            raise ValueError(
                f"{path} holds {len(found)} subjects, but of several files each is a subject; name one variable as key"
            )
        subjects[name] = found[0]
    return of_arrays(subjects, "responses")


def are_paths(values: Any) -> bool:
    """Return whether an argument is a path, or a list or dict of paths."""
    members = values.values() if isinstance(values, Mapping) else values
    if isinstance(members, (str, os.PathLike)):
        return True
    is_several = isinstance(values, (list, tuple, Mapping)) and len(values) > 0
    return is_several and all(isinstance(each, (str, os.PathLike)) for each in members)


def _of_file(
    path: Path, key: str | Sequence[str] | None, axes: list[str] | None, stimulus: str | None
) -> MeasuredResponses:
    table = _assembly(path, key, axes, stimulus)
    if table is not None:
        return responses_of(table, stimulus=stimulus)
    contents, keys = _chosen(path, key)
    entry = contents.entries[keys[0]]
    if entry.kind == CELL or not (key is None or isinstance(key, str)):
        members = _members(path, key, axes)
        are_named = len(members) == len(keys)
        return of_arrays(members if are_named else list(members.values()), str(path))
    source = _source(keys[0], path)
    array, present = _arranged(contents.read(keys[0]), entry, axes, source)
    # Repeats of one subject must not be taken for subjects.
    is_one = present is not None and "subjects" not in present
    return of_arrays([array] if is_one else array, source)


def _assembly(
    path: Path, key: str | Sequence[str] | None, axes: list[str] | None, stimulus: str | None
) -> Assembly | None:
    """Return the table of a file whose rows have a coordinate of stimuli; None if it is none."""
    contents, keys = _chosen(path, key)
    entry = contents.entries[keys[0]]
    known = [axis_of(axis) for axis in entry.axes]
    others = [n for axis, n in zip(known, entry.shape, strict=False) if axis is None]
    is_table = (
        sorted(filter(None, known)) == ["conditions", "units"] and max(others, default=1) == 1
    )
    if axes is not None or len(keys) > 1 or not is_table:
        if stimulus is not None:
            raise ValueError(
                f"stimulus = {stimulus!r} names a coordinate, but {_source(keys[0], path)} is {entry}, not a table of"
                " presentations and units with named axes"
            )
        return None
    at = [known.index(axis) for axis in ("conditions", "units")]
    rows, units = (_coordinates(contents, entry.axes[i]) for i in at)
    own = "_index" if entry.axes[at[0]] == "obs" and "_index" in rows else None
    if stimulus is None and own is None and not any(each in rows for each in STIMULUS):
        return None
    array = np.asarray(contents.read(keys[0]))
    array = array.transpose([*at, *(i for i in range(array.ndim) if i not in at)])
    return Assembly(array.reshape(array.shape[:2]), rows, units, _source(keys[0], path), own)


def _coordinates(contents: Contents, axis: str) -> dict[str, NDArray[Any]]:
    return {
        key.rpartition("/")[2]: np.asarray(contents.read(key))
        for key, entry in contents.entries.items()
        if entry.axes == (axis,)
    }


def _members(
    path: Path, key: str | Sequence[str] | None, axes: list[str] | None
) -> dict[str, NDArray[Any]]:
    """Return the arrays of a file's subjects: a variable or an element of a cell array is one."""
    contents, keys = _chosen(path, key)
    found: dict[str, NDArray[Any]] = {}
    for each in keys:
        entry, value, source = contents.entries[each], contents.read(each), _source(each, path)
        if entry.kind == CELL:
            for i, cell in enumerate(np.asarray(value).ravel()):
                found[f"{each} {i}"] = _member(cell, None, axes, f"element {i} of {source}")
        else:
            found[each] = _member(value, entry, axes, source)
    return found


def _member(value: Any, entry: Entry | None, axes: list[str] | None, source: str) -> NDArray[Any]:
    """Return the array of one subject."""
    if axes is not None and np.ndim(value) < len(axes):
        axes = [name for name in axes if name != "subjects"]
    array, present = _arranged(value, entry, axes, source)
    if present is None or "subjects" not in present:
        return array
    if len(array) > 1:
        raise ValueError(
            f"{source} holds {len(array)} subjects, but it should be one of several subjects"
        )
    return np.asarray(array[0])


def _chosen(path: Path, key: str | Sequence[str] | None) -> tuple[Contents, list[str]]:
    """Return a file's contents, and the keys of the variables that hold responses."""
    wanted = [key] if isinstance(key, str) else key
    contents = open_contents(path).with_fields(wanted)
    arrays = {k: entry for k, entry in contents.entries.items() if entry.kind in (NUMBERS, CELL)}
    held = f"it holds {list_names([f'{k} {e}' for k, e in arrays.items()], 20) or 'no array'}"
    if wanted is None:
        large = [
            k for k, e in arrays.items() if e.kind == NUMBERS and sum(n > 1 for n in e.shape) > 1
        ]
        # Cell arrays beside arrays usually hold labels.
        large = large or [k for k, e in arrays.items() if e.kind == CELL]
        if len(large) != 1:
            raise ValueError(f"key is missing, and not clear for {path}: {held}")
        return contents, large
    for each in wanted:
        if each not in arrays:
            raise ValueError(
                f"key {each!r} is not an array of numbers in {path}: {held}{suggestion(each, arrays)}"
            )
    return contents, list(wanted)


def _arranged(
    value: Any, entry: Entry | None, axes: list[str] | None, source: str
) -> tuple[NDArray[Any], list[str] | None]:
    """Return an array with its axes in the order of `_KNOWN`, and their names; None if these are not known."""
    array = as_floats(value, source, masked_as_nan=True)
    names = axes
    if names is None and entry is not None and len(entry.axes) == array.ndim:
        known = list(map(_axis, entry.axes))
        found = named_axes(entry.axes, array.shape, known, _KNOWN, source)
        if found is not None:
            names = [name for name in found if name]
            array = array.reshape([n for n, name in zip(array.shape, found, strict=True) if name])
    if names is None:
        return array, None
    if len(names) != array.ndim:
        raise ValueError(
            f"{source} has shape {array.shape}, {array.ndim} axes, but axes names {len(names)}: {', '.join(names)}"
        )
    present = [name for name in _KNOWN if name in names]
    array = array.transpose([names.index(name) for name in present])
    if {"sessions", "repeats"} <= set(present):
        at = present.index("sessions")
        array = array.reshape(*array.shape[:at], -1, *array.shape[at + 2 :])
        present.remove("sessions")
    return array, present


def _checked(axes: Sequence[str]) -> list[str]:
    """Return the names of axes in one form."""
    found = []
    for name in axes:
        own = _axis(name)
        if own is None:
            raise ValueError(
                f"axes: {name!r} is not the name of an axis; known are {', '.join(_KNOWN)}"
                f"{suggestion(str(name), _KNOWN)}"
            )
        if own in found:
            raise ValueError(f"axes = {list(axes)} names {own} twice")
        found.append(own)
    if not {"conditions", "units"} <= set(found):
        raise ValueError(f"axes = {list(axes)} must name conditions and units")
    return found


def _axis(name: str) -> str | None:
    return "sessions" if name.lower() in _SESSIONS else axis_of(name)


def _source(key: str, path: Path) -> str:
    return str(path) if key == UNNAMED else f"{key} of {path}"


def _named(paths: list[Path]) -> dict[str, Path]:
    """Return paths by the names of the files, or by the paths if several files have one name."""
    names = [path.stem for path in paths]
    if len(set(names)) < len(names):
        names = list(map(str, paths))
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"paths names {twice} twice")
    return dict(zip(names, paths, strict=True))
