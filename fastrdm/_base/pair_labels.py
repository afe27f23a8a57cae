"""Pairs that are labelled by two conditions each, as `calc_rdm` labels them, and the conditions that they are of.

A pandas index of pairs has the levels ``NAME_1`` and ``NAME_2``, or any two levels; an xarray object has two
coordinates ``NAME_1`` and ``NAME_2`` of its last axis, or such an index. Conditions with several names, such as levels
of an index, have such a couple for each.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base.axis_names import STIMULUS

#: Name of the conditions where their axis has none.
CONDITION = "condition"
ENDS = ("_1", "_2")


@dataclass(frozen=True)
class ConditionNames:
    """Labels of conditions: `names` of their levels, and an array (conditions,) for each."""

    names: tuple[str, ...]
    levels: tuple[NDArray[Any], ...]

    def labels(self) -> list[Any]:
        """Return a label for each condition: of several levels the one that names stimuli, if each has its own.

        Otherwise, labels are tuples of all levels.
        """
        level = self.naming_level()
        if level is not None:
            return _listed(self.levels[self.names.index(level)])
        return list(zip(*map(_listed, self.levels), strict=True))

    def naming_level(self) -> str | None:
        """Return the level whose labels are those of the conditions; None if it takes all."""
        if len(self.names) == 1:
            return self.names[0]
        stems = [name[:-2] if name.endswith(ENDS) else name for name in self.names]
        for name in STIMULUS:
            if name in stems:
                level = _listed(self.levels[stems.index(name)])
                return self.names[stems.index(name)] if len(set(level)) == len(level) else None
        return None

    def ends(self) -> tuple[list[str], list[NDArray[Any]]]:
        """Return names and labels of the first and the second condition of each pair, in the order of pairs."""
        places = np.triu_indices(len(self.levels[0]), 1)
        names = [name + end for end in ENDS for name in self.names]
        return names, [level[place] for place in places for level in self.levels]


def _listed(level: NDArray[Any]) -> list[Any]:
    return list(np.asarray(as_texts(level)).tolist())


def n_conditions(n_pairs: int, name: str = "rdms") -> int:
    """Return the number of conditions of a condensed RDM: the n with n (n − 1) / 2 = `n_pairs`."""
    n = (1 + int(np.sqrt(1 + 8 * n_pairs))) // 2
    if n < 2 or n * (n - 1) // 2 != n_pairs:
        raise ValueError(
            f"{name}: {n_pairs} pairs are not a condensed RDM; its length is n (n - 1) / 2 for n conditions"
        )
    return n


def as_texts(values: NDArray[Any]) -> NDArray[Any]:
    """Return dates as text, others as they are."""
    return values.astype("datetime64[ns]").astype(str) if values.dtype.kind == "M" else values


def conditions_of_pairs(values: Any) -> tuple[ConditionNames, NDArray[np.intp] | None] | None:
    """Return the conditions of the pairs that label the last axis of a pandas or xarray object, and places of pairs.

    These are where the pairs of a condensed RDM of the conditions are; None if they are in its order. Otherwise the
    conditions are in the order in which they occur. None if pairs are not labelled by two conditions, or are not all
    pairs of some conditions.
    """
    found = _ends_of(values)
    if found is None:
        return None
    names, first, second = found
    n_pairs = len(first[0])
    try:
        n = n_conditions(n_pairs)
    except ValueError:
        return None
    levels = _levels_in_order(n, first, second)
    if levels is not None:
        return ConditionNames(names, levels), None
    both = [_alternating(*ends) for ends in zip(first, second, strict=True)]
    texts = [map(str, as_texts(level).tolist()) for level in both]
    labels = list(zip(*texts, strict=True))
    at: dict[Any, int] = {}
    for i, label in enumerate(labels):
        at.setdefault(label, i)
    numbers = {label: i for i, label in enumerate(at)}
    pairs = np.sort(np.reshape([numbers[label] for label in labels], (n_pairs, 2)), axis=1)
    places = np.lexsort((pairs[:, 1], pairs[:, 0]))
    if not np.array_equal(pairs[places].T, np.triu_indices(n, 1)):
        return None
    conditions = ConditionNames(names, tuple(level[list(at.values())] for level in both))
    return conditions, None if np.array_equal(places, np.arange(n_pairs)) else places


def _alternating(first: NDArray[Any], second: NDArray[Any]) -> NDArray[Any]:
    """Return the first and second labels of each pair, one after the other."""
    if first.dtype.kind != second.dtype.kind:
        first, second = first.astype(object), second.astype(object)
    return np.stack([first, second], axis=1).ravel()


def _levels_in_order(
    n: int, first: list[NDArray[Any]], second: list[NDArray[Any]]
) -> tuple[NDArray[Any], ...] | None:
    """Return the labels of n conditions if their pairs are in the order of condensed RDMs, otherwise None."""
    rows, columns = np.triu_indices(n, 1)
    levels = []
    for one, other in zip(first, second, strict=True):
        level = np.empty(n, np.result_type(one, other) if one.dtype == other.dtype else object)
        level[:1], level[1:] = one[:1], other[: n - 1]
        if not (np.array_equal(level[rows], one) and np.array_equal(level[columns], other)):
            return None
        levels.append(level)
    return tuple(levels)


def _ends_of(
    values: Any,
) -> tuple[tuple[str, ...], list[NDArray[Any]], list[NDArray[Any]]] | None:
    """Return the names of levels, and the first and second labels of the pairs along the last axis."""
    if hasattr(values, "to_numpy") and hasattr(values, "index"):
        return _of_index(values.columns if hasattr(values, "columns") else values.index)
    if not (hasattr(values, "dims") and hasattr(values, "coords") and len(values.dims)):
        return None
    dim = values.dims[-1]
    index = getattr(values, "indexes", {}).get(dim)
    if index is not None and getattr(index, "nlevels", 1) > 1:
        return _of_index(index)
    along = [
        str(name)
        for name, each in values.coords.items()
        if getattr(each, "dims", None) == (dim,) and name != dim
    ]
    stems = [name[:-2] for name in along if name.endswith(ENDS[0]) and name[:-2] + ENDS[1] in along]
    if not stems:
        return None
    first, second = (
        [np.asarray(values.coords[stem + end].values) for stem in stems] for end in ENDS
    )
    return tuple(stems), first, second


def _of_index(
    index: Any,
) -> tuple[tuple[str, ...], list[NDArray[Any]], list[NDArray[Any]]] | None:
    n_levels = getattr(index, "nlevels", 1)
    if n_levels < 2 or n_levels % 2:
        return None
    half = n_levels // 2
    names = [str(name) for name in index.names]
    stems = tuple(name[:-2] for name in names[:half])
    is_paired = names == [stem + end for end in ENDS for stem in stems]
    if not is_paired and n_levels > 2:
        return None
    levels = [np.asarray(index.get_level_values(i)) for i in range(n_levels)]
    return stems if is_paired else (CONDITION,), levels[:half], levels[half:]
