"""The regressions that scores are made with, and their arguments."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from fastrdm._base import check_choice, check_integer
from fastrdm.encoding.decomposition import Decomposition, Floats, decomposed
from fastrdm.encoding.folds import ConditionFolds, Indices
from fastrdm.encoding.pls import FeatureSide, GramSide, pls_predictions, side_of
from fastrdm.encoding.ridge import (
    RELATIVE_ALPHAS,
    checked_alphas,
    mean_eigenvalue,
    ridge_predictions,
)
from fastrdm.encoding.several_layers import (
    BandedRegression,
    StackedRegression,
    candidate_weights,
)
from fastrdm.rdm import Gram

METHODS = ("ridge", "pls", "banded", "stacked")
# Methods whose model consists of all layers.
SEVERAL = ("banded", "stacked")
# The options that some methods take.
_OPTIONS = {
    "alphas": ("ridge", "banded", "stacked"),
    "n_components": ("pls",),
    "weights": ("banded",),
}
# Components of PLS by default.
_COMPONENTS = 25


class Regression(Protocol):
    """A way to predict responses of held-out conditions from the products of a layer, or of several."""

    @property
    def is_joint(self) -> bool:
        """Whether the prediction of a unit depends on the other units of the subject."""

    @property
    def n_copies(self) -> int:
        """By how much blocks of units must be smaller than those of ridge regression."""

    def prepare(self, gram: Any, train: Indices, test: Indices) -> Any:
        """Return what all units share."""

    def predict(self, fold: Any, centred: Floats) -> tuple[Floats, Floats | None]:
        """Return predictions, minus the training means, and the chosen penalties or weights, (…, units)."""


@dataclass(frozen=True, eq=False)
class RidgeRegression:
    """Ridge regression, with a penalty of `alphas` for each unit."""

    alphas: Floats
    is_joint: bool = False
    n_copies: int = 1

    def prepare(self, gram: Gram, train: Indices, test: Indices) -> Decomposition:
        """Return the decomposition of the training fold."""
        return decomposed(gram, train, test)

    def predict(self, fold: Decomposition, centred: Floats) -> tuple[Floats, Floats | None]:
        """Return predictions and the chosen penalties, (units,)."""
        return ridge_predictions(fold, centred, self.alphas)


@dataclass(frozen=True, eq=False)
class PlsRegression:
    """Partial least squares of all units of a subject together."""

    n_components: int
    is_joint: bool = True
    n_copies: int = 1

    def prepare(self, gram: Gram, train: Indices, test: Indices) -> GramSide | FeatureSide:
        """Return the smaller side of the training fold."""
        return side_of(gram, train, test)

    def predict(
        self, fold: GramSide | FeatureSide, centred: Floats
    ) -> tuple[Floats, Floats | None]:
        """Return predictions with all components."""
        *_, last = pls_predictions(fold.copy(), centred, self.n_components)
        return last, None


def check_options(method: str, **options: Any) -> None:
    """Raise a ValueError for an unknown method, or an option that it does not take."""
    check_choice(method, METHODS, "method")
    for name, value in options.items():
        takers = _OPTIONS[name]
        if value is not None and method not in takers:
            verb = "does" if len(takers) == 1 else "do"
            listed = " and ".join(map(repr, takers))
            raise ValueError(f"method {method!r} takes no {name}; {listed} {verb}")


def regression_of(
    method: str,
    name: str,
    gram: Gram,
    n_training: int,
    alphas: ArrayLike | None,
    n_components: int | None,
) -> Regression:
    """Return the regression of a layer; `n_training` is the smallest number of training conditions."""
    if method == "ridge":
        return RidgeRegression(_alphas_of(gram, alphas))
    most = min(n_training - 1, gram.n_channels)
    if n_components is None:
        return PlsRegression(min(_COMPONENTS, most))
    check_integer(n_components, "n_components", 1)
    if n_components > most:
        raise ValueError(
            f"n_components is {n_components}, but layer {name} has {gram.n_channels} channels and a fold"
            f" {n_training} training conditions, which allow at most {most}"
        )
    return PlsRegression(int(n_components))


def regression_of_several(
    method: str, grams: Sequence[Gram], alphas: ArrayLike | None, weights: Any, seed: int | None
) -> Regression:
    """Return the regression of several layers together."""
    if method == "stacked":
        return StackedRegression([_alphas_of(gram, alphas) for gram in grams])
    chosen = RELATIVE_ALPHAS if alphas is None else checked_alphas(alphas)
    scales = np.array([mean_eigenvalue(gram) for gram in grams])
    return BandedRegression(candidate_weights(len(grams), weights, seed), scales, chosen)


def _alphas_of(gram: Gram, alphas: ArrayLike | None) -> Floats:
    if alphas is None:
        return np.asarray(RELATIVE_ALPHAS * mean_eigenvalue(gram))
    return checked_alphas(alphas)


def fewest_training(folds: ConditionFolds, all_rows: Sequence[Indices]) -> int:
    """Return the number of training conditions of the fold that has the fewest."""
    sizes = [len(train) for rows in all_rows for _, train, _ in folds.splits(rows)]
    return min(sizes, default=0)
