"""Folds of conditions: by number, by labels, grouped or stratified."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrdm._base import as_array, check_integer

Indices = NDArray[np.intp]
# Training conditions below which nothing can be fitted.
_MIN_TRAINING = 2
# The label of conditions that are always for training.
_NEVER = -1
# RandomState takes seeds of 32 bits.
_MAX_SEED = (1 << 32) - 1


@dataclass(frozen=True, eq=False)
class ConditionFolds:
    """The fold in which each condition is held out.

    Attributes
    ----------
    numbers : ndarray of int, shape (conditions,)
        Fold of each condition, from 0; -1 for conditions that no fold holds out.
    names : tuple of str
        Names of the folds: the labels that were passed, sorted, else their numbers.
    """

    numbers: Indices
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def splits(self, rows: Indices) -> Iterator[tuple[int, Indices, Indices]]:
        """Yield the number, the training and the held-out conditions of each fold, of the conditions `rows`.

        Folds with none of these conditions are left out, and folds that leave fewer than two of them for training.
        """
        numbers = self.numbers[rows]
        for fold in range(len(self)):
            held_out = numbers == fold
            if held_out.any() and np.count_nonzero(~held_out) >= _MIN_TRAINING:
                yield fold, rows[~held_out], rows[held_out]


def folds_of(
    folds: int | ArrayLike,
    n_conditions: int,
    *,
    seed: int | None = 0,
    groups: ArrayLike | None = None,
    strata: ArrayLike | None = None,
) -> ConditionFolds:
    """Divide conditions into folds.

    Parameters
    ----------
    folds : int or array_like, shape (conditions,)
        Number of folds, or the label of each condition's fold. As in scikit-learn's ``PredefinedSplit``, conditions
        with the number -1 are held out by no fold.
    n_conditions : int
        Number of conditions.
    seed : int or None
        Of the random division. Without groups or strata, the folds are those of scikit-learn's ``KFold(folds,
        shuffle=True, random_state=seed)``. None divides the conditions in their order, as ``KFold(folds)``.
    groups : array_like, shape (conditions,), optional
        Labels of groups, none of which is divided. Groups are taken from the largest to the smallest, equal ones in
        random order, and each goes to the fold with the fewest conditions.
    strata : array_like, shape (conditions,), optional
        Labels of strata, each of which is spread over the folds as evenly as possible. Folds differ by at most one
        condition.

    Returns
    -------
    ConditionFolds

    Raises
    ------
    ValueError
        If there are fewer than two folds, or more than conditions or groups; labels do not fit the conditions; groups
        or strata are passed together or with labels of folds; a fold leaves fewer than two conditions for training.
    """
    if groups is not None and strata is not None:
        raise ValueError("groups and strata were both passed; pass only one of them")
    if isinstance(folds, bool) or np.ndim(folds) > 0 or not _is_integer(folds):
        return _labelled(folds, n_conditions, groups, strata)
    n_folds = int(folds)  # type: ignore[arg-type]
    check_integer(n_folds, "folds", 2)
    if seed is not None:
        check_integer(seed, "seed", 0)
        if seed > _MAX_SEED:
            raise ValueError(f"seed must be at most 2**32 - 1, not {seed}")
    if n_folds > n_conditions:
        raise ValueError(
            f"folds is {n_folds}, but there are {n_conditions} conditions; pass at most that many"
        )
    if groups is not None:
        numbers = _grouped(_indices(groups, n_conditions, "groups"), n_folds, seed)
    elif strata is not None:
        numbers = _stratified(_indices(strata, n_conditions, "strata"), n_folds, seed)
    else:
        numbers = _divided(_order(n_conditions, seed), n_folds)
    return _checked(ConditionFolds(numbers, tuple(map(str, range(n_folds)))))


def _is_integer(folds: Any) -> bool:
    return isinstance(folds, (int, np.integer)) or (
        isinstance(folds, np.ndarray) and folds.ndim == 0 and folds.dtype.kind in "iu"
    )


def _order(n: int, seed: int | None) -> Indices:
    """Return the conditions in random order: that of scikit-learn, whose legacy stream NumPy keeps unchanged."""
    order = np.arange(n)
    if seed is not None:
        np.random.RandomState(seed).shuffle(order)
    return order


def _divided(order: Indices, n_folds: int) -> Indices:
    numbers = np.empty(len(order), np.intp)
    for fold, part in enumerate(np.array_split(order, n_folds)):
        numbers[part] = fold
    return numbers


def _grouped(groups: Indices, n_folds: int, seed: int | None) -> Indices:
    sizes = np.bincount(groups)
    if len(sizes) < n_folds:
        raise ValueError(f"folds is {n_folds}, but groups has {len(sizes)}; pass at most that many")
    order = _order(len(sizes), seed)
    fold_of, filled = np.empty(len(sizes), np.intp), np.zeros(n_folds, np.intp)
    for group in order[np.argsort(-sizes[order], kind="stable")]:
        fold_of[group] = np.argmin(filled)
        filled[fold_of[group]] += sizes[group]
    return fold_of[groups]


def _stratified(strata: Indices, n_folds: int, seed: int | None) -> Indices:
    order = _order(len(strata), seed)
    order = order[np.argsort(strata[order], kind="stable")]
    numbers = np.empty(len(strata), np.intp)
    numbers[order] = np.arange(len(strata)) % n_folds
    return numbers


def _labelled(folds: Any, n: int, groups: Any, strata: Any) -> ConditionFolds:
    for name, given in (("groups", groups), ("strata", strata)):
        if given is not None:
            raise ValueError(
                f"folds has a label for each condition, so {name} cannot be used; pass a number of folds with {name}"
            )
    if isinstance(folds, (bool, float, str)) or folds is None:
        raise ValueError(f"folds must be a number or the label of each condition, not {folds!r}")
    numbers = _indices(folds, n, "folds")
    # `_indices` numbers the labels in sorted order.
    labels = as_array(folds, "folds")
    names = tuple(map(str, np.unique(labels)))
    if len(names) < 2:
        raise ValueError(f"folds has one label, {names[0]!r}; at least two are needed")
    if labels.dtype.kind == "i" and (labels == _NEVER).any():
        known = np.unique(labels[labels != _NEVER])
        numbers = np.where(labels == _NEVER, _NEVER, np.searchsorted(known, labels))
        names = tuple(map(str, known))
    return _checked(ConditionFolds(numbers, names))


def _indices(labels: Any, n: int, name: str) -> Indices:
    """Return labels of conditions as integers from 0, in the sorted order of the labels."""
    array = as_array(labels, name)
    if array.shape != (n,):
        raise ValueError(
            f"{name} has shape {array.shape}; it must have a label for each of {n} conditions, ({n},)"
        )
    if array.dtype.kind in "fc" and np.isnan(array).any():
        raise ValueError(f"{name} has a label that is NaN")
    try:
        return np.unique(array, return_inverse=True)[1].astype(np.intp)
    except TypeError:
        raise ValueError(
            f"{name} has labels that cannot be sorted; pass numbers or strings"
        ) from None


def _checked(folds: ConditionFolds) -> ConditionFolds:
    folds.numbers.setflags(write=False)
    n = len(folds.numbers)
    sizes = np.bincount(folds.numbers[folds.numbers >= 0], minlength=len(folds))
    largest = int(np.argmax(sizes))
    if n - sizes[largest] < _MIN_TRAINING:
        raise ValueError(
            f"fold {folds.names[largest]} holds out {sizes[largest]} of {n} conditions, which leaves"
            f" {n - sizes[largest]} for training; at least {_MIN_TRAINING} are needed"
        )
    return folds
