"""Subject RDMs → noise ceiling."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrdm._base import (
    Labels,
    as_rdms,
    check_choice,
    checked_triangle,
    n_conditions,
    rdm_labels,
)
from fastrdm._kernels import FLOAT64, bound_of, settle
from fastrdm.similarity.coefficients import get_method
from fastrdm.similarity.comparison import contiguous
from fastrdm.similarity.pooling import means, over_time
from fastrdm.similarity.scales import summable
from fastrdm.similarity.sides import Method, Side, check_policy, check_values

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class NoiseCeiling:
    """How well the best of all models could do, given how much the subjects differ.

    Attributes
    ----------
    lower, upper : float
        Means over subjects of the two arrays below.
    lower_per_subject, upper_per_subject : ndarray, shape (subjects,)
        Similarity of each subject to the pooled RDM of all others, and of all subjects, itself among them.
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
    r"""Noise ceiling of a set of subjects; the defaults are those of the Algonauts 2019 challenge.

    With :math:`\rho` the similarity, subject s's bounds are :math:`\rho(d_s, \bar d_{-s})` and
    :math:`\rho(d_s, \bar d)`, squared where `squared`, for the pooled RDM without and with the subject. Over time
    points, similarities are averaged within the subject, then squared.

    Where a method takes ranks or order, the pool's entries are ranked as those of the exact mean: entries that differ
    by no more than 2⁻⁴⁰ of the larger (2⁻¹⁹ where `subject_rdms` are float32) are equal, in groups that each open at
    their smallest entry, and a mean that its terms cancel to within their rounding is 0. The unit of the RDMs and the
    order of subjects thus change no rank, and a subject with distant values changes only the pools that it is in. The
    subjects' own RDMs are ranked as they are.

    Parameters
    ----------
    subject_rdms : array_like
        (subjects, n, n) or (subjects, pairs), or with a time axis second, (subjects, times, n, n) or
        (subjects, times, pairs), or a dict of subjects. At least two subjects. Masked values are NaN.
    method : str
        Similarity, as in `compare`.
    pool : str
        ``"raw"`` averages the RDMs as they are, so that units weigh subjects, ``"rank"`` what rsatoolbox averages for
        `method`: z-scores for ``"corr"`` and ``"corr_cov"``, RDMs with a mean square of 1 for ``"cosine"`` and
        ``"cosine_cov"``, ranks for all others.
    squared : bool
        Whether the bounds are of the squared similarity.
    average_times : bool
        Whether each subject's RDMs are first averaged over time, so that the bounds are those of the averages. They are
        ranked by the rule for pools, as fastrdm computes them.
    nan_policy : str
        ``"raise"``: NaN is an error. ``"omit"``: the pooled RDM is the mean over those subjects that have a pair
        (pairs that none has are NaN), and a subject is compared with it on the pairs that both have.
        ``"propagate"``: subjects with NaN have NaN as their bounds, and are in no pooled RDM; `lower` and `upper`, the
        means over all subjects, are then NaN. With a time axis, both hold for each time point; with `average_times`,
        ``"omit"`` averages over the times that have a pair.
    n_threads : int, optional
        Threads to use; the processors of this process by default.

    Returns
    -------
    NoiseCeiling
        Both bounds, and their values per subject; its arrays are read-only.

    Warns
    -----
    RuntimeWarning
        One, naming the first subject whose bound is NaN because its RDM, or a pooled one, is constant (zero); one if
        square matrices have the largest entry of each row on the diagonal, as similarities do.

    Raises
    ------
    ValueError
        If the shape is none of those above, there is one subject only, an entry is infinite, or NaN under
        ``"raise"``, an RDM is asymmetric, labels of rows and columns or of subjects differ, or `method`, `pool` or
        `nan_policy` is unknown.

    References
    ----------
    Nili et al. (2014), PLoS Comput. Biol. 10(4), "Noise ceiling"; Cichy et al. (2019), arXiv:1905.05675 (upper bound
    on averaged RDMs, squared).
    """
    check_policy(nan_policy)
    subjects, _ = as_subjects(subject_rdms, nan_policy=nan_policy)
    ceiling, undefined = ceiling_of(
        subjects,
        method,
        pool=pool,
        squared=squared,
        average_times=average_times,
        nan_policy=nan_policy,
        within=bound_of(as_rdms(subject_rdms, "subject_rdms").dtype),
        n_threads=n_threads,
    )
    if undefined.any():
        subject, time = (int(i) for i in np.argwhere(undefined)[0])
        warnings.warn(
            f"the bounds of {int(undefined.any(axis=1).sum())} subjects are NaN: their RDM, or one pooled from the"
            f" others, is {get_method(method).undefined}; the first is subject {subject}, time {time}",
            RuntimeWarning,
            stacklevel=2,
        )
    return ceiling


