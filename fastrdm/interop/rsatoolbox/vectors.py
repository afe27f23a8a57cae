"""Pools and similarities of rsatoolbox's RDMs, which may have NaN in the same pairs."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm import _kernels
from fastrdm.interop.rsatoolbox.originals import original, toolbox
from fastrdm.interop.rsatoolbox.resampled_ranks import rank_correlations
from fastrdm.interop.rsatoolbox.resampling import RANKS, SUMS

Doubles = NDArray[np.float64]


def shared_pairs(vectors: Any) -> NDArray[np.bool_] | None:
    """Return the pairs that all RDMs have; None where NaN differ, numbers are infinite or fewer than two pairs."""
    values = np.asarray(vectors)
    if values.ndim != 2 or values.dtype.kind not in "fiu" or not values.size:
        return None
    present = ~np.isnan(values)
    pairs: NDArray[np.bool_] = present[0]
    if not (present == pairs).all() or np.isinf(values).any() or pairs.sum() < 2:
        return None
    return pairs


def taken(vectors: Any, pairs: NDArray[np.bool_]) -> Doubles:
    """Return the values of pairs as the kernels take them."""
    chosen = vectors if pairs.all() else np.asarray(vectors)[:, pairs]
    return np.ascontiguousarray(chosen, np.float64)


def pooled(rdms: Any, method: str) -> Any:
    """Return the pool of RDMs that suits a method, as `rsatoolbox.util.inference_util.pool_rdm`."""
    vectors = rdms.get_vectors()
    pairs = shared_pairs(vectors)
    if method not in RANKS or pairs is None:
        return original("util.inference_util", "pool_rdm")(rdms, method=method)
    mean = np.full((1, vectors.shape[1]), np.nan)
    mean[:, pairs] = _kernels.rank(taken(vectors, pairs)).mean(axis=0)
    return toolbox("rdm").RDMs(
        mean,
        dissimilarity_measure=rdms.dissimilarity_measure,
        descriptors=rdms.descriptors,
        rdm_descriptors=None,
        pattern_descriptors=rdms.pattern_descriptors,
    )


def similarities(first: Any, second: Any, method: str) -> Doubles:
    """Return the similarities (n_first, n_second) of RDMs, as `rsatoolbox.rdm.compare`."""
    a, b = first.get_vectors(), second.get_vectors()
    known = method in ("cosine", "corr", *RANKS)
    pairs = shared_pairs(a) if known else None
    others = shared_pairs(b) if known else None
    if pairs is None or others is None or not np.array_equal(pairs, others):
        found: Doubles = original("rdm.compare", "compare")(first, second, method=method)
        return found
    return compare_values(taken(a, pairs), taken(b, pairs), method)


def compare_values(a: Doubles, b: Doubles, method: str) -> Doubles:
    """Return similarities of rows without NaN; 0 for rows that are constant (``cosine``: zero)."""
    if method in RANKS:
        return rank_correlations(_kernels.rank(a), _kernels.rank(b), method)
    if method == "corr":
        a, b = (x - x.mean(axis=1, keepdims=True) for x in (a, b))
    elif method not in SUMS:
        raise ValueError("Unknown RDM comparison method requested!")
    roots = np.sqrt(np.einsum("ij,ij->i", a, a)[:, None] * np.einsum("ij,ij->i", b, b))
    products = a @ b.T
    cosines: Doubles = np.divide(products, roots, out=np.zeros_like(products), where=roots > 0)
    return cosines
