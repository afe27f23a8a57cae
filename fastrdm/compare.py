"""RDMs × RDMs → similarities."""

import functools
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrdm import _kernels
from fastrdm._kernels import Prepared
from fastrdm.forms import (
    ASYMMETRY,
    as_floats,
    as_rdms,
    is_similarity,
    n_conditions,
    not_finite,
    square,
)
from fastrdm.labels import PAIRS, labels_of
from fastrdm.scales import summable

Floats = NDArray[np.float64]
Rows = NDArray[Any]  # float32 or float64
Mask = NDArray[np.bool_]
Counts = NDArray[np.int64]

NAN_POLICIES = ("raise", "omit", "propagate")
# RDMs are taken this many numbers at a time: 32 MB where they have to be widened or ranked into memory.
_AT_ONCE = 1 << 22
# As many RDMs as a message names.
_NAMED = 5


def compare(
    rdms1: ArrayLike,
    rdms2: ArrayLike,
    method: str = "spearman",
    *,
    nan_policy: str = "raise",
    n_threads: int | None = None,
) -> Floats:
    r"""Similarity of every RDM of one set to every RDM of another.

    With dissimilarities :math:`a, b` of p pairs of conditions, their average ranks :math:`R`, and the numbers of pairs
    of entries that both order alike (C), oppositely (D), and that differ within a (:math:`U_a`):

    ============== =========================================================================================
    ``spearman``   Pearson's r of :math:`R_a, R_b`
    ``rho-a``      :math:`12\,\langle R_a - \bar R, R_b - \bar R\rangle / (p^3 - p)`: the mean of Spearman's
                   coefficient over random orders of the ties (Schütt et al. 2023)
    ``tau-a``      :math:`(C - D) / \binom{p}{2}` (Kendall 1938; Nili et al. 2014)
    ``tau-b``      :math:`(C - D) / \sqrt{U_a U_b}` (Kendall 1945); alias ``kendall``
    ``corr``       Pearson's r of :math:`a, b`; alias ``pearson``
    ``cosine``     :math:`\langle a, b\rangle / (\lVert a\rVert\,\lVert b\rVert)`
    ``corr_cov``   ``cosine_cov`` of :math:`a - \bar a` and :math:`b - \bar b`
    ``cosine_cov`` :math:`a^\top V^{-1} b / \sqrt{a^\top V^{-1} a \; b^\top V^{-1} b}`, with V the covariance that
                   the estimates of distances have when patterns of conditions are equally noisy and independent,
                   :math:`V = C C^\top \circ C C^\top` for the contrasts C of all pairs (Diedrichsen et al. 2020);
                   V is never built
    ============== =========================================================================================

    Tied entries have their average rank, and count neither as concordant nor as discordant. C − D is exact.

    Parameters
    ----------
    rdms1, rdms2 : array_like, shape (n, pairs) or (pairs,), or dict of such of one shape
        Condensed RDMs over the same conditions in the same order; a dict is a stack of its RDMs in its order. Masked
        values are NaN. Square ones are refused, since a square array may as well be a stack of condensed RDMs: pass
        ``condense(rdms)``. Scales do not matter, nor whether squares of the values are within float64.
    method : str
        A name from the table above.
    nan_policy : str
        ``"raise"``: NaN is an error. ``"omit"``: two RDMs are compared on the pairs that neither of them has as NaN,
        ranked anew among those; other RDMs do not matter. ``"propagate"``: the similarities of an RDM with NaN are
        NaN.
    n_threads : int, optional
        Threads to use; the processors of this process by default.

    Returns
    -------
    ndarray of float64, shape (n1, n2)
        Between −1 and 1. NaN where an RDM is constant (``"cosine"`` and ``"cosine_cov"``: zero), since it has no
        correlation, but 0 for ``"rho-a"`` and ``"tau-a"``; and where ``"omit"`` leaves no pair.

    Warns
    -----
    RuntimeWarning
        One, naming the RDMs that are constant (zero) where that makes a similarity NaN.

    Raises
    ------
    ValueError
        If a shape is not that of condensed RDMs, the numbers of pairs differ, both carry labels of pairs (the columns
        of a DataFrame, a coordinate of a DataArray) that differ, an entry is infinite, or NaN under ``"raise"`` (the
        message says where), or the method or the policy is unknown.

    References
    ----------
    Nili et al. (2014), A toolbox for representational similarity analysis, PLoS Comput. Biol. 10(4).
    Diedrichsen, Berlot, Mur, Schütt, Shahbazi & Kriegeskorte (2020), Comparing representational geometries using
    whitened unbiased-distance-matrix similarity, arXiv:2007.02789.
    Schütt, Kipnis, Diedrichsen & Kriegeskorte (2023), Statistical inference on representational geometries, eLife 12.
    Knight (1966), A computer method for calculating Kendall's tau with ungrouped data, J. Am. Stat. Assoc. 61.
    """
    chosen = get_method(method)
    check_policy(nan_policy)
    first = condensed(as_rdms(rdms1, "rdms1"), "rdms1")
    second = condensed(as_rdms(rdms2, "rdms2"), "rdms2")
    labels, others = (
        labels_of(rdms, -1, name, PAIRS) for rdms, name in ((rdms1, "rdms1"), (rdms2, "rdms2"))
    )
    if labels is not None:
        labels.check(others)
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            f"rdms1 has {first.shape[1]} pairs ({n_conditions(first.shape[1])} conditions) and rdms2"
            f" {second.shape[1]} ({n_conditions(second.shape[1])})"
        )
    sides = (
        Side(chosen, first, nan_policy, "rdms1", n_threads=n_threads),
        Side(chosen, second, nan_policy, "rdms2", n_threads=n_threads),
    )
    similarities, undefined = chosen.similarity(*sides, n_threads)
    if undefined is not None:
        warn_undefined(chosen, undefined, *sides)
    return similarities


