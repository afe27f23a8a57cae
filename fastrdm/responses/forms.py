"""Arrays and tables of responses, in the forms that callers pass → `MeasuredResponses`."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import (
    Labels,
    as_floats,
    axis_of,
    check_finite,
    depth,
    find_order,
    labels_of,
    names_of,
    warn_reordered,
)
from fastrdm.responses.assemblies import of_assemblies
from fastrdm.responses.axes import AXES, named_axes
from fastrdm.responses.repeats import Floats
from fastrdm.responses.subjects import MeasuredResponses, read_only

_EXPECTED = (
    "expected (subjects, conditions, units) or (subjects, repeats, conditions, units), (conditions, units) for one"
    " subject, or a list or dict of subjects"
)


def of_arrays(responses: Any, name: str) -> MeasuredResponses:
    """Return arrays in any form as responses; see `measured`."""
    if (assembled := of_assemblies(responses, name)) is not None:
        return assembled
    members, names = _members(responses, name)
    arrays: list[Floats] = []
    orders: list[NDArray[np.intp] | None] = []
    moved: list[Labels] = []
    common: Labels | None = None
    units: list[Labels | None] = []
    for member, label in members:
        table = _in_order(member, label, AXES[1:])
        array = _of_subject(table, label)
        own = labels_of(table, -2, label, "condition")
        order = find_order(own, common)
        common = common or own
        orders.append(None if order is None else order.places)
        if order is not None and own is not None:
            array = array[:, order.places]
            moved.append(own)
        if arrays and array.shape[1] != arrays[0].shape[1]:
            raise ValueError(
                f"{label} has {array.shape[1]} conditions and {members[0][1]} {arrays[0].shape[1]}; all subjects need"
                " the same conditions"
            )
        arrays.append(array)
        units.append(labels_of(table, -1, label, "unit"))
    if moved and common is not None:
        warn_reordered(moved, common)
    return MeasuredResponses(
        tuple(map(read_only, arrays)),
        names,
        common and replace(common, name=name),
        tuple(units),
        name,
        tuple(orders),
    )


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
    table = _in_order(responses, name, AXES)
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
    """Return an xarray object with its axes in this order if their names are known, other values as they are."""
    if not (hasattr(values, "dims") and hasattr(values, "transpose")):
        return values
    dims = list(map(str, values.dims))
    known = named_axes(dims, values.shape, [axis_of(dim) for dim in dims], axes, name)
    if known is None:
        return values
    values = values.squeeze([dim for dim, axis in zip(values.dims, known, strict=True) if not axis])
    order = sorted(
        zip(filter(None, known), values.dims, strict=True), key=lambda each: axes.index(each[0])
    )
    table = values.transpose(*(dim for _, dim in order))
    # Repeats of one subject must not be taken for subjects.
    if axes == AXES and "subjects" not in known and "repeats" in known:
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


def _shape(values: Any) -> str:
    if hasattr(values, "shape"):
        return f"shape {tuple(values.shape)}"
    n_axes = depth(values)
    return f"{n_axes} axes" if n_axes else f"0 axes, of type {type(values).__name__}"
