"""Scores of layers that were chosen or weighted on other studies, as lines below the table of `fastrdm score`."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

from fastrdm._base import list_names
from fastrdm.cli.columns import aligned
from fastrdm.scoring import CheckpointScores, HeldOutScore

# In place of NaN.
_NONE = "–"
# Weights shown of a fit.
_MOST_WEIGHTS = 6


def held_out_records(scored: CheckpointScores) -> Iterator[dict[str, Any]]:
    """Yield an object for JSON for each held-out score."""
    for each in scored.held_out:
        facts = dataclasses.asdict(each)
        for name in ("percent_nc", "same_data"):
            facts[name] = None if math.isnan(facts[name]) else facts[name]
        yield {"event": "held_out", "checkpoint": scored.checkpoint, **facts}


def held_out_lines(scores: Sequence[HeldOutScore]) -> Iterator[str]:
    """Yield the lines: a table for each measure, then the weights; none without scores."""
    if not scores:
        return
    yield "layers chosen on other studies than they are judged on, % of noise ceiling:"
    measures = list(dict.fromkeys(each.measure for each in scores))
    for measure in measures:
        some = [each for each in scores if each.measure == measure]
        rows = _rows(some, measure if len(measures) > 1 else "")
        for line in aligned(lambda rows=rows: rows):  # type: ignore[misc]
            yield f"  {line}"
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
    header = [
        region.upper()
        if region
        else f"score ({modality or 'other studies'})"
        if several
        else "score"
        for region, modality in places
    ]
    rows = [[measure, *header]]
    for judged in dict.fromkeys(each.judged_on for each in scores):
        for kind in dict.fromkeys(each.kind for each in scores):
            some = [e for e in scores if (e.judged_on, e.kind) == (judged, kind)]
            of_place = {(each.region, each.modality): each for each in some}
            others = dict.fromkeys(_studies(each.fitted_on) for each in some)
            found = [of_place.get(place) for place in places]
            held_out = [(e and _cell(e.percent_nc, e.layer, kind)) or "" for e in found]
            biased = [(e and _cell(e.same_data, e.same_data_layer, kind)) or "" for e in found]
            rows.append([f"{kind} on {' or '.join(others)}, judged on {judged}", *held_out])
            rows.append([f"{kind} on {judged} itself, biased upwards", *biased])
    return rows


def _studies(names: Sequence[str]) -> str:
    return " and ".join(names)


def _cell(percent: float, layer: str, kind: str) -> str:
    if math.isnan(percent):
        return _NONE
    return f"{percent:.2f} {layer}" if kind == "chosen" else f"{percent:.2f}"
