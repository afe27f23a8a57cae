"""Parts of subjects' data, and what models with parameters are fitted on: vectors of RDMs, pools and ceilings.

A fitted model is judged on conditions and subjects that it was not fitted on, so both halves are parts of one data set.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm import _kernels
from fastrdm._base import depth
from fastrdm._kernels import settle
from fastrdm.similarity.ceiling import average_over_time, ceiling_of, pool_values, tie_bound_of
from fastrdm.similarity.coefficients import Mask, Rows, centre, whiten
from fastrdm.similarity.numerics import Floats, mean_of
from fastrdm.similarity.protocol import Protocol
from fastrdm.similarity.resampling import SubjectData
from fastrdm.similarity.sides import Side, compare_sides
from fastrdm.similarity.table import get_similarity
from fastrdm.similarity.target import Target

Indices = NDArray[np.intp]

_VECTORS: Mapping[str, Callable[[Rows, Mask], Rows]] = MappingProxyType(
    {
        "corr": lambda rdms, present: centre(rdms),
        "cosine": lambda rdms, present: np.asarray(rdms, np.float64),
        "corr_cov": lambda rdms, present: whiten(centre(rdms), present),
        "cosine_cov": lambda rdms, present: whiten(np.asarray(rdms, np.float64), present),
    }
)


def take_subjects(
    target: Any, protocol: str | Protocol | None = None, nan_policy: str | None = None
) -> SubjectData:
    """Return subjects as `SubjectData.take` does, and one condensed RDM (pairs,) as one subject."""
    if not isinstance(target, Target) and depth(target) == 1:
        # A list keeps the labels.
        target = [target]
    return SubjectData.take(target, protocol, nan_policy, None)


def pairs_among(conditions: Indices, n: int) -> Indices:
    """Return where the pairs of some conditions are in a condensed RDM of n conditions, in the order of the part."""
    first, second = (conditions[index] for index in np.triu_indices(len(conditions), 1))
    low, high = np.minimum(first, second), np.maximum(first, second)
    return np.asarray(low * n - low * (low + 1) // 2 + high - low - 1, np.intp)


def part_of(
    data: SubjectData, conditions: Indices | None = None, subjects: Indices | None = None
) -> SubjectData:
    """Return some of the subjects on the pairs among some of the conditions."""
    rdms = data.subjects
    if subjects is not None:
        rdms = rdms[subjects]
    if conditions is not None:
        rdms = rdms[..., pairs_among(conditions, data.n_conditions)]
    return replace(data, subjects=np.ascontiguousarray(rdms), labels=None)


def rdm_vectors(
    rdms: Rows, method: str, present: Mask | None = None, *, pooled: bool = False
) -> Floats:
    """Return vectors of RDMs (n, pairs left) whose cosine is their similarity.

    Similarities of ranks have centred ranks divided by the number of pairs; the cosine of these is Spearman's
    coefficient, also for rho-a and Kendall's coefficients. `present` tells which of all pairs are left. `pooled` RDMs
    are means of `standardised_rdms`, which are not ranked again.
    """
    row, n = get_similarity(method), rdms.shape[1]
    if row.ordinal and pooled:
        return np.asarray(centre(rdms) / n)
    if row.ordinal:
        ranks = _kernels.rank(np.ascontiguousarray(rdms, np.float64), None)
        return np.asarray((ranks - (n + 1) / 2) / n)
    present = np.ones(rdms.shape[1], bool) if present is None else present
    return np.asarray(_VECTORS[row.name](rdms, present))


def standardised_rdms(data: SubjectData) -> Floats:
    """Return RDMs (subjects, times, pairs) as rsatoolbox averages them over subjects; NaN where a pool has none."""
    rows = data.subjects.reshape(-1, data.subjects.shape[2])
    return pool_values(_side(data, rows), "rank").reshape(data.subjects.shape)


def held_out_ceilings(data: SubjectData, training: Mask) -> Floats:
    """Return lower and upper bounds (2, subjects) of the value of a model that was fitted on other subjects.

    Each row of `training` (sets, subjects) is a set of subjects; the others are compared with the pooled RDM of the
    set, which is the lower bound, and with that of all subjects, the upper one. If every set is all subjects, the lower
    bound leaves out the compared subject alone. One subject has no bounds: NaN.
    """
    rdms, similarity, pool = data.subjects, data.similarity, data.protocol.pool
    n_subjects = len(rdms)
    if n_subjects < 2:
        return np.full((2, n_subjects), np.nan)
    if training.all():
        bounds = ceiling_of(rdms, data.protocol, data.nan_policy, data.within, data.n_threads)[0]
        return np.stack([bounds.lower_per_subject, bounds.upper_per_subject])
    if data.protocol.average_times:
        rdms = average_over_time(rdms, similarity, data.nan_policy, data.within)
    tie_bound = tie_bound_of(similarity, pool, data.within)
    out = np.zeros((2, n_subjects))
    for time in range(rdms.shape[1]):
        side = _side(data, np.ascontiguousarray(rdms[:, time]))
        values = pool_values(side, pool)
        pools = [mean_of(values, None), *(mean_of(values[some], None) for some in training)]
        pooled = Side(similarity, settle(np.stack(pools), tie_bound), "omit", "the pooled RDM")
        pooled.check()
        found, _ = compare_sides(pooled, side)
        out[1] += found[0]
        for row, some in zip(found[1:], training, strict=True):
            out[0, ~some] += row[~some]
    return np.asarray(data.value(out / rdms.shape[1]))


def _side(data: SubjectData, rows: Floats) -> Side:
    side = Side(data.similarity, rows, data.nan_policy, "subject_rdms", n_threads=data.n_threads)
    if data.nan_policy != "raise":
        side.check()
    return side
