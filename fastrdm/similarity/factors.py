"""Centred Gram matrices → the configurations of conditions that have these products.

A configuration is the centred activations up to a rotation, in as few dimensions as possible: their principal
components. It comes from the features where these are kept, else from the eigenvectors of the centred products.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fastrdm.similarity.gram_inputs import CentredGram
from fastrdm.similarity.numerics import Floats

# Eigenvalues below this many rounding errors of the largest product, for each condition, are 0.
_ROUNDINGS = 4 * float(np.finfo(np.float64).eps)
# A negative eigenvalue of this share of the largest is no rounding error.
_NEGATIVE = 1e-3


@dataclass(frozen=True)
class Configuration:
    """Conditions by principal components: ``axes * lengths`` are the centred activations up to a rotation.

    Attributes
    ----------
    axes : ndarray, shape (conditions, components)
        Orthonormal columns.
    lengths : ndarray, shape (components,)
        Singular values, descending; the sum of squares is 1.
    size : float
        Root of the trace of the centred products, by which lengths were divided; 0 without components.
    """

    axes: Floats
    lengths: Floats
    size: float


def configuration(gram: CentredGram) -> Configuration:
    """Return the configuration of a centred Gram matrix; ValueError if an eigenvalue is negative."""
    if gram.features is not None:
        axes, lengths, power = _of_features(gram.features, gram.largest_feature)
    else:
        axes, lengths, power = _of_products(gram)
    size = float(np.linalg.norm(lengths))
    if size:
        lengths = lengths / size
    return Configuration(axes, lengths, math.ldexp(size, power))


def _of_features(features: Floats, largest: float) -> tuple[Floats, Floats, int]:
    power = math.frexp(largest)[1]
    axes, lengths, _ = np.linalg.svd(np.ldexp(features, -power), full_matrices=False)
    # The largest feature before centring is about 1.
    least = _ROUNDINGS * len(features) * math.sqrt(features.shape[1])
    kept = lengths > least
    return axes[:, kept], lengths[kept], power


def _of_products(gram: CentredGram) -> tuple[Floats, Floats, int]:
    values, vectors = np.linalg.eigh(gram.whole())
    least = _ROUNDINGS * gram.n
    if values[0] < -max(least, _NEGATIVE * values[-1]):
        raise ValueError(
            f"{gram.name} has a negative eigenvalue, {math.ldexp(values[0], gram.power):.3g}, after centring; products"
            " of activations have none, except for rounding errors"
        )
    # Errors of products make eigenvalues of both signs from those that are 0, and change the others little: if none is
    # negative, all are kept. float32 products of 5 components, 118 × 20,000, lose 5e-5 of the cosine otherwise.
    least = max(least, -2 * float(values[0]))
    kept = values > least
    axes, values = vectors[:, kept][:, ::-1], values[kept][::-1]
    power = gram.power + gram.power % 2
    return axes, np.sqrt(np.ldexp(values, gram.power - power)), power // 2


def each_pair(
    first: list[CentredGram],
    second: list[CentredGram],
    points_of: Callable[[Configuration], Floats],
    measure: Callable[[Floats, Floats], float],
) -> tuple[Floats, Floats, Floats]:
    """Return a symmetric measure (n1, n2) of two point sets (conditions, components), and the sizes (n1,) and (n2,).

    NaN where one has no components. If both sides are one list, half of the pairs is computed. The points of the second
    side are kept, those of the first are made one at a time.
    """
    out = np.full((len(first), len(second)), np.nan)
    sizes1, sizes2 = np.zeros(len(first)), np.zeros(len(second))
    kept = []
    for j, gram in enumerate(second):
        found = configuration(gram)
        kept.append(points_of(found))
        sizes2[j] = found.size
    same = second is first
    for i, gram in enumerate(first):
        if same:
            points, sizes1[i] = kept[i], sizes2[i]
        else:
            found = configuration(gram)
            points, sizes1[i] = points_of(found), found.size
        for j in range(i if same else 0, len(second)):
            if points.size and kept[j].size:
                out[i, j] = measure(points, kept[j])
                if same:
                    out[j, i] = out[i, j]
    return out, sizes1, sizes2
