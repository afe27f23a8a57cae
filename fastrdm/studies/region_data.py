"""What scoring needs of a region, made of its RDMs or its responses."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import square
from fastrdm.encoding import Responses
from fastrdm.rdm import Gram, gram
from fastrdm.responses import MeasuredResponses
from fastrdm.similarity import Target
from fastrdm.studies.response_facts import ResponseFacts


@dataclass(frozen=True, eq=False)
class RegionData:
    """What a region is scored by, and what scoring needs for that; see `Study` for the fields."""

    measures: tuple[str, ...]
    source: str = ""
    subjects: tuple[str, ...] | None = None
    target: Target | None = None
    responses: Responses | None = None
    grams: tuple[Gram | NDArray[np.float64], ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    facts: ResponseFacts | None = None
    convention: str | None = None


def fields_of(regions: Mapping[str, RegionData]) -> dict[str, dict[str, Any]]:
    """Return the fields of a `Study` that have an entry for each region, without those that are empty."""
    names = {
        "targets": "target",
        "sources": "source",
        "subjects": "subjects",
        "responses": "responses",
        "grams": "grams",
        "options": "options",
        "facts": "facts",
        "conventions": "convention",
    }
    fields: dict[str, dict[str, Any]] = {
        field: {
            region: value
            for region, data in regions.items()
            if (value := getattr(data, name)) is not None and value != () and value != {}
        }
        for field, name in names.items()
    }
    return {"measures": {region: data.measures for region, data in regions.items()}, **fields}


def grams_of_responses(
    responses: MeasuredResponses, where: str, *, required: bool
) -> tuple[Gram, ...]:
    """Return the Gram matrix of each subject's responses, averaged over repeats; a time of a unit is a channel.

    If a unit lacks all repeats of a stimulus, there are none; ValueError if they are required.
    """
    found = []
    for i, means in enumerate(responses.means()):
        if np.isnan(means).any():
            if not required:
                return ()
            condition, unit = (int(k) for k in np.argwhere(np.isnan(means))[0])
            raise ValueError(
                f"{where}: the measure 'cka' needs all units for all stimuli, but {responses.label(i)} has no response"
                f" of unit {unit} to stimulus {condition}; leave out such units with masks, or the measure"
            )
        found.append(gram(means))
    return tuple(found)


def grams_of_distances(target: Target, where: str) -> tuple[NDArray[np.float64], ...]:
    """Return centred products of each subject's patterns from RDMs of distances that are not squared."""
    if target.n_times > 1:
        raise ValueError(
            f"{where}: the measure 'cka' takes RDMs of several times only if they are squared distances; these have"
            f" {target.n_times} times and are not squared, as rdm says"
        )
    return tuple(_products(rdm.astype(np.float64) ** 2) for rdm in target.subject_rdms[:, 0])


def _products(rdm: NDArray[np.float64]) -> NDArray[np.float64]:
    distances = square(rdm)
    means = distances.mean(axis=0)
    return np.asarray((distances - means - means[:, None] + means.mean()) / -2)
