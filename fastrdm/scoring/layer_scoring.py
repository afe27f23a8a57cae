"""A model's layers × studies → scores: each set of stimuli runs once for all regions and measures."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import issue, recorded_warnings
from fastrdm.images import Preprocessing, cached_pixels
from fastrdm.rdm import Gram
from fastrdm.runtimes import PendingRdms, ScorableModel, ShownImages, TorchModel
from fastrdm.scoring.jobs import PixelsKey, RunOptions
from fastrdm.scoring.region_scorers import LayerSet, RegionScorer
from fastrdm.scoring.undefined import UndefinedScores, undefined_images
from fastrdm.similarity import Score
from fastrdm.studies import Study


class LayerScoring:
    """Scores the layers of any number of models against the same studies.

    `scorers` are the regions of the studies under each measure; `pixels` are decoded stimuli, others come from the
    cache. `where` is where a `TorchModel` makes RDMs, as for its `rdms`; stimuli stay on its device.
    """

    def __init__(
        self,
        studies: Sequence[Study],
        scorers: Sequence[RegionScorer],
        options: RunOptions,
        pixels: Mapping[PixelsKey, NDArray[np.uint8]],
        where: str = "auto",
    ) -> None:
        self._studies, self._scorers, self._options = studies, scorers, options
        self._pixels, self._where = dict(pixels), where
        self._shown: WeakKeyDictionary[TorchModel, dict[str, ShownImages]] = WeakKeyDictionary()

    def scores(
        self,
        model: ScorableModel,
        done: frozenset[tuple[str, str, str]] = frozenset(),
        layers: Sequence[str] | None = None,
    ) -> dict[str, Any]:
        """Return layers, scores that are not done, and what is to be kept, as fields of `Scored`.

        `layers` are those to compute, by default all.
        """
        return self.finish(model, self.start(model, done, layers), done, layers)

    def start(
        self,
        model: ScorableModel,
        done: frozenset[tuple[str, str, str]] = frozenset(),
        layers: Sequence[str] | None = None,
        *,
        max_memory: int | str | None = None,
    ) -> dict[str, PendingRdms]:
        """Start the work on the model's device, by study, without waiting for it; none for models that have none.

        Afterwards the model may take other weights. `max_memory` is by default that of the options.
        """
        if not (isinstance(model, TorchModel) and self._uses_device(model)):
            return {}
        shown = self._shown.setdefault(model, {})
        names = [study.name for study, _ in self._wanted(done)]
        for study in self._studies:
            if study.name in names and study.name not in shown:
                pixels = stimuli_of(study, model.preprocessing, self._pixels)
                shown[study.name] = model.show(pixels, [str(path) for path in study.stimuli])
        if not names:
            return {}
        limit = self._options.max_memory if max_memory is None else max_memory
        sets = [shown[name] for name in names]
        started = model.start_sets(sets, layers=layers, max_memory=limit)
        return dict(zip(names, started, strict=True))

    def finish(
        self,
        model: ScorableModel,
        pending: Mapping[str, PendingRdms],
        done: frozenset[tuple[str, str, str]] = frozenset(),
        layers: Sequence[str] | None = None,
    ) -> dict[str, Any]:
        """Wait for what `start` has started, and return what `scores` does."""
        options = self._options
        names: tuple[str, ...] = ()
        scores: dict[tuple[str, str, str], Score] = {}
        rdms, grams, undefined = {}, {}, UndefinedScores()
        for study, scorers in self._wanted(done):
            found, constant = self._layers(model, study, scorers, pending.get(study.name), layers)
            names = found.names
            of_study = {scorer: scorer.score(found) for scorer in scorers}
            scores |= {scorer.key: score for scorer, score in of_study.items()}
            undefined.add(study, found, of_study, constant)
            if options.keep_rdms:
                rdms[study.name] = found.rdms.astype(np.float32)
            if options.keep_grams:
                grams[study.name] = found.grams
        for sentence in undefined.sentences():
            issue(RuntimeWarning(sentence), stacklevel=2)
        return {"layers": names, "scores": scores, "rdms": rdms, "grams": grams}

    def _wanted(
        self, done: frozenset[tuple[str, str, str]]
    ) -> Iterator[tuple[Study, list[RegionScorer]]]:
        """Yield studies whose stimuli have to run, with the scorers of what is not done."""
        options = self._options
        for study in self._studies:
            scorers = [
                scorer
                for scorer in self._scorers
                if scorer.study == study.name and scorer.key not in done
            ]
            if scorers or options.keep_rdms or options.keep_grams:
                yield study, scorers

    def _uses_device(self, model: TorchModel) -> bool:
        """Whether the model makes RDMs on its device."""
        if self._options.projection is not None:
            return False
        return self._where == "device" or (self._where == "auto" and model.uses_device())

    def _layers(
        self,
        model: ScorableModel,
        study: Study,
        scorers: Sequence[RegionScorer],
        pending: PendingRdms | None,
        layers: Sequence[str] | None,
    ) -> tuple[LayerSet, Mapping[str, Sequence[int]]]:
        """RDMs and Gram matrices that scorers need, in one pass; the images for which layers are constant."""
        options = self._options
        arguments: dict[str, Any] = {
            "layers": layers,
            "names": [str(path) for path in study.stimuli],
            "background": study.background,
            **options.images,
        }
        if options.progress:
            arguments["progress"] = True
        if pending is None:
            pixels = stimuli_of(study, model.preprocessing, self._pixels)
        grams: dict[str, Gram] = {}
        with recorded_warnings() as caught:
            if options.keep_grams or any(scorer.uses_grams for scorer in scorers):
                grams = pending.grams() if pending else model.grams(pixels, **arguments)
                names = tuple(grams)
            else:
                rdms = pending.rdms() if pending else model.rdms(pixels, **arguments)
                names = tuple(rdms)
        constant, others = undefined_images(caught)
        if grams:
            rdms = {}
            if options.keep_rdms or not all(scorer.uses_grams for scorer in scorers):
                rdms, constant = rdms_of(grams)
        for warning in others:
            issue(warning, stacklevel=2)
        stack = np.stack(list(rdms.values())) if rdms else np.empty((len(names), 0))
        return LayerSet(names, stack, tuple(grams.values())), constant


def rdms_of(
    grams: Mapping[str, Gram],
) -> tuple[dict[str, NDArray[np.float64]], dict[str, Sequence[int]]]:
    """RDMs of layers by correlation, as `OnnxModel.rdms`, and the images for which layers are constant."""
    rdms: dict[str, NDArray[np.float64]] = {}
    constant: dict[str, Sequence[int]] = {}
    for layer, gram in grams.items():
        rdms[layer], undefined = gram.settled("correlation")
        if len(undefined):
            constant[layer] = undefined.tolist()
    return rdms, constant


def stimuli_of(
    study: Study, preprocessing: Preprocessing, known: dict[PixelsKey, NDArray[np.uint8]]
) -> NDArray[np.uint8]:
    """Decoded stimuli of a study, kept in `known`."""
    key = (study.name, preprocessing.geometry)
    if key not in known:
        paths = list(study.stimuli)
        known[key] = cached_pixels(paths, preprocessing, background=study.background)
    return known[key]
