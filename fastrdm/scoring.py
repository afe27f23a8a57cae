"""Checkpoints × studies → scores: each layer of each network against each region."""

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastrdm import algonauts
from fastrdm.checkpoints import Checkpoint, open_checkpoints
from fastrdm.inference import max_statistic, subject_intervals
from fastrdm.layers import Taps
from fastrdm.onnx_model import OnnxModel
from fastrdm.study import Study
from fastrdm.target import Score, Target

# A score's numbers, as `Score` and `Result` both name them.
COLUMNS = ("r2", "std", "sample_std", "percent_nc", "p", "value")


@dataclass(frozen=True)
class Result:
    """The score of one layer of one checkpoint against one region of one study.

    Attributes
    ----------
    checkpoint, set, layer, region : str
        What was scored, and against what: the weights' file as given, the study, the tap, the target.
    r2 : float
        Mean over subjects of the squared similarity.
    std, sample_std : float
        Standard deviation over subjects of the protocol's values, as a population and as a sample.
    percent_nc : float
        Percent of the noise ceiling.
    p : float
        The protocol's test against 0.
    value, ceiling : float
        What the protocol reports (R² for the challenge), and the ceiling it is a share of.
    low, high : float
        95 % interval of `percent_nc` by percentiles of a bootstrap over subjects, the ceiling as it is; NaN without.
    p_sign_flip, p_corrected : float
        One-sided sign-flip test over subjects of the similarities themselves, not squared, against 0, and p corrected
        by the maximum over all layers, regions and studies of the checkpoint; NaN without.
    """

    checkpoint: str
    set: str
    layer: str
    region: str
    r2: float
    std: float
    sample_std: float
    percent_nc: float
    p: float
    value: float
    ceiling: float
    low: float = math.nan
    high: float = math.nan
    p_sign_flip: float = math.nan
    p_corrected: float = math.nan


@dataclass(frozen=True)
class Scored:
    """All results of one checkpoint, or why there are none.

    Attributes
    ----------
    checkpoint : str
        The weights' file as given.
    results : tuple of Result
        By study, layer and region.
    error : str
        One sentence; empty where all went well.
    submissions : tuple of Path
        Files written for the test images.
    sha256 : str
        Of the weights' file; empty where it could not be opened.
    """

    checkpoint: str
    results: tuple[Result, ...] = ()
    error: str = ""
    submissions: tuple[Path, ...] = ()
    sha256: str = ""


def modality_of(region: str) -> str:
    """The challenge's modality of a region, or the empty string for a region of another study's."""
    return next((m for m, regions in algonauts.REGIONS.items() if region in regions), "")


def layer_scores(results: Iterable[Result]) -> dict[str, dict[str, float]]:
    """Mean score of each layer over the studies, by modality.

    Within a study the score is 100 × mean value over the modality's regions / mean ceiling, as the challenge's;
    the mean over its two training sets is what Meijer (2019) chooses the layer by.

    Parameters
    ----------
    results : iterable of Result
        Those of one checkpoint.

    Returns
    -------
    dict of str to dict of str to float
        Modality → layer → percent of the noise ceiling; NaN where a result is.
    """
    groups: dict[str, dict[str, dict[str, list[Result]]]] = {}
    for r in results:
        layers = groups.setdefault(modality_of(r.region), {})
        layers.setdefault(r.layer, {}).setdefault(r.set, []).append(r)
    return {
        modality: {
            layer: float(np.mean([_score(group) for group in by_set.values()]))
            for layer, by_set in layers.items()
        }
        for modality, layers in groups.items()
    }


def _score(results: Sequence[Result]) -> float:
    return float(100 * np.mean([r.value for r in results]) / np.mean([r.ceiling for r in results]))


def best_layers(results: Iterable[Result]) -> dict[str, str]:
    """The layer with the best mean score over the studies, by modality; none where all scores are NaN."""
    scores = layer_scores(results)
    return {
        modality: max(
            (layer for layer in layers if not np.isnan(layers[layer])), key=layers.__getitem__
        )
        for modality, layers in scores.items()
        if not np.all(np.isnan(list(layers.values())))
    }


