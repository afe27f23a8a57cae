"""Tables of presentations with coordinates (Brain-Score's assemblies, AnnData) → responses to each stimulus.

A row is one presentation of a stimulus, or its mean. Coordinates of the rows name the stimulus and the repeat, those of
the units name the unit and the subject.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import STIMULUS, Labels, as_floats, axis_of, check_finite, list_names, suggestion
from fastrdm.responses.repeats import Floats
from fastrdm.responses.subjects import MeasuredResponses, read_only

#: Coordinates that name the repeat of each row's stimulus, the subject of each unit, and the unit.
REPEAT = ("repetition", "repeat", "repetition_id")
SUBJECT = ("subject", "subject_id", "animal", "monkey", "participant", "participant_id")
UNIT = ("neuroid_id", "unit_id", "voxel_id", "neuroid", "unit", "channel", "_index", "index")
# What libraries have where a value is missing, as text.
_MISSING = ("None", "nan", "NaT", "<NA>")

Coordinates = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Assembly:
    """A table (rows, units) with coordinates of both axes, each with a value for each row or unit.

    `own` is the name of the stimuli where no coordinate has one of the known names: the index of the rows.
    """

    values: Any
    rows: Coordinates
    units: Coordinates
    name: str
    own: str | None = None

    def stimuli(self, given: str | None = None) -> NDArray[Any]:
        """Return the name of each row's stimulus as text; ValueError if no coordinate has it, or not of all rows."""
        found = _first(self.rows, STIMULUS, self.own) if given is None else given
        if found is None or found not in self.rows:
            what = "has no coordinate of its stimuli" if given is None else f"has no {given!r}"
            known = list_names(self.rows, 12) or "none"
            raise ValueError(
                f"{self.name} {what}; the coordinates of its {_length(self.values, 0)} rows are: {known}"
                f"{suggestion(str(given), self.rows) if given else ''}"
            )
        return _names(self.rows[found], f"{self.name}, coordinate {found!r},", "row")


def assembly_of(values: Any, name: str) -> Assembly | None:
    """Return an object as an assembly: an AnnData object, or an xarray object whose rows have a stimulus coordinate.

    None for other objects. ValueError for an assembly with other axes than rows and units.
    """
    if isinstance(values, Assembly):
        return values
    if all(hasattr(values, each) for each in ("X", "obs", "var", "obs_names", "var_names")):
        return _of_anndata(values, name)
    if not all(
        hasattr(values, each) for each in ("dims", "coords", "transpose", "indexes", "ndim")
    ):
        return None
    dims = [str(dim) for dim in values.dims]
    axes = [axis_of(dim) for dim in dims]
    if axes.count("conditions") != 1:
        return None
    rows_dim = values.dims[axes.index("conditions")]
    rows = _along(values, rows_dim)
    named = [each for each in STIMULUS if each in rows and each != rows_dim]
    if not named or {"subjects", "repeats"} & set(axes):
        return None
    long = [d for d, axis in zip(values.dims, axes, strict=True) if axis is None]
    if "units" not in axes or any(values.sizes[dim] > 1 for dim in long):
        listed = ", ".join(f"{dim} {values.sizes[dim]}" for dim in values.dims)
        raise ValueError(
            f"{name} has the axes ({listed}); expected rows and units: choose one of the others by"
            " .isel(…), or average over them"
        )
    units_dim = values.dims[axes.index("units")]
    table = values.isel(dict.fromkeys(long, 0)).transpose(rows_dim, units_dim)
    return Assembly(table.values, rows, _along(values, units_dim), name)


def responses_of(
    assembly: Assembly,
    *,
    stimulus: str | None = None,
    pooled: bool = False,
    order: Sequence[str] | None = None,
) -> MeasuredResponses:
    """Return the responses of an assembly to each stimulus.

    Several rows of a stimulus are its repeats, in the order of a coordinate of repeats if it tells them apart, else
    in their order. Each value of a coordinate of subjects of the units is a subject, unless they are `pooled`.
    Conditions are labelled, in the order of their first rows, or in the `order` that is given.
    """
    name = assembly.name
    array = as_floats(assembly.values, name, masked_as_nan=True)
    check_finite(array, name, ("row", "unit"), allow_nan=True)
    stimuli = assembly.stimuli(stimulus)
    repeats = _first(assembly.rows, REPEAT, None)
    known = tuple(dict.fromkeys(stimuli.tolist())) if order is None else tuple(order)
    place = {each: i for i, each in enumerate(known)}
    condition = np.array([place[each] for each in stimuli.tolist()], np.intp)
    repeat = _repeats(condition, None if repeats is None else assembly.rows[repeats])
    whole = np.full((int(repeat.max()) + 1, len(known), array.shape[1]), np.nan, array.dtype)
    whole[repeat, condition] = array
    subject = None if pooled else _first(assembly.units, SUBJECT, None)
    unit = _first(assembly.units, UNIT, None)
    units = None if unit is None else _texts(assembly.units[unit])
    groups: dict[str | None, NDArray[Any]] = {None: np.arange(array.shape[1])}
    if subject is not None:
        of_unit = _names(assembly.units[subject], f"{name}, coordinate {subject!r},", "unit")
        groups = {each: np.flatnonzero(of_unit == each) for each in dict.fromkeys(of_unit.tolist())}
    arrays = [read_only(_without_empty(whole[:, :, which])) for which in groups.values()]
    return MeasuredResponses(
        tuple(arrays),
        tuple(map(str, groups)) if subject is not None else None,
        Labels("condition", known, name),
        tuple(
            None if units is None else Labels("unit", tuple(units[which].tolist()), name)
            for which in groups.values()
        ),
        name,
    )


