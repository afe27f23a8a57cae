"""The scores of one network's layers, subject by subject."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from fastrdm.scoring import COLUMNS, Result, best_layers, layer_scores, sign_remarks
from fastrdm.studies import Study

TEST_STUDY = "78"
"""Reported, but layers are never chosen by it."""


@dataclass(frozen=True, kw_only=True)
class SubjectResult(Result):
    """A layer's score against a region, with the value of each subject; their mean is `value`."""

    subjects: tuple[float, ...] = ()


class MeanScore(NamedTuple):
    """A layer's score over the regions of a study: percent of the mean ceiling, deviations over subjects."""

    percent: float
    std: float
    sample_std: float


@dataclass(frozen=True)
class NetworkScores:
    """All results of one network or checkpoint, by study, layer and region, or an error in one sentence.

    `weights` is the weights' file; `best` is the best layer.
    """

    name: str
    results: tuple[SubjectResult, ...] = ()
    weights: str = ""
    sha256: str = ""
    error: str = ""
    best: str = field(init=False, default="")

    def __post_init__(self) -> None:
        # The challenge's two regions are one modality; other studies have other modalities.
        best = next(iter(best_layers(self._chosen_by).values()), "")
        object.__setattr__(self, "best", best)

    @property
    def _chosen_by(self) -> Sequence[SubjectResult]:
        """The results by which layers are chosen."""
        return [r for r in self.results if r.study != TEST_STUDY] or self.results

    @property
    def studies(self) -> list[str]:
        """The studies' names."""
        return list(dict.fromkeys(r.study for r in self.results))

    @property
    def remarks(self) -> list[str]:
        """`sign_remarks` about the best layer."""
        return sign_remarks(self._chosen_by)

    def marked(self, layer: str, region: str = "") -> str:
        """A layer's name, with ‡ if its mean similarity to a region, by default any, is below 0 in a study."""
        results = [r for r in self._chosen_by if r.layer == layer and region in ("", r.region)]
        return f"{layer} ‡" if any(r.mean_rho < 0 for r in results) else layer

    @property
    def mean(self) -> float:
        """Score of the best layer over the studies by which it was chosen."""
        by_layer = next(iter(layer_scores(self._chosen_by).values()), {})
        return by_layer.get(self.best, math.nan)

    def mean_of(self, layer: str | Mapping[str, str]) -> float:
        """Score of a layer, or of a layer for each region, over the studies by which layers are chosen."""
        studies = dict.fromkeys(r.study for r in self._chosen_by)
        return float(np.mean([self.score(each, layer).percent for each in studies]))

    @property
    def by_region(self) -> dict[str, str]:
        """Region → the layer with the best mean percentage over the studies by which layers are chosen."""
        chosen = self._chosen_by
        best = {}
        for region in dict.fromkeys(r.region for r in chosen):
            means = {
                layer: np.mean(
                    [r.percent_nc for r in chosen if (r.region, r.layer) == (region, layer)]
                )
                for layer in dict.fromkeys(r.layer for r in chosen)
            }
            known = {layer: mean for layer, mean in means.items() if not np.isnan(mean)}
            best[region] = max(known, key=known.__getitem__, default="")
        return best

    def score(self, study: str, layer: str | Mapping[str, str]) -> MeanScore:
        """The challenge's score of a layer, or of a layer for each region, and its deviation over subjects.

        A subject's value is the mean over the regions. The deviations are NaN if the regions differ in their number of
        subjects.
        """
        regions = {r.region for r in self.results}
        layers = dict.fromkeys(regions, layer) if isinstance(layer, str) else layer
        results = [r for r in self.results if (r.study, r.layer) == (study, layers[r.region])]
        ceiling = np.mean([r.ceiling for r in results])
        percent = float(100 * np.mean([r.value for r in results]) / ceiling)
        if len({len(r.subjects) for r in results}) != 1:
            return MeanScore(percent, math.nan, math.nan)
        values = 100 * np.mean([r.subjects for r in results], axis=0) / ceiling
        sample = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
        return MeanScore(percent, float(np.std(values)), sample)


def subject_results(
    name: str,
    rows: Iterable[Mapping[str, Any]],
    studies: Sequence[Study],
    suffixes: Mapping[str, str],
) -> tuple[SubjectResult, ...]:
    """Turn a store's rows, one for each subject, into results by study, layer and region.

    `suffixes` has the suffix of the layers' names for each name of a graph, in order.
    """
    order = {graph: i for i, graph in enumerate(suffixes)}
    by_study = {study.name: (i, study) for i, study in enumerate(studies)}
    groups: dict[tuple[str, str, str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        key = (row["study"], row["arch"], row["layer"], row["region"])
        groups.setdefault(key, []).append(row)
    results = []
    # Layers stay in the order of the rows, which is that of the network.
    layers = list(dict.fromkeys(key[1:3] for key in groups))
    for key in sorted(groups, key=lambda k: (by_study[k[0]][0], order[k[1]], layers.index(k[1:3]))):
        (study, graph, layer, region), subjects = key, groups[key]
        is_squared = by_study[study][1].targets[region].protocol.squared
        values = tuple(row["rho"] ** 2 if is_squared else row["rho"] for row in subjects)
        numbers = {column: subjects[0][column] for column in (*COLUMNS, "ceiling", "mean_rho")}
        similarities: Any = {"rho": tuple(row["rho"] for row in subjects), "subjects": values}
        label = layer + suffixes[graph]
        results.append(SubjectResult(name, study, label, region, **similarities, **numbers))
    return tuple(results)
