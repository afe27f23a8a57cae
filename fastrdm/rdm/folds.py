"""Labels of measurements → which of them are whose, and the averages that cross-validation takes."""

from dataclasses import dataclass
from itertools import combinations
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrdm._base import check_finite
from fastrdm.rdm.numbers import Kind
from fastrdm.rdm.products import Floats, Rows
from fastrdm.rdm.sources import Part, Parts, Source, whitened
from fastrdm.rdm.whitening import FoldNoise, Noise, Noises


@dataclass(frozen=True)
class Folds:
    """Measurements (folds, repetitions, conditions) by index, and what each weighs in its average.

    Attributes
    ----------
    names : list
        Of the folds, sorted.
    """

    index: NDArray[np.intp]
    weight: Floats
    names: list[Any]

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
        _check_pairs(counts > 0, names)
        # Of measurements sorted by fold and condition, how many of the same come before.
        order = np.lexsort((condition, fold))
        starts = np.cumsum(counts.ravel()) - counts.ravel()
        repetition = np.arange(n) - np.repeat(starts, counts.ravel())
        index = np.zeros((len(fold_names), counts.max(), len(names)), np.intp)
        weight = np.zeros(index.shape)
        place = fold[order], repetition, condition[order]
        index[place] = order
        weight[place] = 1 / counts[place[0], place[2]]
        return cls(index, weight, fold_names)

    def parts(
        self, rows: Rows, name: str, kind: Kind, noise: Noises | None, n_threads: int
    ) -> Parts:
        """Sources whose squared distances add up to the cross-validated ones.

        The products of differences between all pairs of folds are those of the folds' sum with itself, less each
        fold's with itself: folds + 1 symmetric products instead of folds · (folds − 1) / 2 others. Where folds lack
        conditions, or have a noise each, a pair of folds is that of its sum, less that of its difference, over four.
        """
        here: NDArray[np.bool_] = np.asarray(self.weight.any(axis=1))
        n_folds = len(here)
        if here.all() and not isinstance(noise, FoldNoise):
            folds = [(1.0, np.ones(n_folds)), *((-1.0, one) for one in np.eye(n_folds))]
            sums = [(sign, self._sum(which, rows, name, kind, None)) for sign, which in folds]
            return Parts(
                [Part(sign, _filtered(source, noise, n_threads)) for sign, source in sums],
                n_folds * (n_folds - 1),
            )
        made: list[Part] = []
        counts = np.zeros(self.n_conditions * (self.n_conditions - 1) // 2)
        first, second = np.triu_indices(self.n_conditions, 1)
        for f, g in combinations(range(n_folds), 2):
            both = here[f] & here[g]
            members = np.flatnonzero(both)
            if len(members) < 2:
                continue
            counts += both[first] & both[second]
            own = noise.of(f, g) if isinstance(noise, FoldNoise) else noise
            for sign in (1.0, -1.0):
                signs = np.zeros(n_folds)
                signs[[f, g]] = 1, sign
                source = _filtered(self._sum(signs, rows, name, kind, members), own, n_threads)
                made.append(Part(sign, source, None if both.all() else members))
        return Parts(made, 4 * counts)

    def _sum(
        self, signs: Floats, rows: Rows, name: str, kind: Kind, members: NDArray[np.intp] | None
    ) -> Source:
        """Sum over some folds of the conditions' averages within each, times a sign."""
        chosen = slice(None) if members is None else members
        which = np.flatnonzero(signs)
        index = self.index[which][:, :, chosen]
        weight = self.weight[which][:, :, chosen] * signs[which, None, None]
        n = index.shape[2]
        index, weight = index.reshape(-1, n), weight.reshape(-1, n)

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

        return Source(
            index.shape[1],
            rows.shape[1],
            take,
            check,
            Kind(np.dtype(np.float64), discrete=kind.discrete),
            3 * 8 * rows.shape[1],
        )


def _filtered(source: Source, noise: Noises | None, n_threads: int) -> Source:
    return source if noise is None else whitened(source, cast("Noise", noise), n_threads)


def _check_pairs(here: NDArray[np.bool_], names: list[Any]) -> None:
    """ValueError unless every two conditions are both in two folds."""
    together = here.T.astype(np.intp) @ here
    missing = np.argwhere(np.triu(together < 2, 1))
    if len(missing):
        i, j = missing[0]
        raise ValueError(
            f"conditions {names[i]!r} and {names[j]!r} are measured together in"
            f" {together[i, j]} of {len(here)} folds; crossnobis needs 2 or more folds with both"
            + (f" ({len(missing)} pairs of conditions lack them)" if len(missing) > 1 else "")
        )


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