def of_assemblies(
    responses: Any, name: str, stimulus: str | None = None
) -> MeasuredResponses | None:
    """Return responses that are an assembly, or a list or dict with an assembly of each subject; None for others.

    The conditions of several are brought into the order of the first; ValueError if their stimuli differ.
    """
    if (whole := assembly_of(responses, name)) is not None:
        return responses_of(whole, stimulus=stimulus)
    if not isinstance(responses, (list, tuple, Mapping)) or not responses:
        return None
    pairs: Iterable[tuple[Any, Any]] = (
        responses.items() if isinstance(responses, Mapping) else enumerate(responses)
    )
    members = {key: assembly_of(each, f"{name}[{key!r}]") for key, each in pairs}
    if not all(members.values()):
        return None
    found: list[MeasuredResponses] = []
    order: tuple[str, ...] | None = None
    for member in members.values():
        assert member is not None
        if order is not None:
            check_same_stimuli(
                order, member.stimuli(stimulus), next(iter(members.values())), member
            )
        one = responses_of(member, stimulus=stimulus, pooled=True, order=order)
        order = order or (one.conditions.values if one.conditions else None)
        found.append(one)
    return replace(
        found[0],
        arrays=tuple(each.arrays[0] for each in found),
        names=tuple(map(str, members)) if isinstance(responses, Mapping) else None,
        units=tuple(each.units[0] for each in found),
        name=name,
    )


def check_same_stimuli(first: Iterable[str], second: Iterable[str], one: Any, other: Any) -> None:
    """Raise a ValueError that names the stimuli that only one of two assemblies has."""
    wanted, found = set(first), set(second)
    if wanted == found:
        return
    parts = [
        f"{holder.name} alone has {list_names(sorted(only), 4)}"
        for holder, only in ((one, wanted - found), (other, found - wanted))
        if only
    ]
    raise ValueError(f"{one.name} and {other.name} differ in their stimuli: {'; '.join(parts)}")


def _of_anndata(values: Any, name: str) -> Assembly:
    table = values.X
    if table is None:
        raise ValueError(f"{name} is an AnnData object without X; put the responses into X")
    if hasattr(table, "toarray"):
        table = table.toarray()
    rows = {str(key): np.asarray(values.obs[key]) for key in values.obs.columns}
    units = {str(key): np.asarray(values.var[key]) for key in values.var.columns}
    rows.setdefault("_index", np.asarray(values.obs_names))
    units.setdefault("_index", np.asarray(values.var_names))
    return Assembly(np.asarray(table), rows, units, name, "_index")


def _along(values: Any, dim: Any) -> Coordinates:
    """Return the coordinates along a dimension, also those that are levels of its index."""
    names = [name for name in values.coords if values.coords[name].dims == (dim,)]
    levels = getattr(values.indexes.get(dim), "names", None) or ()
    found = {}
    for name in dict.fromkeys([*names, *filter(None, levels)]):
        array = np.asarray(values[name].values)
        if not (array.dtype == object and array.size and isinstance(array.flat[0], tuple)):
            found[str(name)] = array
    return found


def _first(coordinates: Coordinates, names: Sequence[str], default: str | None) -> str | None:
    return next((name for name in names if name in coordinates), default)


def _texts(values: NDArray[Any]) -> NDArray[Any]:
    def text(value: Any) -> str:
        if isinstance(value, bytes):
            return value.decode("utf-8", "replace")
        return str(int(value) if isinstance(value, float) and value.is_integer() else value)

    return np.array([text(value) for value in np.asarray(values).tolist()], str)


def _names(values: NDArray[Any], source: str, what: str) -> NDArray[Any]:
    """Return names as text; ValueError if one is missing: empty, None or NaN."""
    missing = [
        i
        for i, value in enumerate(values.tolist())
        if (not value if isinstance(value, (str, bytes)) else str(value) in _MISSING)
    ]
    if missing:
        raise ValueError(
            f"{source} has no value for {len(missing)} of {len(values)} {what}s, first {what} {missing[0]}; leave these"
            " out"
        )
    return _texts(values)


def _repeats(condition: NDArray[np.intp], labels: NDArray[Any] | None) -> NDArray[np.intp]:
    """Return which repeat of its stimulus each row is."""
    if labels is not None and len(np.unique(condition)) < len(condition):
        known = np.unique(labels, return_inverse=True)[1].reshape(-1)
        if len(np.unique(np.stack([condition, known]), axis=1)[0]) == len(condition):
            return np.asarray(known, np.intp)
    repeat = np.zeros(len(condition), np.intp)
    count = np.zeros(int(condition.max()) + 1, np.intp)
    for row, each in enumerate(condition):
        repeat[row] = count[each]
        count[each] += 1
    return repeat


def _without_empty(array: Floats) -> Floats:
    """Return an array (repeats, conditions, units) without repeats that no condition has."""
    kept = ~np.isnan(array).all(axis=(1, 2))
    return array if kept.all() or not kept.any() else array[kept]


def _length(values: Any, axis: int) -> int:
    return int(np.shape(values)[axis])
