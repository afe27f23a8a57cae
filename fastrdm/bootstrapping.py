"""Scores of models under resampling of subjects, conditions or both."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrdm.corrections import correct
from fastrdm.draws import CONDITIONS, SUBJECTS, Counts, count, draw_indices
from fastrdm.forms import as_array, names_of
from fastrdm.protocol import Protocol
from fastrdm.resampling import (
    Data,
    HasSubjects,
    observed_similarities,
    resampled_ceilings,
    resampled_similarities,
    take_models,
    take_subjects,
)
from fastrdm.results import Result, made_by
from fastrdm.significance import (
    Floats,
    Tests,
    all_pairs,
    blocks,
    check_level,
    check_number,
    check_word,
    label_models,
    name_pairs,
    percentiles,
    quantiles,
    share_p,
    t_interval,
    t_p,
    tails_of,
    weighted,
)

OVER = ("subjects", "conditions", "both")
# Conditions that a draw must hold, as in rsatoolbox.
_FEWEST = 3


@dataclass(frozen=True, eq=False)
class Bootstrap(Result):
    """Scores of models under resampling.

    Attributes
    ----------
    names : tuple of str
        The models.
    over : str
        What was resampled: ``"subjects"``, ``"conditions"`` or ``"both"``.
    value : ndarray, shape (n_models,)
        Scores on the data as they are.
    ceiling : ndarray, shape (2,)
        Lower and upper bound on the data as they are; NaN where no ceilings were asked for.
    evaluations : ndarray, shape (kinds, n_draws, n_models)
        Scores of each draw. One kind, or, over both, three: of both resampled, of subjects alone, of conditions
        alone, by the same draws. NaN for a draw that holds fewer than three different conditions.
    ceilings : ndarray, shape (kinds, n_draws, 2)
        Bounds of each draw.
    acceleration : ndarray, shape (n_models,)
        Of BCa intervals, from the jackknife over what was resampled.
    n_subjects, n_conditions : int
        Of the data.
    seed : int or None
        None where the draws were given.
    method, pool : str
        Similarity, and how ceilings pool, as in `noise_ceiling`.
    squared : bool
        Whether similarities are squared.
    mean_rho : ndarray, shape (n_models,)
        Mean over subjects of the similarity itself, on the data as they are: below 0, the model orders pairs oppositely
        to the brain, however high a squared score is. Empty in results of before it was kept.
    made_by : dict
        Versions and kernels.
    """

    names: tuple[str, ...]
    over: str
    value: Floats
    ceiling: Floats
    evaluations: Floats
    ceilings: Floats
    acceleration: Floats
    n_subjects: int
    n_conditions: int
    seed: int | None
    method: str
    pool: str
    squared: bool
    mean_rho: Floats = field(default_factory=lambda: np.empty(0), metadata={"later": True})
    made_by: dict[str, str] = field(default_factory=made_by)

    @property
    def n_draws(self) -> int:
        """Number of draws."""
        return int(self.evaluations.shape[1])

    @property
    def dof(self) -> int:
        """Degrees of freedom as in rsatoolbox: what is resampled least, less one."""
        n = {"subjects": self.n_subjects, "conditions": self.n_conditions}
        return n.get(self.over, min(n.values())) - 1

    def _dof(self, draws: Floats) -> Floats:
        """Degrees of freedom of what has these draws (kinds, n_draws, n).

        Over both, those of a sum of variances (Satterthwaite 1946): where conditions are what makes scores vary, the
        few subjects' degrees of freedom found 0.030 false positives instead of 0.05.
        """
        if self.over != "both":
            return np.asarray(float(self.dof))
        _, subjects, conditions = self._raw(draws)
        s, c = self.n_subjects, self.n_conditions
        parts = np.stack([subjects * s / (s - 1), conditions * c / (c - 1)])
        least = np.array([[s - 1], [c - 1]])
        total = parts.sum(axis=0)
        share = np.divide(parts, total, out=np.full_like(parts, 0.5), where=total > 0)
        return np.asarray(1 / (share**2 / least).sum(axis=0))

    @property
    def variance(self) -> Floats:
        """Variances (n_models,) of the scores; over both, corrected as `bootstrap` says."""
        return self._variance(self.evaluations)

    @property
    def ceiling_variance(self) -> Floats:
        """Variances (2,) of the bounds."""
        return self._variance(self.ceilings)

    @property
    def standard_error(self) -> Floats:
        """Roots of the variances."""
        return np.asarray(np.sqrt(self.variance))

    def _raw(self, draws: Floats) -> list[Floats]:
        """Variances of numbers (kinds, n_draws, …), over the draws that are there."""
        there = np.asarray(~np.isnan(self.evaluations).any(axis=2))
        return [kind[ok].var(axis=0, ddof=1) for kind, ok in zip(draws, there, strict=True)]

    def _variance(self, draws: Floats) -> Floats:
        raw = self._raw(draws)
        s, c = (n / (n - 1) for n in (self.n_subjects, self.n_conditions))
        if self.over != "both":
            return np.asarray(raw[0] * (s if self.over == "subjects" else c))
        both, subjects, conditions = raw
        corrected = s * subjects + c * conditions - s * c * (both - subjects - conditions)
        least = np.maximum(s * subjects, c * conditions)
        return np.asarray(np.minimum(np.maximum(corrected, least), both))

    def interval(self, level: float = 0.95, kind: str = "t", *, dof: float | None = None) -> Floats:
        """Confidence intervals of the scores.

        Parameters
        ----------
        level : float
            Between 0 and 1.
        kind : str
            ``"t"``: the score ± a quantile of Student's t × its standard error. ``"percentile"``: quantiles
            of the draws' scores, the (n + 1)p-th of n (Davison & Hinkley 1997). ``"bca"``: the same, corrected for
            bias and skewness (Efron 1987). Over both, only ``"t"`` knows of the corrected variance; the other two
            are too wide.
        dof : float, optional
            Degrees of freedom of t: `Bootstrap.dof` for rsatoolbox's interval. By default the same, but over both,
            where they are those of a sum of variances (Satterthwaite 1946).

        Returns
        -------
        ndarray, shape (n_models, 2)
            Low and high.

        Raises
        ------
        ValueError
            If the level is not between 0 and 1, the kind is unknown, or there are too few draws for the level.
        """
        check_level(level)
        check_word(kind, ("t", "percentile", "bca"), "kind")
        if kind == "t":
            chosen = self._dof(self.evaluations) if dof is None else dof
            return t_interval(self.value, self.standard_error, chosen, level)
        draws = _there(self.evaluations[0])
        if kind == "percentile":
            return percentiles(draws, level)
        tails = tails_of(level)
        return quantiles(draws, _bca_tails(draws, self.value, self.acceleration, tails))

    def test(
        self, against: str = "zero", *, kind: str = "t-test", correction: str | None = "fdr_bh"
    ) -> "Tests":
        """Test each model's score against zero, or against the noise ceiling.

        Parameters
        ----------
        against : str
            ``"zero"``: one-sided, that the score is above 0. ``"ceiling"``: that it differs from the lower bound, of
            whose variance t knows.
        kind : str
            ``"t-test"``: of the score and its bootstrapped variance, with the degrees of freedom of `interval`.
            ``"bootstrap"``: by the share of draws, plus one, on the other side.
        correction : str or None
            As in `correct`.

        Returns
        -------
        Tests
            A row a model.

        Raises
        ------
        ValueError
            If a word is unknown, scores are squared, which are never below 0, or there are no ceilings.
        """
        check_word(against, ("zero", "ceiling"), "against")
        if against == "zero" and self.squared:
            raise ValueError(
                "squared similarities are never below 0, so no test of them against 0 means anything; bootstrap the "
                "similarities themselves (protocol='brainscore'), or pass Target.score(rdms).rho to subject_test"
            )
        if against == "ceiling" and np.isnan(self.ceilings).all():
            raise ValueError("no ceilings were bootstrapped; pass ceiling=True to bootstrap")
        draws, estimate = self.evaluations, self.value
        if against == "ceiling":
            draws, estimate = draws - self.ceilings[..., :1], estimate - self.ceiling[0]
        sided = "greater" if against == "zero" else "two-sided"
        statistic, p = self._tested(draws, estimate, kind, sided)
        return self._tests(
            self.names, estimate, statistic, p, sided, correction, kind, against, None
        )

    def compare_models(
        self, *, kind: str = "t-test", level: float = 0.95, correction: str | None = "fdr_bh"
    ) -> "Tests":
        """Test the differences of all pairs of models, two-sided.

        Parameters
        ----------
        kind : str
            ``"t-test"`` or ``"bootstrap"``, as in `test`.
        level : float
            Of the differences' intervals: by t, or percentiles.
        correction : str or None
            As in `correct`.

        Returns
        -------
        Tests
            A row a pair.

        Raises
        ------
        ValueError
            If there is one model, or a word is unknown.
        """
        first, second = all_pairs(self.names)
        draws = self.evaluations[..., first] - self.evaluations[..., second]
        estimate = self.value[first] - self.value[second]
        statistic, p = self._tested(draws, estimate, kind, "two-sided")
        check_level(level)
        if kind == "t-test":
            error = np.sqrt(self._variance(draws))
            interval = t_interval(estimate, error, self._dof(draws), level)
        else:
            interval = percentiles(_there(draws[0]), level)
        names = name_pairs(self.names, first, second)
        return self._tests(
            names, estimate, statistic, p, "two-sided", correction, kind, "each other", interval
        )

    def _tested(
        self, draws: Floats, estimate: Floats, kind: str, sided: str
    ) -> tuple[Floats, Floats]:
        check_word(kind, ("t-test", "bootstrap"), "kind")
        if kind == "t-test":
            statistic = estimate / np.sqrt(np.maximum(self._variance(draws), np.finfo(float).eps))
            return statistic, t_p(statistic, self._dof(draws), sided)
        return estimate, share_p(_there(draws[0]), sided)

    def _tests(
        self,
        names: tuple[str, ...],
        estimate: Floats,
        statistic: Floats,
        p: Floats,
        sided: str,
        correction: str | None,
        kind: str,
        against: str,
        interval: Floats | None,
    ) -> "Tests":
        return Tests(
            names=names,
            estimate=estimate,
            statistic=statistic,
            p=p,
            p_corrected=correct(p, correction),
            interval=np.full((len(names), 2), np.nan) if interval is None else interval,
            test=f"{kind} on a bootstrap over {self.over}",
            against=against,
            alternative=sided,
            correction=correction,
            n_resamples=self.n_draws,
            exact=False,
            seed=self.seed,
            made_by=self.made_by,
        )

    def facts(self) -> str:
        """What was done, in one line."""
        unit = f"{self.method}{' squared' if self.squared else ''}"
        seed = "draws given" if self.seed is None else f"seed {self.seed}"
        lower, upper = self.ceiling
        ceiling = "" if math.isnan(lower) else f"; noise ceiling {lower:.4f} to {upper:.4f}"
        return (
            f"bootstrap over {self.over}, {self.n_draws} draws, {seed}: {unit}, {self.n_subjects} subjects,"
            f" {self.n_conditions} conditions{ceiling}"
        )

    def rows(self) -> list[dict[str, Any]]:
        """A dict a model; with its mean similarity where scores are squared."""
        interval = self.interval()
        rows = [
            {
                "model": name,
                "value": float(v),
                "se": float(e),
                "low": float(low),
                "high": float(high),
            }
            for name, v, e, (low, high) in zip(
                self.names, self.value, self.standard_error, interval, strict=True
            )
        ]
        if self.squared and len(self.mean_rho):
            for row, rho in zip(rows, self.mean_rho.tolist(), strict=True):
                row["mean rho"] = rho
        return rows


def bootstrap(
    subject_rdms: ArrayLike | HasSubjects,
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
    check_word(over, OVER, "over")
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
        method=data.method,
        pool=data.pool,
        squared=data.squared,
        mean_rho=observed.mean(axis=1),
    )


def _resampled(data: Data, models: Floats, conditions: Counts) -> Iterator[Floats]:
    """Similarities (some draws, models, subjects), some draws at a time."""
    for block in blocks(len(conditions), len(models) * data.subjects[..., 0].size):
        yield resampled_similarities(data, models, np.ascontiguousarray(conditions[block]))


def _indices(
    data: Data, over: str, n_draws: int, seed: int, draws: Mapping[str, ArrayLike] | None
) -> dict[str, NDArray[np.intp]]:
    sizes = {"subjects": data.n_subjects, "conditions": data.n_conditions}
    wanted = {name: sizes[name] for name in (sizes if over == "both" else (over,))}
    for name, least in (("subjects", 2), ("conditions", _FEWEST)):
        if wanted.get(name, least) < least:
            raise ValueError(f"to resample {name} at least {least} are needed, got {wanted[name]}")
    if draws is None:
        check_number(n_draws, "n_draws", 2)
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


def _there(draws: Floats) -> Floats:
    """Draws (n_draws, n) that hold enough conditions."""
    return draws[~np.isnan(draws).any(axis=1)]


def _bca_tails(draws: Floats, value: Floats, acceleration: Floats, tails: Floats) -> Floats:
    from scipy.special import ndtr, ndtri

    n = len(draws)
    below = np.count_nonzero(draws < value, axis=0) + np.count_nonzero(draws == value, axis=0) / 2
    bias = ndtri(np.clip(below / n, 1 / (n + 1), n / (n + 1)))[:, None]
    shifted = bias + ndtri(tails)
    moved = ndtr(bias + shifted / (1 - acceleration[:, None] * shifted))
    # Beyond the draws there is nothing to take.
    return np.asarray(np.clip(moved, 1 / (n + 1), n / (n + 1)))


def _acceleration(jackknives: Sequence[Floats]) -> Floats:
    deviations = np.concatenate([j.mean(axis=0) - j for j in jackknives])
    squares = (deviations**2).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(squares > 0, (deviations**3).sum(axis=0) / (6 * squares**1.5), 0.0)
