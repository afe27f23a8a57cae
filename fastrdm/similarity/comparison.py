"""RDMs × RDMs → similarities."""

import warnings

import numpy as np
from numpy.typing import ArrayLike

from fastrdm import _kernels
from fastrdm._base import (
    ASYMMETRY,
    PAIRS,
    as_floats,
    as_rdms,
    is_similarity,
    labels_of,
    list_names,
    n_conditions,
)
from fastrdm.similarity.coefficients import get_method
from fastrdm.similarity.sides import (
    Floats,
    Mask,
    Method,
    Rows,
    Side,
    blocks_of,
    check_policy,
    check_values,
)

# As many RDMs as a message names.


def compare(
    rdms1: ArrayLike,
    rdms2: ArrayLike,
    method: str = "spearman",
    *,
    nan_policy: str = "raise",
    n_threads: int | None = None,
) -> Floats:
    r"""Similarity of every RDM of one set to every RDM of another.

    With dissimilarities :math:`a, b` of p pairs of conditions, their average ranks :math:`R`, and the numbers of pairs
    of entries that both order alike (C), oppositely (D), and that differ within a (:math:`U_a`):

    ============== =========================================================================================
    ``spearman``   Pearson's r of :math:`R_a, R_b`
    ``rho-a``      :math:`12\,\langle R_a - \bar R, R_b - \bar R\rangle / (p^3 - p)`: the mean of Spearman's
                   coefficient over random orders of the ties (Schütt et al. 2023)
    ``tau-a``      :math:`(C - D) / \binom{p}{2}` (Kendall 1938; Nili et al. 2014)
    ``tau-b``      :math:`(C - D) / \sqrt{U_a U_b}` (Kendall 1945); alias ``kendall``
    ``corr``       Pearson's r of :math:`a, b`; alias ``pearson``
    ``cosine``     :math:`\langle a, b\rangle / (\lVert a\rVert\,\lVert b\rVert)`
    ``corr_cov``   ``cosine_cov`` of :math:`a - \bar a` and :math:`b - \bar b`
    ``cosine_cov`` :math:`a^\top V^{-1} b / \sqrt{a^\top V^{-1} a \; b^\top V^{-1} b}`, with V the covariance that
                   the estimates of distances have when patterns of conditions are equally noisy and independent,
                   :math:`V = C C^\top \circ C C^\top` for the contrasts C of all pairs (Diedrichsen et al. 2020);
                   V is never built
    ============== =========================================================================================

    Tied entries have their average rank, and count neither as concordant nor as discordant. C − D is exact.

    Parameters
    ----------
    rdms1, rdms2 : array_like, shape (n, pairs) or (pairs,), or dict of such of one shape
        Condensed RDMs over the same conditions in the same order; a dict is a stack of its RDMs in its order. Masked
        values are NaN. Square ones are refused, since a square array may as well be a stack of condensed RDMs: pass
        ``condense(rdms)``. Scales do not matter, nor whether squares of the values are within float64.
    method : str
        A name from the table above.
    nan_policy : str
        ``"raise"``: NaN is an error. ``"omit"``: two RDMs are compared on the pairs that neither of them has as NaN,
        ranked anew among those; other RDMs do not matter. ``"propagate"``: the similarities of an RDM with NaN are
        NaN.
    n_threads : int, optional
        Threads to use; the processors of this process by default.

    Returns
    -------
    ndarray of float64, shape (n1, n2)
        Between −1 and 1. NaN where an RDM is constant (``"cosine"`` and ``"cosine_cov"``: zero), since it has no
        correlation, but 0 for ``"rho-a"`` and ``"tau-a"``; and where ``"omit"`` leaves no pair.

    Warns
    -----
    RuntimeWarning
        One, naming the RDMs that are constant (zero) where that makes a similarity NaN.

    Raises
    ------
    ValueError
        If a shape is not that of condensed RDMs, the numbers of pairs differ, both carry labels of pairs (the columns
        of a DataFrame, a coordinate of a DataArray) that differ, an entry is infinite, or NaN under ``"raise"`` (the
        message says where), or the method or the policy is unknown.

    References
    ----------
    Nili et al. (2014), A toolbox for representational similarity analysis, PLoS Comput. Biol. 10(4).
    Diedrichsen, Berlot, Mur, Schütt, Shahbazi & Kriegeskorte (2020), Comparing representational geometries using
    whitened unbiased-distance-matrix similarity, arXiv:2007.02789.
    Schütt, Kipnis, Diedrichsen & Kriegeskorte (2023), Statistical inference on representational geometries, eLife 12.
    Knight (1966), A computer method for calculating Kendall's tau with ungrouped data, J. Am. Stat. Assoc. 61.
    """
    chosen = get_method(method)
    check_policy(nan_policy)
    first = condensed(as_rdms(rdms1, "rdms1"), "rdms1")
    second = condensed(as_rdms(rdms2, "rdms2"), "rdms2")
    labels, others = (
        labels_of(rdms, -1, name, PAIRS) for rdms, name in ((rdms1, "rdms1"), (rdms2, "rdms2"))
    )
    if labels is not None:
        labels.check(others)
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            f"rdms1 has {first.shape[1]} pairs ({n_conditions(first.shape[1])} conditions) and rdms2"
            f" {second.shape[1]} ({n_conditions(second.shape[1])})"
        )
    sides = (
        Side(chosen, first, nan_policy, "rdms1", n_threads=n_threads),
        Side(chosen, second, nan_policy, "rdms2", n_threads=n_threads),
    )
    similarities, undefined = chosen.similarity(*sides, n_threads)
    if undefined is not None:
        warn_undefined(chosen, undefined, *sides)
    return similarities