def rank(rdms: ArrayLike, *, n_threads: int | None = None) -> Floats:
    """Rank the entries of each RDM, from 1; exact.

    Parameters
    ----------
    rdms : array_like, shape (n, pairs) or (pairs,)
        Condensed RDMs.
    n_threads : int, optional
        Threads to use; the processors of this process by default.

    Returns
    -------
    ndarray of float64, shape of `rdms`
        Ranks within each RDM; ties have the average of theirs, as in `scipy.stats.rankdata`. −0 ties with 0.

    Raises
    ------
    ValueError
        If the shape is not that of condensed RDMs, or an entry is masked, NaN or infinite (the message says where).
    """
    array = as_floats(rdms, "rdms")
    rows = condensed(array, "rdms")
    check_values(rows, "rdms", ("RDM", "pair"), "raise")
    return _kernels.rank(np.ascontiguousarray(rows, np.float64), n_threads).reshape(array.shape)


def check_policy(nan_policy: str) -> None:
    """ValueError for an unknown policy."""
    if nan_policy not in NAN_POLICIES:
        raise ValueError(f"nan_policy {nan_policy!r} is not one of: {', '.join(NAN_POLICIES)}")


def check_values(array: Rows, name: str, axes: Sequence[str], nan_policy: str) -> None:
    """ValueError for infinity, and for NaN where the policy is to raise, that names the first by the axes given."""
    check_policy(nan_policy)
    # A sum is finite only if all its terms are; it saves the mask in the usual case.
    with np.errstate(all="ignore"):
        if np.isfinite(np.sum(array)):
            return
    rows = array.reshape(-1, array.shape[-1])
    n_bad, first = 0, (0, 0)
    for block in _blocks(*rows.shape):
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


