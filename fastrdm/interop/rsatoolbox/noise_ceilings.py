"""rsatoolbox's noise ceilings."""

from typing import Any

import numpy as np

from fastrdm.interop.rsatoolbox.evaluation_inputs import groups_of, warn_about_tau
from fastrdm.interop.rsatoolbox.originals import original
from fastrdm.interop.rsatoolbox.resampling import RANKS, SUMS, ceilings_once
from fastrdm.interop.rsatoolbox.vectors import pooled, shared_pairs, similarities, taken


def boot_noise_ceiling(
    rdms: Any, method: str = "cosine", rdm_descriptor: str = "index"
) -> tuple[float, float]:
    """Compute how similar RDMs are to the pool of the others, and of all: `rsatoolbox.inference.boot_noise_ceiling`.

    Parameters
    ----------
    rdms : RDMs
        rsatoolbox's RDMs.
    method : str
        A similarity of `compare`.
    rdm_descriptor : str
        RDMs with the same value are left out together. A single group is compared with itself.

    Returns
    -------
    lower, upper : float
        Means over the groups. Methods without kernels, RDMs whose NaN differ, and constant RDMs go to rsatoolbox.
    """
    groups = groups_of(rdms.rdm_descriptors, rdm_descriptor)
    vectors = rdms.get_vectors()
    pairs = shared_pairs(vectors) if method in SUMS + RANKS else None
    if groups is not None and pairs is not None and (pairs.all() or not method.endswith("_cov")):
        found = ceilings_once(taken(vectors, pairs), groups.of, method, int(rdms.n_cond))
        if found is not None:
            warn_about_tau(method)
            return found
    return original("inference.noise_ceiling", "boot_noise_ceiling")(  # type: ignore[no-any-return]
        rdms, method=method, rdm_descriptor=rdm_descriptor
    )


def cv_noise_ceiling(
    rdms: Any,
    ceil_set: Any,
    test_set: Any,
    method: str = "cosine",
    pattern_descriptor: str = "index",
) -> tuple[float, float]:
    """Compute noise ceilings of folds, as `rsatoolbox.inference.cv_noise_ceiling`.

    Parameters
    ----------
    rdms : RDMs
        All RDMs, whose pool gives the upper bound.
    ceil_set, test_set : list of (RDMs, values of the pattern descriptor)
        The RDMs whose pool gives the lower bound in each fold, and those that it is compared with.
    method : str
        A similarity of `compare`.
    pattern_descriptor : str
        The descriptor by which the test's conditions are taken from the pools.

    Returns
    -------
    lower, upper : float
        Means over the folds.
    """
    if len(ceil_set) != len(test_set):
        raise AssertionError("train_set and test_set must have the same length")
    pool_all = pooled(rdms, method)
    lower: list[Any] = []
    upper: list[Any] = []
    for train, test in zip(ceil_set, test_set, strict=True):
        for bounds, pool in ((lower, pooled(train[0], method)), (upper, pool_all)):
            part = pool.subsample_pattern(by=pattern_descriptor, value=test[1])
            bounds.append(np.mean(similarities(part, test[0], method)))
    warn_about_tau(method)
    return np.mean(lower), np.mean(upper)
