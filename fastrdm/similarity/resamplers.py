"""Similarities and noise ceilings of resampled RDMs, without writing the RDMs out for each draw.

Rank correlations are ranked again in the kernels. Sums of products (``corr``, ``cosine``) become weighted sums: a pair
of conditions drawn m and k times has the weight m k.
"""

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrdm import _kernels
from fastrdm._base import n_conditions
from fastrdm._kernels import settle
from fastrdm.similarity.numerics import Floats, blocks_of, in_range, means

Counts = NDArray[np.int32]
Draws = Counts | None

# Numbers that one step holds in memory: 64 MB.
_BLOCK_SIZE = 1 << 23


class Resampler(NamedTuple):
    """Fast functions for one similarity; draws are counts of conditions and of subjects."""

    # Models (models, pairs), subjects (subjects, pairs), counts of conditions, n_threads= → similarities
    # (draws, models, subjects).
    similarities: Callable[..., Floats]
    # Subjects (subjects, pairs), counts of conditions and of subjects, each may be None, `ranked` pools or raw ones,
    # tie bound, number of threads → lower and upper bounds (draws, 2, subjects).
    ceilings: Callable[[Floats, Draws, Draws, bool, float, int | None], Floats]


def resample_ranks(*, untied: bool) -> Resampler:
    """Return the resampler of a rank correlation; `untied` as in the kernels."""
    similarities = functools.partial(_kernels.resampled_similarities, untied=untied)

    def ceilings(
        rows: Floats,
        conditions: Draws,
        subjects: Draws,
        ranked: bool,
        tie_bound: float,
        n_threads: int | None,
    ) -> Floats:
        if not ranked and subjects is None and conditions is not None:
            # The order of these pools does not depend on the draw.
            pools = settle(means(rows), tie_bound)
            upper = similarities(rows, pools[:1], conditions, n_threads=n_threads)
            lower = similarities(
                rows, pools[1:], conditions, paired=len(rows) > 1, n_threads=n_threads
            )
            return np.stack([lower[..., 0], upper[..., 0]], axis=1)
        return _kernels.resampled_ceilings(
            rows,
            n_conditions(rows.shape[1]),
            conditions,
            subjects,
            ranked=ranked,
            untied=untied,
            within=tie_bound,
            n_threads=n_threads,
        )

    return Resampler(similarities, ceilings)


def resample_products(*, centred: bool) -> Resampler:
    """Return the resampler of a normalised sum of products, of values or of their deviations from the mean."""

    def similarities(
        models: Floats, rows: Floats, conditions: Counts, *, n_threads: int | None
    ) -> Floats:
        a, b = (_shifted(in_range(x)[0], centred) for x in (models, rows))
        parts = []
        for weights in _weights(conditions, rows.shape[1]):
            squares_a, squares_b = (_squares(x, weights, centred) for x in (a, b))
            with np.errstate(invalid="ignore", divide="ignore"):
                root = np.sqrt(squares_a[:, :, None] * squares_b[:, None])
                parts.append(np.clip(_products(a, b, weights, centred) / root, -1, 1))
        return np.concatenate(parts)

    def ceilings(
        rows: Floats,
        conditions: Draws,
        subjects: Draws,
        ranked: bool,
        tie_bound: float,
        n_threads: int | None,
    ) -> Floats:
        b = _shifted(in_range(rows, alike=not ranked)[0], centred)
        products = np.concatenate(
            [_products(b, b, weights, centred) for weights in _weights(conditions, rows.shape[1])]
        )
        if ranked:
            squares = np.einsum("dss->ds", products)
            with np.errstate(invalid="ignore", divide="ignore"):
                products = products / np.sqrt(squares[:, :, None] * squares[:, None])
        times = np.ones((1, len(rows))) if subjects is None else subjects.astype(np.float64)
        return _bounds(products, times)

    return Resampler(similarities, ceilings)


def _bounds(products: Floats, times: Floats) -> Floats:
    """Bounds (draws, 2, subjects) from products (draws, subjects, subjects) and how often each subject is drawn.

    Pools are sums of subjects, so their products with subjects and with themselves are sums too. A subject that is
    left out is not subtracted from the total: an extreme one would cost the others their digits.
    """
    n = products.shape[1]
    squares = np.einsum("dss->ds", products)
    total = (products @ times[:, :, None])[..., 0]
    square_of_total = np.einsum("ds,ds->d", np.broadcast_to(times, total.shape), total)[:, None]
    others, square_of_others = np.empty((2, *total.shape))
    for s in range(n):
        left = np.broadcast_to(np.where(np.arange(n) == s, 0, times), total.shape)
        with_left = (products @ left[:, :, None])[..., 0]
        others[:, s] = with_left[:, s]
        square_of_others[:, s] = np.einsum("ds,ds->d", left, with_left)
    with np.errstate(invalid="ignore", divide="ignore"):
        upper = total / np.sqrt(squares * square_of_total)
        lower = others / np.sqrt(squares * square_of_others)
    alone = (times > 0).sum(axis=1, keepdims=True) == 1
    out = np.stack([np.where(alone, upper, lower), upper], axis=1)
    return np.clip(np.where((times > 0)[:, None], out, np.nan), -1, 1)


def _weights(conditions: Draws, n_pairs: int) -> Iterator[Floats]:
    """Yield the weights (draws, pairs) of pairs of conditions, in blocks of draws."""
    if conditions is None:
        yield np.ones((1, n_pairs))
        return
    first, second = np.triu_indices(conditions.shape[1], 1)
    for block in blocks_of(len(conditions), n_pairs, _BLOCK_SIZE):
        counts = conditions[block]
        yield np.asarray(counts[:, first] * counts[:, second].astype(np.float64))


def _products(a: Floats, b: Floats, weights: Floats, centred: bool) -> Floats:
    """Weighted sums (draws, n_a, n_b) of products of rows, or of their deviations from the mean."""
    out = np.stack([weights @ (row * b).T for row in a], axis=1)
    if centred:
        with np.errstate(invalid="ignore", divide="ignore"):
            row_means = (weights @ a.T) / weights.sum(axis=1, keepdims=True)
        out -= row_means[:, :, None] * (weights @ b.T)[:, None]
    return out


def _squares(rows: Floats, weights: Floats, centred: bool) -> Floats:
    return np.concatenate(
        [_products(row[None], row[None], weights, centred)[:, 0] for row in rows], axis=1
    )


def _shifted(rows: Floats, centred: bool) -> Floats:
    # Moments about a point near the mean lose no digits.
    return rows - rows.mean(axis=1, keepdims=True) if centred else rows
