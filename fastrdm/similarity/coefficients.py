"""The steps of each similarity: how RDMs are prepared, combined, and standardised for pooling.

`table` lists which similarity consists of which steps.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm import _kernels
from fastrdm._base import n_conditions, square
from fastrdm._kernels import Prepared
from fastrdm.similarity.numerics import Floats, is_large, summable

Rows = NDArray[Any]  # float32 or float64
Mask = NDArray[np.bool_]
PairCounts = NDArray[np.int64]
# RDMs (n, pairs left), which of all pairs those are, number of threads.
Prepare = Callable[[Rows, Mask, int | None], Prepared]
# RDMs (n1, pairs left), which pairs, n2 prepared RDMs, whether only row i is compared with row i, number of threads.
Combine = Callable[[Rows, Mask, Prepared, bool, int | None], Floats]


def scale(rows: Rows) -> Prepared:
    """Divide each RDM by its largest magnitude."""
    # Division by the largest value keeps squares of very large or small values in range.
    values = np.zeros((len(rows), _kernels.padded(rows.shape[1])))
    with np.errstate(invalid="ignore", divide="ignore"):
        np.divide(rows, _largest_of(rows), out=values[:, : rows.shape[1]], dtype=np.float64)
    # Rows of zeros are divided by zero; rows that are not finite are partly NaN.
    squares = np.einsum("ij,ij->i", values, values)
    values[np.isnan(squares)] = 0
    return Prepared(values, squares)


def _largest_of(rows: Rows) -> Rows:
    """Return the largest magnitude of each row, (n, 1); NaN for a row with NaN."""
    return np.asarray(np.maximum(rows.max(axis=1, keepdims=True), -rows.min(axis=1, keepdims=True)))


def _unit(rows: Rows) -> Floats:
    unit = scale(rows)
    values = unit.values[:, : rows.shape[1]]
    with np.errstate(invalid="ignore", divide="ignore"):
        values /= np.sqrt(unit.squares)[:, None]
    return values


def centre(rdms: Rows) -> Floats:
    """Subtract the mean of each RDM."""
    with np.errstate(invalid="ignore", over="ignore"):
        mean = rdms.mean(axis=1, keepdims=True, dtype=np.float64)
        if not np.isfinite(mean).all():
            rdms = summable(rdms)
            mean = rdms.mean(axis=1, keepdims=True, dtype=np.float64)
        out = rdms - mean
    out[rdms.max(axis=1) == rdms.min(axis=1)] = 0
    return np.asarray(out)


def whiten(rdms: Rows, present: Mask) -> Floats:
    r"""Return rows with inner products :math:`2\,a^\top V^{-1} b`, up to a factor common to all rows.

    For distances :math:`d_{ij} = G_{ii} + G_{jj} - 2 G_{ij}`, :math:`d^\top V^{-1} d` is, up to a factor, the minimum
    of :math:`\sum_i G_{ii}^2 + 2 \sum_{i<j} G_{ij}^2` over all G with those distances. This is a least-squares problem
    in the diagonal. With the pairs × conditions matrix B, which has a one where a condition belongs to a pair, it is
    :math:`d^\top (I + B B^\top / 2)^{-1} d`. The square root of that matrix maps d to
    :math:`d + B f(B^\top B) B^\top d`, :math:`f(s) = -1 / (2 u (1 + u))`, :math:`u = \sqrt{1 + s/2}`.
    """
    if is_large(rdms) and present.all():
        return np.concatenate([_whiten_whole(rdm)[None] for rdm in rdms])
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
    out = rdms + spread[:, first]
    out += spread[:, second]
    return np.asarray(out)


def _whiten_whole(rdm: Rows) -> Floats:
    """Whiten an RDM (pairs,) without missing pairs, row by row of its square form."""
    n = n_conditions(len(rdm))
    index = np.arange(n)
    starts = index * n - index * (index + 1) // 2
    out, sums = rdm.astype(np.float64), np.zeros(n)
    for i, start in enumerate(starts[:-1]):
        row = out[start : start + n - 1 - i]
        sums[i] += row.sum()
        sums[i + 1 :] += row
    mean = sums.mean()
    terms = _root_term(np.array([n - 2, 2 * n - 2]))
    spread = terms[0] * (sums - mean) + terms[1] * mean
    for i, start in enumerate(starts[:-1]):
        row = out[start : start + n - 1 - i]
        row += spread[i]
        row += spread[i + 1 :]
    return out


def _root_term(s: Floats) -> Floats:
    u = np.sqrt(1 + s / 2)
    return np.asarray(-0.5 / (u * (1 + u)))


def centred_ranks(rdms: Rows, present: Mask, n_threads: int | None) -> Prepared:
    """Rank and centre each RDM."""
    return _kernels.centred_ranks(rdms, n_threads)


def untied_ranks(rdms: Rows, present: Mask, n_threads: int | None) -> Prepared:
    """Rank and centre each RDM, with the sum of squares of ranks without ties."""
    ranked = _kernels.centred_ranks(rdms, n_threads)
    return Prepared(ranked.values, untied(ranked.squares, rdms.shape[1]))


def untied(squares: Floats, n: int) -> Floats:
    """Return the sum of squares of n ranks without ties for each row, NaN where it is NaN."""
    return np.where(np.isnan(squares), np.nan, _untied_squares(n))


def _untied_squares(n: int) -> float:
    return (float(n) ** 3 - n) / 3


def ranks(rdms: Rows, present: Mask, n_threads: int | None) -> Prepared:
    """Rank each RDM; the squares are 1, or NaN for an RDM that is not finite."""
    finite = np.isfinite(rdms).all(axis=1)
    ranked = _kernels.rank(np.ascontiguousarray(rdms, np.float64), n_threads)
    ranked[~finite] = 1
    return Prepared(ranked, np.where(finite, 1.0, np.nan))


def _scaled(transform: Callable[[Rows, Mask], Rows]) -> Prepare:
    return lambda rdms, present, n_threads: scale(transform(rdms, present))


scaled = _scaled(lambda rdms, present: rdms)
centred = _scaled(lambda rdms, present: centre(rdms))
whitened = _scaled(lambda rdms, present: whiten(_unit(rdms), present))
centred_whitened = _scaled(lambda rdms, present: whiten(_unit(centre(rdms)), present))


def multiply_ranks(*, untied: bool) -> Combine:
    """Return the product of centred ranks; `untied` divides by the sum of squares of ranks without ties."""

    def combine(
        rdms: Rows, present: Mask, other: Prepared, paired: bool, n_threads: int | None
    ) -> Floats:
        squares = _untied_squares(rdms.shape[1]) if untied else None
        return _kernels.rank_similarities(rdms, other, squares, paired=paired, n_threads=n_threads)

    return combine


def multiply(prepare: Prepare) -> Combine:
    """Return the normalised product of RDMs that are prepared in this way."""

    def combine(
        rdms: Rows, present: Mask, other: Prepared, paired: bool, n_threads: int | None
    ) -> Floats:
        rows = prepare(rdms, present, n_threads)
        return _kernels.similarities(rows, other, paired=paired, n_threads=n_threads)

    return combine


def count_concordance(tau: Callable[[PairCounts, PairCounts, PairCounts, int], Floats]) -> Combine:
    """Return Kendall's tau from the numbers of concordant, discordant and untied pairs of entries."""

    def combine(
        rdms: Rows, present: Mask, other: Prepared, paired: bool, n_threads: int | None
    ) -> Floats:
        rows, parts = ranks(rdms, present, n_threads), []
        for chosen in [slice(i, i + 1) for i in range(len(rdms))] if paired else [slice(None)]:
            counts = _kernels.concordance(rows.values[chosen], other.values[chosen], n_threads)
            with np.errstate(invalid="ignore"):
                similarity = tau(*counts, rdms.shape[1])
            parts.append(similarity * rows.squares[chosen, None] * other.squares[chosen])
        return np.concatenate(parts)

    return combine


