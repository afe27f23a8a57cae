"""Products of a training fold → eigenvectors and eigenvalues, shared by all penalties, units and subjects."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastrdm.encoding.folds import Indices
from fastrdm.rdm import Gram

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Decomposition:
    """The centred training activations as U S Vᵀ.

    Attributes
    ----------
    vectors : ndarray, shape (training conditions, components)
        U, without the constant vector.
    values : ndarray, shape (components,)
        Eigenvalues S² of the centred Gram matrix, not negative.
    held_out : ndarray, shape (held-out conditions, components)
        Products of the held-out conditions, minus the training mean, with V S, so that the ridge prediction is ȳ +
        held_out (S² + α)⁻¹ Uᵀ (y - ȳ).
    is_complete : bool
        Whether U and the constant vector span all training conditions.
    """

    vectors: Floats
    values: Floats
    held_out: Floats
    is_complete: bool


def decomposed(gram: Gram, train: Indices, test: Indices) -> Decomposition:
    """Decompose the activations of a training fold, centred by their own means, on the smaller side."""
    if has_smaller_features(gram, len(train)):
        return decomposed_features(*centred_features(gram, train, test))
    return decomposed_products(*centred_products(gram, train, test))


def has_smaller_features(gram: Gram, n_training: int) -> bool:
    """Whether a Gram has its activations, and these are smaller than the products of the training conditions."""
    return gram.features is not None and gram.features.shape[1] < n_training - 1


def centred_features(gram: Gram, train: Indices, test: Indices) -> tuple[Floats, Floats]:
    """Return training and held-out activations minus the training fold's means."""
    features = np.asarray(gram.features)
    inner = features[train].astype(np.float64)
    means = inner.mean(axis=0)
    return inner - means, features[test] - means


def centred_products(gram: Gram, train: Indices, test: Indices) -> tuple[Floats, Floats]:
    """Return the products (train, train) and (test, train) of activations minus the training fold's means."""
    products = gram.products
    inner = products[np.ix_(train, train)]
    outer = products[np.ix_(test, train)]
    means = inner.mean(axis=0)
    outer -= means
    outer -= outer.mean(axis=1, keepdims=True)
    inner -= means
    inner -= inner.mean(axis=1, keepdims=True)
    return inner, outer


def decomposed_products(inner: Floats, outer: Floats) -> Decomposition:
    """Decompose centred products of training conditions, which are changed, and of held-out with training ones."""
    n = len(inner)
    # The constant vector, of eigenvalue 0, gets the largest one, so that it is not mixed with others of eigenvalue 0.
    largest = np.abs(inner).sum(axis=0).max()
    if largest == 0:
        largest = 1.0
    inner += 2 * largest / n
    values, vectors = np.linalg.eigh(inner)
    values, vectors = values[:-1], vectors[:, :-1]
    return Decomposition(vectors, np.maximum(values, 0), outer @ vectors, True)


def decomposed_features(inner: Floats, outer: Floats) -> Decomposition:
    """Decompose centred activations, fewer than the training conditions."""
    vectors, roots, directions = np.linalg.svd(inner, full_matrices=False)
    return Decomposition(vectors, roots**2, outer @ (directions.T * roots), False)
