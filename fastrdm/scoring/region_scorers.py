"""Regions of studies, prepared once, which score the layers of any number of checkpoints."""

import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import recorded_warnings
from fastrdm.encoding import EncodingProtocol, Responses, ResponseScore
from fastrdm.rdm import Gram
from fastrdm.scoring.scorer import score_layers
from fastrdm.scoring.time_axis import TimeAxis
from fastrdm.similarity import Protocol, Score, Target, cka, score_each_time, score_similarities


@dataclass(frozen=True)
class LayerSet:
    """The layers of a checkpoint for the stimuli of a study.

    `rdms` are condensed, (layers, pairs); they and the Gram matrices are empty where no measure needs them.
    """

    names: tuple[str, ...]
    rdms: NDArray[np.float64]
    grams: tuple[Gram, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class RegionScorer(abc.ABC):
    """A region of a study, prepared for one measure.

    `protocol` and `ceiling` are how similarities become scores; with an `axis`, time points have scores of their own,
    and `ceiling` is the mean of their ceilings. `data` is the SHA-256 of the subjects' data, and `facts` is what else
    the scores depend on.
    """

    study: str
    region: str
    measure: str
    protocol: Protocol
    ceiling: float
    n_subjects: int
    data: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    axis: TimeAxis | None = None
    uses_grams: ClassVar[bool] = True

    @property
    def key(self) -> tuple[str, str, str]:
        """Study, region and measure."""
        return self.study, self.region, self.measure

    @property
    def time_points(self) -> Sequence[tuple[float | None, float]]:
        """Time and ceiling of each time point with scores of its own; None and the region's ceiling without an axis."""
        if self.axis is None:
            return [(None, self.ceiling)]
        return list(zip(self.axis.times, self.axis.ceilings, strict=True))

    @abc.abstractmethod
    def score(self, layers: LayerSet) -> Score:
        """Score layers; NaN where a layer has no similarity, without a warning."""

    def _scores(self, similarities: NDArray[np.float64]) -> Score:
        """Scores of similarities (layers, subjects, times); of each time point with an axis."""
        if self.axis is not None:
            n_layers, n_times = len(similarities), len(self.axis.times)
            return score_each_time(
                similarities,
                squared=self.protocol.squared,
                ceiling=np.tile(self.axis.ceilings, (n_layers, 1)),
                times=np.array(self.axis.times),
                lower=np.full(n_times, np.nan),
                upper=np.array(self.axis.ceilings),
                names=tuple(map(str, range(n_layers))),
            )
        ceilings = np.full(len(similarities), self.ceiling)
        return score_similarities(similarities, squared=self.protocol.squared, ceiling=ceilings)


@dataclass(frozen=True, kw_only=True, eq=False)
class RdmScorer(RegionScorer):
    """A region whose subjects' RDMs are compared with those of layers."""

    target: Target
    uses_grams: ClassVar[bool] = False

    def score(self, layers: LayerSet) -> Score:
        """Score layers; those with NaN in their RDMs, and constant ones, have NaN as scores."""
        if self.axis is None:
            return score_layers(self.target, layers.rdms, "mean")
        score: Score = quietly(partial(score_layers, self.target, layers.rdms, "each"))
        return score


@dataclass(frozen=True, kw_only=True, eq=False)
class AlignmentScorer(RegionScorer):
    """A region whose subjects' Gram matrices are aligned with those of layers.

    `subjects` are Gram matrices or products, subject by subject, `n_times` of each.
    """

    subjects: Sequence[Gram | NDArray[np.float64]]
    n_times: int
    debiased: bool

    def score(self, layers: LayerSet) -> Score:
        """Score layers; those whose conditions do not differ have NaN as scores."""
        found = quietly(lambda: cka(layers.grams, list(self.subjects), self.debiased))
        return self._scores(found.reshape(len(found), self.n_subjects, self.n_times))


@dataclass(frozen=True, kw_only=True, eq=False)
class RegressionScorer(RegionScorer):
    """A region whose units are predicted from layers; `units` are those of each subject that count.

    `options` are arguments of `Responses.score`. With a `convention`, a subject's value is the score of its units under
    that, a share of the noise ceiling.
    """

    responses: Responses
    units: Sequence[NDArray[np.bool_]]
    options: Mapping[str, Any]
    convention: EncodingProtocol | None = None

    def score(self, layers: LayerSet) -> Score:
        """Score layers by the median over units of r, or the convention; constant ones have NaN as scores."""
        grams = dict(zip(layers.names, layers.grams, strict=True))
        most = self.options.get("n_components")
        if most is None:
            return self._scored([self._regression(grams, self.options)])
        rows = []
        for name, gram in grams.items():
            # A layer with fewer channels has no more components.
            options = {**self.options, "n_components": min(most, gram.n_channels)}
            rows.append(self._regression({name: gram}, options))
        return self._scored(rows)

    def _regression(self, grams: Mapping[str, Gram], options: Mapping[str, Any]) -> ResponseScore:
        found: ResponseScore = quietly(lambda: self.responses.score(grams, self.measure, **options))
        return found

    def _scored(self, found: Sequence[ResponseScore]) -> Score:
        if self.convention is None:
            return self._scores(np.concatenate([self._medians(each) for each in found])[:, :, None])
        under = [quietly(partial(each.under, self.convention)) for each in found]
        score = self._scores(np.concatenate([each.per_subject for each in under])[:, :, None])
        # Some conventions take the units of all subjects together.
        value = np.concatenate([each.value for each in under])
        return replace(score, value=value, percent_nc=100 * value)

    def _medians(self, found: ResponseScore) -> NDArray[np.float64]:
        """Medians over units, (layers, subjects)."""
        # An array (layers, subjects, units), or a list over subjects if their units differ.
        r = found.r
        subjects = r if isinstance(r, list) else [r[:, i] for i in range(r.shape[1])]
        rows = [
            [median_of(each, units) for each in of_layers]
            for of_layers, units in zip(subjects, self.units, strict=True)
        ]
        return np.array(rows).T


def median_of(values: NDArray[np.float64], units: NDArray[np.bool_]) -> float:
    """The median over units, without NaN; NaN if there are none."""
    found = values[units & ~np.isnan(values)]
    return float(np.median(found)) if len(found) else float("nan")


def quietly(compute: Callable[[], Any]) -> Any:
    """Compute without warnings: layers without a score are described by `UndefinedScores`."""
    with recorded_warnings():
        return compute()