def tau_a(difference: PairCounts, untied1: PairCounts, untied2: PairCounts, n: int) -> Floats:
    """Return tau-a: concordant less discordant pairs, over all pairs of n entries."""
    return np.asarray(difference / (n * (n - 1) / 2))


def tau_b(difference: PairCounts, untied1: PairCounts, untied2: PairCounts, n: int) -> Floats:
    """Return tau-b: concordant less discordant pairs, over the geometric mean of the numbers of untied ones."""
    return np.asarray(np.clip(difference / (np.sqrt(untied1)[:, None] * np.sqrt(untied2)), -1, 1))


def prepared_ranks(rdms: Rows, prepared: Prepared) -> Rows:
    """Return the ranks, as prepared."""
    return prepared.values


def uncentred_ranks(rdms: Rows, prepared: Prepared) -> Rows:
    """Return the ranks, from prepared centred ones."""
    n = rdms.shape[1]
    return np.asarray((prepared.values[:, :n] + np.float64(n + 1)) / 2)


def z_scores(rdms: Rows, prepared: Prepared) -> Rows:
    """Return RDMs with a mean of 0 and a standard deviation of 1."""
    return unit_squares(centre(rdms), prepared)


def unit_squares(rdms: Rows, prepared: Prepared) -> Rows:
    """Return RDMs with a mean square of 1, whose weight in a pool does not depend on the number of pairs."""
    return np.asarray(_unit(rdms) * np.sqrt(rdms.shape[1]))
