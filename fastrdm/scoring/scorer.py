"""RDMs of layers → scores; scores of a checkpoint → results with intervals and p values."""

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fastrdm.inference import max_statistic, subject_intervals
from fastrdm.scoring.jobs import Scored
from fastrdm.scoring.results import COLUMNS, Result
from fastrdm.similarity import Score, Target
from fastrdm.studies import Study


def score_layers(target: Target, rdms: NDArray[np.float64]) -> Score:
    """Score layers; those with NaN in their RDMs have NaN as scores. `UndefinedScores` has the reasons."""
    complete = np.asarray(np.isfinite(rdms).all(axis=1))
    is_constant = complete & (np.ptp(rdms, axis=1) == 0)
    score = target.score(rdms[complete & ~is_constant])
    if (complete & ~is_constant).all():
        return score
    with warnings.catch_warnings():
        # They are described with the layer's name instead.
        warnings.simplefilter("ignore")
        of_constant = target.score(rdms[is_constant])
    filled = {}
    for name, values in vars(score).items():
        filled[name] = np.full((len(complete), *values.shape[1:]), np.nan)
        filled[name][complete & ~is_constant] = values
        filled[name][is_constant] = getattr(of_constant, name)
    return Score(**filled)


def results_of(
    scored: Scored, studies: Sequence[Study], *, n_draws: int = 1000, seed: int = 0
) -> tuple[Result, ...]:
    """Results of a checkpoint by study, layer and region; `n_draws` and `seed` as for `score_checkpoints`."""
    targets = {
        (study.name, region): target
        for study in studies
        for region, target in study.targets.items()
    }
    columns = dict.fromkeys(scored.scores, np.full((len(scored.layers), 4), np.nan))
    if n_draws:
        columns = _uncertainty(scored.scores, targets, n_draws, seed)
    names = ("low", "high", "p_sign_flip", "p_corrected")
    return tuple(
        Result(
            scored.job.path,
            study.name,
            layer,
            region,
            ceiling=target.ceiling,
            rho=tuple(scored.scores[study.name, region].rho[i].tolist()),
            **{
                name: float(getattr(scored.scores[study.name, region], name)[i])
                for name in (*COLUMNS, "mean_rho")
            },
            **dict(zip(names, columns[study.name, region][i].tolist(), strict=True)),
        )
        for study in studies
        for i, layer in enumerate(scored.layers)
        for region, target in study.targets.items()
    )


def _uncertainty(
    scores: Mapping[tuple[str, str], Score],
    targets: Mapping[tuple[str, str], Target],
    n_draws: int,
    seed: int,
) -> dict[tuple[str, str], NDArray[np.float64]]:
    """Interval, sign-flip p value and corrected p value of each layer: arrays of shape (layers, 4)."""
    columns = {key: np.full((len(score.rho), 4), np.nan) for key, score in scores.items()}
    # A single subject allows no inference, and a layer without similarities has none to test.
    rows = {
        key: np.flatnonzero(np.isfinite(score.rho).all(axis=1))
        for key, score in scores.items()
        if targets[key].n_subjects > 1
    }
    rhos = {key: scores[key].rho[index] for key, index in rows.items() if len(index)}
    if not rhos:
        return columns
    p = np.stack(max_statistic(list(rhos.values()), seed=seed), axis=1)
    end = 0
    for key, rho in rhos.items():
        start, end = end, end + len(rho)
        values = rho**2 if targets[key].protocol.squared else rho
        interval = subject_intervals(values, n_draws=n_draws, seed=seed)
        columns[key][rows[key]] = np.hstack([interval * (100 / targets[key].ceiling), p[start:end]])
    return columns
