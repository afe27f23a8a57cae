"""Variance of subjects' RDMs that sets of model RDMs explain alone and together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastrdm._base import all_combinations, check_choice, combination_row, common_shares
from fastrdm.similarity.numerics import Floats, in_range
from fastrdm.similarity.partial_comparison import METHODS, orthonormal
from fastrdm.similarity.parts import rdm_vectors, take_subjects
from fastrdm.similarity.target import Target

_FEWEST, _MOST = 2, 3


@dataclass(frozen=True, eq=False)
class RdmVariancePartition:
    """Variance of subjects' RDMs, divided among sets of model RDMs.

    Attributes
    ----------
    sets : tuple of str
        Names of the sets.
    combinations : tuple of tuple of str
        All combinations of sets: each alone, then two, then three.
    r2 : ndarray, shape (combinations, subjects)
        R² of the regression on the RDMs of these sets.
    parts : ndarray, shape (combinations, subjects)
        Share of the variance that exactly these sets have in common: of one set, its unique share. A common share is
        negative where sets suppress each other's noise. The parts add up to `total`.
    method : str
        Similarity.
    """

    sets: tuple[str, ...]
    combinations: tuple[tuple[str, ...], ...]
    r2: Floats
    parts: Floats
    method: str

    @property
    def total(self) -> Floats:
        """R² (subjects,) of all sets together."""
        return np.asarray(self.r2[-1])

    def unique(self, name: str) -> Floats:
        """Return the unique share (subjects,) of a set; ValueError for an unknown one."""
        return self.shared(name)

    def shared(self, *names: str) -> Floats:
        """Return the share (subjects,) that exactly these sets have in common; ValueError for an unknown one."""
        return np.asarray(self.parts[combination_row(self.sets, names, "set")])

    def __str__(self) -> str:
        n = self.r2.shape[1]
        labels = [" & ".join(names) for names in self.combinations]
        width = max(map(len, labels))
        lines = [
            f"R² of {self.method}, mean over {n} subjects",
            f"{'set':<{width}}  {'R²':>8}  {'share':>8}",
        ]
        for label, r2, part in zip(
            labels, self.r2.mean(axis=1), self.parts.mean(axis=1), strict=True
        ):
            lines.append(f"{label:<{width}}  {r2:8.4f}  {part:8.4f}")
        return "\n".join(lines)


def partition_rdm_variance(
    target: Target | ArrayLike,
    sets: Mapping[str, Any],
    method: str = "spearman",
    *,
    nan_policy: str | None = None,
) -> RdmVariancePartition:
    r"""Divide the variance of subjects' RDMs among two or three sets of model RDMs.

    With the R² of least-squares regressions on every combination of the sets A, the share that exactly the sets S have
    in common is (commonality analysis; Newton & Spurrell 1967)

    .. math:: C(S) = -\sum_{T \subseteq S} (-1)^{|T|} R^2\big((A \setminus S) \cup T\big),

    for two sets :math:`R^2_{ab} - R^2_b`, :math:`R^2_{ab} - R^2_a` and :math:`R^2_a + R^2_b - R^2_{ab}`.

    Parameters
    ----------
    target : Target or array_like
        Subjects, as in `bootstrap`, or one condensed RDM, (pairs,). With a time axis, R² is averaged over time.
    sets : mapping of str to array_like
        Two or three sets by name, each of one RDM or several: (n, n), (pairs,), (models, n, n) or (models, pairs), or a
        dict of RDMs.
    method : {"spearman", "corr"}
        Whether ranks are regressed on ranks, or RDMs as they are; alias ``"pearson"``.
    nan_policy : str, optional
        As in `compare`; by default the target's policy, else ``"raise"``. With ``"omit"``, a subject's regressions use
        the pairs that the subject and all RDMs of all sets have; with ``"propagate"``, a subject with NaN is NaN, and
        all are if an RDM of a set has NaN.

    Returns
    -------
    RdmVariancePartition
        R² and shares for each combination and subject. R² is that of the data of the regression and grows with the
        number of RDMs: about k / pairs for k RDMs of noise.

    Raises
    ------
    ValueError
        If there are not two or three sets, shapes or labels do not fit, an RDM is constant, a value is infinite, or NaN
        under ``"raise"``, or an option is unknown.

    References
    ----------
    Newton & Spurrell (1967), Appl. Stat. 16(1); Groen et al. (2018), eLife 7:e32962 (RDMs of deep networks).

    Examples
    --------
    >>> import numpy as np, fastrdm
    >>> rng = np.random.default_rng(0)
    >>> a, b = rng.random((2, 190))
    >>> found = fastrdm.partition_rdm_variance(a + b + rng.random((4, 190)), {"a": a, "b": b})
    >>> found.unique("a").shape, bool(np.allclose(found.parts.sum(axis=0), found.total))
    ((4,), True)
    """
    check_choice(method, METHODS, "method")
    if not isinstance(sets, Mapping) or not _FEWEST <= len(sets) <= _MOST:
        raise ValueError(
            f"sets must be a dict of two or three sets of RDMs, got {len(sets)} in a {type(sets).__name__}"
        )
    data = take_subjects(target, nan_policy=nan_policy)
    members = {
        str(name): data.take_models(rdms, f"set {str(name)!r}") for name, rdms in sets.items()
    }
    names = tuple(members)
    combined = all_combinations(names)
    rows = data.subjects.reshape(-1, data.subjects.shape[2])
    lacking = np.isnan(np.concatenate(list(members.values()))).any(axis=0)
    r2 = np.full((len(combined), len(rows)), np.nan)
    missing = np.isnan(rows) | lacking
    for mask in np.unique(missing, axis=0):
        if (data.nan_policy == "propagate" and mask.any()) or np.count_nonzero(~mask) < 2:
            continue
        some = np.flatnonzero((missing == mask).all(axis=1))
        left = {name: rdms[:, ~mask] for name, rdms in members.items()}
        r2[:, some] = _r2(rows[some][:, ~mask], left, combined, method)
    r2 = r2.reshape(len(combined), *data.subjects.shape[:2]).mean(axis=2)
    return RdmVariancePartition(names, combined, r2, common_shares(names, r2), method)


def _r2(
    rows: Floats, members: Mapping[str, Floats], combined: Sequence[tuple[str, ...]], method: str
) -> Floats:
    """Return R² (combinations, rows) of rows regressed on each combination of sets and a constant."""
    y = rdm_vectors(in_range(rows)[0], method)
    vectors = {name: rdm_vectors(in_range(rdms)[0], method) for name, rdms in members.items()}
    for name, x in vectors.items():
        size = np.linalg.norm(x, axis=1, keepdims=True)
        vectors[name] = x / np.where(size > 0, size, 1)
    squares = np.einsum("sp,sp->s", y, y)
    out = np.empty((len(combined), len(rows)))
    for row, names in zip(out, combined, strict=True):
        basis = orthonormal(np.concatenate([vectors[name] for name in names]))
        with np.errstate(invalid="ignore", divide="ignore"):
            row[:] = ((y @ basis.T) ** 2).sum(axis=1) / np.where(squares > 0, squares, np.nan)
    return np.minimum(out, 1)
