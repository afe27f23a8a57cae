"""Regressions on several layers at once: banded ridge regression, and stacked ridge regressions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fastrdm._base import as_floats, check_integer
from fastrdm.encoding.decomposition import (
    Decomposition,
    Floats,
    centred_features,
    centred_products,
    decomposed,
    decomposed_features,
    decomposed_products,
)
from fastrdm.encoding.folds import Indices
from fastrdm.encoding.ridge import leave_one_out
from fastrdm.rdm import Gram

# Random weights of layers that banded ridge regression tries, beside each layer alone and all alike.
_N_WEIGHTS = 20
# Decompositions of a fold are kept for all blocks of units if they take no more bytes.
_KEPT = 1 << 30


@dataclass(frozen=True, eq=False)
class BandedRegression:
    """Ridge regression with a penalty for each layer (Dupré la Tour et al. 2022).

    Attributes
    ----------
    weights : ndarray, shape (candidates, layers)
        Weights of the layers' Gram matrices, each divided by its scale; of each candidate they add up to 1.
    scales : ndarray, shape (layers,)
        Mean eigenvalues of the centred Gram matrices.
    alphas : ndarray, shape (penalties,)
        Penalties of the weighted sum.
    """

    weights: Floats
    scales: Floats
    alphas: Floats
    is_joint: bool = False
    n_copies: int = 2

    def prepare(self, grams: Sequence[Gram], train: Indices, test: Indices) -> "BandedFold":
        """Return the layers' products of the training fold."""
        factors = self.weights / self.scales
        n_channels = sum(gram.n_channels for gram in grams)
        if all(gram.features is not None for gram in grams) and n_channels < len(train) - 1:
            parts = [centred_features(gram, train, test) for gram in grams]
            return BandedFold(parts, np.sqrt(factors), of_features=True)
        return BandedFold([centred_products(gram, train, test) for gram in grams], factors)

    def predict(self, fold: "BandedFold", centred: Floats) -> tuple[Floats, Floats]:
        """Return predictions, and for each unit the penalty of the sum and the weights, (1 + layers, units)."""
        n_units = centred.shape[1]
        predictions = np.zeros((fold.n_held_out, n_units))
        details = np.full((1 + self.weights.shape[1], n_units), np.nan)
        least = np.full(n_units, np.inf)
        for weights, candidate in zip(self.weights, fold, strict=True):
            found = leave_one_out(candidate, centred, self.alphas)
            better = np.flatnonzero(found.squares < least)
            least[better] = found.squares[better]
            predictions[:, better] = found.predictions(candidate, better)
            details[0, better] = found.penalties[better]
            details[1:, better] = weights[:, None]
        return predictions, details


class BandedFold:
    """Decompositions of a fold's weighted sums of products, one for each candidate.

    Parameters
    ----------
    parts : sequence of (inner, outer)
        Of each layer, centred products or activations of training and held-out conditions.
    factors : ndarray, shape (candidates, layers)
        By which products or activations are multiplied.
    of_features : bool
        Whether the parts are activations.
    """

    def __init__(
        self,
        parts: Sequence[tuple[Floats, Floats]],
        factors: Floats,
        *,
        of_features: bool = False,
    ) -> None:
        self.parts, self.factors, self.of_features = parts, factors, of_features
        self.n_held_out = len(parts[0][1])
        inner = parts[0][0]
        width = sum(p[0].shape[1] for p in parts) if of_features else len(inner)
        size = (len(inner) + self.n_held_out) * width * inner.itemsize
        self._kept: list[Decomposition] | None = [] if size * len(factors) <= _KEPT else None

    def __iter__(self) -> Iterator[Decomposition]:
        if self._kept:
            yield from self._kept
            return
        made = []
        for factors in self.factors:
            one = self._decomposed(factors)
            if self._kept is not None:
                made.append(one)
            yield one
        if self._kept is not None:
            self._kept = made

    def _decomposed(self, factors: Floats) -> Decomposition:
        pairs = list(zip(self.parts, factors.tolist(), strict=True))
        if self.of_features:
            inner, outer = (
                np.concatenate([part[side] * factor for part, factor in pairs], axis=1)
                for side in (0, 1)
            )
            return decomposed_features(inner, outer)
        inner, outer = (np.zeros_like(self.parts[0][side]) for side in (0, 1))
        for part, factor in pairs:
            if factor:
                inner += factor * part[0]
                outer += factor * part[1]
        return decomposed_products(inner, outer)


@dataclass(frozen=True, eq=False)
class StackedRegression:
    """Non-negative combination of the layers' ridge predictions (Breiman 1996; Lin et al. 2024).

    The weights of each unit are those with which the leave-one-out predictions of the training conditions come nearest
    to the responses.

    Attributes
    ----------
    alphas : sequence of ndarray, shape (penalties,)
        Penalties of each layer.
    """

    alphas: Sequence[Floats]
    is_joint: bool = False

    @property
    def n_copies(self) -> int:
        """Number of arrays of the size of the responses that are needed at a time."""
        return 2 + len(self.alphas)

    def prepare(self, grams: Sequence[Gram], train: Indices, test: Indices) -> list[Decomposition]:
        """Return the decomposition of each layer."""
        return [decomposed(gram, train, test) for gram in grams]

    def predict(self, fold: Sequence[Decomposition], centred: Floats) -> tuple[Floats, Floats]:
        """Return predictions and the weights, (layers, units)."""
        from scipy.optimize import nnls

        estimates, predictions = [], []
        for one, alphas in zip(fold, self.alphas, strict=True):
            found = leave_one_out(one, centred, alphas, keep_errors=True)
            estimates.append(centred - np.asarray(found.errors))
            predictions.append(found.predictions(one))
        weights = np.zeros((len(fold), centred.shape[1]))
        for unit in range(centred.shape[1]):
            table = np.stack([each[:, unit] for each in estimates], axis=1)
            # Layers that leave one condition without a prediction cannot be judged, and get no weight.
            usable = np.isfinite(table).all(axis=0)
            weights[usable, unit] = nnls(table[:, usable], centred[:, unit])[0]
        return np.einsum("lu,lcu->cu", weights, np.stack(predictions)), weights


def candidate_weights(n_layers: int, n_weights: object, seed: int | None) -> Floats:
    """Return weights (candidates, layers): of each layer alone, of all alike, and random ones of a flat Dirichlet.

    `n_weights` is the number of random ones, or an array of candidates, whose rows are divided by their sums.
    """
    if n_weights is None or isinstance(n_weights, (int, np.integer)):
        n_random = _N_WEIGHTS if n_weights is None else n_weights
        check_integer(n_random, "weights", 0)
        draws = np.random.RandomState(seed or 0).dirichlet(np.ones(n_layers), int(n_random))
        alike = np.full((1, n_layers), 1 / n_layers)
        several = [alike, draws] if n_layers > 1 else []
        return np.concatenate([np.eye(n_layers), *several])
    return _checked_weights(n_weights, n_layers)  # type: ignore[arg-type]


def _checked_weights(weights: ArrayLike, n_layers: int) -> Floats:
    array = as_floats(weights, "weights").astype(np.float64)
    if array.ndim != 2 or array.shape[1] != n_layers or not len(array):
        raise ValueError(
            f"weights has shape {array.shape}; pass (candidates, {n_layers}), a weight for each of {n_layers} layers"
        )
    sums = array.sum(axis=1, keepdims=True)
    if not (np.isfinite(array).all() and (array >= 0).all() and (sums > 0).all()):
        raise ValueError("weights must not be negative, and of each candidate one must be positive")
    return np.asarray(array / sums)
