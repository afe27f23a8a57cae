"""Scores of models under resampling of subjects, conditions or both."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrdm._base import as_array, check_choice, check_integer, names_of
from fastrdm.inference.bootstrap_result import Bootstrap
from fastrdm.inference.significance import (
    Floats,
    label_models,
    weighted,
)
from fastrdm.similarity import (
    CONDITIONS,
    SUBJECTS,
    Counts,
    Protocol,
    SubjectData,
    Target,
    blocks_of,
    count,
    draw_indices,
    observed_similarities,
    resampled_ceilings,
    resampled_similarities,
    take_models,
    take_subjects,
)

OVER = ("subjects", "conditions", "both")
# Conditions that a draw must hold, as in rsatoolbox.
_FEWEST = 3


def bootstrap(
    subject_rdms: ArrayLike | Target,
    rdms: ArrayLike,
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
    r"""Resample subjects, conditions, or both, with replacement, and score models anew.

    A draw holds as many conditions as there are; pairs of a condition with itself are left out. Subjects that are drawn
    weigh as often as they are. Ceilings are bootstrapped along, from the drawn subjects on the drawn conditions.

    Over both, subjects and conditions are also resampled alone by the same draws, and of the three variances, with s
    subjects and c conditions,

    .. math:: \sigma^2 = \tfrac{s}{s-1}\sigma^2_s + \tfrac{c}{c-1}\sigma^2_c
              - \tfrac{s c}{(s-1)(c-1)} (\sigma^2_{sc} - \sigma^2_s - \sigma^2_c),

    not below :math:`\frac{s}{s-1}\sigma^2_s` and :math:`\frac{c}{c-1}\sigma^2_c` and not above :math:`\sigma^2_{sc}`:
    the two-factor bootstrap with its correction by Schütt et al. (2023), which for many subjects and conditions is
    :math:`2(\sigma^2_s + \sigma^2_c) - \sigma^2_{sc}`. Resampling both at once counts the noise of single measurements
    three times; the correction takes it out. Over one, the variance is that of the draws × n / (n − 1).

    Parameters
    ----------
    subject_rdms : array_like or Target
        As in `noise_ceiling`; of a target, its subjects, protocol and policy.
    rdms : array_like
        One model, (pairs,) or (n, n), or several, also as a dict. Masked values are NaN.
    over : {"both", "subjects", "conditions"}
        What the score is to generalise to.
    n_draws : int
        Number of draws.
    seed : int
        Draws of subjects and of conditions have streams of their own, so that ``"both"`` takes the same ones. The first
        draws of a longer bootstrap are those of a shorter one.
    draws : mapping, optional
        Draws to take instead: indices ``{"subjects": (n_draws, n_subjects), "conditions": (n_draws,
        n_conditions)}``, those that `over` needs.
    ceiling : bool
        Whether to bootstrap the noise ceiling.
    protocol : str or Protocol, optional
        How scores and ceilings are made; by default the target's, else that of rsatoolbox.
    names : sequence of str, optional
        What the models are called; by default the keys of a dict, else their numbers.
    nan_policy : str, optional
        As in `compare`; the target's by default, else ``"raise"``.
    n_threads : int, optional
        Threads to use; they change no bit.

    Returns
    -------
    Bootstrap
        Scores and ceilings of all draws, with variances, intervals and tests.

    Raises
    ------
    ValueError
        If a shape does not fit, a value is infinite, or NaN under ``"raise"``, there are fewer than two subjects or
        three conditions where they are resampled, labels of subjects and models differ, `n_draws` is below 2, the seed
        is no whole number, draws are missing or out of range, or a word is unknown.

    Warns
    -----
    RuntimeWarning
        If square matrices have the largest entry of each row on the diagonal, as similarities do.

    Notes
    -----
    ``spearman``, ``rho-a``, ``corr``, ``cosine`` take milliseconds; other methods, and RDMs with NaN, are written out
    draw by draw and take as long as `compare` does on each. Subjects' draws of scores cost nothing: they are
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
    check_choice(over, OVER, "over")
    data = take_subjects(subject_rdms, protocol, nan_policy, n_threads)
    models = take_models(rdms, data)
    labels = label_models(names_of(rdms) if names is None else names, len(models))
    indices = _indices(data, over, n_draws, seed, draws)
    subjects = count(indices["subjects"], data.n_subjects) if "subjects" in indices else None
    conditions = (
        count(indices["conditions"], data.n_conditions) if "conditions" in indices else None
    )

    observed = observed_similarities(data, models)
    values = data.value(observed)
    evaluations, few = [], None
    if conditions is not None:
        few = np.count_nonzero(conditions, axis=1) < _FEWEST
        jackknife = 1 - np.eye(data.n_conditions, dtype=np.int32)
        drawn = [data.value(s) for s in _resampled(data, models, conditions)]
        over_conditions = np.concatenate([part.mean(axis=2) for part in drawn])
        if subjects is not None:
            weights = np.split(subjects, np.cumsum([len(part) for part in drawn])[:-1])
            evaluations.append(
                np.concatenate(
                    [weighted(w[:, None], part) for w, part in zip(weights, drawn, strict=True)]
                )
            )
            evaluations.append(weighted(subjects[:, None], values[None]))
        evaluations.append(over_conditions)
        left_out = np.concatenate(
            [data.value(s).mean(axis=2) for s in _resampled(data, models, jackknife)]
        )
    else:
        evaluations.append(weighted(subjects[:, None], values[None]))  # type: ignore[index]
    jackknives = []
    if subjects is not None:
        jackknives.append((values.sum(axis=1) - values.T) / (data.n_subjects - 1))
    if conditions is not None:
        jackknives.append(left_out)

    kinds: dict[str, list[tuple[Counts | None, Counts | None]]] = {
        "subjects": [(None, subjects)],
        "conditions": [(conditions, None)],
        "both": [(conditions, subjects), (None, subjects), (conditions, None)],
    }
    bounds, bound = np.full((len(kinds[over]), len(evaluations[0]), 2), np.nan), np.full(2, np.nan)
    if ceiling:
        bounds = np.stack([resampled_ceilings(data, c, s) for c, s in kinds[over]])
        bound = resampled_ceilings(data, np.ones((1, data.n_conditions), np.int32), None)[0]
    stacked = np.stack(evaluations)
    if few is not None:
        stacked[:, few] = bounds[:, few] = np.nan
    return Bootstrap(
        names=labels,
        over=over,
        value=values.mean(axis=1),
        ceiling=bound,
        evaluations=stacked,
        ceilings=bounds,
        acceleration=_acceleration(jackknives),
        n_subjects=data.n_subjects,
        n_conditions=data.n_conditions,
        seed=None if draws is not None else int(seed),
        method=data.protocol.method,
        pool=data.protocol.pool,
        squared=data.protocol.squared,
        mean_rho=observed.mean(axis=1),
    )


