"""RDMs in the files of other programs → condensed RDMs of subjects, with names and labels of conditions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import (
    ConditionNames,
    Contents,
    counted,
    list_names,
    n_conditions,
    open_contents,
    require,
    suggestion,
    with_pairs,
)
from fastrdm.studies.label_sets import label_sets, texts_of
from fastrdm.studies.rdm_choice import choose_keys, is_pattern, select_names, source_of
from fastrdm.studies.rdm_formats import Loaded, Variables, variables_of
from fastrdm.studies.rdm_stacks import RdmStack, arranged, stack_of, without_single_axes
from fastrdm.studies.rdm_values import LEADING, check_axes, leading_axes, reordered
from fastrdm.studies.time_values import times_of


@dataclass(frozen=True, eq=False)
class StoredRdms:
    """RDMs that were read from a file.

    Attributes
    ----------
    rdms : ndarray, shape (subjects, pairs) or (subjects, times, pairs)
        Condensed RDMs, with the mean over the sessions of a subject.
    names : tuple of str or None
        A name for each subject, or each RDM, if the file has any.
    conditions : tuple of str or None
        Labels of the conditions, in the order of the RDMs' rows; None if the file has none or several sets of them.
    labels : dict of str to tuple of str
        All sets of labels by name: rsatoolbox's pattern descriptors, Meadows' stimuli, coordinates of netCDF, or
        variables of text with another text for each condition.
    source : str
        The key and the file.
    times : tuple of float or None
        Times of the time points, if there are several and the file has them.
    """

    rdms: NDArray[np.floating[Any]]
    names: tuple[str, ...] | None = None
    conditions: tuple[str, ...] | None = None
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    source: str = ""
    times: tuple[float, ...] | None = None

    @property
    def n_conditions(self) -> int:
        """Number of conditions."""
        return n_conditions(self.rdms.shape[-1])

    def to_xarray(self) -> Any:
        """Return the RDMs with the names of subjects, times and conditions, by which models are matched with them.

        Returns
        -------
        xarray.DataArray, dims (subject, pair) or (subject, time, pair)
            Pairs have the coordinates ``condition_1`` and ``condition_2``, as from `calc_rdm`.

        Raises
        ------
        ValueError
            If the file has no labels of the conditions, or several sets of them: name one with ``labels`` in
            `read_rdms`.
        MissingExtraError
            If xarray is not installed.
        """
        if self.conditions is None:
            known = f"several sets of labels ({', '.join(self.labels)})" if self.labels else "none"
            raise ValueError(
                f"conditions of {self.source or 'the RDMs'} have no labels to match models by: {known}; read_rdms takes"
                " the set to use as labels"
            )
        xarray = require("xarray", "labels", "to label RDMs")
        dims = ("subject", "time")[: self.rdms.ndim - 1]
        coords = {
            dim: list(each)
            for dim, each, n in zip(
                ("subject", "time"), (self.names, self.times), self.rdms.shape[:-1], strict=False
            )
            if each is not None and len(each) == n
        }
        like = xarray.DataArray(np.broadcast_to(0.0, self.rdms.shape[:-1]), coords, dims)
        names = ConditionNames(("condition",), (np.array(self.conditions),))
        return with_pairs(self.rdms, names, "xarray", like)

    def __repr__(self) -> str:
        return f"StoredRdms({self.source}: shape {self.rdms.shape}, {self.n_conditions} conditions)"


def read_rdms(
    path: str | Path,
    key: str | Sequence[str] | None = None,
    *,
    axes: Sequence[str] = (),
    names: str | Sequence[str] | None = None,
    labels: str | None = None,
    times: str | None = None,
    n_conditions: int | None = None,
    nan_policy: str = "raise",
) -> StoredRdms:
    """Read RDMs from a file of MATLAB, rsatoolbox, Meadows, Brain-Score, HDF5 or NumPy.

    The format is recognised by the file's content. Arrays hold square RDMs, (..., n, n), or condensed ones,
    (..., pairs). In MATLAB files, the elements of struct and cell arrays of any shape are RDMs. Only the file itself is
    read, and nothing in it is run.

    Parameters
    ----------
    path : path-like
        `.mat` of any version, rsatoolbox's `.hdf5` and `.pkl`, Meadows' `.mat` and `.json`, netCDF, HDF5, `.npy`,
        `.npz`.
    key : str or sequence of str, optional
        The variable that holds the RDMs; by default the only one. ``group/name`` in HDF5, ``struct.field`` in MATLAB
        files. Of several keys, or a pattern with ``*``, each is a subject.
    axes : sequence of str
        Names of the axes, in their order: ``"subjects"``, ``"sessions"``, ``"times"``. They are needed for struct and
        cell arrays with several axes longer than 1; axes of length 1 may be left out. If the axes of an array do not
        end with the conditions, all axes are named, with ``"conditions"`` twice or ``"pairs"`` once. By default
        arrays are (subjects, ...) or (subjects, times, ...). With several keys, the first axis is that of the keys.
    names : str or sequence of str, optional
        Names of the RDMs to read, or patterns with ``*``; by default all. In rsatoolbox's files, these may be values
        of any RDM descriptor, such as a region.
    labels : str, optional
        The set of labels, or the variable, that labels the conditions; by default the only one.
    times : str, optional
        The variable with the times of several time points; by default that whose name, or whose axis, begins with
        "time", if it has an increasing number for each.
    n_conditions : int, optional
        Number of conditions, if it is known. It decides whether an array such as (6, 6) is one square RDM of 6
        conditions or 6 condensed ones of 4.
    nan_policy : {"raise", "omit", "propagate"}
        ``"raise"``: NaN is an error. Otherwise NaN is kept; the mean over sessions is NaN where a session is NaN.

    Returns
    -------
    StoredRdms
        Condensed RDMs, with names and labels if the file has them.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If it cannot be read; no key or an unknown one is given (the message lists the keys of the file); a variable
        holds no RDMs or may be read in two ways; the axes do not fit; RDMs differ in size, are not symmetric or not
        finite; labels differ between keys; or `times` does not name a number for each time point.

    Examples
    --------
    >>> subjects = read_rdms("92_brainRDMs.mat", axes=["subjects", "sessions"])  # doctest: +SKIP
    >>> subjects.rdms.shape  # doctest: +SKIP
    (4, 4186)
    """
    found = read_stored(
        path, key, axes, names, labels, times, n_conditions=n_conditions, nan_policy=nan_policy
    )
    if n_conditions not in (None, found.n_conditions):
        raise ValueError(
            f"{found.source} has {found.n_conditions} conditions, but n_conditions = {n_conditions}"
        )
    return found


def read_stored(
    path: str | Path,
    key: str | Sequence[str] | None,
    axes: Sequence[str],
    names: str | Sequence[str] | None,
    labels: str | None,
    times: str | None = None,
    *,
    n_conditions: int | None = None,
    nan_policy: str = "raise",
    where: str = "",
) -> StoredRdms:
    """As `read_rdms`; `where` precedes the names of arguments in errors."""
    path = Path(path)
    check_axes(axes, where)
    named = [*([key] if isinstance(key, str) else key or ()), *([labels] if labels else ())]
    contents = open_contents(path).with_fields(named if key else None)
    variables = variables_of(contents)
    keys = choose_keys(variables, key, path, f"{where}key")
    listed = (key is not None and not isinstance(key, str)) or is_pattern(key, variables)
    several = len(keys) > 1 or (listed and bool(axes))
    source = source_of(keys, path)
    # With several keys, the first axis is that of the keys.
    inner = list(axes)
    if several and leading_axes(axes):
        inner.remove(leading_axes(axes)[0])
    read = [
        _read(variables, each, path, inner, n_conditions, nan_policy, labels, contents, where)
        for each in keys
    ]
    stack, sets = _joined(read, keys, path, not axes) if several else read[0][:2]
    if several and not axes and len(stack.lead) > 1 and max(stack.lead[1:]) > 1:
        raise ValueError(
            f"each key of {source} holds RDMs of shape {stack.lead[1:]}; name the axes, starting with that of the keys,"
            f' such as {where}axes = ["subjects", "sessions"]'
        )
    if names is not None:
        descriptors = {} if several else read[0][2].descriptors
        stack = select_names(stack, names, source, f"{where}names", descriptors)
    if not several:
        _check_subjects(stack, read[0][2], axes, source, where)
    rdms, subjects = arranged(stack, axes, source)
    only = next(iter(sets.values())) if len(set(sets.values())) == 1 else None
    if rdms.ndim == 3 and rdms.shape[1] > 1:
        found = times_of(contents, times, rdms.shape[1], source, f"{where}times")
    elif times is not None:
        raise ValueError(
            f"{where}times = {times!r}, but {source} does not have several time points"
        )
    else:
        found = None
    return StoredRdms(np.ascontiguousarray(rdms), subjects, only, sets, source, found)


_Read = tuple[RdmStack, Mapping[str, tuple[str, ...]], Loaded]


def _read(
    variables: Variables,
    key: str,
    path: Path,
    axes: Sequence[str],
    expected: int | None,
    nan_policy: str,
    labels: str | None,
    contents: Contents,
    where: str,
) -> _Read:
    loaded = variables.by_key[key].load()
    name = source_of([key], path)
    value = loaded.value
    if loaded.order is not None and not set(axes) - set(LEADING):
        value = value.transpose(loaded.order)
    stack = stack_of(
        value, name, axes=axes, expected=expected, form=loaded.form, nan_policy=nan_policy
    )
    if loaded.axes is not None and len(loaded.axes) == len(stack.lead):
        stack = RdmStack(stack.rdms, loaded.axes, stack.names)
    if loaded.names is not None and len(loaded.names) == int(np.prod(stack.lead)):
        names = np.array(loaded.names, object).reshape(stack.lead)
        stack = RdmStack(stack.rdms, stack.axes, names)
    n = n_conditions(stack.rdms.shape[-1])
    sets = dict(loaded.labels(n))
    if labels is not None:
        sets = {labels: _label_set(sets, labels, contents, n, name, f"{where}labels")}
    return stack, sets, loaded


def _label_set(
    sets: Mapping[str, tuple[str, ...]],
    chosen: str,
    contents: Contents,
    n: int,
    name: str,
    argument: str,
) -> tuple[str, ...]:
    if chosen in sets:
        return sets[chosen]
    if chosen not in contents.entries:
        raise ValueError(
            f"{argument} = {chosen!r} is neither a set of labels of {name} nor a variable of the file; it has"
            f" {', '.join(sets) or 'no labels'}{suggestion(chosen, [*sets, *contents.entries])}"
        )
    value = contents.read(chosen)
    texts = texts_of(value)
    if texts is None:
        raise ValueError(f"{argument} = {chosen!r} of {contents.path} is not a list of text")
    found = label_sets({chosen: value}, n)
    if not found:
        raise ValueError(
            f"{argument} = {chosen!r} of {contents.path} has {len(texts)} labels, {len(set(texts))} different ones, but"
            f" {name} has {n} conditions"
        )
    return found[chosen]


def _joined(
    read: Sequence[_Read], keys: Sequence[str], path: Path, squeeze: bool
) -> tuple[RdmStack, dict[str, tuple[str, ...]]]:
    """Stack the RDMs of several keys; conditions in another order are brought into that of the first by label."""
    _, sets, _ = read[0]
    arrays: list[NDArray[Any]] = []
    names: list[str] = []
    for key, (stack, own, loaded) in zip(keys, read, strict=True):
        rdms = without_single_axes(stack).rdms if squeeze else stack.rdms
        if arrays and rdms.shape != arrays[0].shape:
            raise ValueError(
                f"the RDMs of {path} differ in size: {keys[0]} has shape {arrays[0].shape} with"
                f" {arrays[0].shape[-1]} pairs, and {key} {rdms.shape} with {rdms.shape[-1]}"
            )
        for name in sets.keys() & own.keys():
            if own[name] != sets[name]:
                rdms = reordered(
                    rdms, own[name], sets[name], f"{name} of {key} and {keys[0]} of {path}"
                )
                break
        arrays.append(rdms)
        names.append(loaded.names[0] if loaded.names and len(loaded.names) == 1 else key)
    rdms = np.stack(arrays)
    tiled = np.empty(rdms.shape[:-1], object)
    for i, name in enumerate(names):
        tiled[i] = name
    common = {
        name: labels for name, labels in sets.items() if all(name in own for _, own, _ in read)
    }
    return RdmStack(rdms, None, tiled), common


# Descriptors of RDMs that are not averaged.
_REGIONS = ("roi", "region", "model", "layer")


def _check_subjects(
    stack: RdmStack, loaded: Loaded, axes: Sequence[str], source: str, where: str
) -> None:
    """Raise a ValueError if the file says that its RDMs are not one of each subject."""
    n = int(np.prod(stack.lead))
    if n > 1 and loaded.unclear and not axes:
        raise ValueError(
            f"{source} holds {loaded.unclear}, shape {stack.lead}, which may not be subjects; name the axes, such as"
            f' {where}axes = ["subjects"], or choose RDMs with {where}names'
        )
    if not loaded.subjects or stack.names is None:
        return
    names = {str(name) for name in stack.names.ravel()}
    if len(names) == n or list(axes) == ["subjects"]:
        return
    held = f"{source} holds {n} RDMs of {counted(len(names), 'subject')}"
    # RDMs that were chosen by their names have fewer than the descriptors.
    differing = (
        name
        for name in _REGIONS
        if len(values := loaded.descriptors.get(name, ())) == n and len(set(values)) > 1
    )
    if (regions := next(differing, None)) is not None:
        found = list_names(dict.fromkeys(loaded.descriptors[regions]), 10)
        raise ValueError(
            f"{held} that differ in {regions} ({found}); choose those of one with {where}names"
        )
    if not axes:
        raise ValueError(
            f'{held}; {where}axes = ["subjects", "sessions"] averages those of a subject, ["subjects", "times"] keeps'
            " them"
        )