def condensed(array: Rows, name: str) -> Rows:
    """Condensed RDMs as (n, pairs), where they lie if their rows are contiguous; their values are not looked at."""
    if array.ndim not in (1, 2):
        raise ValueError(
            f"{name} has shape {array.shape}; expected condensed RDMs, (n, pairs) or (pairs,): for square ones pass"
            f" condense({name})"
        )
    if array.ndim == 2 and array.shape[0] == array.shape[1] and _is_square_rdm(array):
        raise ValueError(
            f"{name} with shape {array.shape} looks like one square RDM or similarity matrix; expected condensed RDMs,"
            f" (n, pairs) or (pairs,): pass condense({name})"
        )
    n_conditions(array.shape[-1], name)
    return contiguous(array if array.ndim == 2 else array[None])


def _is_square_rdm(array: Rows) -> bool:
    """Whether (n, n) is symmetric, with a diagonal of zeros or NaN, or of each row's largest entry."""
    diagonal = array.diagonal()
    special = not np.nan_to_num(diagonal).any() or (
        len(array) > 1 and is_similarity(array, diagonal)
    )
    if not special:
        return False
    # Rounding makes correlations asymmetric.
    largest = np.abs(array[np.isfinite(array)]).max(initial=0.0)
    return np.allclose(array, array.T, rtol=0, atol=ASYMMETRY * largest, equal_nan=True)


def contiguous(array: Rows) -> Rows:
    """The array itself where its rows can be read where they lie, else a copy."""
    if array.strides[-1] == array.itemsize and array.flags.aligned:
        return array
    return np.ascontiguousarray(array)


def _blocks(n: int, n_columns: int) -> Iterator[slice]:
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
        blocks = list(_blocks(*first.rdms.shape))
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


def warn_undefined(
    method: Method, undefined: Mask, first: Side, second: Side, *, stacklevel: int = 3
) -> None:
    """Warn once of similarities that are NaN, and name the RDMs that make them so."""
    constant, said = [], []
    for axis, side in ((1, first), (0, second)):
        suspects = np.flatnonzero(undefined.any(axis=axis))
        found = [
            suspects[block][method.without(side.rdms[suspects[block]])]
            for block in _blocks(len(suspects), side.rdms.shape[1])
        ]
        constant.append(np.isin(np.arange(side.n), np.concatenate([np.empty(0, np.intp), *found])))
        named = [side.label(int(i)) for i in np.flatnonzero(constant[-1])]
        more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
        if named:
            said.append(f"{side.name}: {'; '.join(named[:_NAMED])}{more}")
    rest = np.argwhere(undefined & ~constant[0][:, None] & ~constant[1])
    if len(rest):
        i, j = (int(k) for k in rest[0])
        said.append(
            f"on the pairs that both have, {len(rest)} times, first {first.name} {first.label(i)} with"
            f" {second.name} {second.label(j)}"
        )
    warnings.warn(
        f"similarities are NaN where an RDM is {method.undefined} ({', '.join(said)})",
        RuntimeWarning,
        stacklevel=stacklevel,
    )


def get_method(method: str) -> Method:
    """The parts of a similarity; ValueError that lists those there are for an unknown name."""
    try:
        return METHODS[method]
    except KeyError:
        raise ValueError(f"method {method!r} is not one of: {', '.join(METHODS)}") from None


def _scale(rows: Rows) -> Prepared:
    # By the largest number, so that squares of very large or small ones stay in range.
    values = np.zeros((len(rows), _kernels.padded(rows.shape[1])))
    with np.errstate(invalid="ignore", divide="ignore"):
        largest = np.abs(rows).max(axis=1, keepdims=True)
        np.divide(rows, largest, out=values[:, : rows.shape[1]], dtype=np.float64)
    # An RDM of zeros is divided by zero, one that is not finite is NaN in part.
    squares = np.einsum("ij,ij->i", values, values)
    values[np.isnan(squares)] = 0
    return Prepared(values, squares)


def _unit(rows: Rows) -> Floats:
    scaled = _scale(rows)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(
            scaled.values[:, : rows.shape[1]] / np.sqrt(scaled.squares)[:, None], np.float64
        )


