"""RDMs whose conditions are in another order than those they meet are matched by name.

The conditions of a stack of RDMs (..., pairs) are brought into the order of a reference: the brain's, or without one,
that of the stack's first labelled member. One warning says so. Labels that are not the same are a ValueError that names
the missing ones, and so are labels that occur twice, unless both sides have the same ones in the same order.
Pairs that are labelled by two conditions are first brought into the order of condensed RDMs.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base.conversion import is_plain
from fastrdm._base.labels import CONDITIONS, PAIRS, Labels, condensed_labels, labels_of, rdm_labels
from fastrdm._base.pair_labels import n_conditions
from fastrdm._base.text import list_names
from fastrdm._base.warning_records import warn_caller


@dataclass(frozen=True)
class LabelOrder:
    """Where the conditions, or pairs, of a reference are among other labels, as indices in the reference's order."""

    what: str
    places: NDArray[np.intp]

    def pairs(self) -> NDArray[np.intp]:
        """Return where the pairs of the reference are in a condensed RDM with the other labels."""
        return pairs_in_order(self.places) if self.what == CONDITIONS else self.places


def pairs_in_order(conditions: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return where pairs are in a condensed RDM, if its conditions are brought into an order of indices."""
    n = len(conditions)
    rows, columns = np.triu_indices(n, 1)
    first, second = conditions[rows], conditions[columns]
    low, high = np.minimum(first, second), np.maximum(first, second)
    return np.asarray(low * (2 * n - low - 1) // 2 + high - low - 1, np.intp)


def find_order(labels: Labels | None, reference: Labels | None) -> LabelOrder | None:
    """Return the order that brings labels into that of a reference; None if it is theirs, or one is not known.

    Raises
    ------
    ValueError
        If the labels are not those of the reference, or occur more than once, so that their places are not known.
    """
    if labels is None or reference is None or (first := labels.beside(reference)) is None:
        return None
    (own, wanted), what = first
    if own == wanted:
        return None
    if what == PAIRS:
        own, wanted = _without_direction(own), _without_direction(wanted)
    _check_same(own, wanted, labels, reference, what)
    place = {label: i for i, label in enumerate(own)}
    places = np.array([place[label] for label in wanted], np.intp)
    in_order = np.array_equal(places, np.arange(len(places)))
    return None if in_order else LabelOrder(what, places)


def _without_direction(pairs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return pairs of two labels in one direction: a dissimilarity has none."""
    if not all(isinstance(pair, tuple) and len(pair) == 2 for pair in pairs):
        return pairs
    return tuple(tuple(sorted(pair, key=str)) for pair in pairs)


def _check_same(
    own: tuple[Any, ...], wanted: tuple[Any, ...], labels: Labels, reference: Labels, what: str
) -> None:
    """Raise a ValueError if labels are not the same, in any order, or occur more than once."""
    for values, one, other in ((own, labels, reference), (wanted, reference, labels)):
        twice = _repeated(values)
        if twice:
            raise ValueError(
                f"{one.name} has the {what} labels {twice} more than once, so its {what}s cannot be matched with those"
                f" of {other.name} by name; give each {what} its own label"
            )
    if set(own) == set(wanted):
        return
    at = next((i for i, (a, b) in enumerate(zip(own, wanted, strict=False)) if a != b), None)
    where = "" if at is None else f", first at {what} {at}, {own[at]!r} and {wanted[at]!r}"
    if len(own) != len(wanted):
        where = f" ({len(own)} and {len(wanted)}){where}"
    lacking = [
        f"only in {one.name}: {list_names([repr(label) for label in found], 5)}"
        for one, found in (
            (labels, [label for label in own if label not in set(wanted)]),
            (reference, [label for label in wanted if label not in set(own)]),
        )
        if found
    ]
    raise ValueError(
        f"{labels.name} and {reference.name} differ in their {what} labels{where}; {'; '.join(lacking)}"
    )


def _repeated(values: Sequence[Any]) -> str:
    if len(set(values)) == len(values):
        return ""
    return list_names([repr(v) for v, count in Counter(values).items() if count > 1], 5)


def in_order_of(
    array: NDArray[Any], rdms: Any, name: str, reference: Labels | None, *, square: bool
) -> tuple[NDArray[Any], Labels | None]:
    """Bring condensed RDMs (..., pairs) of an argument into the order of a reference, by their labels.

    Parameters
    ----------
    array : ndarray, shape (..., pairs)
        The argument's RDMs, condensed.
    rdms : Any
        The argument, with its labels.
    name : str
        Its name in messages.
    reference : Labels or None
        By default the first labels of the argument itself.
    square : bool
        Whether the argument's RDMs are square.

    Returns
    -------
    ndarray, Labels or None
        The array itself, or a copy in the reference's order; the labels of this order.

    Raises
    ------
    ValueError
        As `find_order`.

    Warns
    -----
    RuntimeWarning
        One, if RDMs were brought into another order; one, if pairs were not in the order of condensed RDMs; one, if
        conditions that share a label are matched with a reference by position.
    """
    given = array
    moved: list[Labels] = []
    unsorted: list[str] = []
    own = reference is None
    repeated: Labels | None = None
    for place, labels, pairs in _labels_of_members(rdms, name, square):
        if labels is None:
            continue
        order = find_order(labels, reference)
        if order is None and not own and _are_conditions(labels, reference):
            repeated = labels if _repeated(labels.values) else repeated
        reference = reference or labels
        if pairs is not None:
            unsorted.append(labels.name)
        elif order is not None:
            moved.append(labels)
        for places in (pairs, order and order.pairs()):
            if places is None:
                continue
            if array is given:
                array = np.array(array)
            array[place] = array[place][..., places]
    if unsorted:
        have = "has its" if len(unsorted) == 1 else "have their"
        warn_caller(
            f"{list_names(unsorted, 3)} {have} pairs in another order than condensed RDMs of the same conditions; they"
            " were brought into order by their labels"
        )
    if repeated is not None and reference is not None:
        warn_caller(
            f"{repeated.name} and {reference.name} have the condition labels {_repeated(repeated.values)} more than"
            " once; their conditions are matched by position"
        )
    if moved and reference is not None:
        warn_reordered(moved, reference)
    return array, reference


def per_condition(values: Any, name: str, reference: Labels | None) -> Any:
    """Return values of each condition, such as folds, in the order of a reference, by labels of pandas and xarray.

    Others are returned as they are. Errors and warnings as `in_order_of`.
    """
    labels = labels_of(values, 0, name, CONDITIONS)
    if labels is None or reference is None or reference.what != CONDITIONS:
        return values
    if len(labels.values) != len(reference.values):
        return values
    order = find_order(labels, reference)
    if order is None:
        return values
    warn_reordered([labels], reference)
    return np.asarray(values)[order.places]


def warn_reordered(moved: Sequence[Labels], reference: Labels) -> None:
    """Warn once of labelled objects that were brought into the order of a reference."""
    names = list_names([labels.name for labels in moved], 3)
    first = moved[0].values, reference.values
    at = next((i for i, (a, b) in enumerate(zip(*first, strict=False)) if a != b), 0)
    have = "has its" if len(moved) == 1 else "have their"
    warn_caller(
        f"{names} {have} {moved[0].what}s in another order than {reference.name}, first {first[0][at]!r} in place of"
        f" {first[1][at]!r}; they were brought into the order of {reference.name} by their labels"
    )


def check_labelled_size(
    n_pairs: int, rdms: Any, name: str, reference: Labels | None, *, square: bool
) -> None:
    """Raise a ValueError that names the missing conditions, if labelled RDMs have another number than a reference."""
    if reference is None:
        return
    for _, labels, _ in _labels_of_members(rdms, name, square):
        if labels is None or labels.what != reference.what:
            continue
        n = n_conditions(n_pairs) if reference.what == CONDITIONS else n_pairs
        if len(reference.values) == n:
            find_order(labels, reference)


def check_members(rdms: Any, name: str) -> None:
    """Raise a ValueError that names the conditions that differ between RDMs in a list or dict, if they are labelled."""
    if not isinstance(rdms, (list, tuple, Mapping)):
        return
    members = list(rdms.values()) if isinstance(rdms, Mapping) else rdms
    shapes = [np.shape(member)[-2:] for member in members if hasattr(member, "shape")]
    square = all(len(set(shape)) == 1 < len(shape) for shape in shapes)
    reference = None
    for _, labels, _ in _labels_of_members(rdms, name, square):
        find_order(labels, reference)
        reference = reference or labels


def _are_conditions(labels: Labels, reference: Labels | None) -> bool:
    return reference is not None and labels.what == reference.what == CONDITIONS


def _labels_of_members(
    rdms: Any, name: str, square: bool
) -> list[tuple[tuple[int, ...], Labels | None, NDArray[np.intp] | None]]:
    """Return the labels of each member of lists and dicts, with its place in the array of all; of others, one.

    With each, where the pairs of its conditions are, if they are not in the order of a condensed RDM.
    """
    if type(rdms) is np.ndarray:
        return []
    if not isinstance(rdms, (list, tuple, Mapping)):
        if square:
            return [((), rdm_labels(rdms, name, square=True), None)]
        return [((), *condensed_labels(rdms, name))]
    if not isinstance(rdms, Mapping) and is_plain(rdms):
        return []
    members = rdms.items() if isinstance(rdms, Mapping) else enumerate(rdms)
    return [
        ((i, *place), labels, pairs)
        for i, (key, member) in enumerate(members)
        for place, labels, pairs in _labels_of_members(member, f"{name}[{key!r}]", square)
    ]
