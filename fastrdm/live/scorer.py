"""Prepared studies, which score a module as often as asked."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastrdm.networks import RequestedPreprocessing, Taps
from fastrdm.runtimes import TorchModel
from fastrdm.scoring import (
    Job,
    LayerScoring,
    RunOptions,
    Scored,
    Stamp,
    check_measures,
    results_of,
    scorers_of,
)
from fastrdm.studies import Study, collect_studies

if TYPE_CHECKING:
    import torch


class Scorer:
    """Scores torch modules in training against brain data, as `fastrdm score` scores their files."""

    def __init__(
        self,
        study: "str | Path | Study | Sequence[str | Path | Study]",
        layers: Mapping[str, str] | None = None,
        *,
        measures: str | Sequence[str] | None = None,
        sets: Sequence[str] | None = None,
        modality: str = "fmri",
        regions: Sequence[str] | None = None,
        taps: Taps | None = None,
        preprocessing: RequestedPreprocessing | None = None,
        **options: Any,
    ) -> None:
        asked = None if measures is None else check_measures(measures)
        self.studies = collect_studies(study, sets, modality, regions, asked)
        self._scorers = scorers_of(self.studies, asked)
        self._scoring = LayerScoring(self.studies, self._scorers, RunOptions(), {})
        self._layers, self._taps, self._preprocessing = layers, taps, preprocessing
        self._options = options

    def __call__(self, module: "torch.nn.Module") -> dict[str, float]:
        """Score a module: percent of the noise ceiling by ``brain/{study}/{region}/{layer}``, and of the best layer."""
        model = TorchModel(module, self._taps, preprocessing=self._preprocessing, **self._options)
        found = self._scoring.scores(model)
        scored = Scored(Job("", 0), Stamp(), "", **found)
        scores: dict[str, float] = {}
        for result in results_of(scored, self._scorers, n_draws=0):
            place = f"brain/{result.study}/{result.region}"
            scores[f"{place}/{result.layer}"] = result.percent_nc
            best = max(result.percent_nc, scores.get(f"{place}/best", float("-inf")))
            scores[f"{place}/best"] = best
        return scores
