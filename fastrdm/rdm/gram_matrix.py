"""Activations → Gram matrices: the products of all pairs of conditions, from which every score is computed."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastrdm._base import Labels, labels_of
from fastrdm.rdm.inputs import as_rows
from fastrdm.rdm.products import Floats, Reading
from fastrdm.rdm.products import gram as products_of


class Gram:
    """Products of all pairs of conditions of one layer.

    Attributes
    ----------
    n_conditions, n_channels : int
    products : ndarray of float64, shape (conditions, conditions)
        Products over channels, not centred; read-only.
    features : ndarray or None, shape (conditions, channels)
        The activations, if they are no larger than the products; else None.
    labels : Labels or None
        Of the conditions, from pandas and xarray objects.
    """

    def __init__(
        self,
        products: Floats,
        n_channels: int,
        features: Floats | None = None,
        labels: Labels | None = None,
    ) -> None:
        self.products = products
        self.products.setflags(write=False)
        self.n_conditions, self.n_channels = len(products), n_channels
        self.features = features
        self.labels = labels

    def centred(self) -> Floats:
        """Return the products of activations minus the mean of each channel over conditions: H K H."""
        means = self.products.mean(axis=0)
        return np.asarray(self.products - means - means[:, None] + means.mean())


def gram(activations: Any, *, n_threads: int | None = None) -> Any:
    """Compute the Gram matrix of a layer: `Gram`; of a dict of layers: a dict of `Gram`."""
    if isinstance(activations, Mapping):
        return {
            name: _one(each, f"activations[{name!r}]", n_threads)
            for name, each in activations.items()
        }
    return _one(activations, "activations", n_threads)


def _one(activations: ArrayLike, name: str, n_threads: int | None) -> Gram:
    rows = as_rows(activations, name)
    read = Reading(rows, np.dtype(np.float64))
    products, _ = products_of(read, n_threads)
    features = np.array(rows, np.float64) if rows.shape[1] <= len(rows) else None
    return Gram(products, rows.shape[1], features, labels_of(activations, 0, name, "condition"))
