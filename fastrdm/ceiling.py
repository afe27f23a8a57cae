"""Subject RDMs → noise ceiling."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrdm.compare import poolable, standardiser
from fastrdm.rdm import as_floats, check_finite, condense, n_conditions

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
    n_threads: int | None = None,
) -> NoiseCeiling:
    r"""Noise ceiling of a set of subjects; the defaults are those of the Algonauts 2019 challenge.

    With :math:`\rho` the similarity, subject s's bounds are :math:`\rho(d_s, \bar d_{-s})` and
    :math:`\rho(d_s, \bar d)`, squared where `squared`, for the pooled RDM without and with the subject. Over time
    points, similarities are averaged within the subject, then squared.

    Parameters
    ----------
    subject_rdms : array_like
        (subjects, n, n) or (subjects, pairs), or with a time axis second, (subjects, times, n, n) or
        (subjects, times, pairs). At least two subjects; no NaN.
    method : str
        Similarity, as in `compare`.
    pool : str
        ``"raw"`` averages the RDMs as they are, ``"rank"`` what `method` makes of them: their ranks for
        ``"spearman"``, z-scores for ``"corr"``, RDMs of length 1 for ``"cosine"``.
    squared : bool
        Whether the bounds are of the squared similarity.
    n_threads : int, optional
        Threads to use; the processors of this process by default.

    Returns
    -------
    NoiseCeiling
        Both bounds, and their values per subject.

    Raises
    ------
    ValueError
        If the shape is none of those above, there is one subject only, an entry is NaN or infinite, an RDM is
        asymmetric, or `method` or `pool` is unknown.

    References
    ----------
    Nili et al. (2014), PLoS Comput. Biol. 10(4), "Noise ceiling"; Cichy et al. (2019), arXiv:1905.05675 (upper bound
    on averaged RDMs, squared).
    """
    return ceiling_of(
        as_subjects(subject_rdms), method, pool=pool, squared=squared, n_threads=n_threads
    )


def as_subjects(subject_rdms: ArrayLike, name: str = "subject_rdms") -> Floats:
    """Subject RDMs in any of their forms as condensed (subjects, times, pairs)."""
    array = as_floats(subject_rdms, name)
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
    if array.ndim == 4 or (array.ndim == 3 and array.shape[1] == array.shape[2]):
        array = condense(array, name)
    n_conditions(array.shape[-1], name)
    if 0 in array.shape:
        raise ValueError(f"{name} has shape {array.shape}; {expected}, none of them empty")
    check_finite(
        array, name, ("subject", "pair") if array.ndim == 2 else ("subject", "time", "pair")
    )
    return np.ascontiguousarray(array if array.ndim == 3 else array[:, None], np.float64)


def ceiling_of(
    subjects: Floats, method: str, *, pool: str, squared: bool, n_threads: int | None = None
) -> NoiseCeiling:
    """The noise ceiling of condensed subject RDMs (subjects, times, pairs)."""
    standardise = standardiser(method)
    if pool not in ("raw", "rank"):
        raise ValueError(f"pool {pool!r} is not one of: raw, rank")
    n_subjects, n_times, _ = subjects.shape
    if n_subjects < 2:
        raise ValueError("a noise ceiling needs at least two subjects, subject_rdms has one")

    lower, upper = np.zeros(n_subjects), np.zeros(n_subjects)
    for time in range(n_times):
        rdms = np.ascontiguousarray(subjects[:, time])
        standard = standardise(rdms, n_threads)
        pooled = rdms if pool == "raw" else poolable(method, rdms, n_threads)
        total = pooled.sum(axis=0)
        upper += _rowwise(standard, standardise(total[None], n_threads))
        lower += _rowwise(standard, standardise(total - pooled, n_threads))
    power = 2 if squared else 1
    return NoiseCeiling((lower / n_times) ** power, (upper / n_times) ** power)


def _rowwise(first: Floats, second: Floats) -> Any:
    return np.clip(np.sum(first * second, axis=1), -1, 1)
