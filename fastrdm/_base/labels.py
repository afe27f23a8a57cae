"""Labels of conditions, pairs and channels that pandas and xarray objects carry, and whether they agree.

Models and brains with labelled conditions are matched by name (`label_orders`). All other labels guard against
mismatched positions: two labelled objects in one call need the same labels in the same order. A default `RangeIndex`
does not count as labels.
"""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base.axis_names import STIMULUS
from fastrdm._base.conversion import is_plain
from fastrdm._base.pair_labels import CONDITION, ENDS, ConditionNames, conditions_of_pairs

CONDITIONS, PAIRS, CHANNELS = "condition", "pair", "channel"


@dataclass(frozen=True)
class Labels:
    """Labels along an axis: strings, or tuples of strings.

    `what` they label is a condition, pair or channel; `name` is the name in errors of the object that carries them.
    """

    what: str
    values: tuple[Any, ...]
    name: str
    #: The library of this object, pandas or xarray, and the names of the levels of its conditions.
    library: str | None = field(default=None, compare=False)
    levels: tuple[str, ...] = field(default=(), compare=False)

    @classmethod
    def of(cls, facts: Mapping[str, Any] | None) -> "Labels | None":
        """Make labels from their fields as read from JSON."""
        if not facts:
            return None
        known = facts.get("library"), tuple(facts.get("levels", ()))
        return cls(facts["what"], _label(facts["values"]), facts["name"], *known)

    def facts(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        return asdict(self)

    @classmethod
    def of_names(
        cls, conditions: ConditionNames, name: str, library: str | None = None
    ) -> "Labels":
        """Make labels of the names of conditions."""
        level = conditions.naming_level()
        levels = conditions.names if level is None else (level,)
        labels = tuple(map(_label, conditions.labels()))
        return cls(CONDITIONS, labels, name, library, levels)

    def names(self) -> ConditionNames:
        """Return the labels of conditions as their names, which are text."""
        columns = zip(*self.values, strict=True) if len(self.levels) > 1 else [self.values]
        return ConditionNames(self.levels, tuple(np.array(each, str) for each in columns))

    def check(self, other: "Labels | None") -> None:
        """Raise a ValueError that names the first difference, if the other has different labels."""
        if other is None:
            return
        if (both := self.beside(other)) is None:
            return
        (first, second), what = both
        if len(first) != len(second) or first == second:
            return
        i = next(i for i, (a, b) in enumerate(zip(first, second, strict=True)) if a != b)
        where = f"first at {what} {i}, {first[i]!r} and {second[i]!r}"
        if sorted(map(repr, first)) == sorted(map(repr, second)):
            raise ValueError(
                f"{self.name} and {other.name} have the same {what} labels in another order, {where};"
                " bring them into one order"
            )
        raise ValueError(f"{self.name} and {other.name} differ in their {what} labels, {where}")

    def beside(self, other: "Labels") -> tuple[tuple[tuple[Any, ...], tuple[Any, ...]], str] | None:
        """Return both values as labels of the same kind, and this kind; None if there is none.

        Pairs can be derived from conditions, which have a match only if both labels of each pair are known.
        """
        if self.what == other.what:
            return (self.values, other.values), self.what
        pairs = self.values if self.what == PAIRS else other.values
        if not all(isinstance(pair, tuple) and len(pair) == 2 for pair in pairs):
            return None
        return (self._pairs(), other._pairs()), PAIRS

    def _pairs(self) -> tuple[Any, ...]:
        if self.what == PAIRS:
            return self.values
        return tuple(itertools.combinations(self.values, 2))


def labels_of(values: Any, axis: int, name: str, what: str) -> Labels | None:
    """Return the labels of an argument along an axis, None without labels.

    A DataFrame, Series or DataArray has labels. A list or dict has its members' labels, which must agree; the axis is
    then negative, and counted from the last axis of each member.
    """
    if type(values) is np.ndarray:
        return None
    if isinstance(values, (list, tuple, Mapping)):
        if axis >= 0:
            return None
        if isinstance(values, Mapping):
            members: Iterable[tuple[Any, Any]] = values.items()
        else:
            members = () if is_plain(values) else enumerate(values)
        return common_labels(
            labels_of(member, axis, f"{name}[{key!r}]", what) for key, member in members
        )
    if what == CONDITIONS:
        found = condition_names(values, axis)
        library = "xarray" if hasattr(values, "dims") else "pandas"
        return None if found is None else Labels.of_names(found, name, library)
    index = index_of(values, axis)
    return None if index is None else Labels(what, tuple(map(_label, listed(index))), name)


def common_labels(several: Iterable[Labels | None]) -> Labels | None:
    """Return the first of several labels; all others must agree with it."""
    first = None
    for labels in several:
        if first is None:
            first = labels
        else:
            first.check(labels)
    return first


def rdm_labels(rdms: Any, name: str, *, square: bool) -> Labels | None:
    """Return the condition labels of square RDMs, or the pair labels of condensed ones; all must agree.

    Labels of condensed RDMs are also those of conditions, if each pair is labelled by two.
    """
    if not square:
        return condensed_labels(rdms, name)[0]
    if isinstance(rdms, (list, tuple, Mapping)):
        members = rdms.items() if isinstance(rdms, Mapping) else enumerate(rdms)
        return common_labels(
            rdm_labels(member, f"{name}[{key!r}]", square=True)
            for key, member in members
            if not (isinstance(member, (list, tuple)) and is_plain(member))
        )
    rows = labels_of(rdms, -2, f"the rows of {name}", CONDITIONS)
    columns = labels_of(rdms, -1, f"the columns of {name}", CONDITIONS)
    if rows is not None:
        rows.check(columns)
    labels = rows or columns
    return None if labels is None else Labels(CONDITIONS, labels.values, name)


def condensed_labels(rdms: Any, name: str) -> tuple[Labels | None, NDArray[np.intp] | None]:
    """Return the labels of condensed RDMs, and where the pairs of their conditions are; None if they are in order."""
    is_one = not isinstance(rdms, (list, tuple, Mapping)) and type(rdms) is not np.ndarray
    found = conditions_of_pairs(rdms) if is_one else None
    if found is None:
        return labels_of(rdms, -1, name, PAIRS), None
    conditions, places = found
    return Labels.of_names(conditions, name), places


def condition_names(values: Any, axis: int = 0) -> ConditionNames | None:
    """Return the labels of conditions along an axis of a pandas or xarray object; None without labels.

    An axis of an xarray object that has no coordinate of its own name, as those of Brain-Score's files, has the first
    of its coordinates that is known to name stimuli.
    """
    index = index_of(values, axis)
    if (
        hasattr(values, "dims")
        and hasattr(values, "indexes")
        and -values.ndim <= axis < values.ndim
    ):
        dim = values.dims[axis]
        if index is None:
            along = (name for name in STIMULUS if name in values.coords)
            name = next((each for each in along if values.coords[each].dims == (dim,)), "")
            return _single(name, values.coords[name].values) if name else None
        found = values.indexes.get(dim)
        if getattr(found, "nlevels", 1) == 1:
            return _single(stem_of(str(dim)), index.values)
        index = found
    if index is None:
        return None
    n_levels = getattr(index, "nlevels", 1)
    if n_levels == 1:
        return _single(str(getattr(index, "name", None) or CONDITION), index)
    names = [str(name or f"{CONDITION}{i}") for i, name in enumerate(index.names)]
    return ConditionNames(
        tuple(names), tuple(np.asarray(index.get_level_values(i)) for i in range(n_levels))
    )


def _single(name: str, level: Any) -> ConditionNames:
    return ConditionNames((name,), (np.asarray(level),))


def stem_of(dim: str) -> str:
    """Return the name of the conditions of the rows of a square RDM, without its end."""
    return dim.removesuffix(ENDS[0])


def index_of(values: Any, axis: int) -> Any:
    """Return the labels along an axis in the type of their library."""
    if hasattr(values, "to_numpy") and hasattr(values, "index"):
        axes = [values.index, values.columns] if hasattr(values, "columns") else [values.index]
        if not -len(axes) <= axis < len(axes):
            return None
        index = axes[axis]
        default = type(index).__name__ == "RangeIndex" and index.start == 0 and index.step == 1
        return None if default else index
    if hasattr(values, "dims") and hasattr(values, "coords"):
        dims = tuple(values.dims)
        known = -len(dims) <= axis < len(dims) and dims[axis] in values.coords
        return values.coords[dims[axis]] if known else None
    return None


def listed(index: Any) -> list[Any]:
    """Return the labels of an index or coordinate as a list; dates are text."""
    array = np.asarray(index)
    if array.dtype.kind == "M":
        array = array.astype("datetime64[ns]").astype(str)
    return list(array.tolist())


def _label(label: Any) -> Any:
    """Convert a label to text: 1, 1.0 and "1" are the same."""
    if isinstance(label, (tuple, list)):
        return tuple(map(_label, label))
    return str(int(label) if isinstance(label, float) and label.is_integer() else label)
