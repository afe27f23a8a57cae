"""Labels of measurements → which of them are whose, and the averages that cross-validation takes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrdm.forms import check_finite
from fastrdm.products import Floats, Rows
from fastrdm.sources import Source


@dataclass(frozen=True)
class Folds:
    """Measurements (folds, repetitions, conditions) by index, and what each weighs in its average."""

    index: NDArray[np.intp]
    weight: Floats

    @property
    def n_conditions(self) -> int:
        """Conditions, in the order of their sorted labels."""
        return int(self.index.shape[2])

    @classmethod
    def of(cls, folds: ArrayLike, conditions: ArrayLike | None, n: int, name: str) -> "Folds":
        """Read the labels of `n` measurements."""
        fold_names, fold = _labels(folds, "folds", n, name)
        if len(fold_names) < 2:
            raise ValueError(
                f"folds are all {fold_names[0]!r}; crossnobis compares measurements of 2 or more folds"
            )
        if conditions is None:
            names, condition = _by_order(fold_names, fold)
        else:
            names, condition = _labels(conditions, "conditions", n, name)
        if len(names) < 2:
            raise ValueError(f"conditions are all {names[0]!r}; an RDM has 2 or more")
        counts = np.zeros((len(fold_names), len(names)), np.intp)
        np.add.at(counts, (fold, condition), 1)
        empty = np.argwhere(counts == 0)
        if len(empty):
            f, c = empty[0]
            raise ValueError(
                f"fold {fold_names[f]!r} holds no measurement of condition {names[c]!r}; crossnobis needs every"
                " condition in every fold"
            )
        # Of measurements sorted by fold and condition, how many of the same come before.
        order = np.lexsort((condition, fold))
        starts = np.cumsum(counts.ravel()) - counts.ravel()
        repetition = np.arange(n) - np.repeat(starts, counts.ravel())
        index = np.zeros((len(fold_names), counts.max(), len(names)), np.intp)
        weight = np.zeros(index.shape)
        place = fold[order], repetition, condition[order]
        index[place] = order
        weight[place] = 1 / counts[place[0], place[2]]
        return cls(index, weight)

    def terms(self, rows: Rows, name: str) -> list[tuple[float, Source]]:
        """Weights and sources whose squared distances add up to the cross-validated ones.

        The products of differences between all pairs of folds are those of the folds' sum with itself, less each
        fold's with itself: that takes folds + 1 symmetric products instead of folds · (folds − 1) / 2 others.
        """
        n_folds = len(self.index)
        share = 1 / (n_folds * (n_folds - 1))
        total = (share, self._averages(slice(None), rows, name))
        return [
            total,
            *((-share, self._averages(slice(f, f + 1), rows, name)) for f in range(n_folds)),
        ]

    def _averages(self, which: slice, rows: Rows, name: str) -> Source:
        """Sum over some folds of the conditions' averages within each."""
        index = self.index[which].reshape(-1, self.n_conditions)
        weight = self.weight[which].reshape(-1, self.n_conditions)

        def take(begin: int, end: int, _: int | None) -> Rows:
            total = np.zeros((end - begin, rows.shape[1]))
            for measurements, weights in zip(
                index[:, begin:end], weight[:, begin:end], strict=True
            ):
                some = rows[measurements].astype(np.float64)
                if np.any(weights != 1):
                    some *= weights[:, None]
                total += some
            return total

        def check() -> None:
            check_finite(rows, name, ("measurement", "channel"))

        return Source(self.n_conditions, rows.shape[1], take, check, 3 * 8 * rows.shape[1])


def _labels(labels: ArrayLike, what: str, n: int, name: str) -> tuple[list[Any], NDArray[np.intp]]:
    """Sorted names of the labels, and the place of each measurement's among them."""
    array = np.asarray(labels)
    if array.shape != (n,):
        raise ValueError(
            f"{what} have shape {array.shape}; {name} hold {n} measurements, so that they must be ({n},)"
        )
    if array.dtype.kind == "f" and np.isnan(array).any():
        raise ValueError(f"{what} hold NaN, which names nothing")
    try:
        names, inverse = np.unique(array, return_inverse=True)
    except TypeError:
        raise ValueError(
            f"{what} hold labels of types that have no order: {array[:5].tolist()}"
        ) from None
    return names.tolist(), inverse.reshape(-1)


def _by_order(names: list[Any], fold: NDArray[np.intp]) -> tuple[list[int], NDArray[np.intp]]:
    """Conditions by their place within the fold."""
    counts = np.bincount(fold)
    if np.any(counts != counts[0]):
        other = int(np.argmax(counts != counts[0]))
        raise ValueError(
            f"fold {names[0]!r} holds {counts[0]} measurements and fold {names[other]!r} {counts[other]}; say with"
            " conditions= which condition each one is of"
        )
    condition = np.empty(len(fold), np.intp)
    for f in range(len(names)):
        condition[fold == f] = np.arange(counts[0])
    return list(range(counts[0])), condition