def score_model(
    model: OnnxModel,
    studies: Sequence[Study],
    checkpoint: str = "",
    *,
    progress: bool = False,
    n_draws: int = 1000,
    seed: int = 0,
) -> tuple[Result, ...]:
    """Score every layer of a network against every region of every study.

    Parameters
    ----------
    model : OnnxModel
        The network.
    studies : sequence of Study
        Stimuli and targets.
    checkpoint : str
        What the results are stored under.
    progress : bool
        Whether to show a progress bar on stderr.
    n_draws, seed : int
        Draws of the bootstrap over subjects and its seed, which is that of the sign flips too; 0 draws for neither
        intervals nor sign flips.

    Returns
    -------
    tuple of Result
        By study, layer and region.
    """
    scored = []
    for study in studies:
        rdms = model.rdms(list(study.stimuli), progress=progress)
        stack = np.stack(list(rdms.values()))
        for region, target in study.targets.items():
            scored.append(_results(checkpoint, study.name, list(rdms), region, target, stack))
    results = [result for group in scored for result in group.results]
    if n_draws:
        results = _with_uncertainty(scored, n_draws, seed)
    order = {layer: i for i, layer in enumerate(model.layers)}
    sets = {study.name: i for i, study in enumerate(studies)}
    return tuple(sorted(results, key=lambda r: (sets[r.set], order[r.layer])))


def _results(
    checkpoint: str,
    study: str,
    layers: Sequence[str],
    region: str,
    target: Target,
    rdms: NDArray[np.float64],
) -> "_Group":
    score = score_layers(target, rdms)
    results = [
        Result(
            checkpoint,
            study,
            layer,
            region,
            ceiling=target.ceiling,
            **{name: float(getattr(score, name)[i]) for name in COLUMNS},
        )
        for i, layer in enumerate(layers)
    ]
    return _Group(results, score.rho, target)


@dataclass(frozen=True)
class _Group:
    """Layers against one target, and their similarities (layers, subjects); NaN where they have none."""

    results: list[Result]
    rho: NDArray[np.float64]
    target: Target


def _with_uncertainty(groups: Sequence[_Group], n_draws: int, seed: int) -> list[Result]:
    columns = [np.full((len(group.results), 4), np.nan) for group in groups]
    # One subject says nothing of others, and a layer without similarities nothing at all.
    known = [
        (column, group, rows)
        for column, group in zip(columns, groups, strict=True)
        if group.target.n_subjects > 1
        and len(rows := np.isfinite(group.rho).all(axis=1).nonzero()[0])
    ]
    rhos = [group.rho[rows] for _, group, rows in known]
    if rhos:
        p = np.stack(max_statistic(rhos, seed=seed), axis=1)
        ends = np.cumsum([len(rho) for rho in rhos])
        for (column, group, rows), rho, end in zip(known, rhos, ends, strict=True):
            values = rho**2 if group.target.protocol.squared else rho
            interval = subject_intervals(values, n_draws=n_draws, seed=seed)
            column[rows] = np.hstack(
                [interval * (100 / group.target.ceiling), p[end - len(rho) : end]]
            )
    return [
        replace(result, low=low, high=high, p_sign_flip=p_sign_flip, p_corrected=p_corrected)
        for group, column in zip(groups, columns, strict=True)
        for result, (low, high, p_sign_flip, p_corrected) in zip(
            group.results, column.tolist(), strict=True
        )
    ]


def score_layers(target: Target, rdms: NDArray[np.float64]) -> Score:
    """Score a network's layers, of which some may have no whole RDM.

    Parameters
    ----------
    target : Target
    rdms : ndarray, shape (layers, pairs)
        A layer with constant conditions has NaN in its RDM, and no score; the others have theirs.

    Returns
    -------
    Score
        NaN for the layers without one.
    """
    whole = np.asarray(np.isfinite(rdms).all(axis=1))
    score = target.score(rdms[whole])
    if whole.all():
        return score
    filled = {}
    for name, values in vars(score).items():
        filled[name] = np.full((len(whole), *values.shape[1:]), np.nan)
        filled[name][whole] = values
    return Score(**filled)


