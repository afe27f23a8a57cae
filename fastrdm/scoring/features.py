"""Features that were saved elsewhere → results, without a network."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import check_choice, warn_caller
from fastrdm.rdm import Gram, GramAccumulator, gram
from fastrdm.scoring.checkpoint_scores import CheckpointScores
from fastrdm.scoring.feature_files import FeatureLayer, Features, features_of
from fastrdm.scoring.held_out import held_out_layers
from fastrdm.scoring.held_out_weights import check_shared_regions, weighted_scores
from fastrdm.scoring.jobs import Job, Scored, Stamp
from fastrdm.scoring.layer_scoring import rdms_of
from fastrdm.scoring.measures import scorers_of
from fastrdm.scoring.outcome_results import results_of
from fastrdm.scoring.region_scorers import LayerSet
from fastrdm.scoring.undefined import UndefinedScores
from fastrdm.similarity import Score
from fastrdm.studies import Study, collect_studies, rows_of_study

ROW_MATCHES = ("names", "order")
# Of the layers' RDMs, as for networks.
_RDM_METHOD = "correlation"


def score_features(
    features: "str | Path | Mapping[str, Any]",
    studies: "str | Path | Study | Sequence[str | Path | Study]",
    *,
    names: Sequence[str] | None = None,
    rows: str = "names",
    layers: Sequence[str] | None = None,
    sets: Iterable[str] | None = None,
    modality: str = "fmri",
    regions: Iterable[str] | None = None,
    measures: Sequence[str] | None = None,
    over_time: str | None = None,
    weighted: bool = False,
    n_draws: int = 1000,
    seed: int = 0,
    n_threads: int | None = None,
) -> CheckpointScores:
    """Score features that were computed elsewhere, as `score_checkpoints` scores the layers of a network.

    Files are read in blocks of channels, so that layers may be larger than the memory.

    Parameters
    ----------
    features : path-like, or dict of array_like, shape (images, channels, ...)
        A `.npz` or HDF5 file with an array for each layer, a `.npy` file with one layer, a folder that Net2Brain or
        thingsvision wrote (docs/features.md), or a dict of arrays. The files
        hold the names of the images too: as text in a variable named ``names``, ``image_names``, ``images``,
        ``stimuli``, ``filenames`` or ``paths`` (others are in docs/features.md), in an attribute of the HDF5 file with
        such a name, or in the column ``stimulus`` of a `.csv` file beside them, as ``features.csv`` for
        ``features.npz``.
    studies : path-like, Study or sequence of them
        What to score against.
    names : sequence of str, optional
        Names of the images, in place of those of the file.
    rows : {"names", "order"}
        How rows are matched to the stimuli of each study: by the names of the images, each a path or a file name, with
        or without its suffix; rows of other images are ignored. ``"order"``: the rows are the stimuli, in their order.
    layers : sequence of str, optional
        Names of the layers to score, or patterns with ``*``; by default all arrays with two axes or more.
    sets, modality, regions
        As for `open_studies`.
    measures : sequence of str, optional
        As for `fastrdm.sweep`; by default those of each region.
    over_time : {"mean", "each"}, optional
        As for `fastrdm.sweep`; by default as the studies say.
    weighted : bool
        As for `score_checkpoints`.
    n_draws, seed
        As for `score_checkpoints`.
    n_threads : int, optional
        Number of threads; by default one for each processor available to the process.

    Returns
    -------
    CheckpointScores
        Its `results` are by study, measure, layer and region; the checkpoint is the path of the features.

    Raises
    ------
    FileNotFoundError
        If a file or a folder does not exist.
    ValueError
        If the file cannot be read, names are missing, a stimulus has no row or several, features are not finite, or a
        region lacks the data of a measure.

    Warns
    -----
    RuntimeWarning
        If layers have no score, with the reason.

    Examples
    --------
    >>> scores = score_features("features.npz", "my-study")  # doctest: +SKIP
    >>> [(r.layer, r.region, r.percent_nc) for r in scores.results]  # doctest: +SKIP
    """
    check_choice(rows, ROW_MATCHES, "rows")
    opened = collect_studies(studies, sets, modality, regions, measures)
    scorers = scorers_of(opened, measures, over_time)
    if weighted:
        check_shared_regions(opened)
    images = [name for study in opened for name in study.names]
    read = features_of(features, names, layers, images)
    places = [_rows(read, study, rows) for study in opened]
    scores: dict[tuple[str, str, str], Score] = {}
    stacks: dict[str, NDArray[np.float64]] = {}
    undefined = UndefinedScores()
    for study, place in zip(opened, places, strict=True):
        grams = {layer.name: _gram(read, layer, place, n_threads) for layer in read.layers}
        rdms, constant = rdms_of(grams)
        stacks[study.name] = np.stack(list(rdms.values()))
        found = LayerSet(tuple(grams), stacks[study.name], tuple(grams.values()))
        of_study = {each: each.score(found) for each in scorers if each.study == study.name}
        scores |= {scorer.key: score for scorer, score in of_study.items()}
        undefined.add(study, found, of_study, constant)
    for sentence in undefined.sentences():
        warn_caller(sentence)
    layer_names = tuple(layer.name for layer in read.layers)
    scored = Scored(Job(read.source, 0), Stamp(), "", layer_names, scores)
    results = results_of(scored, scorers, n_draws=n_draws, seed=seed)
    held_out = held_out_layers(r for r in results if r.time is None)
    if weighted:
        held_out += weighted_scores(layer_names, stacks, opened)
    return CheckpointScores(read.source, results, held_out=held_out)


def _rows(features: Features, study: Study, rows: str) -> NDArray[np.intp]:
    """The row of each stimulus of a study."""
    n = len(study.stimuli)
    if rows == "order":
        if features.n_rows != n:
            raise ValueError(
                f"{features.source} has {features.n_rows} rows, but the study {study.name!r} has {n} stimuli, so rows"
                " cannot be matched by their order"
            )
        return np.arange(n)
    if features.names is None:
        raise ValueError(
            f"{features.source} has no names of its {features.n_rows} images: add them as text in a variable names, or"
            " in the column stimulus of a .csv file beside it; or, if its rows are the study's stimuli in order, pass"
            " --rows order (rows='order' in Python)"
        )
    return rows_of_study(study, features.names, features.source)


def _gram(
    features: Features, layer: FeatureLayer, rows: NDArray[np.intp], n_threads: int | None
) -> Gram:
    """The products of some rows of a layer, from blocks of channels if it is large."""
    blocks = layer.blocks(rows)
    first = next(blocks)
    try:
        if first.shape[1] == prod(layer.shape[1:]):
            whole: Gram = gram(first, methods=[_RDM_METHOD], n_threads=n_threads)
            return whole
        sums = GramAccumulator(len(rows), methods=[_RDM_METHOD], n_threads=n_threads)
        for block in itertools.chain([first], blocks):
            sums.update(block)
        return sums.gram()
    except ValueError as error:
        raise ValueError(f"{features.source}, layer {layer.name!r}: {error}") from error
