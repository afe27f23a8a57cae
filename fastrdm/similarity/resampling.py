"""Similarities and noise ceilings of RDMs whose conditions or subjects are drawn with replacement.

Three ways to the same numbers. Rank correlations are re-ranked in the kernels. Sums of products (``corr``,
``cosine``) need no RDM to be written out: a pair of conditions drawn m and k times has the weight m k. All else,
and RDMs with NaN, are written out draw by draw.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, runtime_checkable
from typing import Protocol as Structure

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrdm import _kernels
from fastrdm._base import Labels, as_rdms, checked_triangle, n_conditions, rdm_labels, square
from fastrdm._kernels import FLOAT64, bound_of, settle
from fastrdm.similarity.ceiling import as_subjects, averaged, pool_values, tie_bound
from fastrdm.similarity.coefficients import get_method
from fastrdm.similarity.comparison import contiguous
from fastrdm.similarity.draws import Counts
from fastrdm.similarity.pooling import means
from fastrdm.similarity.protocol import Protocol, get_protocol
from fastrdm.similarity.scales import differ, in_range, summable
from fastrdm.similarity.sides import Side, check_values

Floats = NDArray[np.float64]

# Numbers that a step keeps at a time, 64 MB.
_AT_ONCE = 1 << 23


@dataclass(frozen=True)
class Data:
    """Subjects' RDMs (subjects, times, pairs), and how models are compared with them."""

    subjects: Floats
    method: str
    pool: str
    squared: bool
    nan_policy: str
    n_threads: int | None
    average_times: bool = False
    within: float = FLOAT64
    labels: Labels | None = None

    @property
    def n_subjects(self) -> int:
        """Number of subjects."""
        return len(self.subjects)

    @property
    def n_conditions(self) -> int:
        """Number of conditions."""
        return n_conditions(self.subjects.shape[2])

    def value(self, similarity: Floats) -> Floats:
        """What is averaged over subjects."""
        return similarity**2 if self.squared else similarity

    @property
    def tie_bound(self) -> float:
        """The relative difference within which values of a pool tie."""
        return tie_bound(get_method(self.method), self.pool, self.within)

    def averaged(self) -> "Data":
        """The data that ceilings are of."""
        if not self.average_times:
            return self
        method = get_method(self.method)
        return replace(self, subjects=averaged(self.subjects, method, self.nan_policy, self.within))

    def times(self) -> Iterator[Floats]:
        """Subjects' RDMs (subjects, pairs) at each time."""
        for time in range(self.subjects.shape[1]):
            yield np.ascontiguousarray(self.subjects[:, time])


def observed_similarities(data: Data, models: Floats) -> Floats:
    """Similarities (models, subjects), averaged over time."""
    method = get_method(data.method)
    rows = data.subjects.reshape(-1, data.subjects.shape[2])
    first, second = (
        Side(method, rdms, data.nan_policy, name, n_threads=data.n_threads)
        for rdms, name in ((models, "rdms"), (rows, "subject_rdms"))
    )
    similarities, _ = method.similarity(first, second, data.n_threads)
    shaped = similarities.reshape(len(models), *data.subjects.shape[:2])
    return np.asarray(shaped.mean(axis=2))


def resampled_similarities(data: Data, models: Floats, conditions: Counts) -> Floats:
    """Similarities (draws, models, subjects), averaged over time, with conditions as often as they are drawn."""
    whole = bool(np.isfinite(models).all() and np.isfinite(data.subjects).all())
    one = (_SIMILARITIES.get(data.method) if whole else None) or _written_similarities
    return np.asarray(
        sum(one(data, models, rows, conditions) for rows in data.times()) / data.subjects.shape[1]
    )