def score_checkpoints(
    weights: Sequence[str | Path],
    arch: Sequence[str] = (),
    studies: Sequence[Study] = (),
    *,
    taps: Taps | None = None,
    provider: str = "auto",
    precision: str | None = None,
    provider_options: Mapping[str, str] | None = None,
    batch_size: int = 32,
    submit: str | Path | None = None,
    progress: bool = False,
    n_draws: int = 1000,
    seed: int = 0,
    on_start: Callable[[str], None] | None = None,
) -> Iterator[Scored]:
    """Score checkpoints one after the other; one that cannot be read does not stop the rest.

    Each distinct architecture is exported once, and the next checkpoint is opened while the current
    one is scored.

    Parameters
    ----------
    weights : sequence of path-like
        `.pth`, `.pt`, `.safetensors`, or exported `.onnx` files.
    arch : sequence of str
        ``"module:callable"``, or an exported `.onnx` file with any weights, for each of the weights, or one for
        all, or none where all are `.onnx`.
    studies : sequence of Study
        What to score against.
    taps : dict or sequence of str, optional
        Layers to score, as in `open_checkpoint`; the network's own choice by default.
    provider, precision, provider_options, batch_size
        As in `OnnxModel`.
    submit : path-like, optional
        Folder for submissions: the best layer's RDM of the test images, in a subfolder for each checkpoint where
        there are several.
    progress : bool
        Whether to show progress bars on stderr.
    n_draws, seed : int
        As in `score_model`.
    on_start : callable, optional
        Called with each checkpoint's name before work on it begins.

    Yields
    ------
    Scored
        One a checkpoint, in the order given.

    Raises
    ------
    ValueError, FileNotFoundError
        Before work starts: if there is neither one architecture nor one for each of the weights, one cannot be
        imported or read, or a submission is asked for of studies without test images or of regions that are not the
        challenge's.
    """
    if submit is not None:
        _check_submittable(studies)
    names = [str(w) for w in weights]
    folders: Sequence[Path | None] = _submission_folders(names, submit) or [None] * len(names)
    openings = open_checkpoints(
        names,
        arch,
        taps,
        provider=provider,
        precision=precision,
        provider_options=provider_options,
        batch_size=batch_size,
    )
    with contextlib.closing(openings):
        for name, folder in zip(names, folders, strict=True):
            if on_start:
                on_start(name)
            yield _scored(name, next(openings), studies, folder, progress, n_draws, seed)


def _scored(
    name: str,
    opening: "Future[Checkpoint]",
    studies: Sequence[Study],
    folder: Path | None,
    progress: bool,
    n_draws: int,
    seed: int,
) -> Scored:
    try:
        checkpoint = opening.result()
        results = score_model(
            checkpoint.model, studies, name, progress=progress, n_draws=n_draws, seed=seed
        )
        written = (
            _submit(checkpoint.model, results, studies, folder, progress)
            if folder is not None
            else ()
        )
    except (ValueError, OSError) as error:
        return Scored(name, error=str(error))
    return Scored(name, results, submissions=written, sha256=checkpoint.sha256)


def _check_submittable(studies: Sequence[Study]) -> None:
    if not any(study.test_stimuli for study in studies):
        raise ValueError("a submission needs test images, and none of the studies has any")
    regions = {region for study in studies for region in study.targets}
    if foreign := sorted(region for region in regions if not modality_of(region)):
        raise ValueError(
            f"a submission is for the challenge's regions, not for {', '.join(foreign)}; score without it"
        )


def _submission_folders(names: Sequence[str], submit: str | Path | None) -> list[Path]:
    if submit is None:
        return []
    stems = [Path(name).stem for name in names]
    if len(names) == 1:
        return [Path(submit)]
    unique = len(set(stems)) == len(stems)
    return [
        Path(submit) / (stem if unique else f"{i:03d}-{stem}") for i, stem in enumerate(stems, 1)
    ]


def _submit(
    model: OnnxModel,
    results: Sequence[Result],
    studies: Sequence[Study],
    folder: Path,
    progress: bool,
) -> tuple[Path, ...]:
    best = best_layers(results)
    images = next(study.test_stimuli for study in studies if study.test_stimuli)
    rdms = model.rdms(list(images), layers=sorted(set(best.values())), progress=progress)
    return tuple(
        path
        for modality, layer in best.items()
        for path in algonauts.write_submission(folder, rdms[layer], modality)
    )
