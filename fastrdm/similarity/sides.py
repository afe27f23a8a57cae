"""The RDMs on one side of a comparison, in groups that miss the same pairs."""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import check_choice, not_finite
from fastrdm._kernels import Prepared

Floats = NDArray[np.float64]


Rows = NDArray[Any]  # float32 or float64


Mask = NDArray[np.bool_]


NAN_POLICIES = ("raise", "omit", "propagate")


# RDMs are taken this many numbers at a time: 32 MB where they have to be widened or ranked into memory.
_AT_ONCE = 1 << 22


def check_policy(nan_policy: str) -> None:
    """ValueError for an unknown policy."""
    check_choice(nan_policy, NAN_POLICIES, "nan_policy")


def check_values(array: Rows, name: str, axes: Sequence[str], nan_policy: str) -> None:
    """ValueError for infinity, and for NaN where the policy is to raise, that names the first by the axes given."""
    check_policy(nan_policy)
    # A sum is finite only if all its terms are; it saves the mask in the usual case.
    with np.errstate(all="ignore"):
        if np.isfinite(np.sum(array)):
            return
    rows = array.reshape(-1, array.shape[-1])
    n_bad, first = 0, (0, 0)
    for block in blocks_of(*rows.shape):
        part = rows[block]
        bad = ~np.isfinite(part) if nan_policy == "raise" else np.isinf(part)
        if n_bad == 0 and bad.any():
            row, pair = np.unravel_index(np.argmax(bad), bad.shape)
            first = block.start + int(row), int(pair)
        n_bad += int(np.count_nonzero(bad))
    if n_bad == 0:
        return
    value = "NaN" if np.isnan(rows[first]) else "infinity"
    place = (*np.unravel_index(first[0], array.shape[:-1]), first[1])
    where = ", ".join(f"{axis} {i}" for axis, i in zip(axes[-len(place) :], place, strict=True))
    raise ValueError(not_finite(name, n_bad, value, where))


