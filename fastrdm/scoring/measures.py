"""Measures: how layers are scored against the regions of studies.

A measure is a row of `MEASURES`. It prepares each region once, as a `RegionScorer`, which then scores the layers of any
number of checkpoints.
"""

import abc
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import choose, list_names
from fastrdm.scoring.results import RSA
from fastrdm.scoring.scorer import score_layers
from fastrdm.similarity import Protocol, Score, Target

if TYPE_CHECKING:
    from fastrdm.rdm import Gram
    from fastrdm.studies import Study


@dataclass(frozen=True)
class LayerSet:
    """The layers of a checkpoint for the stimuli of a study.

    `rdms` are condensed, (layers, pairs); they and the Gram matrices are empty where no measure needs them.
    """

    names: tuple[str, ...]
    rdms: NDArray[np.float64]
    grams: "tuple[Gram, ...]" = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class RegionScorer(abc.ABC):
    """A region of a study, prepared for one measure.

    `protocol` and `ceiling` are how similarities become scores, `data` is the SHA-256 of the subjects' data, and
    `facts` is what else the scores depend on.
    """

    study: str
    region: str
    measure: str
    protocol: Protocol
    ceiling: float
    n_subjects: int
    data: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str, str]:
        """Study, region and measure."""
        return self.study, self.region, self.measure

    @abc.abstractmethod
    def score(self, layers: LayerSet) -> Score:
        """Score layers; NaN where a layer has no similarity, without a warning."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RdmScorer(RegionScorer):
    """A region whose subjects' RDMs are compared with those of layers."""

    target: Target

    def score(self, layers: LayerSet) -> Score:
        """Score layers; those with NaN in their RDMs, and constant ones, have NaN as scores."""
        return score_layers(self.target, layers.rdms)


def _rsa(study: "Study", region: str) -> RegionScorer | None:
    target = study.targets.get(region)
    if target is None:
        return None
    return RdmScorer(
        study=study.name,
        region=region,
        measure=RSA,
        protocol=target.protocol,
        ceiling=target.ceiling,
        n_subjects=target.n_subjects,
        data=target.sha256,
        facts={"nan_policy": target.nan_policy},
        target=target,
    )


@dataclass(frozen=True)
class MeasureRow:
    """A measure: what it is called, what it needs, and how it prepares a region.

    `prepare` returns None for a region without the data, which `needs` names. `protocol` is None if it is the target's.
    """

    title: str
    needs: str
    prepare: "Callable[[Study, str], RegionScorer | None]"
    uses_grams: bool = True
    protocol: Protocol | None = None


MEASURES: Mapping[str, MeasureRow] = {
    RSA: MeasureRow("similarity of RDMs", "RDMs of subjects", _rsa, uses_grams=False),
}


def check_measures(measures: str | Iterable[str]) -> tuple[str, ...]:
    """The measures without repetitions; ValueError if there are none, or for an unknown one."""
    if isinstance(measures, str):
        measures = [measures]
    names = tuple(dict.fromkeys(measures))
    if not names:
        raise ValueError(f"measures is empty; choose among {list_names(MEASURES, 8)}")
    for name in names:
        choose(name, MEASURES, "measure")
    return names


def scorers_of(
    studies: "Sequence[Study]", measures: str | Iterable[str] | None = None
) -> tuple[RegionScorer, ...]:
    """Prepare the regions of studies for measures: by study, measure and region.

    By default, each region's own measures, if it has the data. ValueError if measures are named and a region lacks the
    data of one, and if a study has no region that can be scored.
    """
    asked = None if measures is None else check_measures(measures)
    found: list[RegionScorer] = []
    for study in studies:
        of_study = []
        for name in asked or MEASURES:
            for region, own in study.measures.items():
                has_data = region in study.targets or region in study.responses
                if not (has_data and (asked or name in own)):
                    continue
                scorer = MEASURES[name].prepare(study, region)
                if scorer is not None:
                    of_study.append(scorer)
                elif asked:
                    raise ValueError(
                        f"the measure {name!r} needs {MEASURES[name].needs}, and the region {region!r} of the study"
                        f" {study.name!r} has none; choose other measures or regions"
                    )
        if not of_study:
            raise ValueError(f"the study {study.name!r} has no region with data of its measures")
        found += of_study
    return tuple(found)
