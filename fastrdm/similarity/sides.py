"""The RDMs on one side of a comparison, in groups with the same missing pairs, and the similarities of two sides."""

import functools
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import check_choice, check_finite
from fastrdm._kernels import Prepared
from fastrdm.similarity.coefficients import Mask, Rows
from fastrdm.similarity.numerics import Floats, blocks_of, is_large, is_mapped, release
from fastrdm.similarity.table import Similarity

NAN_POLICIES = ("raise", "omit", "propagate")


def check_policy(nan_policy: str) -> None:
    """Raise ValueError for an unknown policy."""
    check_choice(nan_policy, NAN_POLICIES, "nan_policy")


def check_values(array: Rows, name: str, axes: Sequence[str], nan_policy: str) -> None:
    """Raise ValueError for infinity, and for NaN under ``"raise"``; `axes` names the axes in the message."""
    check_policy(nan_policy)
    check_finite(array, name, axes[-array.ndim :], allow_nan=nan_policy != "raise")


class SideGroup:
    """RDMs of a side that have the same pairs."""

    def __init__(self, side: "Side", members: NDArray[np.intp], present: Mask) -> None:
        self.members, self.present = members, present
        # The side holds its groups; a cycle would keep large arrays until the next collection.
        self._side: Side = weakref.proxy(side)

    @functools.cached_property
    def whole(self) -> Prepared:
        """All RDMs of the group, prepared on all their pairs."""
        return self._prepare(self.members, self.present, self._side.n_threads)

    def values(self, members: NDArray[np.intp], present: Mask) -> Rows:
        """Return some of the RDMs on some of their pairs."""
        rdms = self._side.rdms
        if present.all():
            out = rdms[members]
        else:
            # Row by row, because indices of pairs take more memory than a row.
            out = np.empty((len(members), np.count_nonzero(present)), rdms.dtype)
            for row, member in zip(out, members, strict=True):
                row[:] = rdms[member][present]
        if is_large(rdms):
            release(rdms)
        return out

    def prepared(self, members: NDArray[np.intp], present: Mask, n_threads: int | None) -> Prepared:
        """Return some of the RDMs, prepared on some of their pairs."""
        is_kept = not self._side.method.grows(self._side.rdms)
        if is_kept and len(members) == len(self.members) and np.array_equal(present, self.present):
            return self.whole
        return self._prepare(members, present, n_threads)

    def _prepare(self, members: NDArray[np.intp], present: Mask, n_threads: int | None) -> Prepared:
        return self._side.method.prepare(self.values(members, present), present, n_threads)


