"""Measures: how layers are scored against the regions of studies.

A measure is a row of `MEASURES`. It prepares each region once, as a `RegionScorer`, which then scores the layers of any
number of checkpoints.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from fastrdm._base import choose, list_names, warn_caller
from fastrdm.scoring.region_preparation import alignment_scorer, rdm_scorer, regression_scorer
from fastrdm.scoring.region_scorers import RegionScorer
from fastrdm.scoring.results import RSA
from fastrdm.similarity import Protocol
from fastrdm.studies import Study


@dataclass(frozen=True)
class MeasureRow:
    """A measure: what it is called in headings, what data it needs, and how it prepares a region.

    `prepare` returns None for a region without the data. `protocol` is None if it is that of the region's target.
    `symbol` is what a subject's similarity is called; `below_zero` is what a negative one means, empty if none is.
    """

    title: str
    needs: str
    prepare: Callable[[Study, str, str | None], RegionScorer | None]
    protocol: Protocol | None = None
    symbol: str = "ρ"
    below_zero: str = "opposite to the brain"


def _alignment(name: str, title: str, source: str, below_zero: str = "") -> MeasureRow:
    protocol = Protocol(name, name, squared=False, pool="raw", bound="upper", source=source)
    prepare = partial(alignment_scorer, protocol)
    needs = "responses of units or RDMs"
    return MeasureRow(title, needs, prepare, protocol, "CKA", below_zero)


def _regression(name: str, title: str, source: str) -> MeasureRow:
    protocol = Protocol(name, name, squared=False, pool="raw", bound="upper", source=source)
    prepare = partial(regression_scorer, protocol)
    title = f"{title}, median over units of r of held-out predictions"
    needs = "responses of units"
    return MeasureRow(title, needs, prepare, protocol, "r", "no better than the mean response")


MEASURES: Mapping[str, MeasureRow] = {
    RSA: MeasureRow("similarity of RDMs", "RDMs of subjects", rdm_scorer),
    "cka": _alignment(
        "cka", "linear CKA, not debiased", "Kornblith et al. 2019, ICML; not debiased"
    ),
    "cka-debiased": _alignment(
        "cka-debiased",
        "debiased linear CKA",
        "Song et al. 2012, J. Mach. Learn. Res. 13, equation 5",
        "less similar than chance",
    ),
    "ridge": _regression(
        "ridge", "ridge regression", "Rifkin & Lippert 2007, MIT-CSAIL-TR-2007-025"
    ),
    "pls": _regression("pls", "PLS regression", "Rosipal & Trejo 2001, J. Mach. Learn. Res. 2"),
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
    studies: Sequence[Study],
    measures: str | Iterable[str] | None = None,
    over_time: str | None = None,
) -> tuple[RegionScorer, ...]:
    """Prepare the regions of studies for measures: by study, measure and region.

    By default, each region's own measures, if it has the data. With `over_time` "each", the time points of regions with
    several have scores of their own, with "mean" those of none; by default as the targets say. ValueError if measures
    are named and a region lacks the data of one, and if a study has no region that can be scored.
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
                scorer = MEASURES[name].prepare(study, region, over_time)
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
    if over_time == "each" and all(scorer.axis is None for scorer in found):
        warn_caller("no region has several time points, so over_time='each' changes nothing")
    return tuple(found)