def _resampled(data: SubjectData, models: Floats, conditions: Counts) -> Iterator[Floats]:
    """Similarities (some draws, models, subjects), some draws at a time."""
    for block in blocks_of(len(conditions), len(models) * data.subjects[..., 0].size):
        yield resampled_similarities(data, models, np.ascontiguousarray(conditions[block]))


def _indices(
    data: SubjectData, over: str, n_draws: int, seed: int, draws: Mapping[str, ArrayLike] | None
) -> dict[str, NDArray[np.intp]]:
    sizes = {"subjects": data.n_subjects, "conditions": data.n_conditions}
    wanted = {name: sizes[name] for name in (sizes if over == "both" else (over,))}
    for name, least in (("subjects", 2), ("conditions", _FEWEST)):
        if wanted.get(name, least) < least:
            raise ValueError(f"to resample {name} at least {least} are needed, got {wanted[name]}")
    if draws is None:
        check_integer(n_draws, "n_draws", 2)
        streams = {"subjects": SUBJECTS, "conditions": CONDITIONS}
        return {name: draw_indices(seed, streams[name], n_draws, n) for name, n in wanted.items()}
    if set(draws) != set(wanted):
        raise ValueError(
            f"draws over {over} are of {' and '.join(wanted)}, got {', '.join(draws) or 'none'}"
        )
    given = {}
    for name, n in wanted.items():
        array = as_array(draws[name], f"draws of {name}")
        if array.ndim != 2 or array.shape[1] != n or array.dtype.kind not in "iu" or len(array) < 2:
            raise ValueError(
                f"draws of {name} must be whole numbers (draws, {n}), got {array.dtype} {array.shape}"
            )
        if array.min() < 0 or array.max() >= n:
            raise ValueError(
                f"draws of {name} must be from 0 to {n - 1}, got {array.min()} to {array.max()}"
            )
        given[name] = array.astype(np.intp)
    if len({len(array) for array in given.values()}) > 1:
        raise ValueError("there must be as many draws of subjects as of conditions")
    return given


def _acceleration(jackknives: Sequence[Floats]) -> Floats:
    deviations = np.concatenate([j.mean(axis=0) - j for j in jackknives])
    squares = (deviations**2).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(squares > 0, (deviations**3).sum(axis=0) / (6 * squares**1.5), 0.0)
