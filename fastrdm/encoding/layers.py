"""Layers that are scored, with their names, folds and regressions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fastrdm._base import Labels, find_order, warn_reordered
from fastrdm.encoding.folds import ConditionFolds, Indices
from fastrdm.encoding.regressions import (
    SEVERAL,
    Regression,
    fewest_training,
    regression_of,
    regression_of_several,
)
from fastrdm.rdm import Gram


@dataclass(frozen=True, eq=False)
class ScoringPlan:
    """Models by name, each of a layer or of several together, their regressions, and the folds of the conditions.

    `layers` are the names of the layers of a model of several.
    """

    models: Mapping[str, Gram | list[Gram]]
    regressions: Sequence[Regression]
    folds: ConditionFolds
    layers: tuple[str, ...] = ()

    @property
    def pairs(self) -> list[tuple[Gram | list[Gram], Regression]]:
        """Each model with its regression."""
        return list(zip(self.models.values(), self.regressions, strict=True))


def plan_of(
    layers: Mapping[str, Gram],
    folds: ConditionFolds,
    all_rows: Sequence[Indices],
    method: str,
    alphas: Any,
    n_components: int | None,
    weights: Any,
    seed: int | None,
) -> ScoringPlan:
    """Return the plan for layers, for units that have the conditions of one of `all_rows`."""
    if method in SEVERAL:
        grams = list(layers.values())
        together = regression_of_several(method, grams, alphas, weights, seed)
        return ScoringPlan({" + ".join(layers): grams}, [together], folds, tuple(layers))
    n_training = fewest_training(folds, all_rows)
    regressions = [
        regression_of(method, name, gram, n_training, alphas, n_components)
        for name, gram in layers.items()
    ]
    return ScoringPlan(layers, regressions, folds)


def named_grams(grams: Any, name: str = "grams") -> dict[str, Gram]:
    """Return layers by name, by default their numbers; refuse what is not a Gram."""
    if isinstance(grams, Gram):
        return {"0": grams}
    if isinstance(grams, Mapping):
        layers = {str(key): gram for key, gram in grams.items()}
    elif isinstance(grams, (list, tuple)):
        layers = {str(k): gram for k, gram in enumerate(grams)}
    else:
        layers = {"": grams}
    for key, gram in layers.items():
        if not isinstance(gram, Gram):
            where = f"{name}[{key!r}]" if key else name
            raise ValueError(
                f"{where} is of type {type(gram).__name__}; make a Gram of activations with fastrdm.gram"
            )
    if not layers:
        raise ValueError(f"{name} is empty; pass at least one layer")
    return layers


def matched_layers(
    layers: Mapping[str, Gram], n_conditions: int, labels: Labels | None, name: str
) -> dict[str, Gram]:
    """Return the layers with labelled conditions in the order of the responses; one warning says which were not.

    If the responses have no labels, the order is that of the first layer that has. ValueError for a layer whose
    conditions are not those of the responses.
    """
    matched, moved = dict(layers), []
    reference = labels and replace(labels, name=name)
    for layer, gram in layers.items():
        own = gram.labels and replace(gram.labels, name=f"layer {layer}" if layer else "the layer")
        order = find_order(own, reference)
        reference = reference or own
        if order is not None and own is not None:
            moved.append(own)
            matched[layer] = gram.reordered(order.places)
        if gram.n_conditions != n_conditions:
            raise ValueError(
                f"layer {layer} has {gram.n_conditions} conditions and {name} {n_conditions}; the numbers must be equal"
            )
    if moved and reference is not None:
        warn_reordered(moved, reference)
    return matched
