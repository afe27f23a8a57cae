"""How well the subjects of a region agree: noise ceilings, correlations and reliabilities."""

import itertools
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm.similarity import Target, compare, noise_ceiling, rank

Floats = NDArray[np.float64]

# Splits of the subjects into halves: all of them, or as many random ones as these numbers allow.
_MOST_SPLITS, _LEAST_SPLITS, _MOST_PAIRS = 100, 10, 1 << 24


@dataclass(frozen=True)
class RegionFacts:
    """What is known of a region's subjects.

    Attributes
    ----------
    name, source : str
        The region; the array and the file of its RDMs, empty if unknown.
    subjects : tuple of str
        Names of the subjects; empty if unknown.
    n_subjects, n_times, n_conditions : int
        Shape of the RDMs: (subjects, times, conditions, conditions).
    protocol, method, nan_policy : str
        How models are scored.
    squared : bool
        Whether scores and ceilings are squared correlations.
    n_missing : tuple of int
        Number of pairs that are NaN, by subject, over all times.
    ceiling : float
        The noise ceiling that scores are divided by; NaN if there is no valid one.
    ceiling_source : str
        "computed" from the subjects, "published" for the challenge's images, "given" or "invalid".
    bound : str
        Which computed bound the protocol divides by: "lower" or "upper".
    lower, upper : float
        Bounds of the noise ceiling as the protocol computes them; NaN for one subject.
    leave_one_out : tuple of float
        Correlation of each subject with the mean RDM of all others, not squared; empty for one subject.
    between_subjects : float
        Mean correlation of two subjects; NaN for one.
    split_half : float
        Mean correlation of the mean RDMs of two halves of the subjects; NaN for one subject.
    n_splits : int
        Number of such splits: all of them, or as many random ones as are feasible.
    spearman_brown : float
        Reliability of the mean RDM of all subjects by the Spearman-Brown formula, 2 r / (1 + r) with r =
        `split_half`; NaN if r is not positive.
    mean_rdm : ndarray, shape (pairs,)
        Condensed RDM averaged over subjects and times; NaN where none has a value.
    """

    name: str
    source: str
    subjects: tuple[str, ...]
    n_subjects: int
    n_times: int
    n_conditions: int
    protocol: str
    method: str
    nan_policy: str
    squared: bool
    n_missing: tuple[int, ...]
    ceiling: float
    ceiling_source: str
    bound: str
    lower: float
    upper: float
    leave_one_out: tuple[float, ...]
    between_subjects: float
    split_half: float
    n_splits: int
    spearman_brown: float
    mean_rdm: Floats = field(repr=False, compare=False)

    def subject(self, index: int) -> str:
        """Return the number of a subject, counted from 0, and its name if it is known."""
        name = self.subjects[index] if len(self.subjects) == self.n_subjects else ""
        return f"subject {index}{f' {name!r}' if name else ''}"

    @property
    def mean_leave_one_out(self) -> float:
        """Mean of `leave_one_out`; NaN for one subject."""
        return float(np.mean(self.leave_one_out)) if self.leave_one_out else math.nan


def examine_region(
    region: str,
    target: Target,
    source: str = "",
    names: Sequence[str] = (),
    published: float | None = None,
) -> RegionFacts:
    """Return the facts of a region, with the names of its subjects and the published ceiling, if there are any."""
    subjects, protocol = target.subject_rdms, target.protocol
    facts: dict[str, Any] = {"lower": math.nan, "upper": math.nan, "leave_one_out": ()}
    facts |= {"between_subjects": math.nan, "split_half": math.nan, "n_splits": 0}
    if target.n_subjects > 1:
        with warnings.catch_warnings():
            # Correlations that are not defined are NaN here, and suspicions name their cause.
            warnings.simplefilter("ignore", RuntimeWarning)
            facts["lower"] = target.noise_ceiling.lower
            facts["upper"] = target.noise_ceiling.upper
            unsquared = noise_ceiling(
                subjects,
                protocol.method,
                pool=protocol.pool,
                squared=False,
                average_times=protocol.average_times,
                nan_policy="omit",
            )
            facts["leave_one_out"] = tuple(unsquared.lower_per_subject.tolist())
            pairwise = correlations(target)
            off_diagonal = pairwise[np.triu_indices(len(pairwise), 1)]
            facts["between_subjects"] = float(off_diagonal.mean())
            facts["split_half"], facts["n_splits"] = _split_half(subjects, target)
    r = facts["split_half"]
    origin = "published" if target.ceiling == published else "given"
    return RegionFacts(
        name=region,
        source=source,
        subjects=tuple(names),
        n_subjects=target.n_subjects,
        n_times=target.n_times,
        n_conditions=target.n_conditions,
        protocol=protocol.name,
        method=protocol.method,
        nan_policy=target.nan_policy,
        squared=protocol.squared,
        n_missing=tuple(np.isnan(subjects).sum(axis=(1, 2)).tolist()),
        ceiling=target.ceiling,
        ceiling_source="computed" if target.is_computed else origin,
        bound=protocol.bound,
        mean_rdm=_mean(subjects.reshape(-1, target.n_pairs)),
        spearman_brown=2 * r / (1 + r) if r > 0 else math.nan,
        **facts,
    )


def correlations(target: Target) -> Floats:
    """Return the correlations of all subjects (subjects, subjects), averaged over time."""
    subjects, method = target.subject_rdms, target.protocol.method
    times = [
        compare(subjects[:, t], subjects[:, t], method, nan_policy="omit")
        for t in range(target.n_times)
    ]
    return np.asarray(np.mean(times, axis=0))


def _mean(rdms: Floats) -> Floats:
    with warnings.catch_warnings():
        # The mean of no value is NaN.
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.asarray(np.nanmean(rdms, axis=0))


def _split_half(subjects: Floats, target: Target) -> tuple[float, int]:
    rdms = np.stack([_mean(subject) for subject in subjects])
    if target.protocol.pool == "rank" and not np.isnan(rdms).any():
        rdms = rank(rdms)
    values = [
        compare(_mean(rdms[half])[None], _mean(rdms[~half])[None], target.protocol.method,
                nan_policy="omit")[0, 0]
        for half in _halves(len(rdms), target.n_pairs)
    ]  # fmt: skip
    return float(np.mean(values)), len(values)


def _halves(n: int, n_pairs: int) -> list[NDArray[np.bool_]]:
    """Return masks of half of n subjects: all that differ, or seeded random ones."""
    most = max(_LEAST_SPLITS, min(_MOST_SPLITS, _MOST_PAIRS // n_pairs))
    n_half = n // 2
    # With an even number of subjects, each split would occur twice.
    if math.comb(n, n_half) // (2 - n % 2) <= most:
        chosen = itertools.combinations(range(n), n_half)
        return [_mask(half, n) for half in chosen if n % 2 or 0 in half]
    rng = np.random.default_rng(0)
    return [_mask(rng.permutation(n)[:n_half], n) for _ in range(most)]


def _mask(members: Any, n: int) -> NDArray[np.bool_]:
    mask = np.zeros(n, bool)
    mask[list(members)] = True
    return mask