def resampled_ceilings(data: Data, conditions: Counts | None, subjects: Counts | None) -> Floats:
    """Mean lower and upper bounds (draws, 2) over the distinct subjects that are drawn.

    As in rsatoolbox's `boot_noise_ceiling`: pools weigh a subject by how often it is drawn, the mean over subjects does
    not, a subject is left out with all its copies, and one who is drawn alone is compared with itself.
    """
    data = data.averaged()
    known = _CEILINGS.get(data.method) if np.isfinite(data.subjects).all() else None
    raw = data.pool == "raw"

    def bounds_of(rows: Floats) -> Floats:
        rows = summable(rows)
        one = known if known and not (raw and differ(rows)) else _written_ceilings
        return one(data, rows, conditions, subjects)

    bounds = sum(bounds_of(rows) for rows in data.times())
    values = data.value(np.asarray(bounds) / data.subjects.shape[1])
    if subjects is None:
        return np.asarray(values.mean(axis=2))
    drawn = subjects > 0
    return np.asarray(np.where(drawn[:, None], values, 0).sum(axis=2) / drawn.sum(axis=1)[:, None])


def _ranked_similarities(untied: bool) -> Callable[..., Floats]:
    def of(data: Data, models: Floats, rows: Floats, conditions: Counts) -> Floats:
        return _kernels.resampled_similarities(
            models, rows, conditions, untied=untied, n_threads=data.n_threads
        )

    return of


def _ranked_ceilings(untied: bool) -> Callable[..., Floats]:
    def of(data: Data, rows: Floats, conditions: Counts | None, subjects: Counts | None) -> Floats:
        if data.pool == "raw" and subjects is None and conditions is not None:
            # The order of these pools does not depend on the draw.
            pools = settle(means(rows), data.tie_bound)
            lower, upper = (
                _kernels.resampled_similarities(
                    rows,
                    pool,
                    conditions,
                    paired=len(pool) > 1,
                    untied=untied,
                    n_threads=data.n_threads,
                )[..., 0]
                for pool in (pools[1:], pools[:1])
            )
            return np.stack([lower, upper], axis=1)
        return _kernels.resampled_ceilings(
            rows,
            data.n_conditions,
            conditions,
            subjects,
            ranked=data.pool == "rank",
            untied=untied,
            within=data.tie_bound,
            n_threads=data.n_threads,
        )

    return of


def _weights(data: Data, conditions: Counts | None) -> Floats:
    if conditions is None:
        return np.ones((1, data.subjects.shape[2]))
    first, second = np.triu_indices(data.n_conditions, 1)
    return np.asarray(conditions[:, first] * conditions[:, second].astype(np.float64))


