"""Scores of a checkpoint → results with intervals and p values."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fastrdm.inference import max_statistic, subject_intervals
from fastrdm.scoring.jobs import Scored
from fastrdm.scoring.region_scorers import RegionScorer
from fastrdm.scoring.results import COLUMNS, Result


def results_of(
    scored: Scored, scorers: Sequence[RegionScorer], *, n_draws: int = 1000, seed: int = 0
) -> tuple[Result, ...]:
    """Results of a checkpoint by study, measure, layer and region; `n_draws` and `seed` as for `score_checkpoints`."""
    columns = dict.fromkeys(scored.scores, np.full((len(scored.layers), 4), np.nan))
    groups: dict[tuple[str, str], list[RegionScorer]] = {}
    families: dict[str, list[RegionScorer]] = {}
    for scorer in scorers:
        groups.setdefault((scorer.study, scorer.measure), []).append(scorer)
        families.setdefault(scorer.measure, []).append(scorer)
    if n_draws:
        for family in families.values():
            columns |= _uncertainty(scored, family, n_draws, seed)
    names = ("low", "high", "p_sign_flip", "p_corrected")
    return tuple(
        Result(
            scored.job.path,
            scorer.study,
            layer,
            scorer.region,
            ceiling=scorer.ceiling,
            rho=tuple(scored.scores[scorer.key].rho[i].tolist()),
            measure=scorer.measure,
            **{
                name: float(getattr(scored.scores[scorer.key], name)[i])
                for name in (*COLUMNS, "mean_rho")
            },
            **dict(zip(names, columns[scorer.key][i].tolist(), strict=True)),
        )
        for group in groups.values()
        for i, layer in enumerate(scored.layers)
        for scorer in group
    )


def _uncertainty(
    scored: Scored, scorers: Sequence[RegionScorer], n_draws: int, seed: int
) -> dict[tuple[str, str, str], NDArray[np.float64]]:
    """Interval, sign-flip p value and corrected p value of each layer by one measure: arrays of shape (layers, 4)."""
    columns = {scorer.key: np.full((len(scored.layers), 4), np.nan) for scorer in scorers}
    # A single subject allows no inference, and a layer without similarities has none to test.
    rows = {
        scorer: np.flatnonzero(np.isfinite(scored.scores[scorer.key].rho).all(axis=1))
        for scorer in scorers
        if scorer.n_subjects > 1
    }
    rhos = {s: scored.scores[s.key].rho[index] for s, index in rows.items() if len(index)}
    if not rhos:
        return columns
    p = np.stack(max_statistic(list(rhos.values()), seed=seed), axis=1)
    end = 0
    for scorer, rho in rhos.items():
        start, end = end, end + len(rho)
        values = rho**2 if scorer.protocol.squared else rho
        interval = subject_intervals(values, n_draws=n_draws, seed=seed)
        found = np.hstack([interval * (100 / scorer.ceiling), p[start:end]])
        columns[scorer.key][rows[scorer]] = found
    return columns
