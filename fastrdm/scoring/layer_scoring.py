"""A model's layers × studies → scores: each set of stimuli runs once for all regions and measures."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm.images import Preprocessing, cached_pixels
from fastrdm.rdm import Gram
from fastrdm.runtimes import OnnxModel, TorchModel
from fastrdm.scoring.jobs import PixelsKey, RunOptions
from fastrdm.scoring.region_scorers import LayerSet, RegionScorer
from fastrdm.scoring.undefined import UndefinedScores, undefined_images
from fastrdm.similarity import Score
from fastrdm.studies import Study


class LayerScoring:
    """Scores the layers of any number of models against the same studies.

    `scorers` are the regions of the studies under each measure; `pixels` are decoded stimuli, others come from the
    cache.
    """

    def __init__(
        self,
        studies: Sequence[Study],
        scorers: Sequence[RegionScorer],
        options: RunOptions,
        pixels: Mapping[PixelsKey, NDArray[np.uint8]],
    ) -> None:
        self._studies, self._scorers, self._options = studies, scorers, options
        self._pixels = dict(pixels)

    def scores(
        self, model: OnnxModel | TorchModel, done: frozenset[tuple[str, str, str]] = frozenset()
    ) -> dict[str, Any]:
        """Return layers, scores that are not done, and what is to be kept, as fields of `Scored`."""
        options = self._options
        layers: tuple[str, ...] = ()
        scores: dict[tuple[str, str, str], Score] = {}
        rdms, grams, undefined = {}, {}, UndefinedScores()
        for study in self._studies:
            scorers = [
                scorer
                for scorer in self._scorers
                if scorer.study == study.name and scorer.key not in done
            ]
            if not (scorers or options.keep_rdms or options.keep_grams):
                continue
            found, constant = self._layers(model, study, scorers)
            layers = found.names
            of_study = {scorer: scorer.score(found) for scorer in scorers}
            scores |= {scorer.key: score for scorer, score in of_study.items()}
            undefined.add(study, found, of_study, constant)
            if options.keep_rdms:
                rdms[study.name] = found.rdms.astype(np.float32)
            if options.keep_grams:
                grams[study.name] = found.grams
        for sentence in undefined.sentences():
            warnings.warn(sentence, RuntimeWarning, stacklevel=2)
        return {"layers": layers, "scores": scores, "rdms": rdms, "grams": grams}

    def _layers(
        self, model: OnnxModel | TorchModel, study: Study, scorers: Sequence[RegionScorer]
    ) -> tuple[LayerSet, Mapping[str, Sequence[int]]]:
        """RDMs and Gram matrices that scorers need, in one pass; the images for which layers are constant."""
        options = self._options
        arguments: dict[str, Any] = {
            "names": [str(path) for path in study.stimuli],
            "background": study.background,
            **options.images,
        }
        if options.progress:
            arguments["progress"] = True
        pixels = stimuli_of(study, model.preprocessing, self._pixels)
        grams: dict[str, Gram] = {}
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            if options.keep_grams or any(scorer.uses_grams for scorer in scorers):
                grams = model.grams(pixels, **arguments)
                names = tuple(grams)
            else:
                rdms = model.rdms(pixels, **arguments)
                names = tuple(rdms)
        constant, others = undefined_images(caught)
        if grams:
            rdms = {}
            if options.keep_rdms or not all(scorer.uses_grams for scorer in scorers):
                rdms, constant = rdms_of(grams)
        for warning in others:
            warnings.warn(warning.message, warning.category, stacklevel=2)
        stack = np.stack(list(rdms.values())) if rdms else np.empty((len(names), 0))
        return LayerSet(names, stack, tuple(grams.values())), constant


def rdms_of(
    grams: Mapping[str, Gram],
) -> tuple[dict[str, NDArray[np.float64]], dict[str, Sequence[int]]]:
    """RDMs of layers by correlation, as `OnnxModel.rdms`, and the images for which layers are constant."""
    rdms: dict[str, NDArray[np.float64]] = {}
    constant: dict[str, Sequence[int]] = {}
    for layer, gram in grams.items():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            rdms[layer] = gram.rdm("correlation")
        for images in undefined_images(caught)[0].values():
            constant[layer] = images
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
