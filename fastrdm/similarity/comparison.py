"""RDMs × RDMs → similarities."""

from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike

from fastrdm import _kernels
from fastrdm._base import (
    as_floats,
    as_rdms,
    check_labelled_size,
    in_order_of,
    list_names,
    n_conditions,
    warn_caller,
    with_names,
    with_values,
)
from fastrdm.similarity.coefficients import Mask, Rows
from fastrdm.similarity.device_sides import compare_on_device
from fastrdm.similarity.numerics import Floats, blocks_of
from fastrdm.similarity.shapes import as_condensed, with_contiguous_rows
from fastrdm.similarity.sides import Side, check_policy, check_values, compare_sides
from fastrdm.similarity.table import get_similarity
from fastrdm.tensors import check_like, in_kind


@overload
def compare(
    rdms1: ArrayLike,
    rdms2: ArrayLike,
    method: str = ...,
    *,
    nan_policy: str = ...,
    like: None = ...,
    n_threads: int | None = ...,
) -> Floats: ...
@overload
def compare(
    rdms1: ArrayLike,
    rdms2: ArrayLike,
    method: str = ...,
    *,
    nan_policy: str = ...,
    like: Any,
    n_threads: int | None = ...,
) -> Any: ...
def compare(
    rdms1: ArrayLike,
    rdms2: ArrayLike,
    method: str = "spearman",
    *,
    nan_policy: str = "raise",
    like: Any = None,
    n_threads: int | None = None,
) -> Any:
    r"""Compute the similarity of every RDM of one stack to every RDM of another.

    Notation: dissimilarities :math:`a, b` of p pairs of conditions, with average ranks :math:`R`. Of all pairs of
    entries, C have the same order in a and b, D the opposite order, and :math:`U_a` differ within a.

    ============== =========================================================================================
    ``spearman``   Pearson's r of :math:`R_a, R_b`
    ``rho-a``      :math:`12\,\langle R_a - \bar R, R_b - \bar R\rangle / (p^3 - p)`: the mean of Spearman's
                   coefficient over random orders of the ties (Schütt et al. 2023)
    ``tau-a``      :math:`(C - D) / \binom{p}{2}` (Kendall 1938; Nili et al. 2014)
    ``tau-b``      :math:`(C - D) / \sqrt{U_a U_b}` (Kendall 1945); alias ``kendall``
    ``corr``       Pearson's r of :math:`a, b`; alias ``pearson``
    ``cosine``     :math:`\langle a, b\rangle / (\lVert a\rVert\,\lVert b\rVert)`
    ``corr_cov``   ``cosine_cov`` of :math:`a - \bar a` and :math:`b - \bar b`
    ``cosine_cov`` :math:`a^\top V^{-1} b / \sqrt{a^\top V^{-1} a \; b^\top V^{-1} b}`, where V is the covariance of
                   the estimated distances if the patterns of conditions are independent and equally noisy,
                   :math:`V = C C^\top \circ C C^\top` for the contrasts C of all pairs (Diedrichsen et al. 2020);
                   V is never built
    ============== =========================================================================================

    Tied entries get their average rank, and count neither as concordant nor as discordant. C − D is exact.

    Parameters
    ----------
    rdms1, rdms2 : array_like, shape (n, pairs) or (pairs,), or dict of arrays of one shape
        Condensed RDMs over the same conditions in the same order, or with labels of their pairs as those of `calc_rdm`:
        they are then brought into the order of `rdms2`. A dict is stacked in its order. Masked values are
        NaN. Square RDMs are refused because a square array can also be a stack of condensed RDMs; pass
        ``condense(rdms)``. The scale of the values does not matter, even if their squares overflow float64. Torch
        tensors and arrays of other libraries (by DLPack) in host memory are not copied. If either side is an array
        on a device with float64, ``spearman``, ``rho-a``, ``corr`` and ``cosine`` are computed there (see Notes). Other
        RDMs on a device are copied to the host: in lists and dicts, for the other methods, and
        if one has NaN, or no similarity to any other.
    method : str
        A name from the table above.
    nan_policy : str
        ``"raise"``: NaN is an error. ``"omit"``: two RDMs are compared, and ranked, on the pairs that are NaN in
        neither; other RDMs have no influence. ``"propagate"``: the similarities of an RDM with NaN are NaN.
    like : array, optional
        An array of the kind that the result is to be, as for `calc_rdm`. Without it, the result is a NumPy array.
    n_threads : int, optional
        Number of threads; by default the number of processors available to the process.

    Returns
    -------
    ndarray of float64, shape (n1, n2)
        Between −1 and 1. A constant RDM has no correlation: its similarities are NaN, but 0 for ``"rho-a"`` and
        ``"tau-a"``; for ``"cosine"`` and ``"cosine_cov"`` they are NaN if the RDM is zero. Also NaN where ``"omit"``
        leaves no pair. A DataFrame, or a DataArray, if an argument is a labelled pandas or xarray object: rows and
        columns have the labels, names or keys of the RDMs. With `like`, an array of its kind, which is float32 on
        devices without float64.

    Raises
    ------
    ValueError
        If the RDMs are not condensed, the numbers of pairs differ, labels of conditions or pairs are not the same or
        occur more than once in another order (the message names them), an entry is infinite, or NaN under ``"raise"``
        (the message names the first), or the method or the policy is unknown, or `like` is no array.
    MemoryError
        If a device has too little memory.

    Warns
    -----
    RuntimeWarning
        One, naming the constant (zero) RDMs that make similarities NaN. One, if labelled RDMs were brought into another
        order; one, if labels that occur more than once are matched by position.

    Notes
    -----
    On a device, ties are found by equality, and average ranks and their products are integers in float64. For up to 775
    conditions, sums of products are exact, so that ``spearman`` and ``rho-a`` have the bits of the host; beyond that,
    and for ``corr`` and ``cosine``, sums are rounded in the order of the device's library.

    References
    ----------
    Nili et al. (2014), A toolbox for representational similarity analysis, PLoS Comput. Biol. 10(4).
    Diedrichsen, Berlot, Mur, Schütt, Shahbazi & Kriegeskorte (2020), Comparing representational geometries using
    whitened unbiased-distance-matrix similarity, arXiv:2007.02789.
    Schütt, Kipnis, Diedrichsen & Kriegeskorte (2023), Statistical inference on representational geometries, eLife 12.
    Knight (1966), A computer method for calculating Kendall's tau with ungrouped data, J. Am. Stat. Assoc. 61.
    """
    similarity = get_similarity(method)
    check_policy(nan_policy)
    check_like(like)
    found = compare_on_device(similarity, rdms1, rdms2)
    if found is not None:
        return in_kind(found, like)
    first = as_condensed(as_rdms(rdms1, "rdms1"), "rdms1")
    second = as_condensed(as_rdms(rdms2, "rdms2"), "rdms2")
    if first.shape[1] != second.shape[1]:
        _, labels = in_order_of(second, rdms2, "rdms2", None, square=False)
        check_labelled_size(second.shape[1], rdms1, "rdms1", labels, square=False)
        raise ValueError(
            f"rdms1 has {first.shape[1]} pairs ({n_conditions(first.shape[1])} conditions) and rdms2"
            f" {second.shape[1]} ({n_conditions(second.shape[1])})"
        )
    second, labels = in_order_of(second, rdms2, "rdms2", None, square=False)
    first, _ = in_order_of(first, rdms1, "rdms1", labels, square=False)
    similarities = compare_condensed(
        first, second, method, nan_policy=nan_policy, n_threads=n_threads
    )
    if like is None:
        return with_names(similarities, rdms1, rdms2, "rdm_1", "rdm_2")
    return in_kind(similarities, like)