def rank(rdms: ArrayLike, *, n_threads: int | None = None) -> Floats:
    """Rank the entries of each RDM, from 1; exact.

    Parameters
    ----------
    rdms : array_like, shape (n, pairs) or (pairs,)
        Condensed RDMs.
    n_threads : int, optional
        Threads to use; the processors of this process by default.

    Returns
    -------
    ndarray of float64, shape of `rdms`
        Ranks within each RDM; ties have the average of theirs, as in `scipy.stats.rankdata`. −0 ties with 0.

    Raises
    ------
    ValueError
        If the shape is not that of condensed RDMs, or an entry is masked, NaN or infinite (the message says where).
    """
    array = as_floats(rdms, "rdms")
    rows = condensed(array, "rdms")
    check_values(rows, "rdms", ("RDM", "pair"), "raise")
    return _kernels.rank(np.ascontiguousarray(rows, np.float64), n_threads).reshape(array.shape)


def condensed(array: Rows, name: str) -> Rows:
    """Condensed RDMs as (n, pairs), where they lie if their rows are contiguous; their values are not looked at."""
    if array.ndim not in (1, 2):
        raise ValueError(
            f"{name} has shape {array.shape}; expected condensed RDMs, (n, pairs) or (pairs,): for square ones pass"
            f" condense({name})"
        )
    if array.ndim == 2 and array.shape[0] == array.shape[1] and _is_square_rdm(array):
        raise ValueError(
            f"{name} with shape {array.shape} looks like one square RDM or similarity matrix; expected condensed RDMs,"
            f" (n, pairs) or (pairs,): pass condense({name})"
        )
    n_conditions(array.shape[-1], name)
    return contiguous(array if array.ndim == 2 else array[None])


def _is_square_rdm(array: Rows) -> bool:
    """Whether (n, n) is symmetric, with a diagonal of zeros or NaN, or of each row's largest entry."""
    diagonal = array.diagonal()
    special = not np.nan_to_num(diagonal).any() or (
        len(array) > 1 and is_similarity(array, diagonal)
    )
    if not special:
        return False
    # Rounding makes correlations asymmetric.
    largest = np.abs(array[np.isfinite(array)]).max(initial=0.0)
    return np.allclose(array, array.T, rtol=0, atol=ASYMMETRY * largest, equal_nan=True)


def contiguous(array: Rows) -> Rows:
    """The array itself where its rows can be read where they lie, else a copy."""
    if array.strides[-1] == array.itemsize and array.flags.aligned:
        return array
    return np.ascontiguousarray(array)


def warn_undefined(
    method: Method, undefined: Mask, first: Side, second: Side, *, stacklevel: int = 3
) -> None:
    """Warn once of similarities that are NaN, and name the RDMs that make them so."""
    constant, said = [], []
    for axis, side in ((1, first), (0, second)):
        suspects = np.flatnonzero(undefined.any(axis=axis))
        found = [
            suspects[block][method.without(side.rdms[suspects[block]])]
            for block in blocks_of(len(suspects), side.rdms.shape[1])
        ]
        constant.append(np.isin(np.arange(side.n), np.concatenate([np.empty(0, np.intp), *found])))
        named = [side.label(int(i)) for i in np.flatnonzero(constant[-1])]
        if named:
            said.append(f"{side.name}: {list_names(named, 5, '; ')}")
    rest = np.argwhere(undefined & ~constant[0][:, None] & ~constant[1])
    if len(rest):
        i, j = (int(k) for k in rest[0])
        said.append(
            f"on the pairs that both have, {len(rest)} times, first {first.name} {first.label(i)} with"
            f" {second.name} {second.label(j)}"
        )
    warnings.warn(
        f"similarities are NaN where an RDM is {method.undefined} ({', '.join(said)})",
        RuntimeWarning,
        stacklevel=stacklevel,
    )