class Side:
    """RDMs (n, pairs), as a whole and in groups that have the same pairs.

    RDMs without a similarity under the policy are in no group. `axes` names the indices of an RDM, `lead` holds their
    lengths if there are several.
    """

    def __init__(
        self,
        method: Similarity,
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
        self._parent: Side | None = None
        self._checked = False
        #: Prepared RDMs on devices, by the device's name.
        self.on_devices: dict[str, Any] = {}
        # Whether a pair is missing; None before a check.
        self._has_gaps: bool | None = None
        if prepared is not None:
            self.whole = prepared

    def part(self, block: slice) -> "Side":
        """Return some of the RDMs; a check of their values checks the values of all RDMs."""
        part = Side(self.method, self.rdms[block], self.nan_policy, self.name, axes=self.axes)
        part._parent, part.n_threads = self, self.n_threads
        return part

    @property
    def n(self) -> int:
        """Number of RDMs."""
        return len(self.rdms)

    @functools.cached_property
    def whole(self) -> Prepared:
        """All RDMs prepared on all pairs."""
        everything = np.ones(self.rdms.shape[1], bool)
        if not (is_large(self.rdms) and is_mapped(self.rdms)):
            return self.method.prepare(self.rdms, everything, self.n_threads)
        width = self.method.prepared_length(self.rdms.shape[1])
        values = np.empty((self.n, width), self.method.sample.values.dtype)
        squares = np.empty(self.n)
        for i in range(self.n):
            one = self.method.prepare(self.rdms[i : i + 1], everything, self.n_threads)
            values[i], squares[i] = one.values[0], one.squares[0]
            release(self.rdms)
        return Prepared(values, squares)

    @property
    def grows(self) -> bool:
        """Whether the RDMs are prepared for each comparison, because prepared ones are too large to keep."""
        return self.method.grows(self.rdms)

    def check(self) -> None:
        """Raise ValueError for values that the policy refuses, and find out whether pairs are missing."""
        whole = self._parent or self
        if not whole._checked:
            shaped = whole.rdms.reshape(*whole.lead, whole.rdms.shape[1])
            check_values(shaped, self.name, (*self.axes, "pair"), self.nan_policy)
            whole._checked = True
        if self._has_gaps is None:
            blocks = blocks_of(*self.rdms.shape)
            self._has_gaps = any(bool(np.isnan(self.rdms[block]).any()) for block in blocks)

    @property
    def is_whole(self) -> bool:
        """Whether no pair is known to be missing; `check` finds the missing pairs."""
        return not self._has_gaps

    @functools.cached_property
    def groups(self) -> list[SideGroup]:
        """The RDMs, grouped by the pairs that they have."""
        self.check()
        missing = np.isnan(self.rdms)
        if is_large(self.rdms):
            release(self.rdms)
        if self.is_whole or self.nan_policy == "propagate":
            complete = np.ones(self.rdms.shape[1], bool)
            return [SideGroup(self, np.flatnonzero(~missing.any(axis=1)), complete)]
        # As bytes: along an axis, `np.unique` makes a type with a field for each column.
        packed = np.packbits(missing, axis=1)
        packed = packed.view(np.dtype((np.void, packed.shape[1])))
        masks, which = np.unique(packed, return_inverse=True)
        alike = [np.flatnonzero(which.ravel() == k) for k in range(len(masks))]
        return [SideGroup(self, m, ~missing[m[0]]) for m in alike if not missing[m[0]].all()]

    def label(self, rdm: int) -> str:
        """Return the indices of an RDM with the names of their axes."""
        index = np.unravel_index(rdm, self.lead)
        return ", ".join(f"{axis} {i}" for axis, i in zip(self.axes, index, strict=True))


def compare_sides(first: Side, second: Side, *, paired: bool = False) -> tuple[Floats, Mask]:
    """Return similarities (n1, n2), or (n, 1) if paired, and a mask of the undefined ones.

    Two RDMs are compared on the pairs that both have; similarities that are NaN because of missing pairs do not count
    as undefined. Values are checked only if a result is NaN, because every value that must be refused leads to one.
    """
    blocks = list(blocks_of(*first.rdms.shape))
    if paired or len(blocks) <= 1:
        return _compare_block(first, second, paired)
    parts = [_compare_block(first.part(block), second, False) for block in blocks]
    return np.concatenate([part for part, _ in parts]), np.concatenate([mask for _, mask in parts])


def _compare_block(first: Side, second: Side, paired: bool) -> tuple[Floats, Mask]:
    if second.is_whole:
        everything = np.ones(first.rdms.shape[1], bool)
        if second.grows and not paired:
            out = _combine_each(first, second, everything)
        else:
            combine = first.method.combine
            out = combine(first.rdms, everything, second.whole, paired, first.n_threads)
        undefined = np.isnan(out)
        if not undefined.any():
            return out, undefined
        first.check()
        second.check()
        if first.is_whole and second.is_whole:
            return out, undefined
    return _compare_groups(first, second, paired)


def _combine_each(first: Side, second: Side, everything: Mask) -> Floats:
    """Prepare the first RDMs once, and each of the second ones when it is compared."""
    method, n_threads = first.method, first.n_threads
    base = method.prepare(first.rdms, everything, n_threads)
    columns = [
        method.combine(second.rdms[j : j + 1], everything, base, False, n_threads)
        for j in range(second.n)
    ]
    return np.ascontiguousarray(np.concatenate(columns).T)


def _compare_groups(first: Side, second: Side, paired: bool) -> tuple[Floats, Mask]:
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
            rdms = one.values(members, present)
            at_once = 1 if second.grows and not paired else max(1, len(others))
            for some in (others[k : k + at_once] for k in range(0, len(others), at_once)):
                here = np.ix_(members, np.zeros(1, np.intp) if paired else some)
                prepared = other.prepared(some, present, first.n_threads)
                found = first.method.combine(rdms, present, prepared, paired, first.n_threads)
                out[here], undefined[here] = found, np.isnan(found)
    return out, undefined
