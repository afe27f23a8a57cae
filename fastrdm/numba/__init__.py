"""Kernels for jitted code: functions with `numba.njit` that the user's own jitted functions call.

In come NumPy arrays, out go RDMs, ranks, similarities and noise ceilings, by the definitions of `fastrdm.calc_rdm`,
`fastrdm.rank`, `fastrdm.compare` and `fastrdm.noise_ceiling`. Each call runs on the thread that makes it and releases
the GIL, so that calls are safe within `numba.prange` and in threads. Arguments are not checked as those of the
functions for Python are: a wrong number of dimensions is numba's typing error, and NaN in becomes NaN out.

`dissimilarities` has an RDM function for each method, `similarities` what compares RDMs, `common` the decorator, forms
and ties. The first call in an installation compiles, for some seconds; later processes read the compiled code.
"""

from fastrdm.numba.common import condense, n_pairs, square
from fastrdm.numba.dissimilarities import (
    correlation_rdm,
    cosine_rdm,
    crossnobis_rdm,
    euclidean_rdm,
    mahalanobis_rdm,
    spearman_rdm,
    sqeuclidean_rdm,
    whiten,
)
from fastrdm.numba.similarities import (
    cosine,
    noise_ceiling,
    pearson,
    rank,
    rho_a,
    spearman,
    tau_a,
    tau_b,
)

__all__ = [
    "condense",
    "correlation_rdm",
    "cosine",
    "cosine_rdm",
    "crossnobis_rdm",
    "euclidean_rdm",
    "mahalanobis_rdm",
    "n_pairs",
    "noise_ceiling",
    "pearson",
    "rank",
    "rho_a",
    "spearman",
    "spearman_rdm",
    "sqeuclidean_rdm",
    "square",
    "tau_a",
    "tau_b",
    "whiten",
]
