"""rsatoolbox's RDMs × RDMs → similarities: `compare` and a function for each method."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import as_floats
from fastrdm.interop.rsatoolbox.originals import original
from fastrdm.interop.rsatoolbox.second_moments import bures, centred_moments, cosines, whitened
from fastrdm.similarity import compare_condensed

Doubles = NDArray[np.float64]
_COMPARE = "rdm.compare"
# Those of Kendall and Spearman change in steps, so that an optimiser sees no rounding.
_OWN_IN_FITS = {
    "cosine": "compare_cosine",
    "corr": "compare_correlation",
    "rho-a": "compare_rho_a",
    "corr_cov": "compare_correlation_cov_weighted",
    "cosine_cov": "compare_cosine_cov_weighted",
}


def compare(rdm1: Any, rdm2: Any, method: str = "cosine", sigma_k: Any = None) -> Doubles:
    """Compute the similarity of every RDM of `rdm1` to every RDM of `rdm2`, as `rsatoolbox.rdm.compare`.

    Its conventions: a constant RDM has the similarity 0, and NaN only for ``kendall`` and with a covariance `sigma_k`;
    pairs that are NaN in all RDMs are left out. If one of several RDMs is constant, rsatoolbox 0.3.2 gives the others
    each other's similarities (it fills them in by `numpy.putmask`); here they keep their own. ``neg_riem_dist`` is
    rsatoolbox's own, and so is what the kernels do not take: RDMs with infinite numbers, fewer than two pairs, or
    numbers of pairs that no number of conditions has.

    Parameters
    ----------
    rdm1, rdm2 : rsatoolbox.rdm.RDMs, or ndarray, shape (n, pairs) or (pairs,)
        RDMs of the same conditions in the same order.
    method : {"cosine", "spearman", "corr", "kendall", "tau-b", "tau-a", "rho-a", "corr_cov", "cosine_cov", \
"neg_riem_dist", "bures", "bures_metric"}
        The similarity.
    sigma_k : ndarray, shape (conditions,) or (conditions, conditions), optional
        For ``corr_cov``, ``cosine_cov`` and ``neg_riem_dist``: variances or covariance of the patterns' estimates. With
        variances, second-moment matrices are centred without weights, as rsatoolbox does. With a covariance, the
        result is exact; rsatoolbox solves for it iteratively, within about 1e-5.

    Returns
    -------
    ndarray of float64, shape (n1, n2)
        Similarities.

    Raises
    ------
    ValueError
        If the numbers of pairs or the places of NaN differ, or the method is unknown.
    MissingExtraError
        If rsatoolbox is not installed.

    Examples
    --------
    >>> from fastrdm.interop.rsatoolbox import compare
    >>> compare(models, brains, "rho-a")  # doctest: +SKIP
    """
    chosen = _METHODS.get(method) if isinstance(method, str) else None
    if chosen is None:
        return np.asarray(_own("compare")(rdm1, rdm2, method=method, sigma_k=sigma_k))
    takes_noise = method in ("corr_cov", "cosine_cov")
    return chosen(rdm1, rdm2, sigma_k=sigma_k) if takes_noise else chosen(rdm1, rdm2)


def compare_in_fits(rdm1: Any, rdm2: Any, method: str = "cosine", sigma_k: Any = None) -> Doubles:
    """Compute what `compare` does, for rsatoolbox's fitters: by rsatoolbox where the last bit decides where they stop.

    Of one RDM to a few, its functions for these methods are as fast.
    """
    name = _OWN_IN_FITS.get(method) if isinstance(method, str) else None
    if name is None:
        return compare(rdm1, rdm2, method, sigma_k)
    noise = {"sigma_k": sigma_k} if method.endswith("_cov") else {}
    return np.asarray(_own(name)(rdm1, rdm2, **noise))


def compare_cosine(rdm1: Any, rdm2: Any) -> Doubles:
    """Compute cosines, as `rsatoolbox.rdm.compare_cosine`."""
    return _compared(rdm1, rdm2, "cosine", "compare_cosine")


def compare_correlation(rdm1: Any, rdm2: Any) -> Doubles:
    """Compute Pearson's coefficients, as `rsatoolbox.rdm.compare_correlation`."""
    return _compared(rdm1, rdm2, "corr", "compare_correlation")


def compare_spearman(rdm1: Any, rdm2: Any) -> Doubles:
    """Compute Spearman's coefficients, as `rsatoolbox.rdm.compare_spearman`."""
    return _compared(rdm1, rdm2, "spearman", "compare_spearman")


def compare_rho_a(rdm1: Any, rdm2: Any) -> Doubles:
    """Compute Spearman's coefficients with random order of ties, as `rsatoolbox.rdm.compare_rho_a`."""
    return _compared(rdm1, rdm2, "rho-a", "compare_rho_a")


def compare_kendall_tau(rdm1: Any, rdm2: Any) -> Doubles:
    """Compute Kendall's tau-b, as `rsatoolbox.rdm.compare_kendall_tau`; NaN for constant RDMs."""
    return _compared(rdm1, rdm2, "tau-b", "compare_kendall_tau", fill=np.nan)


def compare_kendall_tau_a(rdm1: Any, rdm2: Any) -> Doubles:
    """Compute Kendall's tau-a, as `rsatoolbox.rdm.compare.compare_kendall_tau_a`."""
    return _compared(rdm1, rdm2, "tau-a", "compare_kendall_tau_a")


