"""RDMs × RDMs → similarities."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrdm import _kernels
from fastrdm.rdm import as_floats, check_finite, n_conditions

Rows = NDArray[np.float64]


def compare(
    rdms1: ArrayLike, rdms2: ArrayLike, method: str = "spearman", *, n_threads: int | None = None
) -> Rows:
    r"""Similarity of every RDM of one set to every RDM of another.

    ``"spearman"`` is Pearson's r of average ranks, ``"corr"`` Pearson's r of the dissimilarities, ``"cosine"`` their
    cosine, :math:`\langle a, b\rangle / (\lVert a\rVert\,\lVert b\rVert)`.

    Parameters
    ----------
    rdms1, rdms2 : array_like, shape (n, pairs) or (pairs,)
        Condensed RDMs over the same conditions in the same order. Square ones are refused, since a square array may
        as well be a stack of condensed RDMs: pass ``condense(rdms)``.
    method : str
        ``"spearman"``, ``"corr"`` (alias ``"pearson"``) or ``"cosine"``.
    n_threads : int, optional
        Threads to use; the processors of this process by default.

    Returns
    -------
    ndarray of float64, shape (n1, n2)
        Between −1 and 1. NaN where an RDM is constant (for ``"cosine"``: zero), since it has no correlation.

    Raises
    ------
    ValueError
        If a shape is not that of condensed RDMs, the numbers of pairs differ, an entry is NaN or infinite (the
        message says where), or the method is unknown.

    References
    ----------
    Nili et al. (2014), A toolbox for representational similarity analysis, PLoS Comput. Biol. 10(4).
    """
    standardise = standardiser(method)
    first, second = _condensed(rdms1, "rdms1"), _condensed(rdms2, "rdms2")
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            f"rdms1 has {first.shape[1]} pairs ({n_conditions(first.shape[1])} conditions) and rdms2"
            f" {second.shape[1]} ({n_conditions(second.shape[1])})"
        )
    return similarity(standardise(first, n_threads), standardise(second, n_threads), n_threads)


def _condensed(rdms: ArrayLike, name: str) -> Rows:
    array = as_floats(rdms, name)
    if array.ndim not in (1, 2):
        raise ValueError(
            f"{name} has shape {array.shape}; expected condensed RDMs, (n, pairs) or (pairs,): for square ones pass"
            f" condense({name})"
        )
    if (
        array.ndim == 2
        and array.shape[0] == array.shape[1]
        and (not array.diagonal().any() and np.array_equal(array, array.T))
    ):
        raise ValueError(
            f"{name} with shape {array.shape} looks like one square RDM; expected condensed RDMs, (n, pairs) or"
            f" (pairs,): pass condense({name})"
        )
    n_conditions(array.shape[-1], name)
    check_finite(array, name, ("RDM", "pair") if array.ndim == 2 else ("pair",))
    return np.ascontiguousarray(np.atleast_2d(array), np.float64)


def standardiser(method: str) -> Callable[[Rows, int | None], Rows]:
    """What brings RDMs to rows of length 1 whose products are the similarities; NaN rows for those without one."""
    try:
        return _STANDARDISERS[method]
    except KeyError:
        raise ValueError(f"method {method!r} is not one of: {', '.join(_STANDARDISERS)}") from None


def poolable(method: str, rdms: Rows, n_threads: int | None) -> Rows:
    """What rsatoolbox averages over subjects under the name of a method: ranks, z-scores, RDMs of length 1."""
    # Ranks as they are: sums of halves are exact, so that equal pooled ranks stay ties.
    return (
        _kernels.rank(rdms, n_threads)
        if method == "spearman"
        else standardiser(method)(rdms, n_threads)
    )


def similarity(first: Rows, second: Rows, n_threads: int | None) -> Rows:
    """Products of standardised rows, kept within −1 and 1 against rounding."""
    return np.asarray(np.clip(_kernels.cross(first, second, n_threads), -1, 1))


def _normalise(rows: Rows) -> Rows:
    # Scaled first, so that squares of very large or small numbers stay in range.
    with np.errstate(invalid="ignore", divide="ignore"):
        rows = rows / np.abs(rows).max(axis=1, keepdims=True)
        return np.asarray(rows / np.sqrt(np.einsum("ij,ij->i", rows, rows))[:, None])


def _spearman(rdms: Rows, n_threads: int | None) -> Rows:
    return _normalise(_kernels.rank(rdms, n_threads) - (rdms.shape[1] + 1) / 2)


def _corr(rdms: Rows, n_threads: int | None) -> Rows:
    centred = rdms - rdms.mean(axis=1, keepdims=True)
    centred[rdms.max(axis=1) == rdms.min(axis=1)] = 0
    return _normalise(centred)


def _cosine(rdms: Rows, n_threads: int | None) -> Rows:
    return _normalise(rdms)


_STANDARDISERS: dict[str, Callable[[Any, int | None], Rows]] = {
    "spearman": _spearman,
    "corr": _corr,
    "pearson": _corr,
    "cosine": _cosine,
}
