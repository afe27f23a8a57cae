"""RDMs × RDMs → similarities."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrdm import _kernels
from fastrdm.forms import as_floats, check_finite, n_conditions, square

Rows = NDArray[np.float64]
Mask = NDArray[np.bool_]

NAN_POLICIES = ("raise", "omit", "propagate")


def compare(
    rdms1: ArrayLike,
    rdms2: ArrayLike,
    method: str = "spearman",
    *,
    nan_policy: str = "raise",
    n_threads: int | None = None,
) -> Rows:
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
    rdms1, rdms2 : array_like, shape (n, pairs) or (pairs,)
        Condensed RDMs over the same conditions in the same order. Square ones are refused, since a square array may
        as well be a stack of condensed RDMs: pass ``condense(rdms)``.
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

    Raises
    ------
    ValueError
        If a shape is not that of condensed RDMs, the numbers of pairs differ, an entry is infinite, or NaN under
        ``"raise"`` (the message says where), or the method or the policy is unknown.

    References
    ----------
    Nili et al. (2014), A toolbox for representational similarity analysis, PLoS Comput. Biol. 10(4).
    Diedrichsen, Berlot, Mur, Schütt, Shahbazi & Kriegeskorte (2020), Comparing representational geometries using
    whitened unbiased-distance-matrix similarity, arXiv:2007.02789.
    Schütt, Kipnis, Diedrichsen & Kriegeskorte (2023), Statistical inference on representational geometries, eLife 12.
    Knight (1966), A computer method for calculating Kendall's tau with ungrouped data, J. Am. Stat. Assoc. 61.
    """
    chosen = get_method(method)
    first, second = (
        _condensed(rdms, name, nan_policy) for rdms, name in ((rdms1, "rdms1"), (rdms2, "rdms2"))
    )
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            f"rdms1 has {first.shape[1]} pairs ({n_conditions(first.shape[1])} conditions) and rdms2"
            f" {second.shape[1]} ({n_conditions(second.shape[1])})"
        )
    return chosen.similarity(
        Side(chosen, first, nan_policy, n_threads),
        Side(chosen, second, nan_policy, n_threads),
        n_threads,
    )