def _blocks(data: Data, conditions: Counts | None) -> Iterator[Counts | None]:
    if conditions is None:
        yield None
        return
    step = max(1, _AT_ONCE // data.subjects.shape[2])
    for start in range(0, len(conditions), step):
        yield conditions[start : start + step]


def _moments(a: Floats, b: Floats, weights: Floats, centred: bool) -> Floats:
    """Weighted sums (draws, n_a, n_b) of products of rows, less those of their means."""
    out = np.stack([weights @ (row * b).T for row in a], axis=1)
    if centred:
        with np.errstate(invalid="ignore", divide="ignore"):
            means = (weights @ a.T) / weights.sum(axis=1, keepdims=True)
        out -= means[:, :, None] * (weights @ b.T)[:, None]
    return out


def _own_moments(rows: Floats, weights: Floats, centred: bool) -> Floats:
    return np.concatenate(
        [_moments(row[None], row[None], weights, centred)[:, 0] for row in rows], axis=1
    )


def _shifted(rows: Floats, centred: bool) -> Floats:
    # Moments about a point near the mean lose no digits.
    return rows - rows.mean(axis=1, keepdims=True) if centred else rows


def _summed_similarities(centred: bool) -> Callable[..., Floats]:
    def of(data: Data, models: Floats, rows: Floats, conditions: Counts) -> Floats:
        a, b = (_shifted(in_range(x)[0], centred) for x in (models, rows))
        parts = []
        for block in _blocks(data, conditions):
            weights = _weights(data, block)
            own, others = (_own_moments(x, weights, centred) for x in (a, b))
            with np.errstate(invalid="ignore", divide="ignore"):
                root = np.sqrt(own[:, :, None] * others[:, None])
                parts.append(np.clip(_moments(a, b, weights, centred) / root, -1, 1))
        return np.concatenate(parts)

    return of


def _summed_ceilings(centred: bool) -> Callable[..., Floats]:
    def of(data: Data, rows: Floats, conditions: Counts | None, subjects: Counts | None) -> Floats:
        b = _shifted(in_range(rows, alike=data.pool == "raw")[0], centred)
        products = np.concatenate(
            [_moments(b, b, _weights(data, block), centred) for block in _blocks(data, conditions)]
        )
        own = np.einsum("dss->ds", products)
        with np.errstate(invalid="ignore", divide="ignore"):
            if data.pool == "rank":
                products = products / np.sqrt(own[:, :, None] * own[:, None])
        own = np.einsum("dss->ds", products)
        times = np.ones((1, len(rows))) if subjects is None else subjects.astype(np.float64)
        # Pools are sums of subjects, so that their products with subjects and with themselves are sums too. A subject
        # that is left out is not subtracted: a distant one would cost the others their digits.
        total = (products @ times[:, :, None])[..., 0]
        square_of_total = np.einsum("ds,ds->d", np.broadcast_to(times, total.shape), total)[:, None]
        others, square_of_others = np.empty((2, *total.shape))
        for s in range(len(rows)):
            left = np.broadcast_to(np.where(np.arange(len(rows)) == s, 0, times), total.shape)
            with_left = (products @ left[:, :, None])[..., 0]
            others[:, s] = with_left[:, s]
            square_of_others[:, s] = np.einsum("ds,ds->d", left, with_left)
        with np.errstate(invalid="ignore", divide="ignore"):
            upper = total / np.sqrt(own * square_of_total)
            lower = others / np.sqrt(own * square_of_others)
        alone = (times > 0).sum(axis=1, keepdims=True) == 1
        out = np.stack([np.where(alone, upper, lower), upper], axis=1)
        return np.clip(np.where((times > 0)[:, None], out, np.nan), -1, 1)

    return of


def _written(square_rdms: NDArray[Any], counts: NDArray[np.int32]) -> Floats:
    """RDMs (n, pairs) of the conditions drawn, one after the other; pairs of a condition with itself are NaN."""
    index = np.repeat(np.arange(len(counts)), counts)
    first, second = np.triu_indices(len(index), 1)
    out = square_rdms[:, index[first], index[second]]
    out[:, index[first] == index[second]] = np.nan
    return np.ascontiguousarray(out)


def _written_similarities(data: Data, models: Floats, rows: Floats, conditions: Counts) -> Floats:
    squares, subjects = square(models), square(rows)
    out = np.full((len(conditions), len(models), len(rows)), np.nan)
    for d, counts in enumerate(conditions):
        if np.count_nonzero(counts) > 1:
            sides = (_side(data, _written(rdms, counts)) for rdms in (squares, subjects))
            out[d] = _compared(data, *sides)
    if data.nan_policy == "propagate":
        out[:, np.isnan(models).any(axis=1)] = np.nan
        out[:, :, np.isnan(rows).any(axis=1)] = np.nan
    return out


def _side(data: Data, rdms: Floats) -> Side:
    # Of RDMs that were written out, NaN are pairs that no comparison has.
    side = Side(get_method(data.method), rdms, "omit", "rdms", n_threads=data.n_threads)
    side.check()
    return side


def _compared(data: Data, first: Side, second: Side, *, paired: bool = False) -> Floats:
    similarities, _ = first.method.similarity(first, second, data.n_threads, paired=paired)
    return similarities


def _written_ceilings(
    data: Data, rows: Floats, conditions: Counts | None, subjects: Counts | None
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
        pools = means(pool_values(side.method, side, data.pool), times[drawn])
        settle(pools, data.tie_bound)
        out[d, 1, drawn] = _compared(data, _side(data, pools[:1]), side)[0]
        out[d, 0, drawn] = (
            out[d, 1, drawn]
            if len(drawn) == 1
            else _compared(data, _side(data, pools[1:]), side, paired=True)[:, 0]
        )
    return out


_SIMILARITIES: dict[str, Callable[..., Floats]] = {
    "spearman": _ranked_similarities(untied=False),
    "rho-a": _ranked_similarities(untied=True),
    "corr": _summed_similarities(centred=True),
    "pearson": _summed_similarities(centred=True),
    "cosine": _summed_similarities(centred=False),
}
_CEILINGS: dict[str, Callable[..., Floats]] = {
    "spearman": _ranked_ceilings(untied=False),
    "rho-a": _ranked_ceilings(untied=True),
    "corr": _summed_ceilings(centred=True),
    "pearson": _summed_ceilings(centred=True),
    "cosine": _summed_ceilings(centred=False),
}


@runtime_checkable
class HasSubjects(Structure):
    """What a `Target` has of subjects."""

    protocol: Protocol
    nan_policy: str
    labels: Labels | None
    tie_bound: float

    @property
    def subject_rdms(self) -> Floats:
        """RDMs (subjects, times, pairs)."""


def take_subjects(
    subject_rdms: ArrayLike | HasSubjects,
    protocol: str | Protocol | None,
    nan_policy: str | None,
    n_threads: int | None,
) -> Data:
    """Subjects from what a caller gives: RDMs, or a target with its protocol and policy.

    Raises
    ------
    ValueError
        If a shape does not fit, a value is not one that the policy takes, or nothing is similar to a subject.
    """
    if isinstance(subject_rdms, HasSubjects):
        subjects, within = subject_rdms.subject_rdms, subject_rdms.tie_bound
        chosen = get_protocol(subject_rdms.protocol if protocol is None else protocol)
        policy = nan_policy or subject_rdms.nan_policy
        if policy == "raise":
            check_values(subjects, "the target", ("subject", "time", "pair"), policy)
        labels = subject_rdms.labels
    else:
        policy = nan_policy or "raise"
        subjects, labels = as_subjects(subject_rdms, nan_policy=policy)
        within = bound_of(as_rdms(subject_rdms, "subject_rdms").dtype)
        chosen = get_protocol("rsatoolbox" if protocol is None else protocol)
    method = get_method(chosen.method)
    for subject, rows in enumerate(subjects):
        if method.without(rows).any():
            raise ValueError(
                f"subject {subject} is {method.undefined}, so nothing is similar to it"
            )
    return Data(
        subjects,
        chosen.method,
        chosen.pool,
        chosen.squared,
        policy,
        n_threads,
        chosen.average_times,
        within,
        labels,
    )


def take_models(rdms: Any, data: Data) -> Floats:
    """Models (n, pairs) from what a caller gives, to be compared with these subjects.

    Raises
    ------
    ValueError
        If a shape does not fit, a value is not one that the policy takes, a model is similar to nothing, or labels
        differ from those of the subjects.
    """
    array = as_rdms(rdms, "rdms")
    shape = array.shape
    n, pairs = data.n_conditions, data.subjects.shape[2]
    is_square = (
        shape[-2:] == (n, n) and array.ndim in (2, 3) and not (array.ndim == 2 and n == pairs)
    )
    if is_square:
        array = checked_triangle(array, "rdms")
    if array.ndim not in (1, 2) or array.shape[-1] != pairs or array.size == 0:
        raise ValueError(
            f"rdms has shape {shape}; the subjects have {n} conditions, so expected ({n}, {n}), ({pairs},),"
            f" (models, {n}, {n}) or (models, {pairs})"
        )
    labels = rdm_labels(rdms, "rdms", square=is_square)
    if labels is not None:
        labels.check(data.labels)
    models = np.ascontiguousarray(contiguous(array if array.ndim == 2 else array[None]), np.float64)
    check_values(models, "rdms", ("model", "pair"), data.nan_policy)
    method = get_method(data.method)
    if (constant := np.flatnonzero(method.without(models))).size:
        raise ValueError(
            f"model {constant[0]} of rdms is {method.undefined}, so it is similar to nothing"
        )
    return models