def compare_cosine_cov_weighted(rdm1: Any, rdm2: Any, sigma_k: Any = None) -> Doubles:
    """Compute whitened cosines, as `rsatoolbox.rdm.compare_cosine_cov_weighted`."""
    return _whitened(rdm1, rdm2, sigma_k, "cosine_cov", "compare_cosine_cov_weighted")


def compare_correlation_cov_weighted(rdm1: Any, rdm2: Any, sigma_k: Any = None) -> Doubles:
    """Compute whitened correlations, as `rsatoolbox.rdm.compare_correlation_cov_weighted`."""
    return _whitened(rdm1, rdm2, sigma_k, "corr_cov", "compare_correlation_cov_weighted")


def compare_bures_similarity(rdm1: Any, rdm2: Any) -> Doubles:
    """Compute Bures similarities, as `rsatoolbox.rdm.compare.compare_bures_similarity`."""
    return _bures(rdm1, rdm2, "compare_bures_similarity", metric=False)


def compare_bures_metric(rdm1: Any, rdm2: Any) -> Doubles:
    """Compute squared Bures distances, as `rsatoolbox.rdm.compare.compare_bures_metric`."""
    return _bures(rdm1, rdm2, "compare_bures_metric", metric=True)


def _own(name: str) -> Callable[..., Any]:
    return original(_COMPARE, name)


def _vectors(rdms: Any) -> Any:
    return np.atleast_2d(rdms) if isinstance(rdms, np.ndarray) else rdms.get_vectors()


def _pairs_of(rdm1: Any, rdm2: Any) -> tuple[Any, Any, NDArray[np.bool_]] | None:
    """Return both sides, and the pairs that they have; None if the kernels do not take them."""
    sides = _vectors(rdm1), _vectors(rdm2)
    masks = []
    for rows in sides:
        if rows.ndim != 2 or rows.dtype.kind not in "fiu" or not len(rows):
            return None
        missing = np.isnan(rows).any(axis=0)
        if np.isinf(rows).any():
            return None
        masks.append(~missing)
    first, second = masks
    n_pairs = len(first)
    n = round((1 + np.sqrt(1 + 8 * n_pairs)) / 2)
    if n * (n - 1) // 2 != n_pairs or not np.array_equal(first, second) or first.sum() < 2:
        return None
    # A pair that is NaN in one RDM is left out of all.
    a, b = (rows if first.all() else np.where(first, rows, np.nan) for rows in sides)
    return a, b, first


def _compared(rdm1: Any, rdm2: Any, method: str, own: str, fill: float = 0.0) -> Doubles:
    found = _pairs_of(rdm1, rdm2)
    if found is None:
        return np.asarray(_own(own)(rdm1, rdm2))
    return _similarities(*found, method, fill)


def _similarities(
    a: NDArray[Any], b: NDArray[Any], pairs: NDArray[np.bool_], method: str, fill: float
) -> Doubles:
    """Return similarities, with `fill` for RDMs that have none."""
    first, second = (_defined(rows[:, pairs], method) for rows in (a, b))
    out = np.full((len(a), len(b)), fill)
    if first.any() and second.any():
        policy = "raise" if pairs.all() else "omit"
        sides = as_floats(a[first], "rdm1"), as_floats(b[second], "rdm2")
        out[np.ix_(first, second)] = compare_condensed(*sides, method, nan_policy=policy)
    return out


def _defined(rows: NDArray[Any], method: str) -> NDArray[np.bool_]:
    low, high = rows.min(axis=1), rows.max(axis=1)
    if method in ("cosine", "cosine_cov"):
        return np.asarray((low != 0) | (high != 0))
    return np.asarray(low != high)


def _whitened(rdm1: Any, rdm2: Any, sigma_k: Any, method: str, own: str) -> Doubles:
    found = _pairs_of(rdm1, rdm2)
    noise = None if sigma_k is None else np.asarray(sigma_k)
    if found is None or (noise is not None and not found[2].all()):
        return np.asarray(_own(own)(rdm1, rdm2, sigma_k=sigma_k))
    if noise is None:
        return _similarities(*found, method, 0.0)
    a, b = (np.asarray(rows, np.float64) for rows in found[:2])
    if method == "corr_cov":
        a, b = (rows - rows.mean(axis=1, keepdims=True) for rows in (a, b))
    moments = [whitened(rows, noise) for rows in (a, b)]
    if moments[0] is None or moments[1] is None:
        return np.asarray(_own(own)(rdm1, rdm2, sigma_k=sigma_k))
    return cosines(moments[0], moments[1], 0.0 if noise.ndim == 1 else np.nan)


def _bures(rdm1: Any, rdm2: Any, own: str, *, metric: bool) -> Doubles:
    found = _pairs_of(rdm1, rdm2)
    if found is None or not found[2].all():
        return np.asarray(_own(own)(rdm1, rdm2))
    first, second = (centred_moments(np.asarray(rows, np.float64)) for rows in found[:2])
    return bures(first, second, metric=metric)


_METHODS: dict[str, Callable[..., Doubles]] = {
    "cosine": compare_cosine,
    "spearman": compare_spearman,
    "corr": compare_correlation,
    "kendall": compare_kendall_tau,
    "tau-b": compare_kendall_tau,
    "tau-a": compare_kendall_tau_a,
    "rho-a": compare_rho_a,
    "corr_cov": compare_correlation_cov_weighted,
    "cosine_cov": compare_cosine_cov_weighted,
    "bures": compare_bures_similarity,
    "bures_metric": compare_bures_metric,
}