def blocks_of(n: int, n_columns: int) -> Iterator[slice]:
    """Rows, so many at a time as make no large array."""
    step = max(1, _AT_ONCE // max(1, n_columns))
    return (slice(start, min(n, start + step)) for start in range(0, n, step))


@dataclass(frozen=True)
class Method:
    """A similarity in its parts.

    Attributes
    ----------
    prepare : callable
        RDMs (n, pairs left), which of all pairs those are, and a number of threads → what needs to be done once for
        an RDM, however many it is compared with.
    combine : callable
        RDMs (n1, pairs left), which pairs, n2 prepared ones, paired, threads → similarities (n1, n2), or (n, 1) of
        row i with row i. An RDM with a NaN or an infinity has NaN as its similarities.
    pooled : callable
        RDMs, and the same prepared → what rsatoolbox averages over subjects under the name of the method.
    undefined : str
        What an RDM is called that has no similarity: constant, or zero.
    ordinal : bool
        Whether RDMs are compared by the order of their entries, so that ties matter.
    """

    prepare: Callable[[Rows, Mask, int | None], Prepared]
    combine: Callable[[Rows, Mask, Prepared, bool, int | None], Floats]
    pooled: Callable[[Rows, Prepared], Rows]
    undefined: str
    ordinal: bool = False

    def similarity(
        self, first: "Side", second: "Side", n_threads: int | None, *, paired: bool = False
    ) -> tuple[Floats, Mask | None]:
        """Similarities (n1, n2), or (n, 1) of paired RDMs, each on the pairs that both have, and which are undefined.

        Both sides are checked only where a result is NaN, since every value that must be refused makes one so. None
        for no similarity that is undefined, which those that lack pairs are not said to be.
        """
        blocks = list(blocks_of(*first.rdms.shape))
        if paired or len(blocks) <= 1:
            return self._of_block(first, second, n_threads, paired)
        parts = [self._of_block(first.part(block), second, n_threads, False) for block in blocks]
        similarities = np.concatenate([part for part, _ in parts])
        if all(undefined is None for _, undefined in parts):
            return similarities, None
        masks = [np.zeros(p.shape, bool) if mask is None else mask for p, mask in parts]
        return similarities, np.concatenate(masks)

    def _of_block(
        self, first: "Side", second: "Side", n_threads: int | None, paired: bool
    ) -> tuple[Floats, Mask | None]:
        if second.is_whole:
            everything = np.ones(first.rdms.shape[1], bool)
            out = self.combine(first.rdms, everything, second.whole, paired, n_threads)
            undefined = np.isnan(out)
            if not undefined.any():
                return out, None
            first.check()
            second.check()
            if first.is_whole and second.is_whole:
                return out, undefined
        return self._by_groups(first, second, n_threads, paired)

    def _by_groups(
        self, first: "Side", second: "Side", n_threads: int | None, paired: bool
    ) -> tuple[Floats, Mask | None]:
        out = np.full((first.n, 1 if paired else second.n), np.nan)
        undefined = np.zeros(out.shape, bool)
        for one in first.groups:
            for other in second.groups:
                present = one.present & other.present
                members, others = one.members, other.members
                if paired:
                    members = others = np.intersect1d(members, others)
                if not (present.any() and len(members)):
                    continue
                here = np.ix_(members, np.zeros(1, np.intp) if paired else others)
                similarities = self.combine(
                    one.values(members, present),
                    present,
                    other.prepared(others, present, n_threads),
                    paired,
                    n_threads,
                )
                out[here], undefined[here] = similarities, np.isnan(similarities)
        return out, undefined if undefined.any() else None

    def without(self, rdms: Rows) -> Mask:
        """Which RDMs (n,) have no similarity to any."""
        with np.errstate(invalid="ignore"):
            low, high = np.fmin.reduce(rdms, axis=1), np.fmax.reduce(rdms, axis=1)
            return np.asarray((low == high) & ((low == 0) | (self.undefined == "constant")))


class Group:
    """RDMs of a side that have the same pairs."""

    def __init__(self, side: "Side", members: NDArray[np.intp], present: Mask) -> None:
        self.members, self.present, self._side = members, present, side

    @functools.cached_property
    def whole(self) -> Prepared:
        """All of them prepared on all pairs that they have."""
        side = self._side
        return side.method.prepare(
            self.values(self.members, self.present), self.present, side.n_threads
        )

    def values(self, members: NDArray[np.intp], present: Mask) -> Rows:
        """Some of the RDMs on some of the pairs that they have."""
        return self._side.rdms[np.ix_(members, present)]

    def prepared(self, members: NDArray[np.intp], present: Mask, n_threads: int | None) -> Prepared:
        """Some of the RDMs prepared on some of the pairs that they have."""
        if len(members) == len(self.members) and np.array_equal(present, self.present):
            return self.whole
        return self._side.method.prepare(self.values(members, present), present, n_threads)


class Side:
    """A set of RDMs (n, pairs), as a whole and in groups that have the same pairs.

    Those that the policy gives no similarity are in no group. `axes` name the index of an RDM, `lead` is their
    lengths, where it has several.
    """

    def __init__(
        self,
        method: Method,
        rdms: Rows,
        nan_policy: str,
        name: str,
        *,
        axes: tuple[str, ...] = ("RDM",),
        lead: tuple[int, ...] = (),
        prepared: Prepared | None = None,
        n_threads: int | None = None,
    ) -> None:
        self.method, self.rdms, self.nan_policy, self.name = method, rdms, nan_policy, name
        self.axes, self.lead, self.n_threads = axes, lead or (len(rdms),), n_threads
        self._parent, self._checked = self, False
        self._missing: Mask | None = None
        if prepared is not None:
            self.whole = prepared

    def part(self, block: slice) -> "Side":
        """Some of the RDMs; the values of all are checked when theirs are."""
        part = Side(self.method, self.rdms[block], self.nan_policy, self.name, axes=self.axes)
        part._parent = self
        return part

    @property
    def n(self) -> int:
        """Number of RDMs."""
        return len(self.rdms)

    @functools.cached_property
    def whole(self) -> Prepared:
        """All RDMs prepared on all pairs."""
        everything = np.ones(self.rdms.shape[1], bool)
        return self.method.prepare(self.rdms, everything, self.n_threads)

    def check(self) -> None:
        """ValueError for values that the policy refuses; after it the side knows of those that are missing."""
        whole = self._parent
        if not whole._checked:
            shaped = whole.rdms.reshape(*whole.lead, whole.rdms.shape[1])
            check_values(shaped, self.name, (*self.axes, "pair"), self.nan_policy)
            whole._checked = True
        if self._missing is None:
            self._missing = np.isnan(self.rdms)

    @property
    def is_whole(self) -> bool:
        """Whether no pair is missing, as far as the side knows."""
        return self._missing is None or not self._missing.any()

    @functools.cached_property
    def groups(self) -> list[Group]:
        """The RDMs by the pairs that they have."""
        self.check()
        missing = self._missing
        complete = np.ones(self.rdms.shape[1], bool)
        if missing is None or not missing.any():
            return [Group(self, np.arange(self.n), complete)]
        if self.nan_policy == "propagate":
            return [Group(self, np.flatnonzero(~missing.any(axis=1)), complete)]
        masks, which = np.unique(np.packbits(missing, axis=1), axis=0, return_inverse=True)
        alike = [np.flatnonzero(which.ravel() == k) for k in range(len(masks))]
        return [Group(self, m, ~missing[m[0]]) for m in alike if not missing[m[0]].all()]

    def label(self, rdm: int) -> str:
        """An RDM by the names of its axes."""
        index = np.unravel_index(rdm, self.lead)
        return ", ".join(f"{axis} {i}" for axis, i in zip(self.axes, index, strict=True))
