"""The scores of one network's layers, subject by subject."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrdm.scoring import Result, best_layers, layer_scores, sign_remarks
from fastrdm.similarity import Target
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
    """All results of one network or checkpoint, or an error.

    Attributes
    ----------
    name : str
    results : tuple of SubjectResult
        By study, layer and region.
    weights, sha256 : str
        The weights' file, and its SHA-256.
    submissions : tuple of str
        Files written for the test images.
    error : str
        One sentence, or empty.
    best : str
        The best layer.
    """

    name: str
    results: tuple[SubjectResult, ...] = ()
    weights: str = ""
    sha256: str = ""
    submissions: tuple[str, ...] = ()
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

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; NaN stays NaN, which Python's reader accepts."""
        return {key: value for key, value in asdict(self).items() if key != "best"}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "NetworkScores":
        """Inverse of `to_dict`; other content raises KeyError or TypeError."""
        results = tuple(
            SubjectResult(**{**each, "subjects": tuple(each["subjects"])})
            for each in content["results"]
        )
        submissions = tuple(content["submissions"])
        return cls(**{**content, "results": results, "submissions": submissions})


def score_rdms(
    name: str, study: Study, rdms: Mapping[str, NDArray[np.float64]]
) -> list[SubjectResult]:
    """Score the RDM of each layer against each region of a study.

    An RDM that is not finite, because of constant conditions, has NaN scores. `name` is that of the results.
    """
    return [
        _result(name, study.name, layer, region, target, rdm)
        for layer, rdm in rdms.items()
        for region, target in study.targets.items()
    ]


def _result(
    name: str, study: str, layer: str, region: str, target: Target, rdm: ArrayLike
) -> SubjectResult:
    quantities = ("r2", "std", "sample_std", "percent_nc", "p", "value", "mean_rho")
    subjects: Sequence[float] = (math.nan,) * target.n_subjects
    numbers = dict.fromkeys(quantities, math.nan)
    if np.isfinite(rdm).all():
        score = target.score(rdm)
        numbers = {quantity: float(getattr(score, quantity)[0]) for quantity in quantities}
        subjects = (score.rho[0] ** 2 if target.protocol.squared else score.rho[0]).tolist()
    return SubjectResult(
        name, study, layer, region, ceiling=target.ceiling, subjects=tuple(subjects), **numbers
    )
