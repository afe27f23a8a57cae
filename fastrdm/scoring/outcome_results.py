"""Scores of a checkpoint → results with intervals and p values."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastrdm.inference import max_statistic, subject_intervals
from fastrdm.scoring.jobs import Scored
from fastrdm.scoring.region_scorers import RegionScorer
from fastrdm.scoring.results import COLUMNS, Result
from fastrdm.similarity import Score, TimeScore

_NUMBERS = (*COLUMNS, "mean_rho")
_UNCERTAIN = ("low", "high", "p_sign_flip", "p_corrected")
_Key: TypeAlias = tuple[str, str, str]


def results_of(
    scored: Scored, scorers: Sequence[RegionScorer], *, n_draws: int = 1000, seed: int = 0
) -> tuple[Result, ...]:
    """Results of a checkpoint by study, measure, layer, region and time.

    `n_draws` and `seed` are those of `score_checkpoints`.
    """
    scores = {scorer.key: _by_row(scored.scores[scorer.key]) for scorer in scorers}
    columns = {key: np.full((len(score.rho), 4), np.nan) for key, score in scores.items()}
    groups: dict[tuple[str, str], list[RegionScorer]] = {}
    families: dict[str, list[RegionScorer]] = {}
    for scorer in scorers:
        groups.setdefault((scorer.study, scorer.measure), []).append(scorer)
        families.setdefault(scorer.measure, []).append(scorer)
    if n_draws:
        for family in families.values():
            columns |= _uncertainty(scores, family, n_draws, seed)
    return tuple(
        Result(
            scored.job.path,
            scorer.study,
            layer,
            scorer.region,
            ceiling=ceiling,
            rho=tuple(scores[scorer.key].rho[row].tolist()),
            measure=scorer.measure,
            time=time,
            **{name: float(getattr(scores[scorer.key], name)[row]) for name in _NUMBERS},
            **dict(zip(_UNCERTAIN, columns[scorer.key][row].tolist(), strict=True)),
        )
        for group in groups.values()
        for i, layer in enumerate(scored.layers)
        for scorer in group
        for row, (time, ceiling) in enumerate(scorer.time_points, start=i * len(scorer.time_points))
    )


def _by_row(score: Score) -> Score:
    """A score with a row for each layer, or with a time axis, for each time point of each layer."""
    if not isinstance(score, TimeScore):
        return score
    shaped = {
        name: getattr(score, name).reshape(-1, *getattr(score, name).shape[2:])
        for name in Score.__dataclass_fields__
    }
    return Score(**shaped)


def _uncertainty(
    scores: Mapping[_Key, Score], scorers: Sequence[RegionScorer], n_draws: int, seed: int
) -> dict[_Key, NDArray[np.float64]]:
    """Interval, sign-flip p value and corrected p value of each row by one measure: arrays of shape (rows, 4)."""
    columns = {scorer.key: np.full((len(scores[scorer.key].rho), 4), np.nan) for scorer in scorers}
    # A single subject allows no inference, and a row without similarities has none to test.
    rows = {
        scorer: np.flatnonzero(np.isfinite(scores[scorer.key].rho).all(axis=1))
        for scorer in scorers
        if scorer.n_subjects > 1
    }
    rhos = {s: scores[s.key].rho[index] for s, index in rows.items() if len(index)}
    if not rhos:
        return columns
    p = np.stack(max_statistic(list(rhos.values()), seed=seed), axis=1)
    end = 0
    for scorer, rho in rhos.items():
        start, end = end, end + len(rho)
        values = rho**2 if scorer.protocol.squared else rho
        interval = subject_intervals(values, n_draws=n_draws, seed=seed)
        ceilings = np.array([ceiling for _, ceiling in scorer.time_points])
        of_rows = ceilings[rows[scorer] % len(ceilings)]
        found = np.hstack([interval * (100 / of_rows)[:, None], p[start:end]])
        columns[scorer.key][rows[scorer]] = found
    return columns
