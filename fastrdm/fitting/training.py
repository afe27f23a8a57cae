"""What models are fitted on: products of layers and targets, for many sets of training subjects at once.

Everything a fit needs is of the size layers × layers, so it is computed once for each set of training conditions,
whatever the number of models and of subjects' folds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastrdm import _kernels
from fastrdm._kernels import settle
from fastrdm.fitting.layer_rdms import LayerRdms
from fastrdm.similarity import rdm_vectors, standardised_rdms

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Training:
    """Products for each set of training subjects.

    `products` (sets, layers, layers) are those of the layers' vectors, `targets` (sets, layers) those with the pooled
    RDM of the set, both divided by the number of pairs; `lengths` (sets,) are the root mean squares of the pooled RDMs;
    `values` (sets, layers) are the layers' scores on the set.
    """

    products: Floats
    targets: Floats
    lengths: Floats
    values: Floats


def training_of(given: LayerRdms, sets: Mask) -> Training:
    """Compute the products for sets of subjects (sets, subjects)."""
    data, rdms = given.data, given.rdms
    standard = standardised_rdms(data)
    times = standard.shape[1]
    rows = standard.reshape(-1, standard.shape[2])
    pools = _means(rows, np.repeat(sets, times, axis=1))
    complete = np.asarray(~np.isnan(pools) & ~np.isnan(rdms).any(axis=0))
    if complete.all():
        products, targets, lengths = _products(rdms, pools, data.protocol.method)
        products = np.broadcast_to(products, (len(sets), *products.shape))
    else:
        each = [
            _products(rdms[:, left], pool[None, left], data.protocol.method, left)
            for pool, left in zip(pools, complete, strict=True)
        ]
        products = np.stack([one for one, *_ in each])
        targets, lengths = (np.concatenate([one[i] for one in each]) for i in (1, 2))
    return Training(products, targets, lengths, _means(data.value(data.observed(rdms)).T, sets))


def sum_of(several: Sequence[Training], ceilings: Sequence[float]) -> Training:
    """Return the products of several studies together; scores are means of shares of the noise ceiling.

    Each study's pooled RDM is scaled to length 1. Without that, a study whose subjects agree, so that their mean is
    long, would outweigh the others.
    """
    values = [one.values / ceiling for one, ceiling in zip(several, ceilings, strict=True)]
    lengths = [np.where(one.lengths > 0, one.lengths, 1) for one in several]
    targets = [one.targets / size[:, None] for one, size in zip(several, lengths, strict=True)]
    return Training(
        np.sum([one.products for one in several], axis=0),
        np.sum(targets, axis=0),
        np.ones_like(lengths[0]),
        np.mean(values, axis=0),
    )


def mixed_rdms(weights: Floats, rdms: Floats, *, ranked: bool) -> Floats:
    """Return weighted sums (sets, pairs) of layers' RDMs, or of their ranks divided by the number of pairs.

    A pair is NaN if a layer with a weight lacks it. Sums of ranks that differ by rounding alone are equal.
    """
    used = (weights != 0).any(axis=0)
    weights, rdms = weights[:, used], rdms[used]
    missing = np.asarray(np.isnan(rdms).any(axis=0))
    rows = np.ascontiguousarray(rdms[:, ~missing])
    out = np.full((len(weights), len(missing)), np.nan)
    if not (rows.size and ranked):
        out[:, ~missing] = weights @ rows
        return out
    out[:, ~missing] = settle(weights @ (_kernels.rank(rows) / rows.shape[1]))
    return out


def _products(
    rdms: Floats, pools: Floats, method: str, left: Mask | None = None
) -> tuple[Floats, Floats, Floats]:
    """Return products (layers, layers) of layers and (pools, layers) with pools, and the lengths of pools."""
    vectors = rdm_vectors(rdms, method, left)
    pooled = rdm_vectors(pools, method, left, pooled=True)
    n = max(1, vectors.shape[1])
    lengths = np.sqrt((pooled**2).sum(axis=1) / n)
    return vectors @ vectors.T / n, pooled @ vectors.T / n, lengths


def _means(values: Floats, sets: Mask) -> Floats:
    """Return means (sets, columns) of the rows of each set, without NaN; NaN where all are."""
    present = ~np.isnan(values)
    sums = sets.astype(np.float64) @ np.where(present, values, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(sums / (sets.astype(np.float64) @ present))
