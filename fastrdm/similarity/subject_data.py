"""Subjects and models of an inference, checked."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastrdm._base import Labels, as_rdms, n_conditions
from fastrdm._kernels import bound_of
from fastrdm.similarity.ceiling import average_over_time, tie_bound_of
from fastrdm.similarity.coefficients import Floats
from fastrdm.similarity.protocol import Protocol, get_protocol
from fastrdm.similarity.shapes import as_models, as_subjects
from fastrdm.similarity.sides import check_values
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

    @property
    def tie_bound(self) -> float:
        """Relative difference within which values of a pool tie."""
        return tie_bound_of(self.similarity, self.protocol.pool, self.within)

    def value(self, similarity: Floats) -> Floats:
        """Return the values that are averaged over subjects."""
        return similarity**2 if self.protocol.squared else similarity

    def for_ceilings(self) -> "SubjectData":
        """Return the data that ceilings are computed from: averaged over time if the protocol says so."""
        if not self.protocol.average_times:
            return self
        subjects = average_over_time(self.subjects, self.similarity, self.nan_policy, self.within)
        return replace(self, subjects=subjects)

    def times(self) -> Iterator[Floats]:
        """Yield the subjects' RDMs (subjects, pairs) at each time."""
        for time in range(self.subjects.shape[1]):
            yield np.ascontiguousarray(self.subjects[:, time])


def take_subjects(
    subject_rdms: ArrayLike | Target,
    protocol: str | Protocol | None,
    nan_policy: str | None,
    n_threads: int | None,
) -> SubjectData:
    """Return the subjects of an array or a target; the target's protocol and policy are the defaults.

    Raises
    ------
    ValueError
        If a shape does not fit, the policy refuses a value, or a subject has no similarity to anything.
    """
    if isinstance(subject_rdms, Target):
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
    similarity = get_similarity(chosen.method)
    for subject, rows in enumerate(subjects):
        if similarity.undefined_rdms(rows).any():
            raise ValueError(
                f"subject {subject} is {similarity.undefined}, so it has no similarity to anything"
            )
    return SubjectData(subjects, chosen, policy, n_threads, within, labels)


def take_models(rdms: Any, data: SubjectData) -> Floats:
    """Return the models (n, pairs) to compare with the subjects.

    Raises
    ------
    ValueError
        If a shape does not fit, the policy refuses a value, a model has no similarity to anything, or labels differ
        from the subjects' labels.
    """
    rows = as_models(rdms, data.subjects.shape[2], "subject_rdms", data.labels)
    if not len(rows):
        raise ValueError(f"rdms has shape {np.shape(rdms)}; expected at least one model")
    models = np.ascontiguousarray(rows, np.float64)
    check_values(models, "rdms", ("model", "pair"), data.nan_policy)
    similarity = data.similarity
    if (constant := np.flatnonzero(similarity.undefined_rdms(models))).size:
        raise ValueError(
            f"model {constant[0]} of rdms is {similarity.undefined}, so it has no similarity to anything"
        )
    return models
