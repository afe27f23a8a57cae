"""The scores of one network's layers, subject by subject."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from fastrdm.scoring import COLUMNS, Result, best_layers, layer_scores, sign_remarks
from fastrdm.similarity import Score
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

    def marked(self, layer: str) -> str:
        """A layer's name, with ‡ if its mean similarity to a region is below 0 in a study."""
        results = [r for r in self._chosen_by if r.layer == layer]
        return f"{layer} ‡" if any(r.mean_rho < 0 for r in results) else layer

    @property
    def mean(self) -> float:
        """Score of the best layer over the studies by which it was chosen."""
        by_layer = next(iter(layer_scores(self._chosen_by).values()), {})
        return by_layer.get(self.best, math.nan)

    def score(self, study: str, layer: str) -> MeanScore:
        """The challenge's score of a layer and its deviation over subjects.

        A subject's value is the mean over the regions. The deviations are NaN if the regions differ in their number of
        subjects.
        """
        results = [r for r in self.results if (r.study, r.layer) == (study, layer)]
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


def results_of(
    name: str, study: Study, region: str, layers: Iterable[str], score: Score
) -> list[SubjectResult]:
    """Turn the score of a network's layers against a region into a result for each layer."""
    is_squared = study.targets[region].protocol.squared
    results = []
    for i, layer in enumerate(layers):
        rho = tuple(score.rho[i].tolist())
        keys = (*COLUMNS, "ceiling", "mean_rho")
        numbers: Any = {key: float(getattr(score, key)[i]) for key in keys}
        values = tuple(r**2 for r in rho) if is_squared else rho
        similarities: Any = {"rho": rho, "subjects": values}
        results.append(SubjectResult(name, study.name, layer, region, **similarities, **numbers))
    return results


def mean_of_best(name: str, scores: Sequence[NetworkScores]) -> NetworkScores:
    """Return the mean of the best layers of several networks, such as seeds, subject by subject.

    It has one layer, whose name counts the best layers: ``block1@32 ×2, block1@48``. A subject's similarity is the
    root mean square with the sign of the mean if the protocol squares. p values are NaN.
    """
    counts = Counter(each.best for each in scores).most_common()
    label = ", ".join(layer if n == 1 else f"{layer} ×{n}" for layer, n in counts)
    if len(scores) == 1 or len(counts) == 1:
        label = counts[0][0]
    best = [[r for r in each.results if r.layer == each.best] for each in scores]
    groups = zip(*best, strict=True)
    return NetworkScores(name, tuple(_mean(name, label, group) for group in groups))


def _mean(name: str, layer: str, results: Sequence[SubjectResult]) -> SubjectResult:
    """Return the mean over results for the same study and region."""
    first = results[0]
    values = np.mean([r.subjects for r in results], axis=0)
    rho = np.mean([r.rho for r in results], axis=0)
    if first.value == first.r2:
        rho = np.copysign(np.sqrt(values), rho)
    means: Any = {
        key: float(np.mean([getattr(r, key) for r in results]))
        for key in ("r2", "value", "percent_nc", "mean_rho", "ceiling")
    }
    sample = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    subjects: Any = {"rho": tuple(rho.tolist()), "subjects": tuple(values.tolist())}
    spread: Any = {"std": float(np.std(values)), "sample_std": sample, "p": math.nan}
    return SubjectResult(name, first.study, layer, first.region, **means, **spread, **subjects)
