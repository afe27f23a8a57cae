"""Scores of models under resampling of subjects, conditions or both."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrdm._base import as_array, check_choice, check_integer, names_of
from fastrdm.encoding import Responses
from fastrdm.inference.bootstrap_result import Bootstrap
from fastrdm.inference.draws import CONDITIONS, SUBJECTS, Counts, count, draw_indices
from fastrdm.inference.response_scores import check_absent, response_bootstrap
from fastrdm.inference.significance import Floats, label_models, weighted
from fastrdm.similarity import Protocol, SubjectData, Target, blocks_of

# Minimum number of different conditions in a draw, as in rsatoolbox.
_MIN_CONDITIONS = 3


def bootstrap(
    subject_rdms: ArrayLike | Target | Responses,
    rdms: Any,
    over: str = "both",
    *,
    n_draws: int = 1000,
    seed: int = 0,
    draws: Mapping[str, ArrayLike] | None = None,
    ceiling: bool = True,
    protocol: str | Protocol | None = None,
    names: Sequence[str] | None = None,
    nan_policy: str | None = None,
    n_threads: int | None = None,
) -> Bootstrap:
    r"""Resample subjects, conditions, or both, with replacement, and score models again.

    Each draw takes as many conditions as there are; pairs of a condition with itself are omitted. A subject's weight is
    the number of times it was drawn. The noise ceiling is bootstrapped with the drawn subjects and conditions.

    With ``"both"``, subjects and conditions are also resampled alone by the same draws. The three variances combine,
    for s subjects and c conditions, to

    .. math:: \sigma^2 = \tfrac{s}{s-1}\sigma^2_s + \tfrac{c}{c-1}\sigma^2_c
              - \tfrac{s c}{(s-1)(c-1)} (\sigma^2_{sc} - \sigma^2_s - \sigma^2_c),

    at least :math:`\frac{s}{s-1}\sigma^2_s` and :math:`\frac{c}{c-1}\sigma^2_c`, and at most
    :math:`\sigma^2_{sc}`. This is the corrected two-factor bootstrap of Schütt et al. (2023), which for many subjects
    and conditions becomes :math:`2(\sigma^2_s + \sigma^2_c) - \sigma^2_{sc}`. Resampling both factors together counts
    the noise of single measurements three times; the correction removes it. With one factor, the variance is that of
    the draws × n / (n − 1).

    Parameters
    ----------
    subject_rdms : array_like or Target
        As in `noise_ceiling`; a target provides its subjects, protocol and policy. For `Responses`, and Gram matrices
        in place of RDMs, the result is that of `response_bootstrap`, which also takes options of the regression.
    rdms : array_like
        One model, (pairs,) or (n, n), or several, also as a dict. Masked values are NaN.
    over : {"both", "subjects", "conditions"}
        Populations that the score is generalised to.
    n_draws : int
        Number of draws.
    seed : int
        Draws of subjects and of conditions come from separate streams, so ``"both"`` uses the same draws as each alone.
        The first draws of a longer bootstrap are those of a shorter one.
    draws : mapping, optional
        Draws to use instead: indices ``{"subjects": (n_draws, n_subjects), "conditions": (n_draws,
        n_conditions)}``, as far as `over` needs them.
    ceiling : bool
        Whether to bootstrap the noise ceiling.
    protocol : str or Protocol, optional
        How scores and ceilings are computed; by default the target's protocol, else rsatoolbox's.
    names : sequence of str, optional
        Names of the models; by default the keys of a dict, else their numbers.
    nan_policy : str, optional
        As in `compare`; by default the target's policy, else ``"raise"``.
    n_threads : int, optional
        Number of threads; it changes no bit.

    Returns
    -------
    Bootstrap
        Scores and ceilings of all draws, with variances, intervals and tests.

    Raises
    ------
    ValueError
        If a shape does not fit, a value is infinite, or NaN under ``"raise"``, there are fewer than two subjects or
        three conditions to resample, labels of subjects and models differ, `n_draws` is below 2, the seed is not an
        integer, draws are missing or out of range, or an option is unknown.

    Warns
    -----
    RuntimeWarning
        If square matrices look like similarities: the largest entry of each row is on the diagonal.

    Notes
    -----
    ``spearman``, ``rho-a``, ``corr`` and ``cosine`` take milliseconds. Other methods, and RDMs with NaN, are written
    out for each draw, which takes as long as `compare`. Scores of resampled subjects cost almost nothing: they are
    weighted means of one matrix.

    References
    ----------
    Schütt, Kipnis, Diedrichsen & Kriegeskorte (2023), Statistical inference on representational geometries, eLife
    12:e82566.

    Examples
    --------
    >>> import numpy as np, fastrdm
    >>> rng = np.random.default_rng(0)
    >>> result = fastrdm.bootstrap(rng.random((8, 190)), rng.random((2, 190)), n_draws=100)
    >>> result.interval().shape, result.compare_models().p.shape
    ((2, 2), (1,))
    """
    if isinstance(subject_rdms, Responses):
        check_absent(draws=draws, protocol=protocol, names=names, nan_policy=nan_policy)
        return response_bootstrap(subject_rdms, rdms, over, n_draws=n_draws, seed=seed)
    check_choice(over, ("subjects", "conditions", "both"), "over")
    data = SubjectData.take(subject_rdms, protocol, nan_policy, n_threads)
    models = data.take_models(rdms)
    labels = label_models(names_of(rdms) if names is None else names, len(models))
    counts = _counts(data, over, n_draws, seed, draws)
    subjects, conditions = counts.get("subjects"), counts.get("conditions")
    observed = data.observed(models)
    evaluations = np.stack(_evaluations(data, models, observed, conditions, subjects))
    bounds, bound = np.full((*evaluations.shape[:2], 2), np.nan), np.full(2, np.nan)
    if ceiling:
        kinds = [(conditions, subjects), (None, subjects), (conditions, None)]
        bounds = np.stack([data.ceilings(*kind) for kind in kinds[: len(evaluations)]])
        bound = data.ceilings(np.ones((1, data.n_conditions), np.int32), None)[0]
    if conditions is not None:
        too_small = np.count_nonzero(conditions, axis=1) < _MIN_CONDITIONS
        evaluations[:, too_small] = bounds[:, too_small] = np.nan
    return Bootstrap(
        names=labels,
        over=over,
        value=data.value(observed).mean(axis=1),
        ceiling=bound,
        evaluations=evaluations,
        ceilings=bounds,
        acceleration=_acceleration(data, models, observed, over),
        n_subjects=data.n_subjects,
        n_conditions=data.n_conditions,
        seed=None if draws is not None else int(seed),
        method=data.protocol.method,
        pool=data.protocol.pool,
        squared=data.protocol.squared,
        mean_rho=observed.mean(axis=1),
    )


def _evaluations(
    data: SubjectData,
    models: Floats,
    observed: Floats,
    conditions: Counts | None,
    subjects: Counts | None,
) -> list[Floats]:
    """Return scores (draws, models) with all that is drawn resampled; then, over both, each factor alone."""
    alone = [] if subjects is None else [weighted(subjects[:, None], data.value(observed)[None])]
    if conditions is None:
        return alone
    drawn = list(_resampled_values(data, models, conditions))
    over_conditions = np.concatenate([part.mean(axis=2) for part in drawn])
    if subjects is None:
        return [over_conditions]
    weights = np.split(subjects, np.cumsum([len(part) for part in drawn])[:-1])
    both = [weighted(w[:, None], part) for w, part in zip(weights, drawn, strict=True)]
    return [np.concatenate(both), *alone, over_conditions]


def _resampled_values(data: SubjectData, models: Floats, conditions: Counts) -> Iterator[Floats]:
    """Yield values (draws, models, subjects) in blocks of draws."""
    for block in blocks_of(len(conditions), len(models) * data.subjects[..., 0].size):
        counts = np.ascontiguousarray(conditions[block])
        yield data.value(data.resampled(models, counts))


def _acceleration(data: SubjectData, models: Floats, observed: Floats, over: str) -> Floats:
    # Scores (left out, models) without each subject, and without each condition.
    jackknives = []
    if over != "conditions":
        values = data.value(observed)
        jackknives.append((values.sum(axis=1) - values.T) / (data.n_subjects - 1))
    if over != "subjects":
        counts = 1 - np.eye(data.n_conditions, dtype=np.int32)
        parts = [part.mean(axis=2) for part in _resampled_values(data, models, counts)]
        jackknives.append(np.concatenate(parts))
    deviations = np.concatenate([j.mean(axis=0) - j for j in jackknives])
    squares = (deviations**2).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(squares > 0, (deviations**3).sum(axis=0) / (6 * squares**1.5), 0.0)


def _counts(
    data: SubjectData, over: str, n_draws: int, seed: int, draws: Mapping[str, ArrayLike] | None
) -> dict[str, Counts]:
    """Return how often each subject and each condition occurs in each draw, as far as `over` needs them."""
    sizes = {"subjects": data.n_subjects, "conditions": data.n_conditions}
    wanted = {name: sizes[name] for name in (sizes if over == "both" else (over,))}
    for name, least in (("subjects", 2), ("conditions", _MIN_CONDITIONS)):
        if wanted.get(name, least) < least:
            raise ValueError(f"resampling {name} needs at least {least} {name}, not {wanted[name]}")
    if draws is None:
        check_integer(n_draws, "n_draws", 2)
        streams = {"subjects": SUBJECTS, "conditions": CONDITIONS}
        indices = {
            name: draw_indices(seed, streams[name], n_draws, n) for name, n in wanted.items()
        }
    elif set(draws) != set(wanted):
        raise ValueError(
            f"over={over!r} needs draws of {' and '.join(wanted)}, got {', '.join(draws) or 'none'}"
        )
    else:
        indices = {name: _checked_draws(draws[name], name, n) for name, n in wanted.items()}
    if len({len(array) for array in indices.values()}) > 1:
        raise ValueError("there must be as many draws of subjects as of conditions")
    return {name: count(indices[name], n) for name, n in wanted.items()}


def _checked_draws(draws: ArrayLike, name: str, n: int) -> NDArray[np.intp]:
    array = as_array(draws, f"draws of {name}")
    if array.ndim != 2 or array.shape[1] != n or array.dtype.kind not in "iu" or len(array) < 2:
        raise ValueError(
            f"draws of {name} must be integers (draws, {n}), got {array.dtype} {array.shape}"
        )
    if array.min() < 0 or array.max() >= n:
        raise ValueError(
            f"draws of {name} must be from 0 to {n - 1}, got {array.min()} to {array.max()}"
        )
    return array.astype(np.intp)
