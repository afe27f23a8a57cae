"""Layers chosen or weighted on some studies and judged on another, beside the choice on the same data.

The best layer of a network has the highest mean over all studies. Its score is biased upwards, because the layer was
chosen by the data that it is scored on. Here, what the other studies chose is scored on a study.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from fastrdm.scoring.results import Result, modalities_of

CHOSEN, WEIGHTED = "chosen", "weighted"


@dataclass(frozen=True)
class HeldOutScore:
    """The score on one study of a layer that was chosen, or of layers that were weighted, on other studies.

    Attributes
    ----------
    kind : str
        ``"chosen"``, the best layer, or ``"weighted"``, a non-negative sum of all layers (`WeightedRdm`).
    measure : str
        As in `Result`; weighted layers have "rsa".
    region : str
        Name of the region; empty for the score over the regions of a modality.
    modality : str
        Of a score over regions, the challenge's modality; otherwise empty.
    fitted_on : tuple of str
        Names of the studies on which it was chosen or weighted: all others that have the region.
    judged_on : str
        Name of the study.
    layer : str
        The layer that was chosen or has the largest weight; empty if no layer has a score, and for weighted layers over
        regions.
    percent_nc : float
        Percent of the noise ceiling of the judged study; NaN if no layer has a score.
    same_data_layer, same_data : str, float
        The same, chosen or weighted on the judged study itself: biased upwards.
    is_opposite : bool
        Whether the mean similarity to the brain is negative in the judged study, in the region or in one of several.
    weights : dict of str to float
        Weights above 0 by layer; empty for a chosen layer.
    """

    kind: str
    measure: str
    region: str
    modality: str
    fitted_on: tuple[str, ...]
    judged_on: str
    layer: str
    percent_nc: float
    same_data_layer: str
    same_data: float
    is_opposite: bool = False
    weights: Mapping[str, float] = field(default_factory=dict)


def held_out_layers(results: Iterable[Result]) -> tuple[HeldOutScore, ...]:
    """Scores of the layers that other studies choose, for each region that several studies have, and for their score.

    The layer has the highest mean percentage of the noise ceiling over the other studies.
    """
    by_measure: dict[str, list[Result]] = {}
    for r in results:
        by_measure.setdefault(r.measure, []).append(r)
    return tuple(
        score
        for found in by_measure.values()
        for place, group in _groups({(r.study, r.region): r for r in found}, found)
        for score in _chosen(place, group)
    )


def _groups(
    places: Iterable[tuple[str, str]], results: Sequence[Result]
) -> list[tuple[tuple[str, str], list[Result]]]:
    """The results by place: region and modality, one of which is empty. Scores over regions come last."""
    places = list(places)
    regions: dict[str, list[Result]] = {}
    for r in results:
        regions.setdefault(r.region, []).append(r)
    groups = [((region, ""), group) for region, group in regions.items()]
    for modality, wanted in shared_modalities(places).items():
        of_modality = set(wanted)
        groups.append((("", modality), [r for r in results if (r.study, r.region) in of_modality]))
    return groups


def shared_modalities(
    places: Iterable[tuple[str, str]],
) -> dict[str, list[tuple[str, str]]]:
    """The places of each modality that has several regions, the same ones in all of its studies."""
    found: dict[str, dict[str, dict[str, None]]] = {}
    for (study, region), modality in modalities_of(places).items():
        found.setdefault(modality, {}).setdefault(study, {})[region] = None
    return {
        modality: [(study, region) for study, regions in studies.items() for region in regions]
        for modality, studies in found.items()
        if len(regions := next(iter(studies.values()))) > 1
        and all(each.keys() == regions.keys() for each in studies.values())
    }


def splits_of(studies: Iterable[str]) -> list[tuple[str, tuple[str, ...]]]:
    """Each study with all others; none if there is one study."""
    names = tuple(dict.fromkeys(studies))
    if len(names) < 2:
        return []
    return [(judged, tuple(n for n in names if n != judged)) for judged in names]


def _chosen(place: tuple[str, str], group: Sequence[Result]) -> Iterator[HeldOutScore]:
    """Yield the score on each study of the layer that the others choose."""
    percents = _percents(group)
    opposite = {(r.study, r.layer) for r in group if r.mean_rho < 0}
    for judged, others in splits_of(percents):
        here = percents[judged]
        layers = dict.fromkeys(layer for study in others for layer in percents[study])
        layer = _best({layer: _mean([percents[s].get(layer) for s in others]) for layer in layers})
        same = _best(here)
        yield HeldOutScore(
            *(CHOSEN, group[0].measure, *place, others, judged),
            *(layer, here.get(layer, math.nan), same, here.get(same, math.nan)),
            (judged, layer) in opposite,
        )


def _percents(results: Sequence[Result]) -> dict[str, dict[str, float]]:
    """Percentage of the noise ceiling by study and layer, of all regions together."""
    studies: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for r in results:
        studies.setdefault(r.study, {}).setdefault(r.layer, []).append((r.value, r.ceiling))
    return {
        study: {layer: percent_of_ceiling(found) for layer, found in layers.items()}
        for study, layers in studies.items()
    }


def percent_of_ceiling(scores: Sequence[tuple[float, float]]) -> float:
    """100 × mean value / mean noise ceiling, of pairs of both."""
    # NumPy takes longer for so few numbers, and tables have many checkpoints.
    ceilings = sum(ceiling for _, ceiling in scores)
    return 100 * sum(value for value, _ in scores) / ceilings if ceilings else math.nan


def _mean(percents: Sequence[float | None]) -> float:
    """The mean over the studies that have the layer."""
    known = [percent for percent in percents if percent is not None]
    return sum(known) / len(known)


def _best(percents: Mapping[str, float]) -> str:
    known = {layer: percent for layer, percent in percents.items() if not math.isnan(percent)}
    return max(known, key=known.__getitem__) if known else ""
