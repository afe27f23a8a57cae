"""Intervals and tests of how well layers predict responses."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import check_choice, check_integer, warn_caller
from fastrdm.encoding import ConditionFolds, Responses, ResponseScore, folds_of
from fastrdm.inference.bootstrap_result import Bootstrap
from fastrdm.inference.draws import (
    CONDITIONS,
    SUBJECTS,
    UNITS,
    Counts,
    check_seed,
    count,
    draw_indices,
    draw_permutations,
)
from fastrdm.inference.significance import (
    Floats,
    TestResult,
    check_correction,
    check_permutations,
    make_result,
    permutation_p,
)

_OVER = ("subjects", "conditions", "both", "units")
# Units whose draws are computed together.
_UNITS = 512
# Streams of the units of different subjects are this far apart.
_STREAMS = 8


def response_bootstrap(
    responses: Responses,
    grams: Any,
    over: str = "both",
    *,
    n_draws: int = 1000,
    seed: int = 0,
    **options: Any,
) -> Bootstrap:
    """Resample subjects, conditions, both, or units, and summarise the held-out predictions of each layer again.

    The value is the mean over subjects of the median over units of r. A draw of conditions takes as many held-out
    conditions as there are, with their predictions: the regressions are not fitted again, and the uncertainty of the
    training set is not part of the interval. The variance over both factors is that of `bootstrap`.

    Parameters
    ----------
    responses : Responses
        Measured responses.
    grams : Gram, list of Gram or dict of Gram
        Layers.
    over : {"both", "subjects", "conditions", "units"}
        What is resampled with replacement. Of units, those of each subject are.
    n_draws, seed : int
        Number of draws, and their seed.
    **options
        Of `Responses.score`: the method, folds, penalties; the folds have the same seed.

    Returns
    -------
    Bootstrap
        Without ceilings.

    Raises
    ------
    ValueError
        As `Responses.score`, or if `over` is unknown, or there are fewer than two subjects or units, or three
        conditions, to resample.

    Examples
    --------
    >>> import numpy as np, fastrdm
    >>> rng = np.random.default_rng(0)
    >>> layer = rng.standard_normal((60, 20))
    >>> voxels = layer @ rng.standard_normal((20, 30)) + 4 * rng.standard_normal((4, 60, 30))
    >>> responses = fastrdm.Responses(voxels)
    >>> result = fastrdm.response_bootstrap(responses, fastrdm.gram(layer), "subjects", n_draws=100)
    >>> result.evaluations.shape
    (1, 100, 1)
    """
    check_choice(over, _OVER, "over")
    check_integer(n_draws, "n_draws", 2)
    check_seed(seed)
    counts = _counts(responses, over, n_draws, seed)
    options = {"seed": seed % (1 << 32)} | options
    grams = responses.matched(grams)
    parts = [grams]
    if "conditions" in counts:
        # Predictions of one layer at a time are kept; they are as large as the responses.
        options["keep_predictions"] = True
        parts = _one_by_one(grams, options.get("method"))
    names: list[str] = []
    values, draws, jackknives = [], [], []
    for part in parts:
        score = responses.score(part, **options)
        names += score.names
        values.append(score.median.mean(axis=1))
        evaluations, jackknife = _drawn(responses, score, over, counts, n_draws, seed)
        draws.append(evaluations)
        jackknives.append(jackknife)
    evaluations = np.concatenate(draws, axis=2)
    return Bootstrap(
        names=tuple(names),
        over=over,
        value=np.concatenate(values),
        ceiling=np.full(2, np.nan),
        evaluations=evaluations,
        ceilings=np.full((*evaluations.shape[:2], 2), np.nan),
        acceleration=_acceleration(np.concatenate(jackknives, axis=1)),
        n_subjects=responses.n_subjects,
        n_conditions=responses.n_conditions,
        n_units=min(responses.n_units),
        seed=int(seed),
        method=f"median r of {score.method}",
        pool="none",
        squared=False,
    )


def _one_by_one(grams: Any, method: str | None) -> list[Any]:
    """Return layers one by one, with their names, unless a method joins them."""
    if method in ("banded", "stacked") or not isinstance(grams, (Mapping, list, tuple)):
        return [grams]
    pairs = grams.items() if isinstance(grams, Mapping) else enumerate(grams)
    return [{name: gram} for name, gram in pairs] or [grams]


def _drawn(
    responses: Responses,
    score: ResponseScore,
    over: str,
    counts: Mapping[str, Counts],
    n_draws: int,
    seed: int,
) -> tuple[Floats, Floats]:
    """Return scores (kinds, draws, models), and deviations (left out, models) without each subject or condition."""
    values = score.median
    if over == "units":
        return _over_units(score, n_draws, seed)[None], np.empty((0, len(values)))
    subjects, conditions = counts.get("subjects"), counts.get("conditions")
    jackknives = []
    if subjects is not None:
        one_less = 1 - np.eye(responses.n_subjects, dtype=np.int32)
        jackknives.append(_jackknife(_means(values[None], one_less)))
    if conditions is None:
        return _means(values[None], subjects)[None], np.concatenate(jackknives)
    drawn = _over_conditions(responses, score, conditions)
    one_less = 1 - np.eye(responses.n_conditions, dtype=np.int32)
    jackknives.append(_jackknife(_over_conditions(responses, score, one_less).mean(axis=2)))
    evaluations = [_means(drawn, subjects)]
    if subjects is not None:
        evaluations += [_means(values[None], subjects), drawn.mean(axis=2)]
    return np.stack(evaluations), np.concatenate(jackknives)


def response_test(
    responses: Responses,
    grams: Any,
    *,
    n_permutations: int = 1000,
    seed: int = 0,
    alternative: str = "greater",
    correction: str | None = "max",
    within_folds: bool = False,
    **options: Any,
) -> TestResult:
    """Test whether layers predict responses by permuting the conditions of the responses.

    The statistic is the mean over subjects of the median over units of r. Under the null hypothesis, the conditions of
    the responses are exchangeable. For each permutation, penalties are chosen and all is fitted again, so that the
    negative r of predictions by chance is part of the null distribution; the layers' decompositions are shared.

    Parameters
    ----------
    responses : Responses
        Measured responses. All subjects and units get the same permutations.
    grams : Gram, list of Gram or dict of Gram
        Layers.
    n_permutations, seed : int
        Number of random permutations, and their seed.
    alternative : {"greater", "less", "two-sided"}
        Alternative hypothesis about r.
    correction : str or None
        As in `correct`, or ``"max"``: by the extreme over all layers under each permutation.
    within_folds : bool
        Whether conditions are exchanged only with conditions of the same fold, for folds (or groups) between which
        conditions are not exchangeable, such as runs.
    **options
        Of `Responses.score`: the method, folds, penalties; the folds have the same seed.

    Returns
    -------
    TestResult
        A row for each layer.

    Raises
    ------
    ValueError
        As `Responses.score`, or if an option is unknown, or no fold has two conditions to exchange.

    Warns
    -----
    RuntimeWarning
        One, naming the layers with a NaN p because r of all units is NaN.

    Notes
    -----
    Each permutation takes as long as `Responses.score` without its decompositions.
    """
    check_permutations(alternative, n_permutations, seed)
    check_correction(correction, "max")
    options = {"seed": seed % (1 << 32)} | options
    grams = responses.matched(grams)
    observed_score = responses.score(grams, **options)
    names, observed = observed_score.names, observed_score.median.mean(axis=1)
    orders = draw_permutations(seed, n_permutations, responses.n_conditions)
    if within_folds:
        orders = _within(orders, _folds(responses, options))
    null = responses.score_permuted(grams, orders, **options).mean(axis=2)
    null[np.isnan(null)] = -np.inf if alternative == "less" else np.inf
    p, p_max = np.full((2, len(names)), np.nan)
    known = np.flatnonzero(~np.isnan(observed))
    if known.size:
        p[known], p_max[known] = permutation_p(
            observed[known], lambda: iter([null[:, known]]), alternative, False
        )
    if len(known) < len(names):
        unknown = ", ".join(names[i] for i in np.flatnonzero(np.isnan(observed)))
        warn_caller(f"p is NaN for layers without r: {unknown}")
    return make_result(
        names, observed, correction, statistic=observed, p=p, p_max=p_max,
        test="permutation of conditions", against="zero", alternative=alternative,
        n_resamples=len(orders), exact=False, seed=int(seed),
    )  # fmt: skip


def check_absent(**options: Any) -> None:
    """Refuse options of RDMs for responses."""
    for name, value in options.items():
        if value is not None:
            raise ValueError(
                f"{name} is an option for RDMs and cannot be used with Responses; their options are those of"
                " response_bootstrap and response_test"
            )


def _folds(responses: Responses, options: Mapping[str, Any]) -> ConditionFolds:
    named = {name: options[name] for name in ("seed", "groups", "strata") if name in options}
    return folds_of(options.get("folds", 5), responses.n_conditions, **named)


def _within(orders: Counts, folds: ConditionFolds) -> Counts:
    """Return permutations that exchange conditions of one fold only, from permutations of all."""
    out = np.empty_like(orders)
    numbers = folds.numbers
    largest = 0
    for number in np.unique(numbers):
        places = np.flatnonzero(numbers == number)
        largest = max(largest, len(places))
        # The order of these conditions among each other.
        out[:, places] = places[np.argsort(orders[:, places], axis=1)]
    if largest < 2:
        raise ValueError(
            "no fold has two conditions to exchange; pass within_folds=False, or fewer folds"
        )
    return out


def _counts(responses: Responses, over: str, n_draws: int, seed: int) -> dict[str, Counts]:
    """Return how often each subject and each condition occurs in each draw, as far as `over` needs them."""
    sizes = {"subjects": responses.n_subjects, "conditions": responses.n_conditions}
    if over == "units":
        if min(responses.n_units) < 2:
            raise ValueError("resampling units needs at least 2 units for each subject, not 1")
        return {}
    wanted = {name: sizes[name] for name in (sizes if over == "both" else (over,))}
    for name, least in (("subjects", 2), ("conditions", 3)):
        if wanted.get(name, least) < least:
            raise ValueError(f"resampling {name} needs at least {least} {name}, not {wanted[name]}")
    streams = {"subjects": SUBJECTS, "conditions": CONDITIONS}
    return {
        name: count(draw_indices(seed, streams[name], n_draws, n), n) for name, n in wanted.items()
    }


def _means(values: Floats, subjects: Counts | None) -> Floats:
    """Return means (draws, models) over subjects of values (draws or 1, models, subjects), weighted by counts."""
    if subjects is None:
        return np.asarray(values.mean(axis=2))
    weights = subjects / subjects.sum(axis=1, keepdims=True)
    return np.asarray(
        np.einsum("ds,dms->dm", weights, np.broadcast_to(values, (len(weights), *values.shape[1:])))
    )


def _by_subject(values: Any) -> Sequence[Floats]:
    """Return an array (models, …, units) for each subject."""
    return values if isinstance(values, list) else list(np.moveaxis(values, 1, 0))


def _over_units(score: ResponseScore, n_draws: int, seed: int) -> Floats:
    """Return values (draws, models) with the units of each subject drawn."""
    out = []
    for subject, r in enumerate(_by_subject(score.r)):
        places = draw_indices(seed, UNITS + _STREAMS * subject, n_draws, r.shape[1])
        out.append(np.stack([_medians(row[places]) for row in r], axis=1))
    return np.asarray(np.mean(out, axis=0))


def _over_conditions(responses: Responses, score: ResponseScore, counts: Counts) -> Floats:
    """Return medians of r (draws, models, subjects) of predictions with the conditions drawn."""
    weights = counts.astype(np.float64)
    predictions = score.predictions
    if predictions is None:
        raise ValueError("the predictions were not kept; pass keep_predictions=True")
    out = []
    for measured, predicted in zip(responses.means, _by_subject(predictions), strict=True):
        rows = [_medians(_weighted_r(weights, measured, one)) for one in predicted]
        out.append(np.stack(rows, axis=1))
    return np.stack(out, axis=2)


def _weighted_r(weights: Floats, measured: NDArray[Any], predicted: Floats) -> Floats:
    """Return Pearson's r (draws, units) of conditions (conditions, units) that count so often (draws, conditions)."""
    out = np.empty((len(weights), measured.shape[1]))
    for start in range(0, out.shape[1], _UNITS):
        block = slice(start, start + _UNITS)
        y, p = measured[:, block].astype(np.float64), predicted[:, block].copy()
        present = ~(np.isnan(y) | np.isnan(p))
        for values in (y, p):
            values -= np.sum(values, axis=0, where=present) / np.maximum(present.sum(axis=0), 1)
            values[~present] = 0
        n = weights @ present
        with np.errstate(invalid="ignore", divide="ignore"):
            my, mp = weights @ y / n, weights @ p / n
            yy, pp = weights @ (y * y) / n - my**2, weights @ (p * p) / n - mp**2
            out[:, block] = (weights @ (y * p) / n - my * mp) / np.sqrt(yy * pp)
    return out


def _medians(rows: Floats) -> Floats:
    """Return medians of rows, without NaN."""
    if not np.isnan(rows).any():
        return np.asarray(np.median(rows, axis=1))
    kept = [row[~np.isnan(row)] for row in rows]
    return np.array([np.median(row) if len(row) else np.nan for row in kept])


def _jackknife(scores: Floats) -> Floats:
    """Return deviations (left out, models) from the mean of scores."""
    return np.asarray(scores.mean(axis=0) - scores)


def _acceleration(deviations: Floats) -> Floats:
    """Return the acceleration of BCa intervals from deviations (left out, models); 0 without them."""
    squares = (deviations**2).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(squares > 0, (deviations**3).sum(axis=0) / (6 * squares**1.5), 0.0)
