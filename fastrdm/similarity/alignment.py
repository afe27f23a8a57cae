"""Gram matrices × Gram matrices → centred kernel alignment (CKA)."""

from typing import Any, overload

import numpy as np

from fastrdm.similarity.device_alignment import DeviceAlignment, align_on_device
from fastrdm.similarity.gram_inputs import (
    CentredGram,
    both_sides,
    named_table,
    warn_undefined_grams,
)
from fastrdm.similarity.numerics import Floats, blocks_of
from fastrdm.tensors import check_like, in_kind

# Conditions from which HSIC has an unbiased estimator.
_LEAST = 4
# Entries whose root sum of squares is below this many rounding errors of the largest product are 0.
_ROUNDINGS = 4


@overload
def cka(
    grams1: Any,
    grams2: Any,
    debiased: bool = ...,
    *,
    distances: str | None = ...,
    like: None = ...,
) -> Floats: ...
@overload
def cka(
    grams1: Any, grams2: Any, debiased: bool = ..., *, distances: str | None = ..., like: Any
) -> Any: ...
def cka(
    grams1: Any,
    grams2: Any,
    debiased: bool = False,
    *,
    distances: str | None = None,
    like: Any = None,
) -> Any:
    r"""Compute the linear centred kernel alignment (CKA) of every Gram matrix of one stack with every one of another.

    With products :math:`K = X X^\top` and :math:`L = Y Y^\top` of n conditions, :math:`H = I - 1 1^\top / n`,
    :math:`K_c = H K H` and :math:`L_c = H L H`:

    .. math:: \mathrm{CKA} = \frac{\operatorname{tr}(K_c L_c)}{\sqrt{\operatorname{tr}(K_c^2) \operatorname{tr}(L_c^2)}}

    It is ``compare(..., "cosine_cov")`` of the ``sqeuclidean`` RDMs. CKA does not change if the activations are
    rotated, shifted or scaled. It is biased upwards unless there are far more conditions than channels. `debiased`
    replaces each trace by Song et al.'s unbiased estimator, where :math:`\tilde K` is K with a zero diagonal:

    .. math::
        \mathrm{HSIC}_1 = \frac{1}{n (n - 3)} \left[\operatorname{tr}(\tilde K \tilde L)
        + \frac{1^\top \tilde K 1 \; 1^\top \tilde L 1}{(n - 1)(n - 2)}
        - \frac{2}{n - 2} 1^\top \tilde K \tilde L 1\right]

    Parameters
    ----------
    grams1, grams2 : Gram, list or dict of Gram, or array_like, shape ([n,] conditions, conditions)
        Over the same conditions in the same order, or with labels, by which they are brought into that of `grams2`.
        Arrays, of any library, are products of any symmetric kernel; if
        both are on one device with float64, they are compared there. A dict is taken in its order.
    debiased : bool
        Whether to use the unbiased estimator, which needs 4 conditions. The result may be negative.
    distances : str, optional
        ``"sqeuclidean"`` or ``"euclidean"``: arrays are RDMs of (squared) Euclidean distances D in place of products,
        condensed, (pairs,) or (n, pairs), or square; :math:`K_c = -\tfrac12 H D^{(2)} H`. `Gram` objects stay as they
        are, so that layers can be compared with RDMs.
    like : array, optional
        An array of the kind that the result is to be, as for `calc_rdm`. Without it, the result is a NumPy array.

    Returns
    -------
    ndarray of float64, shape (n1, n2)
        Between 0 and 1 (for activations); debiased, between −1 and 1. NaN if the conditions of one do not differ, and
        debiased also if they all have the same distance. A DataFrame or DataArray for labelled pandas or
        xarray objects.

    Raises
    ------
    ValueError
        If the numbers or labels of conditions differ, an array is neither square nor symmetric, has values that are
        not finite, or looks like an RDM without `distances`, or `debiased` with fewer than 4 conditions.
    MemoryError
        If a device has too little memory.

    Warns
    -----
    RuntimeWarning
        One, naming the Gram matrices that make results NaN.

    References
    ----------
    Kornblith, Norouzi, Lee & Hinton (2019), Similarity of neural network representations revisited, ICML.
    Song, Smola, Gretton, Bedo & Borgwardt (2012), Feature selection via dependence maximization, J. Mach. Learn. Res.
    13.
    Diedrichsen et al. (2020), arXiv:2007.02789, for the equality with the whitened cosine.

    Examples
    --------
    >>> import numpy as np, fastrdm
    >>> rng = np.random.default_rng(0)
    >>> layers = {"conv1": rng.random((20, 50)), "fc": rng.random((20, 10))}
    >>> grams = fastrdm.gram(layers)
    >>> fastrdm.cka(grams, grams["fc"]).round(3)
    array([[0.484],
           [1.   ]])
    >>> fastrdm.cka(grams, grams["fc"], debiased=True).round(3)
    array([[-0.102],
           [ 1.   ]])
    """
    check_like(like)
    if distances is None:
        found = align_on_device(grams1, grams2, debiased)
        similarities = None if found is None else _similarities_of(found, debiased)
        if similarities is not None:
            return in_kind(similarities, like)
    first, second = both_sides(grams1, grams2, distances)
    if debiased and first[0].n < _LEAST:
        raise ValueError(
            f"debiased CKA needs at least {_LEAST} conditions; {first[0].name} has {first[0].n}"
        )
    products, *squares = _inner_products(first, second, debiased)
    lengths = [
        _or_nan(side, np.sqrt(each)) for side, each in zip((first, second), squares, strict=True)
    ]
    what = "debiased CKA" if debiased else "CKA"
    why = "all distances between conditions are equal" if debiased else "conditions do not differ"
    warn_undefined_grams(what, why, first, second, *map(np.isnan, lengths))
    similarities = np.clip(products / (lengths[0][:, None] * lengths[1]), -1, 1)
    return named_table(similarities, grams1, grams2, like)


