"""Labels of measurements → the averages that cross-validated distances are computed from."""

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrdm._base import check_finite
from fastrdm.rdm.numbers import Kind
from fastrdm.rdm.products import Floats, Rows
from fastrdm.rdm.sources import Member, RowSource, SourceSum, Term, whitened
from fastrdm.rdm.whitening import FoldNoise, Noise, Noises


@dataclass(frozen=True)
class Folds:
    """Measurements of each fold and condition."""

    #: Measurements (folds, repetitions, conditions) by index, and their weights in the averages.
    index: NDArray[np.intp]
    weight: Floats
    #: Sorted names of the folds.
    names: list[Any]
    #: Sorted names of the conditions; None where these are known only by their order.
    conditions: list[Any] | None = None

    @property
    def n_conditions(self) -> int:
        """Number of conditions, which are in the order of their sorted labels."""
        return int(self.index.shape[2])

    @classmethod
    def of(cls, folds: ArrayLike, conditions: ArrayLike | None, n: int, name: str) -> "Folds":
        """Read the labels of `n` measurements of the array `name`."""
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
        # For measurements sorted by fold and condition: how many of the same fold and condition come before.
        order = np.lexsort((condition, fold))
        starts = np.cumsum(counts.ravel()) - counts.ravel()
        repetition = np.arange(n) - np.repeat(starts, counts.ravel())
        index = np.zeros((len(fold_names), counts.max(), len(names)), np.intp)
        weight = np.zeros(index.shape)
        place = fold[order], repetition, condition[order]
        index[place] = order
        weight[place] = 1 / counts[place[0], place[2]]
        return cls(index, weight, fold_names, None if conditions is None else names)

    def source_sum(
        self, member: Member, kind: Kind, noise: Noises | None, n_threads: int
    ) -> SourceSum:
        """Return sources whose squared distances add up to the cross-validated ones.

        The products of all pairs of folds are the product of the folds' sum with itself minus that of each fold with
        itself: folds + 1 symmetric products instead of folds · (folds − 1) / 2 general ones. If folds lack conditions,
        or each fold has its noise, the product of two folds is (product of their sum − that of their difference) / 4.
        """
        here: NDArray[np.bool_] = np.asarray(self.weight.any(axis=1))
        n_folds = len(here)
        if here.all() and not isinstance(noise, FoldNoise):
            folds = [(1.0, np.ones(n_folds)), *((-1.0, one) for one in np.eye(n_folds))]
            terms = [
                Term(sign, self._sum(signs, None, member, kind, noise, n_threads))
                for sign, signs in folds
            ]
            return SourceSum(terms, n_folds * (n_folds - 1))
        terms = []
        counts = np.zeros(self.n_conditions * (self.n_conditions - 1) // 2)
        first, second = np.triu_indices(self.n_conditions, 1)
        for f, g in combinations(range(n_folds), 2):
            both = here[f] & here[g]
            members = np.flatnonzero(both)
            if len(members) < 2:
                continue
            counts += both[first] & both[second]
            pair_noise = noise.of(f, g) if isinstance(noise, FoldNoise) else noise
            for sign in (1.0, -1.0):
                signs = np.zeros(n_folds)
                signs[[f, g]] = 1, sign
                source = self._sum(signs, members, member, kind, pair_noise, n_threads)
                terms.append(Term(sign, source, None if both.all() else members))
        return SourceSum(terms, 4 * counts)

    def _sum(
        self,
        signs: Floats,
        members: NDArray[np.intp] | None,
        member: Member,
        kind: Kind,
        noise: Noise | None,
        n_threads: int,
    ) -> RowSource:
        """Return the sum over folds of a sign times the conditions' averages within the fold, whitened."""
        rows, name = member
        # All conditions as a slice, which copies nothing.
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

        source = RowSource(
            n,
            rows.shape[1],
            take,
            lambda: check_finite(rows, name, ("measurement", "channel")),
            Kind(np.dtype(np.float64), discrete=kind.discrete),
            3 * 8 * rows.shape[1],
        )
        return source if noise is None else whitened(source, noise, n_threads)


def _check_pairs(here: NDArray[np.bool_], names: list[Any]) -> None:
    """Raise ValueError unless every two conditions share two folds."""
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
    """Return the sorted names, and the index of each measurement's name."""
    array = np.asarray(labels)
    if array.shape != (n,):
        raise ValueError(
            f"{what} have shape {array.shape}; {name} hold {n} measurements, so they must be ({n},)"
        )
    if array.dtype.kind == "f" and np.isnan(array).any():
        raise ValueError(f"{what} hold NaN, which is not a label")
    try:
        names, inverse = np.unique(array, return_inverse=True)
    except TypeError:
        raise ValueError(
            f"{what} hold labels of types that cannot be sorted: {array[:5].tolist()}"
        ) from None
    return names.tolist(), inverse.reshape(-1)


def _by_order(names: list[Any], fold: NDArray[np.intp]) -> tuple[list[int], NDArray[np.intp]]:
    """Number the conditions by their order within each fold."""
    counts = np.bincount(fold)
    if np.any(counts != counts[0]):
        other = int(np.argmax(counts != counts[0]))
        raise ValueError(
            f"fold {names[0]!r} holds {counts[0]} measurements and fold {names[other]!r} {counts[other]}; pass"
            " conditions= with the condition of each measurement"
        )
    condition = np.empty(len(fold), np.intp)
    for f in range(len(names)):
        condition[fold == f] = np.arange(counts[0])
    return list(range(counts[0])), condition
