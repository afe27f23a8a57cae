"""Partial least squares of all units of a subject together, from products of conditions alone.

The steps are those of scikit-learn's ``PLSRegression(scale=False)`` (NIPALS with power iterations), with activations X
replaced by their products (Rosipal & Trejo 2001): weights Xᵀu are never written out, only their products with X.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fastrdm.encoding.decomposition import (
    Floats,
    centred_features,
    centred_products,
    has_smaller_features,
)
from fastrdm.encoding.folds import Indices
from fastrdm.rdm import Gram

# As in scikit-learn.
TOLERANCE, MAX_ITERATIONS = 1e-6, 500
_EPS = float(np.finfo(np.float64).eps)
# Products that are this small, relative to those of the activations as they were, are rounding errors.
_EXHAUSTED = 1e-14


@dataclass(eq=False)
class GramSide:
    """Centred products of training conditions (n, n) and of held-out with training conditions, deflated in place."""

    inner: Floats
    outer: Floats

    def reduced(self, responses: Floats) -> Floats:
        """Return the responses as they are."""
        return responses

    def trace(self) -> float:
        """Return the sum of squares of the training activations."""
        return float(np.trace(self.inner))

    def scores(self, u: Floats) -> Floats:
        """Return X Xᵀ u."""
        return np.asarray(self.inner @ u)

    def held_out(self, u: Floats) -> Floats:
        """Return the same for held-out conditions."""
        return np.asarray(self.outer @ u)

    def deflate(self, t: Floats, held_out: Floats) -> None:
        """Remove a component with scores t (not normalised) and scores of held-out conditions."""
        square = t @ t
        loads = self.inner @ t / square
        self.inner -= np.outer(t, loads)
        self.inner -= np.outer(self.inner @ t / square, t)
        self.outer -= np.outer(held_out, loads)
        self.outer -= np.outer(self.outer @ t / square, t)

    def copy(self) -> "GramSide":
        """Return a copy, for one subject."""
        return GramSide(self.inner.copy(), self.outer.copy())


@dataclass(eq=False)
class FeatureSide:
    """As `GramSide`, from centred activations with fewer channels than training conditions.

    Training conditions are rotated into as many dimensions as there are channels, and responses with them; all products
    remain the same.

    Attributes
    ----------
    inner : ndarray, shape (channels, channels)
        Rotated activations of the training conditions.
    outer : ndarray, shape (held-out conditions, channels)
        Activations of held-out conditions.
    rotation : ndarray, shape (training conditions, channels)
        Orthonormal columns.
    """

    inner: Floats
    outer: Floats
    rotation: Floats

    @classmethod
    def of(cls, inner: Floats, outer: Floats) -> "FeatureSide":
        """Rotate centred activations."""
        rotation, rotated = np.linalg.qr(inner)
        return cls(rotated, outer, rotation)

    def reduced(self, responses: Floats) -> Floats:
        """Return responses (training conditions, units) in these dimensions."""
        return np.asarray(self.rotation.T @ responses)

    def trace(self) -> float:
        """Return the sum of squares of the training activations."""
        return float(np.vdot(self.inner, self.inner))

    def scores(self, u: Floats) -> Floats:
        """Return X Xᵀ u."""
        return np.asarray(self.inner @ (u @ self.inner))

    def held_out(self, u: Floats) -> Floats:
        """Return the same for held-out conditions."""
        return np.asarray(self.outer @ (u @ self.inner))

    def deflate(self, t: Floats, held_out: Floats) -> None:
        """Remove a component with scores t (not normalised) and scores of held-out conditions."""
        loads = t @ self.inner / (t @ t)
        self.inner -= np.outer(t, loads)
        self.outer -= np.outer(held_out, loads)

    def copy(self) -> "FeatureSide":
        """Return a copy, for one subject."""
        return FeatureSide(self.inner.copy(), self.outer.copy(), self.rotation)


def side_of(gram: Gram, train: Indices, test: Indices) -> GramSide | FeatureSide:
    """Return the smaller side of a training fold."""
    if has_smaller_features(gram, len(train)):
        return FeatureSide.of(*centred_features(gram, train, test))
    return GramSide(*centred_products(gram, train, test))


def pls_predictions(
    side: GramSide | FeatureSide, centred: Floats, n_components: int
) -> Iterator[Floats]:
    """Yield predictions of held-out conditions, minus the training means, with 1, 2, …, n_components components.

    Parameters
    ----------
    side : GramSide or FeatureSide
        The training fold; it is changed.
    centred : ndarray, shape (training conditions, units)
        Responses minus their means; they are changed.
    n_components : int
        Largest number of components. There are fewer if the responses or the activations are exhausted before; the
        predictions then remain those of the last one.
    """
    predictions = np.zeros((len(side.outer), centred.shape[1]))
    trace, centred = side.trace(), side.reduced(centred)
    for _ in range(n_components):
        centred[:, np.abs(centred).max(axis=0) < 10 * _EPS] = 0
        u = _dominant(side, centred, trace)
        if u is None:
            yield predictions
            continue
        scores, held_out = side.scores(u), side.held_out(u)
        loads = scores @ centred / (scores @ scores)
        predictions += np.outer(held_out, loads)
        centred -= np.outer(scores, loads)
        side.deflate(scores, held_out)
        yield predictions


def _dominant(side: GramSide | FeatureSide, centred: Floats, trace: float) -> Floats | None:
    """Return the scores of the responses from which the next component's weights follow; None if there are none."""
    varying = np.flatnonzero((np.abs(centred) > _EPS).any(axis=0))
    if not len(varying):
        return None
    u: Floats = centred[:, varying[0]]
    # Products of responses take their place if there are more units than conditions.
    products = centred @ centred.T if centred.shape[1] > len(centred) else None
    before, length_before = None, 0.0
    for _ in range(MAX_ITERATIONS):
        scores = side.scores(u)
        square = float(u @ u)
        length = max(float(u @ scores), 0.0) ** 0.5
        if length**2 <= _EXHAUSTED * trace * square:
            return None
        if centred.shape[1] == 1:
            break
        if before is not None:
            difference = 2 - 2 * (before @ scores) / (length * length_before)
            if difference < TOLERANCE:
                break
        before, length_before = u, length
        # Scores of unit weights, as the stopping rule refers to weights of length 1.
        scores = scores / length
        norm = scores @ scores
        if products is None:
            weights = scores @ centred / norm
            u = centred @ weights / (weights @ weights + _EPS)
        else:
            mixed = products @ scores / norm
            u = mixed / (scores @ mixed / norm + _EPS)
    return u