def _similarities_of(found: DeviceAlignment, debiased: bool) -> Floats | None:
    """Return the similarities that a device computed; None if one is undefined, of which the host warns."""
    n = found.n_conditions
    lengths = [np.sqrt(squares) for squares in found.squares]
    least = [_ROUNDINGS * precision * n for precision in found.precisions]
    if (debiased and n < _LEAST) or any(
        not (each > bound).all() for each, bound in zip(lengths, least, strict=True)
    ):
        return None
    return np.asarray(np.clip(found.products / (lengths[0][:, None] * lengths[1]), -1, 1))


def _or_nan(grams: list[CentredGram], lengths: Floats) -> Floats:
    """Replace lengths that are rounding errors by NaN."""
    least = np.array([_ROUNDINGS * gram.precision * gram.n for gram in grams])
    return np.where(lengths > least, lengths, np.nan)


def _inner_products(
    first: list[CentredGram], second: list[CentredGram], debiased: bool
) -> tuple[Floats, Floats, Floats]:
    """Return inner products (n1, n2) of centred Gram matrices, and the sums of squares of each, (n1,) and (n2,)."""
    n = first[0].n
    products = np.zeros((len(first), len(second)))
    squares1, squares2 = np.zeros(len(first)), np.zeros(len(second))
    for rows in blocks_of(n, n * (len(first) + len(second))):
        one = _entries(first, rows, debiased)
        other = one if second is first else _entries(second, rows, debiased)
        products += one @ other.T
        squares1 += np.einsum("ij,ij->i", one, one)
        squares2 += np.einsum("ij,ij->i", other, other)
    return products, squares1, squares2


def _entries(grams: list[CentredGram], rows: slice, debiased: bool) -> Floats:
    """Return some rows of each centred Gram matrix, end to end, (grams, rows * conditions)."""
    n, n_rows = grams[0].n, rows.stop - rows.start
    out = np.empty((len(grams), n_rows, n))
    for gram, entries in zip(grams, out, strict=True):
        gram.rows(rows, entries)
        if debiased:
            # Rows of centred products sum to 0: without the diagonal, to minus the diagonal.
            offsets = gram.diagonal / (n - 2)
            entries += offsets
            entries += offsets[rows, None] - gram.diagonal.sum() / ((n - 1) * (n - 2))
            entries[np.arange(n_rows), np.arange(rows.start, rows.stop)] = 0
    return out.reshape(len(grams), -1)
