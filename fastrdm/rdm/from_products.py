"""RDMs of products of all pairs of conditions that were computed elsewhere, such as on a GPU."""

import numpy as np

from fastrdm.rdm.measures import operand_of
from fastrdm.rdm.methods import method_named
from fastrdm.rdm.numbers import Kind, tie_tolerance
from fastrdm.rdm.products import Floats, Index
from fastrdm.rdm.sums import Sums


def rdm_from_products(
    method: str, products: Floats, n_channels: int, sums: Floats, low: Floats, high: Floats
) -> tuple[Floats, Index]:
    """Return the condensed RDM of float32 activations, and the conditions without dissimilarities.

    `products` (n, n) are sums over channels in float64 of activations as they are, not centred; `sums`, `low` and
    `high` (n,) are each condition's sum, least and greatest activation. The method is one for devices.
    """
    measure = method_named(method).measure
    if measure.undefined:
        return Sums(n_channels, products, sums, low, high, discrete=False, single=True).rdm(measure)
    operand = operand_of(products.diagonal().copy(), None, n_channels, 0.0)
    values, _ = measure.condense(operand, operand, products, True)
    rdm = np.sqrt(np.maximum(values, 0)) if measure.root else np.maximum(values, 0)
    read, stored = Kind(np.dtype(np.float64)), Kind(np.dtype(np.float32))
    measure.settle(rdm, tie_tolerance(stored, read, len(rdm), stored.dtype))
    return rdm, np.empty(0, np.intp)
