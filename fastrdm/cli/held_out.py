"""Scores of layers that were chosen or weighted on other studies, as lines below the table of `fastrdm score`."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

from fastrdm._base import list_names
from fastrdm.cli.columns import aligned
from fastrdm.cli.json_output import without_nan
from fastrdm.scoring import CHOSEN, CheckpointScores, HeldOutScore

# Marks a negative mean similarity.
_OPPOSITE = "‡"
# In place of NaN.
_NONE = "–"
# Weights shown of a fit.
_MOST_WEIGHTS = 6


def held_out_records(scored: CheckpointScores) -> Iterator[dict[str, Any]]:
    """Yield an object for JSON for each held-out score."""
    for each in scored.held_out:
        facts = dataclasses.asdict(each)
        for name in ("percent_nc", "same_data"):
            facts[name] = without_nan(facts[name])
        yield {"checkpoint": scored.checkpoint, **facts}


def held_out_lines(scores: Sequence[HeldOutScore]) -> Iterator[str]:
    """Yield the lines: a table for each measure, then the weights; none without scores."""
    if not scores:
        return
    yield "layers chosen on other studies than they are judged on, % of noise ceiling:"
    measures = list(dict.fromkeys(each.measure for each in scores))
    for measure in measures:
        some = [each for each in scores if each.measure == measure]
        rows = _rows(some, measure if len(measures) > 1 else "")
        yield from (f"  {line}" for line in aligned(rows.copy))
    for each in scores:
        if each.weights:
            weights = sorted(each.weights.items(), key=lambda item: -item[1])
            texts = [f"{layer} {weight:.2f}" for layer, weight in weights]
            yield (
                f"  weights of {each.region.upper()} on {_studies(each.fitted_on)}:"
                f" {list_names(texts, _MOST_WEIGHTS)}"
            )


def _rows(scores: Sequence[HeldOutScore], measure: str) -> list[list[str]]:
    """A header, and two rows for each study and kind: held out, and on the same data."""
    places = list(dict.fromkeys((each.region, each.modality) for each in scores))
    several = sum(not region for region, _ in places) > 1
    rows = [[measure, *(_header(*place, several) for place in places)]]
    for judged in dict.fromkeys(each.judged_on for each in scores):
        for kind in dict.fromkeys(each.kind for each in scores):
            some = [e for e in scores if (e.judged_on, e.kind) == (judged, kind)]
            if not some:
                continue
            others = dict.fromkeys(_studies(each.fitted_on) for each in some)
            of_place = {(each.region, each.modality): each for each in some}
            found = [of_place.get(place) for place in places]
            held_out = [_held_out_cell(each) for each in found]
            rows.append([f"{kind} on {' or '.join(others)}, judged on {judged}", *held_out])
            rows.append([f"{kind} on {judged} itself, biased upwards", *map(_biased_cell, found)])
    return rows


def _header(region: str, modality: str, several: bool) -> str:
    if region:
        return region.upper()
    return f"score ({modality or 'other studies'})" if several else "score"


def _studies(names: Sequence[str]) -> str:
    return " and ".join(names)


def _held_out_cell(score: HeldOutScore | None) -> str:
    if score is None:
        return ""
    sign = f" {_OPPOSITE}" if score.is_opposite else ""
    return f"{_cell(score.kind, score.percent_nc, score.layer)}{sign}"


def _biased_cell(score: HeldOutScore | None) -> str:
    return _cell(score.kind, score.same_data, score.same_data_layer) if score else ""


def _cell(kind: str, percent: float, layer: str) -> str:
    if math.isnan(percent):
        return _NONE
    # The weights of layers are listed below.
    return f"{percent:.2f} {layer}" if kind == CHOSEN else f"{percent:.2f}"