def rank(rdms: ArrayLike, *, n_threads: int | None = None) -> Rows:
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
        If the shape is not that of condensed RDMs, or an entry is NaN or infinite (the message says where).
    """
    return _kernels.rank(_condensed(rdms, "rdms", "raise"), n_threads).reshape(np.shape(rdms))


def check_values(array: NDArray[np.floating], name: str, axes: Sequence[str], policy: str) -> None:
    """ValueError for infinity, and for NaN where the policy is to raise, that names the first by the axes given."""
    if policy not in NAN_POLICIES:
        raise ValueError(f"nan_policy {policy!r} is not one of: {', '.join(NAN_POLICIES)}")
    check_finite(
        array if policy == "raise" else np.nan_to_num(array, posinf=np.inf, neginf=-np.inf),
        name,
        axes,
    )


def _condensed(rdms: ArrayLike, name: str, nan_policy: str) -> Rows:
    array = as_floats(rdms, name)
    if array.ndim not in (1, 2):
        raise ValueError(
            f"{name} has shape {array.shape}; expected condensed RDMs, (n, pairs) or (pairs,): for square ones pass"
            f" condense({name})"
        )
    if (
        array.ndim == 2
        and array.shape[0] == array.shape[1]
        and (not array.diagonal().any() and np.array_equal(array, array.T, equal_nan=True))
    ):
        raise ValueError(
            f"{name} with shape {array.shape} looks like one square RDM; expected condensed RDMs, (n, pairs) or"
            f" (pairs,): pass condense({name})"
        )
    n_conditions(array.shape[-1], name)
    check_values(array, name, ("RDM", "pair") if array.ndim == 2 else ("pair",), nan_policy)
    return np.ascontiguousarray(np.atleast_2d(array), np.float64)


Prepare = Callable[[Rows, Mask, int | None], Rows]
Pool = Callable[[Rows, int | None], Rows]
Combine = Callable[[Rows, Rows, int | None], Rows]


@dataclass(frozen=True)
class Method:
    """A similarity in its parts.

    Attributes
    ----------
    prepare : callable
        RDMs (n, pairs left), which of all pairs those are, and a number of threads → rows: what needs to be done once
        for an RDM, however many it is compared with.
    combine : callable
        Rows (n1, …) and (n2, …), threads → similarities (n1, n2).
    rowwise : callable
        Rows (n, …) and (n, …), threads → similarities (n,) of row i with row i.
    pooled : callable
        RDMs, threads → what rsatoolbox averages over subjects under the name of the method.
    """

    prepare: Prepare
    combine: Combine
    rowwise: Combine
    pooled: Pool

    def similarity(self, first: "Side", second: "Side", n_threads: int | None) -> Rows:
        """Similarities (n1, n2), each on the pairs that both RDMs have."""
        out = np.full((first.n, second.n), np.nan)
        for one in first.groups:
            for other in second.groups:
                present = one.present & other.present
                if present.any():
                    out[np.ix_(one.members, other.members)] = self.combine(
                        one.on(present), other.on(present), n_threads
                    )
        return out

    def paired(self, first: "Side", second: Rows, n_threads: int | None) -> Rows:
        """Similarities (n,) of each RDM of one set to its counterpart, on the pairs that both have."""
        out = np.full(first.n, np.nan)
        for one in first.groups:
            for other in Side(self, second[one.members], "omit", n_threads).groups:
                present = one.present & other.present
                if present.any():
                    out[one.members[other.members]] = self.rowwise(
                        one.on(present)[other.members], other.on(present), n_threads
                    )
        return out


class Group:
    """RDMs that have the same pairs, prepared on those at the first need."""

    def __init__(
        self,
        method: Method,
        members: NDArray[np.intp],
        present: Mask,
        rdms: Rows,
        n_threads: int | None,
    ) -> None:
        self.members, self.present, self.rdms = members, present, rdms
        self._method, self._n_threads = method, n_threads

    @functools.cached_property
    def rows(self) -> Rows:
        """The prepared RDMs, in the order of `members`."""
        return self._method.prepare(self.rdms, self.present, self._n_threads)

    def on(self, present: Mask) -> Rows:
        """The RDMs prepared on some of the pairs that they have."""
        left = present[self.present]
        if left.all():
            return self.rows
        return self._method.prepare(
            np.ascontiguousarray(self.rdms[:, left]), present, self._n_threads
        )


class Side:
    """A set of RDMs in groups that have the same pairs; those that the policy gives no similarity are in none."""

    def __init__(
        self, method: Method, rdms: Rows, nan_policy: str, n_threads: int | None = None
    ) -> None:
        self.n, self.n_pairs = rdms.shape
        self.groups = [
            Group(
                method,
                members,
                present,
                rdms
                if len(members) == self.n and present.all()
                else rdms[np.ix_(members, present)],
                n_threads,
            )
            for members, present in _by_presence(rdms, nan_policy)
        ]


def _by_presence(rdms: Rows, nan_policy: str) -> list[tuple[NDArray[np.intp], Mask]]:
    complete = np.ones(rdms.shape[1], bool)
    missing = np.isnan(rdms) if nan_policy != "raise" else None
    if missing is None or not missing.any():
        return [(np.arange(len(rdms)), complete)]
    if nan_policy == "propagate":
        return [(np.flatnonzero(~missing.any(axis=1)), complete)]
    masks, which = np.unique(np.packbits(missing, axis=1), axis=0, return_inverse=True)
    groups = [np.flatnonzero(which.ravel() == k) for k in range(len(masks))]
    return [(members, ~missing[members[0]]) for members in groups if not missing[members[0]].all()]


def get_method(method: str) -> Method:
    """The parts of a similarity; ValueError that lists those there are for an unknown name."""
    try:
        return METHODS[method]
    except KeyError:
        raise ValueError(f"method {method!r} is not one of: {', '.join(METHODS)}") from None


def _normalise(rows: Rows) -> Rows:
    # Scaled first, so that squares of very large or small numbers stay in range.
    with np.errstate(invalid="ignore", divide="ignore"):
        rows = rows / np.abs(rows).max(axis=1, keepdims=True)
        return np.asarray(rows / np.sqrt(np.einsum("ij,ij->i", rows, rows))[:, None])


def _centre(rdms: Rows) -> Rows:
    centred = rdms - rdms.mean(axis=1, keepdims=True)
    centred[rdms.max(axis=1) == rdms.min(axis=1)] = 0
    return np.asarray(centred)


def _whiten(rdms: Rows, present: Mask) -> Rows:
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
    return np.asarray(rdms + spread[:, first] + spread[:, second])


def _root_term(s: Rows) -> Rows:
    u = np.sqrt(1 + s / 2)
    return np.asarray(-0.5 / (u * (1 + u)))


def _ranks(rdms: Rows, present: Mask, n_threads: int | None) -> Rows:
    return _kernels.rank(rdms, n_threads)


def _spearman(rdms: Rows, present: Mask, n_threads: int | None) -> Rows:
    return _normalise(_kernels.rank(rdms, n_threads) - (rdms.shape[1] + 1) / 2)


def _rho_a(rdms: Rows, present: Mask, n_threads: int | None) -> Rows:
    n = rdms.shape[1]
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = np.sqrt(np.divide(12, n**3 - n))
        return np.asarray((_kernels.rank(rdms, n_threads) - (n + 1) / 2) * scale)


def _corr(rdms: Rows, present: Mask, n_threads: int | None) -> Rows:
    return _normalise(_centre(rdms))


def _cosine(rdms: Rows, present: Mask, n_threads: int | None) -> Rows:
    return _normalise(rdms)


def _corr_cov(rdms: Rows, present: Mask, n_threads: int | None) -> Rows:
    return _cosine_cov(_centre(rdms), present, n_threads)


def _cosine_cov(rdms: Rows, present: Mask, n_threads: int | None) -> Rows:
    return _normalise(_whiten(_normalise(rdms), present))


def _z_scores(rdms: Rows, n_threads: int | None) -> Rows:
    return _unit_squares(_centre(rdms), n_threads)


def _unit_squares(rdms: Rows, n_threads: int | None) -> Rows:
    # A mean square of 1, not a length: an RDM that lacks pairs weighs as much as another in those it has.
    return np.asarray(_normalise(rdms) * np.sqrt(rdms.shape[1]))


def _products(first: Rows, second: Rows, n_threads: int | None) -> Rows:
    # Kept within the bounds against rounding.
    return np.asarray(np.clip(_kernels.cross(first, second, n_threads), -1, 1))


def _row_products(first: Rows, second: Rows, n_threads: int | None) -> Rows:
    return np.asarray(np.clip(np.sum(first * second, axis=1), -1, 1))


def _tau_a(first: Rows, second: Rows, n_threads: int | None) -> Rows:
    difference, _, _ = _kernels.concordance(first, second, n_threads)
    n = first.shape[1]
    with np.errstate(invalid="ignore"):
        return np.asarray(difference / (n * (n - 1) / 2))


def _tau_b(first: Rows, second: Rows, n_threads: int | None) -> Rows:
    difference, untied1, untied2 = _kernels.concordance(first, second, n_threads)
    with np.errstate(invalid="ignore"):
        tau = difference / (np.sqrt(untied1)[:, None] * np.sqrt(untied2))
    return np.asarray(np.clip(tau, -1, 1))


def _one_by_one(combine: Combine, first: Rows, second: Rows, n_threads: int | None) -> Rows:
    pairs = zip(first, second, strict=True)
    return np.array([combine(a[None], b[None], n_threads)[0, 0] for a, b in pairs])


def _by_products(prepare: Prepare, pooled: Pool) -> Method:
    return Method(prepare, _products, _row_products, pooled)


def _by_order(combine: Combine) -> Method:
    return Method(_ranks, combine, functools.partial(_one_by_one, combine), _kernels.rank)


METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "spearman": _by_products(_spearman, _kernels.rank),
        "rho-a": _by_products(_rho_a, _kernels.rank),
        "tau-a": _by_order(_tau_a),
        "tau-b": _by_order(_tau_b),
        "kendall": _by_order(_tau_b),
        "corr": _by_products(_corr, _z_scores),
        "pearson": _by_products(_corr, _z_scores),
        "cosine": _by_products(_cosine, _unit_squares),
        "corr_cov": _by_products(_corr_cov, _z_scores),
        "cosine_cov": _by_products(_cosine_cov, _unit_squares),
    }
)
