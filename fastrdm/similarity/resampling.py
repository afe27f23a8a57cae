"""Similarities and noise ceilings of RDMs whose conditions or subjects are drawn with replacement.

A similarity's `resampler` computes them without writing RDMs out. Without a resampler, and for RDMs with NaN, RDMs are
written out for each draw.
"""

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import square
from fastrdm._kernels import settle
from fastrdm.similarity.ceiling import pool_values
from fastrdm.similarity.coefficients import Floats
from fastrdm.similarity.pooling import means
from fastrdm.similarity.resamplers import Counts
from fastrdm.similarity.scales import differ, summable
from fastrdm.similarity.sides import Side, compare_sides
from fastrdm.similarity.subject_data import SubjectData


def observed_similarities(data: SubjectData, models: Floats) -> Floats:
    """Return similarities (models, subjects), averaged over time."""
    rows = data.subjects.reshape(-1, data.subjects.shape[2])
    first, second = (
        Side(data.similarity, rdms, data.nan_policy, name, n_threads=data.n_threads)
        for rdms, name in ((models, "rdms"), (rows, "subject_rdms"))
    )
    similarities, _ = compare_sides(first, second, data.n_threads)
    shaped = similarities.reshape(len(models), *data.subjects.shape[:2])
    return np.asarray(shaped.mean(axis=2))


def resampled_similarities(data: SubjectData, models: Floats, conditions: Counts) -> Floats:
    """Return similarities (draws, models, subjects), averaged over time, for counts of the drawn conditions."""
    whole = bool(np.isfinite(models).all() and np.isfinite(data.subjects).all())
    resampler = data.similarity.resampler if whole else None

    def similarities_of(rows: Floats) -> Floats:
        if resampler is None:
            return _written_similarities(data, models, rows, conditions)
        return resampler.similarities(models, rows, conditions, data.n_threads)

    total = sum(similarities_of(rows) for rows in data.times())
    return np.asarray(total / data.subjects.shape[1])


def resampled_ceilings(
    data: SubjectData, conditions: Counts | None, subjects: Counts | None
) -> Floats:
    """Return the mean lower and upper bounds (draws, 2) over the distinct subjects of each draw.

    As in rsatoolbox's `boot_noise_ceiling`, a pool weights each subject by the number of times it was drawn, but the
    mean over subjects does not. A subject is left out with all its copies. A subject that is drawn alone is compared
    with itself.
    """
    data = data.for_ceilings()
    pool = data.protocol.pool
    resampler = data.similarity.resampler if np.isfinite(data.subjects).all() else None

    def bounds_of(rows: Floats) -> Floats:
        rows = summable(rows)
        if resampler is None or (pool == "raw" and differ(rows)):
            return _written_ceilings(data, rows, conditions, subjects)
        return resampler.ceilings(
            rows, conditions, subjects, pool == "rank", data.tie_bound, data.n_threads
        )

    bounds = sum(bounds_of(rows) for rows in data.times())
    values = data.value(np.asarray(bounds) / data.subjects.shape[1])
    if subjects is None:
        return np.asarray(values.mean(axis=2))
    drawn = subjects > 0
    return np.asarray(np.where(drawn[:, None], values, 0).sum(axis=2) / drawn.sum(axis=1)[:, None])


def _written(square_rdms: Floats, counts: NDArray[np.int32]) -> Floats:
    """Write out the RDMs (n, pairs) of the drawn conditions; pairs of a condition with itself are NaN."""
    index = np.repeat(np.arange(len(counts)), counts)
    first, second = np.triu_indices(len(index), 1)
    out = square_rdms[:, index[first], index[second]]
    out[:, index[first] == index[second]] = np.nan
    return np.ascontiguousarray(out)


def _written_similarities(
    data: SubjectData, models: Floats, rows: Floats, conditions: Counts
) -> Floats:
    squares, subjects = square(models), square(rows)
    out = np.full((len(conditions), len(models), len(rows)), np.nan)
    for d, counts in enumerate(conditions):
        if np.count_nonzero(counts) > 1:
            first, second = (_side(data, _written(rdms, counts)) for rdms in (squares, subjects))
            out[d], _ = compare_sides(first, second, data.n_threads)
    if data.nan_policy == "propagate":
        out[:, np.isnan(models).any(axis=1)] = np.nan
        out[:, :, np.isnan(rows).any(axis=1)] = np.nan
    return out


def _side(data: SubjectData, rdms: Floats) -> Side:
    # In RDMs that were written out, NaN marks pairs that no comparison uses.
    side = Side(data.similarity, rdms, "omit", "rdms", n_threads=data.n_threads)
    side.check()
    return side


def _written_ceilings(
    data: SubjectData, rows: Floats, conditions: Counts | None, subjects: Counts | None
) -> Floats:
    n_draws = len(next(c for c in (conditions, subjects, np.ones((1, 1))) if c is not None))
    out = np.full((n_draws, 2, len(rows)), np.nan)
    usable = np.ones(len(rows), bool)
    if data.nan_policy == "propagate":
        usable = np.asarray(~np.isnan(rows).any(axis=1))
    squares = square(rows)
    everything = np.ones(data.n_conditions, np.int32)
    for d in range(n_draws):
        counts = everything if conditions is None else conditions[d]
        times = np.ones(len(rows)) if subjects is None else subjects[d].astype(np.float64)
        drawn = np.flatnonzero((times > 0) & usable)
        if np.count_nonzero(counts) < 2 or len(drawn) == 0:
            continue
        side = _side(data, _written(squares[drawn], counts))
        pools = means(pool_values(side, data.protocol.pool), times[drawn])
        settle(pools, data.tie_bound)
        upper, _ = compare_sides(_side(data, pools[:1]), side, data.n_threads)
        out[d, :, drawn] = upper[0][:, None]
        if len(drawn) > 1:
            lower, _ = compare_sides(_side(data, pools[1:]), side, data.n_threads, paired=True)
            out[d, 0, drawn] = lower[:, 0]
    return out
