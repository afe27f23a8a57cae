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
from fastrdm.encoding.ridge import checked_alphas, default_alphas, ridge_predictions
from fastrdm.rdm import Gram

METHODS = ("ridge", "pls")
# Components of PLS by default.
_COMPONENTS = 25


class Regression(Protocol):
    """A way to predict responses of held-out conditions from the products of a layer."""

    @property
    def alphas(self) -> Floats | None:
        """Penalties to choose from."""

    @property
    def is_joint(self) -> bool:
        """Whether the prediction of a unit depends on the other units of the subject."""

    def prepare(self, gram: Gram, train: Indices, test: Indices) -> Any:
        """Return what all units share."""

    def predict(self, fold: Any, centred: Floats) -> tuple[Floats, Indices | None]:
        """Return predictions, minus the training means, and the indices of the chosen penalties."""


@dataclass(frozen=True, eq=False)
class RidgeRegression:
    """Ridge regression, with a penalty of `alphas` for each unit."""

    alphas: Floats
    is_joint: bool = False

    def prepare(self, gram: Gram, train: Indices, test: Indices) -> Decomposition:
        """Return the decomposition of the training fold."""
        return decomposed(gram, train, test)

    def predict(self, fold: Decomposition, centred: Floats) -> tuple[Floats, Indices | None]:
        """Return predictions and the indices of the chosen penalties."""
        return ridge_predictions(fold, centred, self.alphas)


@dataclass(frozen=True, eq=False)
class PlsRegression:
    """Partial least squares of all units of a subject together."""

    n_components: int
    alphas: None = None
    is_joint: bool = True

    def prepare(self, gram: Gram, train: Indices, test: Indices) -> GramSide | FeatureSide:
        """Return the smaller side of the training fold."""
        return side_of(gram, train, test)

    def predict(
        self, fold: GramSide | FeatureSide, centred: Floats
    ) -> tuple[Floats, Indices | None]:
        """Return predictions with all components."""
        *_, last = pls_predictions(fold.copy(), centred, self.n_components)
        return last, None


def regression_of(
    method: str,
    name: str,
    gram: Gram,
    n_training: int,
    alphas: ArrayLike | None,
    n_components: int | None,
) -> Regression:
    """Return the regression of a layer; `n_training` is the smallest number of training conditions."""
    check_choice(method, METHODS, "method")
    if method == "ridge":
        if n_components is not None:
            raise ValueError("method 'ridge' takes no n_components; 'pls' does")
        if alphas is None:
            trace = float(np.trace(gram.centred()))
            return RidgeRegression(default_alphas(trace, gram.n_conditions))
        return RidgeRegression(checked_alphas(alphas))
    if alphas is not None:
        raise ValueError("method 'pls' takes no alphas; 'ridge' does")
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


def fewest_training(folds: ConditionFolds, all_rows: Sequence[Indices]) -> int:
    """Return the number of training conditions of the fold that has the fewest."""
    sizes = [len(train) for rows in all_rows for _, train, _ in folds.splits(rows)]
    return min(sizes, default=0)