def _centre(rdms: Rows) -> Floats:
    with np.errstate(invalid="ignore", over="ignore"):
        mean = rdms.mean(axis=1, keepdims=True, dtype=np.float64)
        if not np.isfinite(mean).all():
            rdms = summable(rdms)
            mean = rdms.mean(axis=1, keepdims=True, dtype=np.float64)
        centred = rdms - mean
    centred[rdms.max(axis=1) == rdms.min(axis=1)] = 0
    return np.asarray(centred)


def _whiten(rdms: Rows, present: Mask) -> Floats:
    r"""RDMs as rows whose inner products are :math:`2\,a^\top V^{-1} b` up to a factor that is the same for all.

    For distances :math:`d_{ij} = G_{ii} + G_{jj} - 2 G_{ij}`, :math:`d^\top V^{-1} d` is up to a factor the least
    :math:`\sum_i G_{ii}^2 + 2 \sum_{i<j} G_{ij}^2` of any G with those distances, a least-squares problem in the
    diagonal, with B the pairs × conditions matrix of ones where a condition is in a pair:
    :math:`d^\top (I + B B^\top / 2)^{-1} d`. The square root of that matrix takes d to
    :math:`d + B f(B^\top B) B^\top d`, :math:`f(s) = -1 / (2 u (1 + u))`, :math:`u = \sqrt{1 + s/2}`.
    """
    n = n_conditions(len(present))
    first, second = (index[present] for index in np.triu_indices(n, 1))
    whole = np.zeros((len(rdms), len(present)))
    whole[:, present] = rdms
    sums = square(whole).sum(axis=2)
    if present.all():
        # BᵀB = (n − 2) I + 11ᵀ has two eigenvalues.
        mean = sums.mean(axis=1, keepdims=True)
        terms = _root_term(np.array([n - 2, 2 * n - 2]))
        spread = terms[0] * (sums - mean) + terms[1] * mean
    else:
        shared = square(present.astype(np.float64))
        values, vectors = np.linalg.eigh(shared + np.diag(shared.sum(axis=0)))
        spread = sums @ vectors * _root_term(values.clip(0)) @ vectors.T
    whitened = rdms + spread[:, first]
    whitened += spread[:, second]
    return np.asarray(whitened)


def _root_term(s: Floats) -> Floats:
    u = np.sqrt(1 + s / 2)
    return np.asarray(-0.5 / (u * (1 + u)))


def _centred_ranks(rdms: Rows, present: Mask, n_threads: int | None) -> Prepared:
    return _kernels.centred_ranks(rdms, n_threads)


def _rho_a(rdms: Rows, present: Mask, n_threads: int | None) -> Prepared:
    ranks = _kernels.centred_ranks(rdms, n_threads)
    squares = np.where(np.isnan(ranks.squares), np.nan, _untied_squares(rdms.shape[1]))
    return Prepared(ranks.values, squares)


def _untied_squares(n: int) -> float:
    return (float(n) ** 3 - n) / 3


def _corr(rdms: Rows, present: Mask, n_threads: int | None) -> Prepared:
    return _scale(_centre(rdms))


def _cosine(rdms: Rows, present: Mask, n_threads: int | None) -> Prepared:
    return _scale(rdms)


def _corr_cov(rdms: Rows, present: Mask, n_threads: int | None) -> Prepared:
    return _cosine_cov(_centre(rdms), present, n_threads)


def _cosine_cov(rdms: Rows, present: Mask, n_threads: int | None) -> Prepared:
    return _scale(_whiten(_unit(rdms), present))


def _ranks(rdms: Rows, present: Mask, n_threads: int | None) -> Prepared:
    # No squares, but what tells an RDM that is not finite.
    finite = np.isfinite(rdms).all(axis=1)
    ranks = _kernels.rank(np.ascontiguousarray(rdms, np.float64), n_threads)
    ranks[~finite] = 1
    return Prepared(ranks, np.where(finite, 1.0, np.nan))


