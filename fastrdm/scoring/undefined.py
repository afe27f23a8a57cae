"""Why layers have no score, in one sentence for each reason."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import list_names
from fastrdm.rdm import UndefinedPairsWarning
from fastrdm.scoring.region_scorers import LayerSet, RegionScorer
from fastrdm.similarity import Score
from fastrdm.studies import Study


class UndefinedScores:
    """Layers whose scores are NaN, with the reason."""

    def __init__(self) -> None:
        # Study and reason → layers.
        self._layers: dict[tuple[str, str], list[str]] = {}

    def add(
        self,
        study: Study,
        layers: LayerSet,
        scores: Mapping[RegionScorer, Score],
        constant: Mapping[str, Sequence[int]],
    ) -> None:
        """Add the layers without a score in a study.

        `constant` has the indices of the images for which a layer is constant.
        """
        for i, layer in enumerate(layers.names):
            lacking = [scorer for scorer, s in scores.items() if np.isnan(s.rho[i]).any()]
            if any(not scorer.uses_grams for scorer in lacking):
                self._add_rdm(study, layer, layers.rdms[i], constant.get(layer, ()))
            if measures := dict.fromkeys(s.measure for s in lacking if s.uses_grams):
                is_constant = np.isnan(layers.grams[i].dimensionality())
                reason = "activations are equal for all images"
                if not is_constant:
                    reason = f"values are undefined for {list_names(measures)}"
                self._note(study, reason, layer)

    def _add_rdm(
        self, study: Study, layer: str, rdm: NDArray[np.float64], images: Sequence[int]
    ) -> None:
        if len(images):
            names = _names(study.stimuli, images)
            self._note(
                study, f"activations are constant (equal in all channels) for {names}", layer
            )
        elif np.ptp(rdm) == 0:
            self._note(study, "RDM is constant (all pairs of images are equally dissimilar)", layer)

    def _note(self, study: Study, reason: str, layer: str) -> None:
        self._layers.setdefault((study.name, reason), []).append(layer)

    def sentences(self) -> Iterator[str]:
        """Yield a sentence for each reason, with the layers and the studies that it holds for."""
        studies: dict[tuple[str, tuple[str, ...]], list[str]] = {}
        for (study, reason), layers in self._layers.items():
            studies.setdefault((reason, tuple(layers)), []).append(study)
        for (reason, members), names in studies.items():
            which = list_names(map(repr, members), 5)
            subject = f"layer {which} has" if len(members) == 1 else f"layers {which} have"
            whose = "its" if len(members) == 1 else "their"
            yield f"{subject} no score on {', '.join(names)}: {whose} {reason}"


def undefined_images(
    caught: Sequence[Warning],
) -> tuple[dict[str, Sequence[int]], list[Warning]]:
    """Separate the warnings of a network's RDMs: the images for which a layer is constant, and other warnings."""
    constant: dict[str, Sequence[int]] = {}
    others = []
    for warning in caught:
        if isinstance(warning, UndefinedPairsWarning):
            constant[warning.layer] = warning.conditions
        else:
            others.append(warning)
    return constant, others


def _names(stimuli: Sequence[Path], chosen: Sequence[int]) -> str:
    """Names of images relative to the folder of all."""
    if len(chosen) == len(stimuli):
        return f"all {len(stimuli)} images"
    folder = os.path.commonpath([path.parent for path in stimuli])
    return list_names((stimuli[i].relative_to(folder).as_posix() for i in chosen), 3)
