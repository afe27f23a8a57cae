"""Layers weighted on some studies and judged on another: `held_out` with models that are fitted."""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm.fitting import FittedRdm, WeightedRdm
from fastrdm.scoring.held_out import (
    WEIGHTED,
    HeldOutScore,
    percent_of_ceiling,
    shared_modalities,
    splits_of,
)
from fastrdm.scoring.results import RSA
from fastrdm.similarity import Target
from fastrdm.studies import Study


def check_shared_regions(studies: Sequence[Study]) -> None:
    """Raise ValueError if no two studies have a region in common, so that none can be held out."""
    regions = [region for _, region in _targets(studies)]
    if len(set(regions)) == len(regions):
        names = ", ".join(study.name for study in studies)
        raise ValueError(
            f"layers are weighted on one study and judged on another, but no region is in two studies ({names})"
        )


def weighted_scores(
    layers: Sequence[str], rdms: Mapping[str, NDArray[Any]], studies: Sequence[Study]
) -> tuple[HeldOutScore, ...]:
    """Scores of layers weighted on other studies, for each region that several studies have, and for their score.

    `rdms` (layers, pairs) are those of each study, by its name. Layers whose RDM has NaN or is constant in a study get
    no weight.
    """
    targets = _targets(studies)
    scores: list[HeldOutScore] = []
    # Values of the held-out and of the biased prediction, and the ceiling, by region and study.
    values: dict[tuple[str, str], tuple[float, float, float]] = {}
    for region in dict.fromkeys(region for _, region in targets):
        of_region = {study: target for (study, r), target in targets.items() if r == region}
        usable = np.flatnonzero(
            np.all([_has_order(rdms[study]) for study in of_region], axis=0)
        ).tolist()
        if not usable:
            continue
        named = {study: {layers[i]: rdms[study][i] for i in usable} for study in of_region}
        for judged, others in splits_of(of_region):
            fitted = _fit([named[s] for s in others], [of_region[s] for s in others])
            same = _fit([named[judged]], [of_region[judged]])
            found = [_score(one, named[judged], of_region[judged]) for one in (fitted, same)]
            (held_out, is_opposite), (biased, _) = found
            ceiling = of_region[judged].ceiling
            values[judged, region] = held_out, biased, ceiling
            scores.append(
                HeldOutScore(
                    *(WEIGHTED, RSA, region, "", others, judged),
                    *(_top(fitted), 100 * held_out / ceiling),
                    *(_top(same), 100 * biased / ceiling),
                    is_opposite,
                    _weights(fitted),
                )
            )
    for modality, places in shared_modalities(targets).items():
        for judged, others in splits_of(study for study, _ in places):
            parts = [values[place] for place in places if place[0] == judged and place in values]
            if parts:
                held_out, biased = (
                    percent_of_ceiling([(part[i], part[2]) for part in parts]) for i in (0, 1)
                )
                facts = (WEIGHTED, RSA, "", modality, others, judged)
                scores.append(HeldOutScore(*facts, "", held_out, "", biased))
    return tuple(scores)


def _targets(studies: Sequence[Study]) -> dict[tuple[str, str], Target]:
    """The targets by study and region, without those whose time points are scored one by one."""
    return {
        (study.name, region): target
        for study in studies
        for region, target in study.targets.items()
        if target.over_time == "mean"
    }


def _has_order(rdms: NDArray[Any]) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(rdms).all(axis=1) & (np.ptp(rdms, axis=1) > 0))


def _fit(rdms: Sequence[Mapping[str, NDArray[Any]]], targets: Sequence[Target]) -> FittedRdm:
    with warnings.catch_warnings():
        # Without a similar layer, there is no score.
        warnings.simplefilter("ignore", RuntimeWarning)
        if len(targets) == 1:
            return WeightedRdm().fit(rdms[0], targets[0])
        return WeightedRdm().fit(list(rdms), list(targets), protocol=targets[0].protocol)


def _score(
    fitted: FittedRdm, rdms: Mapping[str, NDArray[Any]], target: Target
) -> tuple[float, bool]:
    """The protocol's value, and whether the mean similarity is negative."""
    if not fitted.weights.any():
        return math.nan, False
    score = fitted.score(rdms, target)
    return float(score.value[0]), bool(score.mean_rho[0] < 0)


def _top(fitted: FittedRdm) -> str:
    return fitted.layer if fitted.weights.any() else ""


def _weights(fitted: FittedRdm) -> dict[str, float]:
    named = zip(fitted.layers, fitted.weights.tolist(), strict=True)
    return {layer: weight for layer, weight in named if weight > 0}
