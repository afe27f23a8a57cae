"""The subjects of an inference, and similarities of RDMs whose conditions or subjects are drawn again or permuted.

A similarity's `resampler` computes them without writing RDMs out. Without a resampler, and for RDMs with NaN, RDMs are
written out for each draw.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from fastrdm import _kernels
from fastrdm._base import Labels, n_conditions, names_of, square
from fastrdm._kernels import settle
from fastrdm.similarity.ceiling import average_over_time, pool_values, tie_bound_of
from fastrdm.similarity.numerics import Floats, blocks_of, differ, means, summable
from fastrdm.similarity.protocol import Protocol, get_protocol
from fastrdm.similarity.resamplers import Counts
from fastrdm.similarity.shapes import as_models, as_subjects
from fastrdm.similarity.sides import Side, check_values, compare_sides
from fastrdm.similarity.table import Similarity, get_similarity
from fastrdm.similarity.target import Target


@dataclass(frozen=True)
class SubjectData:
    """Subjects' RDMs (subjects, times, pairs), and how models are compared with them."""

    subjects: Floats
    protocol: Protocol
    nan_policy: str
    n_threads: int | None
    # Relative difference within which values of a pool tie, if they are ranked.
    within: float
    labels: Labels | None

    @classmethod
    def take(
        cls,
        subject_rdms: ArrayLike | Target,
        protocol: str | Protocol | None,
        nan_policy: str | None,
        n_threads: int | None,
    ) -> Self:
        """Return the subjects of an array or a target; the target's protocol and policy are the defaults.

        ValueError if a shape does not fit, the policy refuses a value, or a subject has no similarity to anything.
        """
        if isinstance(subject_rdms, Target):
            subjects = np.ascontiguousarray(subject_rdms.subject_rdms, np.float64)
            within = subject_rdms.tie_bound
            chosen = get_protocol(subject_rdms.protocol if protocol is None else protocol)
            policy = nan_policy or subject_rdms.nan_policy
            if policy == "raise":
                check_values(subjects, "the target", ("subject", "time", "pair"), policy)
            labels = subject_rdms.labels
        else:
            policy = nan_policy or "raise"
            given = as_subjects(subject_rdms, nan_policy=policy)
            subjects = np.ascontiguousarray(given.rdms, np.float64)
            labels, within = given.labels, given.tie_bound
            chosen = get_protocol("rsatoolbox" if protocol is None else protocol)
        similarity = get_similarity(chosen.method)
        for subject, rows in enumerate(subjects):
            if similarity.undefined_rdms(rows).any():
                raise ValueError(
                    f"subject {subject} is {similarity.undefined}, so it has no similarity to anything"
                )
        return cls(subjects, chosen, policy, n_threads, within, labels)

    def take_models(self, rdms: Any, name: str = "rdms") -> Floats:
        """Return the models (n, pairs) to compare with the subjects.

        ValueError if a shape does not fit, the policy refuses a value, a model has no similarity to anything, or labels
        differ from the subjects' labels.
        """
        rows = as_models(rdms, self.subjects.shape[2], "subject_rdms", self.labels, name)
        if not len(rows):
            raise ValueError(f"{name} has shape {np.shape(rdms)}; expected at least one model")
        models = np.ascontiguousarray(rows, np.float64)
        one = "model" if name == "rdms" else "RDM"
        check_values(models, name, (one, "pair"), self.nan_policy)
        if (constant := np.flatnonzero(self.similarity.undefined_rdms(models))).size:
            names = names_of(rdms)
            which = f"{name}[{names[constant[0]]!r}]" if names else f"{one} {constant[0]} of {name}"
            raise ValueError(
                f"{which} is {self.similarity.undefined}, so it has no similarity to anything"
            )
        return models

    @property
    def n_subjects(self) -> int:
        """Number of subjects."""
        return len(self.subjects)

    @property
    def n_conditions(self) -> int:
        """Number of conditions."""
        return n_conditions(self.subjects.shape[2])

    @property
    def similarity(self) -> Similarity:
        """The protocol's similarity."""
        return get_similarity(self.protocol.method)

    def value(self, similarity: Floats) -> Floats:
        """Return the values that are averaged over subjects."""
        return similarity**2 if self.protocol.squared else similarity

    def observed(self, models: Floats) -> Floats:
        """Return similarities (models, subjects), averaged over time."""
        similarities, _ = compare_sides(self._side(models), self._all_times)
        shaped = similarities.reshape(len(models), *self.subjects.shape[:2])
        return np.asarray(shaped.mean(axis=2))

    def resampled(self, models: Floats, conditions: Counts) -> Floats:
        """Return similarities (draws, models, subjects), averaged over time, for counts of the drawn conditions."""
        whole = bool(np.isfinite(models).all() and np.isfinite(self.subjects).all())
        resampler = self.similarity.resampler if whole else None

        def similarities_of(rows: Floats) -> Floats:
            if resampler is None:
                return self._written_similarities(models, rows, conditions)
            return resampler.similarities(models, rows, conditions, n_threads=self.n_threads)

        total = sum(similarities_of(rows) for rows in _times(self.subjects))
        return np.asarray(total / self.subjects.shape[1])

    def permuted(self, models: Floats, permutations: Counts) -> Floats:
        """Return similarities (permutations, models), averaged over subjects and time, for permuted conditions."""
        method, subjects = self.similarity, self._all_times
        if not method.permutable or np.isnan(models).any() or np.isnan(subjects.rdms).any():
            return self._written_permutations(models, permutations)
        n_pairs = models.shape[1]
        # Prepared values are permuted like the conditions, so they are computed once.
        prepared = method.prepare(models, np.ones(n_pairs, bool), self.n_threads)
        squares = square(prepared.values[:, :n_pairs])
        out = np.empty((len(permutations), len(models)))
        for block in blocks_of(len(permutations), len(models) * subjects.n):
            similarities = _kernels.permuted_similarities(
                squares, prepared.squares, permutations[block], subjects.whole, self.n_threads
            )
            out[block] = similarities.mean(axis=2)
        return out

    def ceilings(self, conditions: Counts | None, subjects: Counts | None) -> Floats:
        """Return the mean lower and upper bounds (draws, 2) over the distinct subjects of each draw.

        As in rsatoolbox's `boot_noise_ceiling`, a pool weights each subject by the number of times it was drawn, but
        the mean over subjects does not. A subject is left out with all its copies. A subject that is drawn alone is
        compared with itself.
        """
        rdms, pool, similarity = self.subjects, self.protocol.pool, self.similarity
        if self.protocol.average_times:
            rdms = average_over_time(rdms, similarity, self.nan_policy, self.within)
        tie_bound = tie_bound_of(similarity, pool, self.within)
        resampler = similarity.resampler if np.isfinite(rdms).all() else None

        def bounds_of(rows: Floats) -> Floats:
            rows = summable(rows)
            if resampler is None or (pool == "raw" and differ(rows)):
                return self._written_ceilings(rows, conditions, subjects, tie_bound)
            return resampler.ceilings(
                rows, conditions, subjects, pool == "rank", tie_bound, self.n_threads
            )

        bounds = sum(bounds_of(rows) for rows in _times(rdms))
        values = self.value(np.asarray(bounds) / rdms.shape[1])
        if subjects is None:
            return np.asarray(values.mean(axis=2))
        drawn = subjects > 0
        means_of_drawn = (
            np.where(drawn[:, None], values, 0).sum(axis=2) / drawn.sum(axis=1)[:, None]
        )
        return np.asarray(means_of_drawn)

    @property
    def _all_times(self) -> Side:
        return self._side(self.subjects.reshape(-1, self.subjects.shape[2]), "subject_rdms")

    def _side(self, rdms: Floats, name: str = "rdms") -> Side:
        return Side(self.similarity, rdms, self.nan_policy, name, n_threads=self.n_threads)

    def _written_side(self, rdms: Floats) -> Side:
        # In RDMs that were written out, NaN marks pairs that no comparison uses.
        side = Side(self.similarity, rdms, "omit", "rdms", n_threads=self.n_threads)
        side.check()
        return side

    def _written_similarities(self, models: Floats, rows: Floats, conditions: Counts) -> Floats:
        squares, subjects = square(models), square(rows)
        out = np.full((len(conditions), len(models), len(rows)), np.nan)
        for d, counts in enumerate(conditions):
            if np.count_nonzero(counts) > 1:
                sides = (self._written_side(_written(rdms, counts)) for rdms in (squares, subjects))
                out[d], _ = compare_sides(*sides)
        if self.nan_policy == "propagate":
            out[:, np.isnan(models).any(axis=1)] = np.nan
            out[:, :, np.isnan(rows).any(axis=1)] = np.nan
        return out

    def _written_permutations(self, models: Floats, permutations: Counts) -> Floats:
        squares, subjects = square(models), self._all_times
        first, second = np.triu_indices(self.n_conditions, 1)
        out = np.empty((len(permutations), len(models)))
        for block in blocks_of(len(permutations), models.size):
            orders = permutations[block]
            moved = squares[:, orders[:, first], orders[:, second]].reshape(-1, len(first))
            # With one model, indexing returns a transposed array.
            similarities, _ = compare_sides(self._side(np.ascontiguousarray(moved)), subjects)
            out[block] = similarities.mean(axis=1).reshape(len(models), -1).T
        return out

    def _written_ceilings(
        self, rows: Floats, conditions: Counts | None, subjects: Counts | None, tie_bound: float
    ) -> Floats:
        n_draws = len(next(c for c in (conditions, subjects, np.ones((1, 1))) if c is not None))
        out = np.full((n_draws, 2, len(rows)), np.nan)
        usable = np.ones(len(rows), bool)
        if self.nan_policy == "propagate":
            usable = np.asarray(~np.isnan(rows).any(axis=1))
        squares = square(rows)
        everything = np.ones(self.n_conditions, np.int32)
        for d in range(n_draws):
            counts = everything if conditions is None else conditions[d]
            times = np.ones(len(rows)) if subjects is None else subjects[d].astype(np.float64)
            drawn = np.flatnonzero((times > 0) & usable)
            if np.count_nonzero(counts) < 2 or len(drawn) == 0:
                continue
            side = self._written_side(_written(squares[drawn], counts))
            pools = settle(means(pool_values(side, self.protocol.pool), times[drawn]), tie_bound)
            upper, _ = compare_sides(self._written_side(pools[:1]), side)
            out[d, :, drawn] = upper[0][:, None]
            if len(drawn) > 1:
                lower, _ = compare_sides(self._written_side(pools[1:]), side, paired=True)
                out[d, 0, drawn] = lower[:, 0]
        return out


def _times(rdms: Floats) -> Iterator[Floats]:
    """Yield RDMs (subjects, pairs) of each time."""
    return (np.ascontiguousarray(rdms[:, time]) for time in range(rdms.shape[1]))


def _written(square_rdms: Floats, counts: Counts) -> Floats:
    """Write out the RDMs (n, pairs) of the drawn conditions; pairs of a condition with itself are NaN."""
    index = np.repeat(np.arange(len(counts)), counts)
    first, second = np.triu_indices(len(index), 1)
    out = square_rdms[:, index[first], index[second]]
    out[:, index[first] == index[second]] = np.nan
    return np.ascontiguousarray(out)
