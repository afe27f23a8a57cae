"""Checkpoints × studies → scores: each layer of each network against each region."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fastrdm.images import Images
from fastrdm.inference import max_statistic, subject_intervals
from fastrdm.runtimes import OnnxModel
from fastrdm.similarity import Score, Target
from fastrdm.studies import Study, algonauts

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
    mean_rho : float
        Mean over subjects of the similarity itself: below 0, the layer orders pairs oppositely to the brain, however
        high its squared score is. NaN in results of before it was kept.
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
    mean_rho: float = math.nan

    @property
    def signed_value(self) -> float:
        """The value, below 0 where the mean similarity is."""
        return -abs(self.value) if self.mean_rho < 0 else self.value


@dataclass(frozen=True)
class StudyScores:
    """A checkpoint's scores in one study.

    Attributes
    ----------
    study : str
    stimuli : str
        Their SHA-256.
    layers : tuple of str
    scores : dict of str to Score
        Region → scores, a row a layer.
    rdms : ndarray of float32, shape (layers, pairs), optional
        Kept where a sweep is asked to.
    """

    study: str
    stimuli: str
    layers: tuple[str, ...]
    scores: Mapping[str, Score]
    rdms: NDArray[np.float32] | None = None


def modality_of(region: str) -> str:
    """The challenge's modality of a region, or the empty string for a region of another study's."""
    return next((m for m, regions in algonauts.REGIONS.items() if region in regions), "")


def layer_scores(results: Iterable[Result], *, signed: bool = False) -> dict[str, dict[str, float]]:
    """Mean score of each layer over the studies, by modality.

    Within a study the score is 100 × mean value over the modality's regions / mean ceiling, as the challenge's;
    the mean over its two training sets is what Meijer (2019) chooses the layer by.

    Parameters
    ----------
    results : iterable of Result
        Those of one checkpoint.
    signed : bool
        Whether the value of a region whose mean similarity is below 0 counts against the layer.

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
            layer: float(np.mean([_score(group, signed) for group in by_set.values()]))
            for layer, by_set in layers.items()
        }
        for modality, layers in groups.items()
    }


def _score(results: Sequence[Result], signed: bool) -> float:
    values = [r.signed_value if signed else r.value for r in results]
    return float(100 * np.mean(values) / np.mean([r.ceiling for r in results]))


def best_layers(results: Iterable[Result]) -> dict[str, str]:
    """The layer with the best mean score over the studies, by modality; none where all scores are NaN.

    As the challenge's scores are squared, a layer may be best for being opposite to the brain; `sign_remarks` says so.
    """
    return _highest(layer_scores(results))


def _highest(scores: Mapping[str, Mapping[str, float]]) -> dict[str, str]:
    return {
        modality: max(
            (layer for layer in layers if not np.isnan(layers[layer])), key=layers.__getitem__
        )
        for modality, layers in scores.items()
        if not np.all(np.isnan(list(layers.values())))
    }


def sign_remarks(results: Iterable[Result]) -> list[str]:
    """Say of best layers where their mean similarity is below 0, and which are best where that counts against a layer.

    Parameters
    ----------
    results : iterable of Result
        Those of one checkpoint.

    Returns
    -------
    list of str
        A sentence for each modality whose best layer is opposite to the brain somewhere.
    """
    results = list(results)
    signed = _highest(layer_scores(results, signed=True))
    said = []
    for modality, layer in best_layers(results).items():
        opposite = ", ".join(
            f"{r.region.upper()} of {r.set} (mean rho {r.mean_rho:.3f})"
            for r in results
            if modality_of(r.region) == modality and r.layer == layer and r.mean_rho < 0
        )
        if opposite:
            other = f"; with signed scores the best is {signed[modality]}"
            said.append(
                f"the best layer, {layer}, is opposite to the brain in {opposite}"
                f"{other if signed[modality] != layer else ''}"
            )
    return said


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
    scores = [
        score_study(model, study, list(study.stimuli), progress=progress) for study in studies
    ]
    return results_of(checkpoint, studies, scores, n_draws=n_draws, seed=seed)


def score_study(
    model: OnnxModel,
    study: Study,
    images: Images,
    *,
    stimuli: str = "",
    keep_rdms: bool = False,
    progress: bool = False,
) -> StudyScores:
    """Score every layer of a network against every region of a study.

    Parameters
    ----------
    model : OnnxModel
    study : Study
    images : sequence of image-like, or ndarray
        Its stimuli, as for `OnnxModel.rdms`.
    stimuli : str
        Their SHA-256, if it is to be known later.
    keep_rdms : bool
        Whether the layers' RDMs are part of what is returned.
    progress : bool
        Whether to show a progress bar on stderr.

    Returns
    -------
    StudyScores
    """
    rdms = model.rdms(
        images,
        progress=progress,
        names=[str(path) for path in study.stimuli],
        background=study.background,
    )
    stack = np.stack(list(rdms.values()))
    return StudyScores(
        study.name,
        stimuli,
        tuple(rdms),
        {region: score_layers(target, stack) for region, target in study.targets.items()},
        stack.astype(np.float32) if keep_rdms else None,
    )


def results_of(
    checkpoint: str,
    studies: Sequence[Study],
    scores: Sequence[StudyScores],
    *,
    n_draws: int = 1000,
    seed: int = 0,
) -> tuple[Result, ...]:
    """Lay out a checkpoint's scores as results, with how sure they are.

    Parameters
    ----------
    checkpoint : str
        What the results are stored under.
    studies : sequence of Study
    scores : sequence of StudyScores
        One a study, all of the same layers.
    n_draws, seed : int
        As for `score_model`.

    Returns
    -------
    tuple of Result
        By study, layer and region.
    """
    groups = [
        _group(checkpoint, study.name, own.layers, region, study.targets[region], score)
        for study, own in zip(studies, scores, strict=True)
        for region, score in own.scores.items()
    ]
    results = [result for group in groups for result in group.results]
    if n_draws:
        results = _with_uncertainty(groups, n_draws, seed)
    order = {layer: i for own in scores for i, layer in enumerate(own.layers)}
    sets = {study.name: i for i, study in enumerate(studies)}
    return tuple(sorted(results, key=lambda r: (sets[r.set], order[r.layer])))


def _group(
    checkpoint: str, study: str, layers: Sequence[str], region: str, target: Target, score: Score
) -> "_Group":
    results = [
        Result(
            checkpoint,
            study,
            layer,
            region,
            ceiling=target.ceiling,
            **{name: float(getattr(score, name)[i]) for name in (*COLUMNS, "mean_rho")},
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
        and len(rows := np.flatnonzero(np.isfinite(group.rho).all(axis=1)))
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
