"""Evaluations of models in many draws of rsatoolbox's bootstraps at once."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm import _kernels
from fastrdm.interop.rsatoolbox.resampled_ranks import (
    ceilings_of_ranks,
    drawn_pairs,
    kernel_ceilings,
    kernel_similarities,
    one_draw,
    rank_correlations,
)
from fastrdm.interop.rsatoolbox.resampled_sums import (
    ceilings,
    mean_similarities,
    weighted_products,
)

Doubles = NDArray[np.float64]

SUMS = ("cosine", "corr", "cosine_cov", "corr_cov")
RANKS = ("spearman", "rho-a", "tau-a", "tau-b", "kendall")
TAUS = ("tau-a", "tau-b", "kendall")
_DRAWS = 256


@dataclass(frozen=True)
class Rows:
    """Condensed RDMs (n, pairs) of models, and of data in groups that are drawn together.

    `models_of` has the model of each row of `models`, whose similarities are averaged.
    """

    models: Doubles
    models_of: NDArray[np.intp]
    n_models: int
    data: Doubles
    groups: NDArray[np.intp]
    n_conditions: int


@dataclass(frozen=True)
class Draws:
    """How often each condition and each RDM is drawn: (draws, conditions), (draws, RDMs); None for once each."""

    conditions: NDArray[np.int32] | None
    rdms: NDArray[np.int32] | None


@dataclass(frozen=True)
class Drawn:
    """Evaluations (draws, models) and noise ceilings (2, draws); `doubtful` draws are left to rsatoolbox."""

    evaluations: Doubles
    ceilings: Doubles
    doubtful: NDArray[np.bool_]


def evaluate(rows: Rows, draws: Draws, method: str, with_ceilings: bool = True) -> Drawn:
    """Evaluate models in all draws."""
    n_draws = len(next(x for x in (draws.conditions, draws.rdms, [0]) if x is not None))
    weights = np.ones((n_draws, len(rows.data)))
    if draws.rdms is not None:
        weights = draws.rdms.astype(float)
    take: Any = _of_sums if method in SUMS else _of_ranks
    parts = [
        take(
            rows,
            None if draws.conditions is None else draws.conditions[start : start + _DRAWS],
            weights[start : start + _DRAWS],
            method,
            with_ceilings,
        )
        for start in range(0, n_draws, _DRAWS)
    ]
    found = Drawn(
        np.concatenate([part.evaluations for part in parts]),
        np.concatenate([part.ceilings for part in parts], axis=1),
        np.concatenate([part.doubtful for part in parts]),
    )
    return Drawn(_per_model(found.evaluations, rows), found.ceilings, found.doubtful)


def _per_model(found: Doubles, rows: Rows) -> Doubles:
    """Average the similarities (draws, rows) of the rows of each model."""
    if len(rows.models) == rows.n_models:
        return found
    means = np.empty((len(found), rows.n_models))
    for model in range(rows.n_models):
        means[:, model] = found[:, rows.models_of == model].mean(axis=1)
    return means


def _of_sums(
    rows: Rows,
    counts: NDArray[np.int32] | None,
    weights: Doubles,
    method: str,
    with_ceilings: bool,
) -> Drawn:
    once = np.ones((1, rows.n_conditions))
    found = weighted_products(
        np.concatenate([rows.models, rows.data]),
        once if counts is None else counts.astype(float),
        method,
    )
    n = len(rows.models)
    # One draw of conditions serves all draws of RDMs.
    every: list[Any] = [
        np.broadcast_to(x, (len(weights), *x.shape[1:]))
        for x in (found.plain, found.compared, found.doubtful)
    ]
    plain, compared, doubtful = every
    with np.errstate(invalid="ignore", divide="ignore"):
        similarities = mean_similarities(compared, n, weights)
        bounds = np.full((2, len(weights)), np.nan)
        if with_ceilings:
            bounds = ceilings(plain[:, n:, n:], compared[:, n:, n:], weights, rows.groups)
            doubtful = doubtful | np.isnan(bounds).any(axis=0)
    return Drawn(similarities, bounds, doubtful)


def _of_ranks(
    rows: Rows,
    counts: NDArray[np.int32] | None,
    weights: Doubles,
    method: str,
    with_ceilings: bool,
) -> Drawn:
    n_draws = len(weights)
    sure = np.zeros(n_draws, bool)
    single = len(np.unique(rows.groups)) == len(rows.groups)
    if method in TAUS or (with_ceilings and not single):
        return _draw_by_draw(rows, counts, weights, method, with_ceilings)
    if counts is None:
        similarities, _ = _each_once(rows, weights, method)
    else:
        similarities = kernel_similarities(rows.models, rows.data, counts, weights, method)
    bounds = np.full((2, n_draws), np.nan)
    if with_ceilings:
        bounds = kernel_ceilings(rows.data, counts, weights, method, rows.n_conditions)
    return Drawn(similarities, bounds, sure)


def _each_once(rows: Rows, weights: Doubles, method: str) -> tuple[Doubles, Doubles]:
    """Return evaluations (draws, models) with each condition once, and the ranks of the data."""
    ranks = _kernels.rank(np.ascontiguousarray(rows.data))
    if not len(rows.models):
        return np.empty((len(weights), 0)), ranks
    single = rank_correlations(_kernels.rank(np.ascontiguousarray(rows.models)), ranks, method)
    # A draw without an RDM that has no coefficient has a mean all the same.
    missing = np.isnan(single)
    found: Doubles = weights @ np.where(missing, 0.0, single).T / weights.sum(axis=1)[:, None]
    found[weights @ missing.T > 0] = np.nan
    return found, ranks


def _draw_by_draw(
    rows: Rows,
    counts: NDArray[np.int32] | None,
    weights: Doubles,
    method: str,
    with_ceilings: bool,
) -> Drawn:
    n_draws = len(weights)
    similarities = np.empty((n_draws, len(rows.models)))
    bounds = np.full((2, n_draws), np.nan)
    ranks = np.empty((0, 0))
    if counts is None:
        similarities, ranks = _each_once(rows, weights, method)
    for i, weight in enumerate(weights):
        if counts is not None:
            pairs = drawn_pairs(counts[i])
            similarities[i], ranks = one_draw(rows.models, rows.data, pairs, weight, method)
        if with_ceilings:
            bounds[:, i] = ceilings_of_ranks(ranks, weight, rows.groups, method)
    return Drawn(similarities, bounds, np.zeros(n_draws, bool))


def ceilings_once(
    data: Doubles, groups: NDArray[np.intp], method: str, n_conditions: int
) -> tuple[float, float] | None:
    """Return the noise ceiling of RDMs (n, pairs), without draws; None if one is constant up to rounding.

    Pairs may be missing, but not for the whitened methods.
    """
    weights = np.ones((1, len(data)))
    if method in RANKS:
        return ceilings_of_ranks(
            _kernels.rank(np.ascontiguousarray(data)), weights[0], groups, method
        )
    counts = np.ones((1, n_conditions)) if method.endswith("_cov") else None
    found = weighted_products(data, counts, method)
    if found.doubtful[0]:
        return None
    lower, upper = ceilings(found.plain, found.compared, weights, groups)[:, 0]
    return None if np.isnan(lower + upper) else (lower, upper)
