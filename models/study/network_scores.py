"""What the layers of one network score, subject by subject."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrdm.scoring import Result, best_layers, layer_scores, sign_remarks
from fastrdm.similarity import Target
from fastrdm.studies import Study

# Reported by its published targets, and never chosen by.
TEST_SET = "78"


@dataclass(frozen=True, kw_only=True)
class SubjectResult(Result):
    """A layer's score against a region, with each subject's value: what `value` is the mean of."""

    subjects: tuple[float, ...] = ()


class MeanScore(NamedTuple):
    """A layer's score over the regions of one set: percent of the mean ceiling, deviations over subjects."""

    percent: float
    std: float
    sample_std: float


@dataclass(frozen=True)
class NetworkScores:
    """All results of one network or checkpoint, or why there are none.

    Attributes
    ----------
    name : str
        Of the network, or the checkpoint.
    results : tuple of SubjectResult
        By study, layer and region.
    weights, sha256 : str
        The weights' file, and its SHA-256.
    submissions : tuple of str
        Files written for the test images.
    error : str
        One sentence; empty where all went well.
    """

    name: str
    results: tuple[SubjectResult, ...] = ()
    weights: str = ""
    sha256: str = ""
    submissions: tuple[str, ...] = ()
    error: str = ""
    best: str = field(init=False, default="")

    def __post_init__(self) -> None:
        # The challenge's two regions are one modality; a study of one's own has its own.
        best = next(iter(best_layers(self._chosen_by).values()), "")
        object.__setattr__(self, "best", best)

    @property
    def _chosen_by(self) -> Sequence[SubjectResult]:
        """The results that layers are chosen by."""
        return [r for r in self.results if r.set != TEST_SET] or self.results

    @property
    def sets(self) -> list[str]:
        """The studies' names."""
        return list(dict.fromkeys(r.set for r in self.results))

    @property
    def remarks(self) -> list[str]:
        """What `sign_remarks` says of the best layer."""
        return sign_remarks(self._chosen_by)

    def marked(self, layer: str, region: str = "") -> str:
        """A layer's name, with ‡ where its mean similarity to a region, or to any, is below 0 in some set."""
        own = [r for r in self._chosen_by if r.layer == layer and region in ("", r.region)]
        return f"{layer} ‡" if any(r.mean_rho < 0 for r in own) else layer

    @property
    def mean(self) -> float:
        """Score of the best layer over the sets that it was chosen by."""
        by_layer = next(iter(layer_scores(self._chosen_by).values()), {})
        return by_layer.get(self.best, math.nan)

    def mean_of(self, layer: str | Mapping[str, str]) -> float:
        """Score of a layer, or of one for each region, over the sets that layers are chosen by."""
        sets = dict.fromkeys(r.set for r in self._chosen_by)
        return float(np.mean([self.score(each, layer).percent for each in sets]))

    @property
    def by_region(self) -> dict[str, str]:
        """Region → the layer with the best mean percentage over the sets that layers are chosen by."""
        chosen = self._chosen_by
        found = {}
        for region in dict.fromkeys(r.region for r in chosen):
            means = {
                layer: np.mean(
                    [r.percent_nc for r in chosen if (r.region, r.layer) == (region, layer)]
                )
                for layer in dict.fromkeys(r.layer for r in chosen)
            }
            known = {layer: mean for layer, mean in means.items() if not np.isnan(mean)}
            found[region] = max(known, key=known.__getitem__, default="")
        return found

    def score(self, study: str, layer: str | Mapping[str, str]) -> MeanScore:
        """Score of a layer, or of one for each region, as the challenge has it, and how subjects vary.

        A subject's value is the mean over the regions; the deviations are NaN where these have not
        as many subjects.
        """
        regions = {r.region for r in self.results}
        layers = dict.fromkeys(regions, layer) if isinstance(layer, str) else layer
        own = [r for r in self.results if (r.set, r.layer) == (study, layers[r.region])]
        ceiling = np.mean([r.ceiling for r in own])
        percent = float(100 * np.mean([r.value for r in own]) / ceiling)
        if len({len(r.subjects) for r in own}) != 1:
            return MeanScore(percent, math.nan, math.nan)
        values = 100 * np.mean([r.subjects for r in own], axis=0) / ceiling
        sample = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
        return MeanScore(percent, float(np.std(values)), sample)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; NaN stay NaN, which Python's reader takes."""
        return {key: value for key, value in asdict(self).items() if key != "best"}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "NetworkScores":
        """Inverse of `to_dict`; KeyError or TypeError where the content is another's."""
        results = tuple(
            SubjectResult(**{**each, "subjects": tuple(each["subjects"])})
            for each in content["results"]
        )
        submissions = tuple(content["submissions"])
        return cls(**{**content, "results": results, "submissions": submissions})


def score_rdms(
    name: str, study: Study, rdms: Mapping[str, NDArray[np.float64]]
) -> list[SubjectResult]:
    """Score each layer's RDM of a study's stimuli against each of its regions.

    Parameters
    ----------
    name : str
        What the results are stored under.
    study : Study
    rdms : mapping of str to ndarray, shape (pairs,)
        By layer. One that is not finite, of constant conditions, has NaN for its scores.

    Returns
    -------
    list of SubjectResult
        By layer and region.
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
