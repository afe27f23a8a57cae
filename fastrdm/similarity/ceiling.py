"""Subject RDMs → noise ceiling, also of a target and for models that lack pairs."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fastrdm._base import check_choice, list_names, warn_caller
from fastrdm._kernels import Prepared, settle
from fastrdm.similarity.coefficients import Mask
from fastrdm.similarity.numerics import Floats, is_large, means, summable
from fastrdm.similarity.pools import Pools, ceilings_of_large
from fastrdm.similarity.protocol import Protocol
from fastrdm.similarity.shapes import as_subjects, with_contiguous_rows
from fastrdm.similarity.sides import Side, compare_sides
from fastrdm.similarity.table import Similarity, get_similarity

# Number of cached ceilings of models that lack pairs.
_CACHE_SIZE = 256


@dataclass(frozen=True)
class NoiseCeiling:
    """Upper limits of the score of any model, given how much the subjects differ.

    Attributes
    ----------
    lower, upper : float
        Means over subjects of the two arrays below.
    lower_per_subject, upper_per_subject : ndarray, shape (subjects,)
        Similarity of each subject to the pooled RDM of all other subjects, and of all subjects including itself.
    """

    lower_per_subject: Floats
    upper_per_subject: Floats

    @property
    def lower(self) -> float:
        """Mean lower bound over subjects."""
        return float(self.lower_per_subject.mean())

    @property
    def upper(self) -> float:
        """Mean upper bound over subjects."""
        return float(self.upper_per_subject.mean())


@dataclass(frozen=True)
class TimeNoiseCeiling:
    """Noise ceilings of each time point, from the RDMs of this time point alone.

    Attributes
    ----------
    lower, upper : ndarray, shape (times,)
        Means over subjects of the two arrays below.
    lower_per_subject, upper_per_subject : ndarray, shape (times, subjects)
        As for `NoiseCeiling`; squared if the protocol squares.
    """

    lower_per_subject: Floats
    upper_per_subject: Floats

    @property
    def lower(self) -> Floats:
        """Mean lower bound over subjects."""
        return np.asarray(self.lower_per_subject.mean(axis=1))

    @property
    def upper(self) -> Floats:
        """Mean upper bound over subjects."""
        return np.asarray(self.upper_per_subject.mean(axis=1))


def noise_ceiling(
    subject_rdms: ArrayLike,
    method: str = "spearman",
    *,
    pool: str = "raw",
    squared: bool = True,
    average_times: bool = False,
    nan_policy: str = "raise",
    n_threads: int | None = None,
) -> NoiseCeiling:
    r"""Compute the noise ceiling of subjects; the defaults are those of the Algonauts 2019 challenge.

    The bounds of subject s are the similarities :math:`\rho(d_s, \bar d_{-s})` and :math:`\rho(d_s, \bar d)` to the
    pooled RDM without and with the subject, squared if `squared`. With several time points, similarities are averaged
    within the subject, then squared.

    If the method uses ranks or order, the entries of a pool are ranked like those of the exact mean. Entries that
    differ by at most 2⁻⁴⁰ of the larger one (2⁻¹⁹ if `subject_rdms` are float32) are equal, in groups that each start
    at their smallest entry. A mean whose terms cancel to within their rounding is 0. The unit of the RDMs and the order
    of subjects therefore change no rank, and a subject with extreme values changes only the pools that contain it. The
    subjects' RDMs themselves are ranked as they are.

    Parameters
    ----------
    subject_rdms : array_like
        (subjects, n, n) or (subjects, pairs), or with a time axis second, (subjects, times, n, n) or
        (subjects, times, pairs), or a dict of subjects. At least two subjects. Masked values are NaN.
    method : str
        Similarity, as in `compare`.
    pool : str
        ``"raw"`` averages the RDMs as they are, so that a subject's unit determines its weight. ``"rank"`` averages
        what rsatoolbox averages for `method`: z-scores for ``"corr"`` and ``"corr_cov"``, RDMs with a mean square of 1
        for ``"cosine"`` and ``"cosine_cov"``, ranks for all others.
    squared : bool
        Whether the bounds are squared similarities.
    average_times : bool
        Whether each subject's RDMs are first averaged over time. The averages are ranked by the rule for pools.
    nan_policy : str
        ``"raise"``: NaN is an error. ``"omit"``: each pair of the pooled RDM is the mean over the subjects that have
        it (NaN if none has), and a subject is compared with the pooled RDM on the pairs that both have.
        ``"propagate"``: subjects with NaN have NaN bounds and are in no pooled RDM; `lower` and `upper`, the means over
        all subjects, are then NaN. With a time axis, both hold for each time point; with `average_times`, ``"omit"``
        averages over the times that have a pair.
    n_threads : int, optional
        Number of threads; by default the number of processors available to the process.

    Returns
    -------
    NoiseCeiling
        Both bounds, and their values per subject; the arrays are read-only.

    Raises
    ------
    ValueError
        If the shape is none of those above, there is only one subject, an entry is infinite, or NaN under ``"raise"``,
        an RDM is asymmetric, labels of rows and columns differ, those of subjects are not the same, or `method`, `pool`
        or `nan_policy` is unknown.

    Warns
    -----
    RuntimeWarning
        One, naming the first subject with a NaN bound because its RDM, or a pooled one, is constant (zero); one if
        square matrices look like similarities: the largest entry of each row is on the diagonal; one if labelled
        conditions of subjects were brought into the order of the first.

    References
    ----------
    Nili et al. (2014), PLoS Comput. Biol. 10(4), "Noise ceiling"; Cichy et al. (2019), arXiv:1905.05675 (upper bound
    on averaged RDMs, squared).
    """
    subjects = as_subjects(subject_rdms, nan_policy=nan_policy)
    protocol = Protocol("", method, squared, pool, bound="", source="", average_times=average_times)
    ceiling, undefined = ceiling_of(
        subjects.rdms, protocol, nan_policy, subjects.tie_bound, n_threads
    )
    if undefined.any():
        subject, time = (int(i) for i in np.argwhere(undefined)[0])
        warn_caller(
            f"the bounds of {int(undefined.any(axis=1).sum())} subjects are NaN: their RDM, or one pooled from the"
            f" others, is {get_similarity(method).undefined}; the first is subject {subject}, time {time}"
        )
    return ceiling


def ceiling_of(
    subjects: Floats,
    protocol: Protocol,
    nan_policy: str,
    within: float,
    n_threads: int | None = None,
    whole: Prepared | None = None,
) -> tuple[NoiseCeiling, Mask]:
    """Return the noise ceiling of condensed RDMs (subjects, times, pairs), and which have undefined similarities.

    `whole`: the RDMs of large subjects at one time, if they are prepared on all their pairs.
    """
    if protocol.average_times:
        similarity = get_similarity(protocol.method)
        subjects = average_over_time(subjects, similarity, nan_policy, within)
    bounds, undefined = bounds_over_time(subjects, protocol, nan_policy, within, n_threads, whole)
    return _mean_ceiling(bounds, protocol), undefined


def _mean_ceiling(bounds: Floats, protocol: Protocol) -> NoiseCeiling:
    """Average bounds (times, 2, subjects) over time, and square them if the protocol does."""
    averages = (np.add.reduce(bounds, axis=0) / len(bounds)) ** (2 if protocol.squared else 1)
    averages.flags.writeable = False
    return NoiseCeiling(*averages)


def bounds_over_time(
    subjects: Floats,
    protocol: Protocol,
    nan_policy: str,
    within: float,
    n_threads: int | None = None,
    whole: Prepared | None = None,
) -> tuple[Floats, Mask]:
    """Return lower and upper similarities (times, 2, subjects), and which (subjects, times) are undefined.

    Arguments are those of `ceiling_of`; each time point is taken by itself.
    """
    similarity, pool = get_similarity(protocol.method), protocol.pool
    check_choice(pool, ("raw", "rank"), "pool")
    if len(subjects) < 2:
        raise ValueError("a noise ceiling needs at least two subjects; subject_rdms has one")
    n_subjects, n_times, _ = subjects.shape
    tie_bound = tie_bound_of(similarity, pool, within)

    bounds = np.empty((n_times, 2, n_subjects))
    large = is_large(subjects)
    undefined = np.zeros((n_subjects, n_times), bool)
    for time in range(n_times):
        rows = with_contiguous_rows(subjects[:, time])
        side = Side(
            similarity, rows, nan_policy, "subject_rdms", prepared=whole, n_threads=n_threads
        )
        if large:
            is_prepared = whole is not None or not (side.grows or np.isnan(rows.sum()))
            # Without a name for the pools, whose memory the next time needs.
            bounds[time], undefined[:, time] = ceilings_of_large(
                Pools(side, pool, is_prepared), tie_bound
            )
            continue
        if nan_policy != "raise":
            side.check()
        pools = settle(means(pool_values(side, pool)), tie_bound)
        pooled = Side(similarity, pools, "omit", "the pooled RDM", n_threads=n_threads)
        upper, missing = compare_sides(pooled.part(slice(0, 1)), side)
        lower, lacking = compare_sides(pooled.part(slice(1, None)), side, paired=True)
        bounds[time] = lower[:, 0], upper[0]
        undefined[:, time] = missing[0] | lacking[:, 0]
    return bounds, undefined


def average_over_time(
    subjects: Floats, similarity: Similarity, nan_policy: str, within: float
) -> Floats:
    """Return subjects' RDMs averaged over time, (subjects, 1, pairs), with the ties of the exact means.

    ``"omit"`` averages over the times that have a pair; otherwise a pair that is NaN at any time is NaN.
    """
    if subjects.shape[1] == 1:
        return subjects
    averages = np.stack([means(subject)[:1] for subject in subjects])
    if nan_policy != "omit":
        averages[np.isnan(subjects).any(axis=1, keepdims=True)] = np.nan
    return settle(averages, tie_bound_of(similarity, "raw", within))


def pool_values(subjects: Side, pool: str) -> Floats:
    """Return the values (subjects, pairs) that a pool averages; NaN for missing pairs and excluded subjects."""
    standardise = subjects.method.standardise
    if subjects.is_whole:
        rdms = subjects.rdms
        return np.asarray(summable(rdms) if pool == "raw" else standardise(rdms, subjects.whole))
    values = np.full(subjects.rdms.shape, np.nan)
    for group in subjects.groups:
        rdms = group.values(group.members, group.present)
        here = np.ix_(group.members, group.present)
        values[here] = rdms if pool == "raw" else standardise(rdms, group.whole)
    return np.asarray(summable(values))


def tie_bound_of(similarity: Similarity, pool: str, within: float) -> float:
    """Return the relative difference within which pooled values tie; 0 if they are not ranked or are sums of ranks."""
    return within if similarity.ordinal and pool == "raw" else 0.0


class TargetCeiling:
    """Noise ceilings of subjects (subjects, times, pairs), computed as the protocol says."""

    def __init__(
        self, subjects: Floats, protocol: Protocol, nan_policy: str, tie_bound: float
    ) -> None:
        self.subjects, self.protocol = subjects, protocol
        self.nan_policy, self.tie_bound = nan_policy, tie_bound
        self._cache: dict[tuple[bytes, bool], Floats] = {}
        # Bounds over all pairs.
        self._kept: Floats | None = None

    def compute(self, missing: Mask | None = None, whole: Prepared | None = None) -> NoiseCeiling:
        """Return both bounds, optionally without some pairs, or from RDMs prepared on all their pairs."""
        if not self.protocol.average_times:
            return _mean_ceiling(self._bounds(missing, whole), self.protocol)
        facts = self.protocol, self.nan_policy, self.tie_bound
        return ceiling_of(self._without_pairs(missing), *facts, whole=whole)[0]

    def compute_each(
        self, missing: Mask | None = None, whole: Prepared | None = None
    ) -> TimeNoiseCeiling:
        """Return both bounds of each time point; arguments as for `compute`."""
        bounds = self._bounds(missing, whole) ** (2 if self.protocol.squared else 1)
        bounds.flags.writeable = False
        return TimeNoiseCeiling(bounds[:, 0], bounds[:, 1])

    def _bounds(self, missing: Mask | None, whole: Prepared | None) -> Floats:
        if missing is None and self._kept is not None:
            return self._kept
        facts = self.protocol, self.nan_policy, self.tie_bound
        bounds, _ = bounds_over_time(self._without_pairs(missing), *facts, whole=whole)
        if missing is None:
            self._kept = bounds
        return bounds

    def _without_pairs(self, missing: Mask | None) -> Floats:
        return self.subjects if missing is None else np.where(missing, np.nan, self.subjects)

    def bound(self, ceiling: NoiseCeiling, name: str) -> float:
        """Return the protocol's bound; ValueError if it is not positive."""
        bound: float = getattr(ceiling, self.protocol.bound)
        unknown = self.nan_policy == "propagate" and bool(np.isnan(self.subjects).any())
        if not (bound > 0 or unknown):
            raise ValueError(
                f"the {self.protocol.bound} noise ceiling of {name} is {bound:.4g}: its subjects do not agree, so no"
                " score can be a percentage of it; set ceiling"
            )
        return bound

    def of_models(self, models: Floats, ceiling: float | Floats, is_computed: bool) -> Floats:
        """Return the ceiling over the pairs of each model; NaN if it is unknown.

        `ceiling` is over all pairs: a number, or one for each time point, for ceilings (models, times).
        """
        ceilings = np.full((len(models), *np.shape(ceiling)), ceiling)
        if self.nan_policy != "omit":
            return ceilings
        # A sum is NaN if a term is; in the usual case this avoids the mask.
        with np.errstate(all="ignore"):
            suspects = np.flatnonzero(np.isnan(models.sum(axis=1)))
        if len(suspects):
            present = ~np.isnan(self.subjects).all(axis=(0, 1))
        for i in suspects:
            missing = np.isnan(models[i]) & present
            if missing.any():
                each = ceilings.ndim > 1
                ceilings[i] = self._without(missing, each) if is_computed else math.nan
        return ceilings

    def _without(self, missing: Mask, each: bool) -> Floats:
        key = np.packbits(missing).tobytes(), each
        if key not in self._cache:
            found = self.compute_each(missing) if each else self.compute(missing)
            bound = np.asarray(getattr(found, self.protocol.bound))
            if len(self._cache) == _CACHE_SIZE:
                self._cache.clear()
            self._cache[key] = np.where(bound > 0, bound, math.nan)
        return self._cache[key]

    def warn_unknown(self, unknown: Mask, name: str, is_computed: bool) -> None:
        """Warn of models with an unknown ceiling."""
        reason = (
            f"over the remaining pairs the {self.protocol.bound} noise ceiling is not positive"
            if is_computed
            else "the ceiling was given for all pairs; omit ceiling= to compute it over each model's pairs"
        )
        warn_caller(
            f"percent_nc of {name} is NaN for models that lack pairs (rdms: model"
            f" {list_names(np.flatnonzero(unknown), 5)}): {reason}"
        )


def check_ceiling(ceiling: float, name: str, protocol: Protocol) -> None:
    """Raise ValueError for a ceiling that is not between 0 and 1."""
    if not (np.isfinite(ceiling) and ceiling > 0):
        raise ValueError(f"the ceiling of {name} must be a positive number, got {ceiling}")
    if ceiling > 1:
        kind = "squared correlation" if protocol.squared else "correlation"
        percent = f"; it looks like percent, so pass {ceiling / 100:g}" if ceiling <= 100 else ""
        raise ValueError(
            f"the ceiling of {name} is {ceiling:g}, but a {kind} is at most 1{percent}"
        )
