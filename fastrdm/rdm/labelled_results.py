"""Condensed RDMs as pandas or xarray objects, where the activations' conditions are labelled."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import (
    ConditionNames,
    Labels,
    condition_names,
    kind_of_table,
    require,
    with_pairs,
)
from fastrdm.rdm.folds import Folds


def labelled_rdms(
    rdms: NDArray[Any], activations: Any, conditions: Any, folds: Folds | None, method: str
) -> Any:
    """Return RDMs (pairs,), or (n, pairs) of a stack, with labels of their pairs if the conditions have labels.

    `conditions` are those of the measurements in `folds`, as they were passed. A mapping of activations gives a list of
    its members' RDMs.
    """
    if isinstance(activations, Mapping):
        members = list(activations.values())
    elif isinstance(activations, (list, tuple)):
        # A list of rows is one array, without labels of its conditions.
        members = list(activations) if rdms.ndim == 2 else []
    else:
        members = [activations]
    kinds = [kind_of_table(member) for member in members]
    if not any(kinds):
        return rdms
    names = [
        fold_conditions(member, conditions, folds) if folds else condition_names(member)
        for member in members
    ]
    attrs = {"method": method}
    if isinstance(activations, Mapping):
        return [
            rdm if name is None or kind is None else with_pairs(rdm, name, kind, attrs=attrs)
            for rdm, name, kind in zip(rdms, names, kinds, strict=True)
        ]
    first = next((name for name in names if name is not None), None)
    if first is None:
        return rdms
    kind = "xarray" if "xarray" in kinds else "pandas"
    return with_pairs(rdms, first, kind, attrs=attrs)


def labelled_rdm(rdm: NDArray[Any], labels: Labels | None, method: str) -> Any:
    """Return an RDM with labels of its pairs in the library whose object they come from; as it is without any."""
    if labels is None or labels.library is None:
        return rdm
    require(labels.library, "labels", "to label the RDM of a Gram with labels")
    return with_pairs(rdm, labels.names(), labels.library, attrs={"method": method})


def check_fold_orders(member: Any, folds: Folds, name: str) -> None:
    """Raise ValueError if measurements are labelled with the same conditions in all folds, but in another order."""
    rows = condition_names(member) if folds.conditions is None and kind_of_table(member) else None
    if rows is None:
        return
    for level in rows.levels:
        first, *others = (level[fold].tolist() for fold in folds.index[:, 0])
        for fold, other in zip(folds.names[1:], others, strict=True):
            if other != first and Counter(other) == Counter(first):
                i = next(i for i, (a, b) in enumerate(zip(first, other, strict=True)) if a != b)
                raise ValueError(
                    f"{name} have the conditions of fold {fold!r} in another order than those of fold"
                    f" {folds.names[0]!r}, first {other[i]!r} in place of {first[i]!r}; pass the labels as conditions"
                )


def fold_conditions(member: Any, conditions: Any, folds: Folds) -> ConditionNames | None:
    """Return the names of cross-validated conditions: those passed, or the rows' that are the same in all folds."""
    if kind_of_table(member) is None:
        return None
    if folds.conditions is not None:
        name = str(getattr(conditions, "name", None) or "condition")
        return ConditionNames((name,), (np.asarray(folds.conditions),))
    rows = condition_names(member)
    if rows is None:
        return None
    # A level such as the run differs between folds.
    each = {
        name: level[folds.index[:, 0]] for name, level in zip(rows.names, rows.levels, strict=True)
    }
    same = {name: level[0] for name, level in each.items() if (level == level[0]).all()}
    conditions = set(zip(*(level.tolist() for level in same.values()), strict=True))
    if len(same) < len(each) and len(conditions) < folds.n_conditions:
        return None
    return ConditionNames(tuple(same), tuple(same.values()))
