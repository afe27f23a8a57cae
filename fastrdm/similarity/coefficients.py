"""The coefficients by name, and how each is computed from prepared RDMs."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from fastrdm import _kernels
from fastrdm._base import choose, n_conditions, square
from fastrdm._kernels import Prepared
from fastrdm.similarity.scales import summable
from fastrdm.similarity.sides import Floats, Mask, Method, Rows

Counts = NDArray[np.int64]


def get_method(method: str) -> Method:
    """The parts of a similarity; ValueError that lists those there are for an unknown name."""
    return choose(method, METHODS, "method")


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