def compare_condensed(
    rdms1: Rows,
    rdms2: Rows,
    method: str = "spearman",
    *,
    nan_policy: str = "raise",
    n_threads: int | None = None,
) -> Floats:
    """Compare rows that are known to be condensed RDMs, as `compare`, which refuses what looks like one square RDM.

    Parameters
    ----------
    rdms1, rdms2 : ndarray of float32 or float64, shape (n1, pairs) and (n2, pairs)
        Condensed RDMs.
    method, nan_policy, n_threads
        As for `compare`.

    Returns
    -------
    ndarray of float64, shape (n1, n2)
        As from `compare`.

    Raises
    ------
    ValueError
        As from `compare`, for values, the method and the policy.

    Warns
    -----
    RuntimeWarning
        As `compare`, naming constant (zero) RDMs.
    """
    similarity = get_similarity(method)
    check_policy(nan_policy)
    first, second = (
        Side(similarity, with_contiguous_rows(rdms), nan_policy, name, n_threads=n_threads)
        for rdms, name in ((rdms1, "rdms1"), (rdms2, "rdms2"))
    )
    similarities, undefined = compare_sides(first, second)
    if undefined.any():
        warn_undefined(undefined, first, second)
    return similarities


def rank(rdms: ArrayLike, *, n_threads: int | None = None) -> Floats:
    """Rank the entries of each RDM, from 1; exact.

    Parameters
    ----------
    rdms : array_like, shape (n, pairs) or (pairs,)
        Condensed RDMs.
    n_threads : int, optional
        Number of threads; by default the number of processors available to the process.

    Returns
    -------
    ndarray of float64, shape of `rdms`
        Ranks within each RDM, with the labels of pandas and xarray objects; ties get their average rank, as in
        `scipy.stats.rankdata`. −0 ties with 0.

    Raises
    ------
    ValueError
        If the RDMs are not condensed, or an entry is masked, NaN or infinite (the message names the first).
    """
    array = as_floats(rdms, "rdms")
    rows = as_condensed(array, "rdms")
    check_values(rows, "rdms", ("RDM", "pair"), "raise")
    ranks = _kernels.rank(np.ascontiguousarray(rows, np.float64), n_threads).reshape(array.shape)
    labelled: Floats = with_values(ranks, rdms)
    return labelled


def warn_undefined(undefined: Mask, first: Side, second: Side) -> None:
    """Warn once about undefined similarities, and name the RDMs that cause them."""
    method = first.method
    constant, reasons = [], []
    for axis, side in ((1, first), (0, second)):
        suspects = np.flatnonzero(undefined.any(axis=axis))
        which = np.zeros(side.n, bool)
        for block in blocks_of(len(suspects), side.rdms.shape[1]):
            which[suspects[block]] = method.undefined_rdms(side.rdms[suspects[block]])
        constant.append(which)
        if which.any():
            names = [side.label(int(i)) for i in np.flatnonzero(which)]
            reasons.append(f"{side.name}: {list_names(names, 5, '; ')}")
    rest = np.argwhere(undefined & ~constant[0][:, None] & ~constant[1])
    if len(rest):
        i, j = (int(k) for k in rest[0])
        reasons.append(
            f"on the pairs that both have, {len(rest)} times, first {first.name} {first.label(i)} with"
            f" {second.name} {second.label(j)}"
        )
    warn_caller(f"similarities are NaN where an RDM is {method.undefined} ({', '.join(reasons)})")