def _spearman_with(
    rdms: Rows, present: Mask, other: Prepared, paired: bool, n_threads: int | None
) -> Floats:
    return _kernels.rank_similarities(rdms, other, paired=paired, n_threads=n_threads)


def _rho_a_with(
    rdms: Rows, present: Mask, other: Prepared, paired: bool, n_threads: int | None
) -> Floats:
    squares = _untied_squares(rdms.shape[1])
    return _kernels.rank_similarities(rdms, other, squares, paired=paired, n_threads=n_threads)


def _tau_a(difference: Counts, untied1: Counts, untied2: Counts, n: int) -> Floats:
    return np.asarray(difference / (n * (n - 1) / 2))


def _tau_b(difference: Counts, untied1: Counts, untied2: Counts, n: int) -> Floats:
    return np.asarray(np.clip(difference / (np.sqrt(untied1)[:, None] * np.sqrt(untied2)), -1, 1))


def _ranks_of(rdms: Rows, other: Prepared) -> Rows:
    return other.values


def _ranks_of_centred(rdms: Rows, other: Prepared) -> Rows:
    n = rdms.shape[1]
    return np.asarray((other.values[:, :n] + np.float64(n + 1)) / 2)


def _z_scores(rdms: Rows, other: Prepared) -> Rows:
    return _unit_squares(_centre(rdms), other)


def _unit_squares(rdms: Rows, other: Prepared) -> Rows:
    # A mean square of 1, not a length: an RDM that lacks pairs weighs as much as another in those it has.
    return np.asarray(_unit(rdms) * np.sqrt(rdms.shape[1]))


def _by_products(
    prepare: Callable[[Rows, Mask, int | None], Prepared],
    pooled: Callable[[Rows, Prepared], Rows],
    undefined: str,
) -> Method:
    def combine(
        rdms: Rows, present: Mask, other: Prepared, paired: bool, n_threads: int | None
    ) -> Floats:
        rows = prepare(rdms, present, n_threads)
        return _kernels.similarities(rows, other, paired=paired, n_threads=n_threads)

    return Method(prepare, combine, pooled, undefined)


def _by_order(tau: Callable[[Counts, Counts, Counts, int], Floats]) -> Method:
    def combine(
        rdms: Rows, present: Mask, other: Prepared, paired: bool, n_threads: int | None
    ) -> Floats:
        rows = _ranks(rdms, present, n_threads)
        if paired:
            return np.concatenate([of(rows, other, i, n_threads) for i in range(len(rdms))])
        return of(rows, other, None, n_threads)

    def of(rows: Prepared, other: Prepared, i: int | None, n_threads: int | None) -> Floats:
        chosen = slice(None) if i is None else slice(i, i + 1)
        difference, untied1, untied2 = _kernels.concordance(
            rows.values[chosen], other.values[chosen], n_threads
        )
        with np.errstate(invalid="ignore"):
            similarity = tau(difference, untied1, untied2, rows.values.shape[1])
        return similarity * rows.squares[chosen, None] * other.squares[chosen]

    return Method(_ranks, combine, _ranks_of, "constant", ordinal=True)


METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "spearman": Method(
            _centred_ranks, _spearman_with, _ranks_of_centred, "constant", ordinal=True
        ),
        "rho-a": Method(_rho_a, _rho_a_with, _ranks_of_centred, "constant", ordinal=True),
        "tau-a": _by_order(_tau_a),
        "tau-b": _by_order(_tau_b),
        "kendall": _by_order(_tau_b),
        "corr": _by_products(_corr, _z_scores, "constant"),
        "pearson": _by_products(_corr, _z_scores, "constant"),
        "cosine": _by_products(_cosine, _unit_squares, "zero"),
        "corr_cov": _by_products(_corr_cov, _z_scores, "constant"),
        "cosine_cov": _by_products(_cosine_cov, _unit_squares, "zero"),
    }
)