def as_subjects(
    subject_rdms: Any, name: str = "subject_rdms", *, nan_policy: str = "raise"
) -> tuple[Floats, Labels | None]:
    """Subject RDMs in any of their forms as condensed (subjects, times, pairs), and the labels they carry."""
    array = as_rdms(subject_rdms, name)
    expected = "expected (subjects, n, n), (subjects, pairs), or with a time axis second"
    if array.ndim not in (2, 3, 4):
        raise ValueError(f"{name} has shape {array.shape}; {expected}")
    if (
        array.ndim == 2
        and array.shape[0] == array.shape[1]
        and np.array_equal(array, array.T, equal_nan=True)
    ):
        raise ValueError(
            f"{name} with shape {array.shape} looks like one square RDM; {expected}, so pass rdm[None]"
        )
    square = array.ndim == 4 or (array.ndim == 3 and array.shape[1] == array.shape[2])
    labels = rdm_labels(subject_rdms, name, square=square)
    if square:
        array = checked_triangle(array, name)
    n_conditions(array.shape[-1], name)
    if 0 in array.shape:
        raise ValueError(f"{name} has shape {array.shape}; {expected}, none of them empty")
    axes = ("subject", "pair") if array.ndim == 2 else ("subject", "time", "pair")
    check_values(array, name, axes, nan_policy)
    shaped = array if array.ndim == 3 else array[:, None]
    return np.ascontiguousarray(shaped, np.float64), labels


def ceiling_of(
    subjects: Floats,
    method: str,
    *,
    pool: str,
    squared: bool,
    average_times: bool = False,
    nan_policy: str = "raise",
    within: float = FLOAT64,
    n_threads: int | None = None,
) -> tuple[NoiseCeiling, NDArray[np.bool_]]:
    """The noise ceiling of condensed subject RDMs (subjects, times, pairs), and where they have no similarity."""
    chosen = get_method(method)
    check_choice(pool, ("raw", "rank"), "pool")
    if len(subjects) < 2:
        raise ValueError("a noise ceiling needs at least two subjects, subject_rdms has one")
    if average_times:
        subjects = averaged(subjects, chosen, nan_policy, within)
    n_subjects, n_times, _ = subjects.shape
    bound = tie_bound(chosen, pool, within)

    bounds = np.zeros((2, n_subjects))
    undefined = np.zeros((n_subjects, n_times), bool)
    for time in range(n_times):
        side = Side(
            chosen, contiguous(subjects[:, time]), nan_policy, "subject_rdms", n_threads=n_threads
        )
        if nan_policy != "raise":
            side.check()
        pools = settle(means(pool_values(chosen, side, pool)), bound)
        pooled = Side(chosen, pools, "omit", "the pooled RDM", n_threads=n_threads)
        upper, missing = chosen.similarity(pooled.part(slice(0, 1)), side, n_threads)
        lower, lacking = chosen.similarity(
            pooled.part(slice(1, None)), side, n_threads, paired=True
        )
        bounds += lower[:, 0], upper[0]
        for mask in (missing, lacking):
            if mask is not None:
                undefined[:, time] |= mask.ravel()
    power = 2 if squared else 1
    lower_bound, upper_bound = (bounds / n_times) ** power
    for bound in (lower_bound, upper_bound):
        bound.flags.writeable = False
    return NoiseCeiling(lower_bound, upper_bound), undefined


def averaged(subjects: Floats, method: Method, nan_policy: str, within: float) -> Floats:
    """Subjects' RDMs averaged over time, (subjects, 1, pairs), with their ties as those of the exact means."""
    if subjects.shape[1] == 1:
        return subjects
    return settle(over_time(subjects, nan_policy), tie_bound(method, "raw", within))


def pool_values(method: Method, subjects: Side, pool: str) -> Floats:
    """What is averaged over subjects, (subjects, pairs); NaN where one lacks a pair or the policy leaves it out."""
    if subjects.is_whole:
        rdms = subjects.rdms
        return np.asarray(summable(rdms) if pool == "raw" else method.pooled(rdms, subjects.whole))
    values = np.full(subjects.rdms.shape, np.nan)
    for group in subjects.groups:
        rdms = group.values(group.members, group.present)
        here = np.ix_(group.members, group.present)
        values[here] = rdms if pool == "raw" else method.pooled(rdms, group.whole)
    return np.asarray(summable(values))


def tie_bound(method: Method, pool: str, within: float) -> float:
    """The relative difference within which values of a pool tie: 0 where they are not ranked, or are sums of ranks."""
    return within if method.ordinal and pool == "raw" else 0.0
