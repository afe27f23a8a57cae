"""How sure a score is: bootstraps, permutation tests, comparisons of models.

Two kinds of functions. `bootstrap` and `permutation_test` take RDMs. `subject_test`, `compare_models` and
`max_statistic` take each model's values over subjects, as `Target.score(rdms).rho` gives them, and ask about the
population of subjects alone. All are seeded; a result depends on its seed, and on no number of threads.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, runtime_checkable
from typing import Protocol as Structure

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrdm import _kernels
from fastrdm.ceiling import as_subjects
from fastrdm.compare import Side, check_values, contiguous, get_method
from fastrdm.corrections import check_correction, correct
from fastrdm.draws import (
    CONDITIONS,
    SUBJECTS,
    Counts,
    all_permutations,
    all_signs,
    check_seed,
    count,
    draw_indices,
    draw_permutations,
    draw_signs,
)
from fastrdm.forms import as_floats, condense, square
from fastrdm.protocol import Protocol, get_protocol
from fastrdm.resampling import (
    Data,
    observed_similarities,
    resampled_ceilings,
    resampled_similarities,
)
from fastrdm.results import Result, made_by

Floats = NDArray[np.float64]

OVER = ("subjects", "conditions", "both")
ALTERNATIVES = ("greater", "less", "two-sided")
# Up to so many permutations all are taken, and p is exact.
EXACT = 1 << 16
# Numbers that a step keeps at a time, 32 MB.
_AT_ONCE = 1 << 22
# Conditions that a draw must hold, as in rsatoolbox.
_FEWEST = 3


@runtime_checkable
class HasSubjects(Structure):
    """What a `Target` has of subjects."""

    protocol: Protocol
    nan_policy: str

    @property
    def subject_rdms(self) -> Floats:
        """RDMs (subjects, times, pairs)."""


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
    made_by: dict[str, str] = field(default_factory=made_by)

    @property
    def n_draws(self) -> int:
        """Number of draws."""
        return int(self.evaluations.shape[1])

    @property
    def dof(self) -> int:
        """Degrees of freedom of scores, as in rsatoolbox: what is resampled least, less one."""
        n = {"subjects": self.n_subjects, "conditions": self.n_conditions}
        return n.get(self.over, min(n.values())) - 1

    def _dof(self, draws: Floats) -> Floats:
        """Degrees of freedom of differences, of draws (kinds, n_draws, n).

        Over both, those of a sum of variances (Satterthwaite 1946): where conditions are what makes differences vary,
        the few subjects' degrees of freedom found 0.029 false positives instead of 0.05.
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

    def interval(self, level: float = 0.95, kind: str = "t") -> Floats:
        """Confidence intervals of the scores.

        Parameters
        ----------
        level : float
            Between 0 and 1.
        kind : str
            ``"t"``: the score ± a quantile of Student's t (`dof`) × its standard error. ``"percentile"``: quantiles
            of the draws' scores, the (n + 1)p-th of n (Davison & Hinkley 1997). ``"bca"``: the same, corrected for
            bias and skewness (Efron 1987). Over both, only ``"t"`` knows of the corrected variance; the other two
            are too wide.

        Returns
        -------
        ndarray, shape (n_models, 2)
            Low and high.

        Raises
        ------
        ValueError
            If the level is not between 0 and 1, the kind is unknown, or there are too few draws for the level.
        """
        _check_level(level)
        tails = np.array([(1 - level) / 2, (1 + level) / 2])
        if kind == "t":
            from scipy.special import stdtrit

            half = self.standard_error * stdtrit(self.dof, tails[1])
            return np.stack([self.value - half, self.value + half], axis=1)
        if kind not in ("percentile", "bca"):
            raise ValueError(f"kind {kind!r} is not one of: t, percentile, bca")
        draws = self.evaluations[0]
        draws = draws[~np.isnan(draws).any(axis=1)]
        wanted = np.broadcast_to(tails, (len(self.names), 2))
        if kind == "bca":
            wanted = _bca_tails(draws, self.value, self.acceleration, tails)
        return _quantiles(draws, wanted)

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
            ``"t-test"``: of the score and its bootstrapped variance. ``"bootstrap"``: by the share of draws, plus
            one, on the other side.
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
        _check(against, ("zero", "ceiling"), "against")
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
        statistic, p = self._tested(draws, estimate, kind, sided, np.asarray(float(self.dof)))
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
            ``"t-test"`` or ``"bootstrap"``, as in `test`; over both, t has the degrees of freedom of a sum of variances
            (Satterthwaite 1946), where rsatoolbox takes the subjects'.
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
        first, second = _pairs(self.names)
        draws = self.evaluations[..., first] - self.evaluations[..., second]
        estimate = self.value[first] - self.value[second]
        statistic, p = self._tested(draws, estimate, kind, "two-sided", self._dof(draws))
        _check_level(level)
        tails = np.array([(1 - level) / 2, (1 + level) / 2])
        if kind == "t-test":
            from scipy.special import stdtrit

            half = np.sqrt(self._variance(draws)) * stdtrit(self._dof(draws), tails[1])
            interval = np.stack([estimate - half, estimate + half], axis=1)
        else:
            kept = draws[0][~np.isnan(draws[0]).any(axis=1)]
            interval = _quantiles(kept, np.broadcast_to(tails, (len(estimate), 2)))
        names = _pair_names(self.names, first, second)
        return self._tests(
            names, estimate, statistic, p, "two-sided", correction, kind, "each other", interval
        )

    def _tested(
        self, draws: Floats, estimate: Floats, kind: str, sided: str, dof: Floats
    ) -> tuple[Floats, Floats]:
        _check(kind, ("t-test", "bootstrap"), "kind")
        if kind == "t-test":
            statistic = estimate / np.sqrt(np.maximum(self._variance(draws), np.finfo(float).eps))
            return statistic, _t_p(statistic, dof, sided)
        kept = draws[0][~np.isnan(draws[0]).any(axis=1)]
        n = len(kept)
        below = (np.count_nonzero(kept <= 0, axis=0) + 1) / (n + 1)
        above = (np.count_nonzero(kept >= 0, axis=0) + 1) / (n + 1)
        p = below if sided == "greater" else np.minimum(2 * np.minimum(below, above), 1)
        return estimate, np.asarray(p)

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
        """A dict a model."""
        interval = self.interval()
        return [
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


@dataclass(frozen=True, eq=False)
class Tests(Result):
    """Tests of one question, a row a model or a pair of models.

    Attributes
    ----------
    names : tuple of str
        What is tested: a model, or a pair as ``"a - b"``.
    estimate : ndarray, shape (n,)
        What is tested to be 0.
    statistic, p, p_corrected : ndarray, shape (n,)
        Test statistic, its p value, and that corrected for all rows.
    interval : ndarray, shape (n, 2)
        Confidence interval of the estimate; NaN where the test gives none.
    test, against, alternative : str
        What was done.
    correction : str or None
        As in `correct`, or ``"max"``.
    n_resamples : int
        Draws or permutations; 0 for tests without.
    exact : bool
        Whether those are all there are.
    seed : int or None
        None where nothing was drawn.
    made_by : dict
        Versions and kernels.
    """

    __test__ = False  # no test of pytest's

    names: tuple[str, ...]
    estimate: Floats
    statistic: Floats
    p: Floats
    p_corrected: Floats
    interval: Floats
    test: str
    against: str
    alternative: str
    correction: str | None
    n_resamples: int
    exact: bool
    seed: int | None
    made_by: dict[str, str] = field(default_factory=made_by)

    def facts(self) -> str:
        """What was done, in one line."""
        how = f", {self.n_resamples} resamples" if self.n_resamples else ""
        how += ", exact" if self.exact else f", seed {self.seed}" if self.seed is not None else ""
        return f"{self.test} against {self.against}, {self.alternative}{how}; corrected: {self.correction or 'no'}"

    def rows(self) -> list[dict[str, Any]]:
        """A dict a row."""
        shown = not np.isnan(self.interval).all()
        return [
            {
                "model": name,
                "estimate": float(self.estimate[i]),
                **(
                    dict(zip(("low", "high"), map(float, self.interval[i]), strict=True))
                    if shown
                    else {}
                ),
                "statistic": float(self.statistic[i]),
                "p": float(self.p[i]),
                "p corrected": float(self.p_corrected[i]),
            }
            for i, name in enumerate(self.names)
        ]


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
        One model, (pairs,) or (n, n), or several.
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
        What the models are called; their numbers by default.
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
        three conditions where they are resampled, `n_draws` is below 2, the seed is no whole number, draws are
        missing or out of range, or a word is unknown.

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
    _check(over, OVER, "over")
    data = _data(subject_rdms, protocol, nan_policy, n_threads)
    models = _models(rdms, data)
    labels = _labels(names, len(models))
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
                    [_weighted(w[:, None], part) for w, part in zip(weights, drawn, strict=True)]
                )
            )
            evaluations.append(_weighted(subjects[:, None], values[None]))
        evaluations.append(over_conditions)
        left_out = np.concatenate(
            [data.value(s).mean(axis=2) for s in _resampled(data, models, jackknife)]
        )
    else:
        evaluations.append(_weighted(subjects[:, None], values[None]))  # type: ignore[index]
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
    )


def permutation_test(
    subject_rdms: ArrayLike | HasSubjects,
    rdms: ArrayLike,
    *,
    n_permutations: int = 10_000,
    seed: int = 0,
    alternative: str = "greater",
    correction: str | None = "max",
    protocol: str | Protocol | None = None,
    names: Sequence[str] | None = None,
    n_threads: int | None = None,
) -> Tests:
    """Mantel test of whether a model's conditions are related to the brain's, or any order of them would do as well.

    The statistic is the mean over subjects of the similarity, never squared. Under the null hypothesis that the labels
    of the conditions are exchangeable, the model's are permuted. All n! orders are taken where they are at most 65,536
    (n ≤ 8), and p is exact; else p = (1 + permutations at least as extreme) / (1 + permutations). Says nothing
    about other subjects.

    Parameters
    ----------
    subject_rdms, rdms, protocol, names, n_threads
        As in `bootstrap`.
    n_permutations, seed : int
        Number of random permutations, and their seed.
    alternative : {"greater", "less", "two-sided"}
        What the similarity is if the null hypothesis is false.
    correction : str or None
        As in `correct`, or ``"max"``: by the extreme over all models under each permutation (Westfall & Young 1993;
        Nichols & Holmes 2002), which knows how alike models are.

    Returns
    -------
    Tests
        A row a model.

    Raises
    ------
    ValueError
        As `bootstrap`; NaN is an error.

    References
    ----------
    Mantel (1967), Cancer Research 27. Nili et al. (2014), PLoS Comput. Biol. 10(4). Phipson & Smyth (2010), Stat.
    Appl. Genet. Mol. Biol. 9(1): why a permutation p is never 0.
    """
    _check(alternative, ALTERNATIVES, "alternative")
    check_correction(correction, "max")
    check_seed(seed)
    _check_number(n_permutations, "n_permutations", 1)
    data = _data(subject_rdms, protocol, "raise", n_threads)
    models = _models(rdms, data)
    labels = _labels(names, len(models))
    observed = observed_similarities(data, models).mean(axis=1)
    exact = math.factorial(min(data.n_conditions, 20)) <= EXACT
    permutations = (
        all_permutations(data.n_conditions)
        if exact
        else draw_permutations(seed, n_permutations, data.n_conditions)
    )
    null = _permuted(data, models, permutations)
    p, p_max = _permutation_p(observed, lambda: iter([null]), alternative, exact)
    return _permutation_tests(
        labels, observed, observed, p, p_max, correction,
        test="Mantel permutation of conditions", against="zero", alternative=alternative,
        n_resamples=len(permutations), exact=exact, seed=None if exact else int(seed),
    )  # fmt: skip


def subject_test(
    values: ArrayLike,
    against: ArrayLike = 0.0,
    *,
    test: str = "sign-flip",
    alternative: str = "greater",
    correction: str | None = "max",
    n_permutations: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
    names: Sequence[str] | None = None,
) -> Tests:
    """Test over subjects whether each model's values differ from a number, or from the noise ceiling.

    ============= ==================================================================================================
    ``sign-flip`` the subjects' differences are symmetric about 0 under the null hypothesis; their signs are
                  flipped, and the statistic is t. All 2ⁿ where those are at most 65,536 (n ≤ 16), and p is exact;
                  else random ones
    ``t-test``    differences are normal, or subjects many
    ``wilcoxon``  signed ranks; differences are symmetric about 0 under the null hypothesis
    ============= ==================================================================================================

    Parameters
    ----------
    values : array_like, shape (n_models, n_subjects) or (n_subjects,)
        Each subject's value, such as `Score.rho`; not squared, since a square is never below 0.
    against : array_like
        A number, or one for each subject: for the noise ceiling, `NoiseCeiling.lower_per_subject`, not squared, with
        ``alternative="less"``.
    test : str
        From the table.
    alternative : {"greater", "less", "two-sided"}
        What values are, seen from `against`, if the null hypothesis is false.
    correction : str or None
        As in `correct`, or with ``"sign-flip"`` ``"max"``: by the largest t over all models under each flip.
    n_permutations, seed : int
        Number of random flips, and their seed.
    level : float
        Of the intervals of the mean that ``"t-test"`` gives.
    names : sequence of str, optional
        What the models are called.

    Returns
    -------
    Tests
        A row a model.

    Raises
    ------
    ValueError
        If the shape is another, a value is not finite, there is one subject, or a word is unknown.
    """
    rows = _values(values)
    differences = rows - _against(against, rows.shape[1])
    label = "zero" if np.ndim(against) == 0 and against == 0 else "a given value"
    return _over_subjects(
        differences, _labels(names, len(rows)), label, test, alternative, correction,
        n_permutations, seed, level,
    )  # fmt: skip


def compare_models(
    values: ArrayLike,
    *,
    test: str = "t-test",
    correction: str | None = "fdr_bh",
    n_permutations: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
    names: Sequence[str] | None = None,
) -> Tests:
    """Test over subjects whether models differ, all pairs, two-sided.

    Parameters
    ----------
    values : array_like, shape (n_models, n_subjects)
        Each subject's value of each model.
    test : str
        ``"t-test"``, ``"wilcoxon"``, ``"sign-flip"``: as in `subject_test`, of the differences within subjects.
        ``"bootstrap"``: subjects are resampled `n_permutations` times, and p is twice the smaller share of draws,
        plus one, on one side of 0; with percentile intervals.
    correction : str or None
        ``"fdr_bh"``, ``"holm"``, ``"bonferroni"``, None; with ``"sign-flip"`` also ``"max"``.
    n_permutations, seed, level, names
        As in `subject_test`.

    Returns
    -------
    Tests
        A row a pair.

    Raises
    ------
    ValueError
        As `subject_test`, or if there is one model.
    """
    rows = _values(values)
    labels = _labels(names, len(rows))
    first, second = _pairs(labels)
    return _over_subjects(
        rows[first] - rows[second], _pair_names(labels, first, second), "each other", test, "two-sided", correction,
        n_permutations, seed, level,
    )  # fmt: skip


def max_statistic(
    values: ArrayLike | Sequence[ArrayLike],
    *,
    alternative: str = "greater",
    n_permutations: int = 10_000,
    seed: int = 0,
) -> tuple[Floats, Floats]:
    """Sign-flip tests against zero of very many values at once, corrected over all of them.

    For sweeps: models × layers × regions, thousands of them. p is corrected by the largest t over all tests under each
    flip (Nichols & Holmes 2002), which knows how alike layers are, where Bonferroni does not.

    Parameters
    ----------
    values : array_like, shape (..., n_subjects), or several such
        Each subject's value, not squared. Of several arrays, numbers of subjects may differ, and subjects be
        others: signs are shared by place, which is valid whoever they are.
    alternative, n_permutations, seed
        As in `subject_test`; all flips where they are at most 65,536.

    Returns
    -------
    p, p_corrected : ndarray, shape (n_tests,)
        Of all tests, array after array, each in C order.

    Raises
    ------
    ValueError
        As `subject_test`.
    """
    _check(alternative, ALTERNATIVES, "alternative")
    check_seed(seed)
    _check_number(n_permutations, "n_permutations", 1)
    several = isinstance(values, (list, tuple)) and len(values) > 0 and np.ndim(values[0]) > 1
    arrays: Sequence[Any] = list(values) if several else [values]  # type: ignore[arg-type]
    stacks = [as_floats(a, "values") for a in arrays]
    parts = [_values(s.reshape(-1, s.shape[-1])) for s in stacks]
    p, corrected, _, _ = _flipped(parts, alternative, n_permutations, seed)
    return p, corrected


def subject_intervals(
    values: ArrayLike, *, n_draws: int = 1000, seed: int = 0, level: float = 0.95
) -> Floats:
    """Percentile intervals of means over subjects, who are resampled.

    Parameters
    ----------
    values : array_like, shape (n_models, n_subjects)
        Each subject's value, as the protocol averages it: squared where it squares.
    n_draws, seed : int
        Number of draws, the same for all models, and their seed.
    level : float
        Between 0 and 1.

    Returns
    -------
    ndarray, shape (n_models, 2)
        Low and high.

    Raises
    ------
    ValueError
        As `subject_test`, or if there are too few draws for the level.
    """
    rows = _values(values)
    check_seed(seed)
    _check_number(n_draws, "n_draws", 2)
    _check_level(level)
    return _by_bootstrap(rows, "two-sided", n_draws, seed, level)[2]


def _over_subjects(
    differences: Floats,
    names: tuple[str, ...],
    against: str,
    test: str,
    alternative: str,
    correction: str | None,
    n_permutations: int,
    seed: int,
    level: float,
) -> Tests:
    _check(alternative, ALTERNATIVES, "alternative")
    check_correction(correction, "max")
    check_seed(seed)
    _check_number(n_permutations, "n_permutations", 1)
    _check_level(level)
    estimate = differences.mean(axis=1)
    if test == "sign-flip":
        p, p_max, n, exact = _flipped([differences], alternative, n_permutations, seed)
        return _permutation_tests(
            names, estimate, _t(differences), p, p_max, correction, test=test, against=against,
            alternative=alternative, n_resamples=n, exact=exact, seed=None if exact else int(seed),
        )  # fmt: skip
    known = (
        SUBJECT_TESTS
        if against == "each other"
        else {k: v for k, v in SUBJECT_TESTS.items() if k != "bootstrap"}
    )
    if test not in known:
        raise ValueError(f"test {test!r} is not one of: sign-flip, {', '.join(known)}")
    if correction == "max":
        raise ValueError(f"correction 'max' goes with test 'sign-flip', not with {test!r}")
    statistic, p, interval = known[test](differences, alternative, n_permutations, seed, level)
    return Tests(
        names=names,
        estimate=estimate,
        statistic=statistic,
        p=p,
        p_corrected=correct(p, correction),
        interval=interval,
        test=test,
        against=against,
        alternative=alternative,
        correction=correction,
        n_resamples=n_permutations if test == "bootstrap" else 0,
        exact=False,
        seed=int(seed) if test == "bootstrap" else None,
    )


def _by_t(
    differences: Floats, alternative: str, n_draws: int, seed: int, level: float
) -> tuple[Floats, Floats, Floats]:
    from scipy.special import stdtrit

    n = differences.shape[1]
    statistic, mean = _t(differences), differences.mean(axis=1)
    half = differences.std(axis=1, ddof=1) / math.sqrt(n) * stdtrit(n - 1, (1 + level) / 2)
    return (
        statistic,
        _t_p(statistic, n - 1, alternative),
        np.stack([mean - half, mean + half], axis=1),
    )


def _by_signed_ranks(
    differences: Floats, alternative: str, n_draws: int, seed: int, level: float
) -> tuple[Floats, Floats, Floats]:
    from scipy.stats import wilcoxon

    result = [wilcoxon(row, alternative=alternative) if row.any() else None for row in differences]
    statistic = np.array([np.nan if r is None else r.statistic for r in result])
    p = np.array([1.0 if r is None else r.pvalue for r in result])
    return statistic, p, np.full((len(differences), 2), np.nan)


def _by_bootstrap(
    differences: Floats, alternative: str, n_draws: int, seed: int, level: float
) -> tuple[Floats, Floats, Floats]:
    n = differences.shape[1]
    counts = count(draw_indices(seed, SUBJECTS, n_draws, n), n)
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    p, intervals = [], []
    for block in _blocks(len(differences), n_draws):
        drawn = _weighted(counts[:, None], differences[None, block])
        sides = (np.count_nonzero(side, axis=0) for side in (drawn <= 0, drawn >= 0))
        p.append(np.minimum(2 * (np.minimum(*sides) + 1) / (n_draws + 1), 1))
        intervals.append(_quantiles(drawn, np.broadcast_to(tails, (drawn.shape[1], 2))))
    return differences.mean(axis=1), np.concatenate(p), np.concatenate(intervals)


SUBJECT_TESTS: Mapping[str, Callable[..., tuple[Floats, Floats, Floats]]] = MappingProxyType(
    {"t-test": _by_t, "wilcoxon": _by_signed_ranks, "bootstrap": _by_bootstrap}
)


def _flipped(
    parts: Sequence[Floats], alternative: str, n_permutations: int, seed: int
) -> tuple[Floats, Floats, int, bool]:
    """The p of sign flips, p corrected by the maximum over all parts, number of flips, and whether those are all."""
    most = max(part.shape[1] for part in parts)
    exact = most < 63 and 1 << most <= EXACT
    signs = all_signs(most) if exact else draw_signs(seed, n_permutations, most)

    def null() -> Iterator[Floats]:
        for part in parts:
            scale = np.einsum("ms,ms->m", part, part)
            for block in _blocks(len(part), len(signs)):
                yield _t_of_mean(
                    signs[:, : part.shape[1]] @ part[block].T, scale[block], part.shape[1]
                )

    observed = np.concatenate([_t(part) for part in parts])
    p, corrected = _permutation_p(observed, null, alternative, exact)
    return p, corrected, len(signs), exact


def _t(rows: Floats) -> Floats:
    """One-sample t of each row, by the arithmetic that flipped signs are judged by."""
    return _t_of_mean(rows.sum(axis=1), np.einsum("ms,ms->m", rows, rows), rows.shape[1])


def _t_of_mean(sums: Floats, squares: Floats, n: int) -> Floats:
    # A flip leaves the sum of squares as it is, so that t follows from the sum alone.
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = np.maximum(squares - sums**2 / n, 0)
        t = sums / np.sqrt(spread * (n / (n - 1)))
    return np.asarray(np.where(sums == 0, 0.0, t))


def _permutation_p(
    observed: Floats, null: Callable[[], Iterator[Floats]], alternative: str, exact: bool
) -> tuple[Floats, Floats]:
    """The p of each, and corrected by the maximum over all; `null` gives statistics (permutations, some) by blocks."""
    turned = _TURNED[alternative]
    mine = turned(observed)
    # Sums in another order differ in the last bits, and an equal statistic must count.
    least = mine - 1e-10 * np.maximum(1, np.abs(np.where(np.isfinite(mine), mine, 1)))
    hits, start, highest = [], 0, None
    for block in null():
        block = turned(block)
        hits.append(np.count_nonzero(block >= least[start : start + block.shape[1]], axis=0))
        start += block.shape[1]
        top = block.max(axis=1)
        highest = top if highest is None else np.maximum(highest, top)
    assert highest is not None
    highest.sort()
    beyond = len(highest) - np.searchsorted(highest, least, side="left")
    more, n = (0, len(highest)) if exact else (1, len(highest) + 1)
    return (np.concatenate(hits) + more) / n, (beyond + more) / n


_TURNED: Mapping[str, Callable[[Floats], Floats]] = MappingProxyType(
    {"greater": np.asarray, "less": np.negative, "two-sided": np.abs}
)


def _permutation_tests(
    names: tuple[str, ...],
    estimate: Floats,
    statistic: Floats,
    p: Floats,
    p_max: Floats,
    correction: str | None,
    **facts: Any,
) -> Tests:
    return Tests(
        names=names,
        estimate=estimate,
        statistic=statistic,
        p=p,
        p_corrected=p_max if correction == "max" else correct(p, correction),
        interval=np.full((len(names), 2), np.nan),
        correction=correction,
        **facts,
    )


def _permuted(data: Data, models: Floats, permutations: Counts) -> Floats:
    """Mean similarities (permutations, models) with the models' conditions permuted."""
    n_pairs = data.subjects.shape[2]
    method = get_method(data.method)
    rows = data.subjects.reshape(-1, n_pairs)
    everything = np.ones(n_pairs, bool)
    subjects = Side(method, rows, "raise", "subject_rdms", n_threads=data.n_threads)
    if data.method in _BY_ORDER:
        out = np.empty((len(permutations), len(models)))
        first, second = np.triu_indices(data.n_conditions, 1)
        squares = square(models)
        for i, permutation in enumerate(permutations):
            moved = squares[:, permutation[first], permutation[second]]
            out[i] = method.combine(moved, everything, subjects.whole, False, data.n_threads).mean(
                axis=1
            )
        return out
    # What is multiplied is moved as the conditions are, and made once.
    prepared = method.prepare(models, everything, data.n_threads)
    squares = square(prepared.values[:, :n_pairs])
    out = np.empty((len(permutations), len(models)))
    for block in _blocks(len(permutations), len(models) * len(rows)):
        similarities = _kernels.permuted_similarities(
            squares, prepared.squares, permutations[block], subjects.whole, data.n_threads
        )
        out[block] = similarities.mean(axis=2)
    return out


_BY_ORDER = ("tau-a", "tau-b", "kendall")


def _blocks(n: int, size: int) -> Iterator[slice]:
    step = max(1, _AT_ONCE // max(1, size))
    return (slice(start, min(n, start + step)) for start in range(0, n, step))


def _resampled(data: Data, models: Floats, conditions: Counts) -> Iterator[Floats]:
    """Similarities (some draws, models, subjects), some draws at a time."""
    for block in _blocks(len(conditions), len(models) * data.subjects[..., 0].size):
        yield resampled_similarities(data, models, np.ascontiguousarray(conditions[block]))


def _weighted(counts: Counts, values: Floats) -> Floats:
    """Means over the last axis, of subjects as often as they are drawn; by no BLAS, whose threads might change bits."""
    weights = np.broadcast_to(counts, (len(counts), 1, values.shape[2])).astype(np.float64)[:, 0]
    if len(values) == 1:
        return np.asarray(np.einsum("ds,ms->dm", weights, values[0]) / values.shape[2])
    return np.asarray(np.einsum("ds,dms->dm", weights, values) / values.shape[2])


def _data(
    subject_rdms: ArrayLike | HasSubjects,
    protocol: str | Protocol | None,
    nan_policy: str | None,
    n_threads: int | None,
) -> Data:
    if isinstance(subject_rdms, HasSubjects):
        subjects = subject_rdms.subject_rdms
        chosen = get_protocol(subject_rdms.protocol if protocol is None else protocol)
        policy = nan_policy or subject_rdms.nan_policy
        if policy == "raise":
            check_values(subjects, "the target", ("subject", "time", "pair"), policy)
    else:
        policy = nan_policy or "raise"
        subjects = as_subjects(subject_rdms, nan_policy=policy)
        chosen = get_protocol("rsatoolbox" if protocol is None else protocol)
    method = get_method(chosen.method)
    for subject, rows in enumerate(subjects):
        if method.without(rows).any():
            raise ValueError(
                f"subject {subject} is {method.undefined}, so nothing is similar to it"
            )
    return Data(subjects, chosen.method, chosen.pool, chosen.squared, policy, n_threads)


def _models(rdms: ArrayLike, data: Data) -> Floats:
    array = as_floats(rdms, "rdms")
    n, pairs = data.n_conditions, data.subjects.shape[2]
    if array.shape[-2:] == (n, n) and array.ndim in (2, 3) and not (array.ndim == 2 and n == pairs):
        array = condense(array, "rdms")
    if array.ndim not in (1, 2) or array.shape[-1] != pairs or array.size == 0:
        raise ValueError(
            f"rdms has shape {np.shape(rdms)}; the subjects have {n} conditions, so expected ({n}, {n}), ({pairs},),"
            f" (models, {n}, {n}) or (models, {pairs})"
        )
    models = np.ascontiguousarray(contiguous(array if array.ndim == 2 else array[None]), np.float64)
    check_values(models, "rdms", ("model", "pair"), data.nan_policy)
    method = get_method(data.method)
    if (constant := np.flatnonzero(method.without(models))).size:
        raise ValueError(
            f"model {constant[0]} of rdms is {method.undefined}, so it is similar to nothing"
        )
    return models


def _indices(
    data: Data, over: str, n_draws: int, seed: int, draws: Mapping[str, ArrayLike] | None
) -> dict[str, NDArray[np.intp]]:
    sizes = {"subjects": data.n_subjects, "conditions": data.n_conditions}
    wanted = {name: sizes[name] for name in (sizes if over == "both" else (over,))}
    for name, least in (("subjects", 2), ("conditions", _FEWEST)):
        if wanted.get(name, least) < least:
            raise ValueError(f"to resample {name} at least {least} are needed, got {wanted[name]}")
    if draws is None:
        _check_number(n_draws, "n_draws", 2)
        streams = {"subjects": SUBJECTS, "conditions": CONDITIONS}
        return {name: draw_indices(seed, streams[name], n_draws, n) for name, n in wanted.items()}
    if set(draws) != set(wanted):
        raise ValueError(
            f"draws over {over} are of {' and '.join(wanted)}, got {', '.join(draws) or 'none'}"
        )
    given = {}
    for name, n in wanted.items():
        array = np.asarray(draws[name])
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


def _values(values: ArrayLike) -> Floats:
    rows = as_floats(values, "values")
    rows = np.asarray(rows[None] if rows.ndim == 1 else rows, np.float64)
    if rows.ndim != 2 or rows.shape[1] < 2 or len(rows) == 0:
        raise ValueError(
            f"values have shape {np.shape(values)}; expected (models, subjects), at least two subjects"
        )
    if not np.isfinite(rows).all():
        model, subject = np.argwhere(~np.isfinite(rows))[0]
        raise ValueError(f"values must be finite, not so for model {model}, subject {subject}")
    return rows


def _against(against: ArrayLike, n_subjects: int) -> Floats:
    array = np.asarray(against, np.float64)
    if array.shape not in ((), (n_subjects,)) or not np.isfinite(array).all():
        raise ValueError(
            f"against must be a number or one for each of {n_subjects} subjects, got shape {array.shape}"
        )
    return array


def _labels(names: Sequence[str] | None, n: int) -> tuple[str, ...]:
    if names is None:
        return tuple(str(i) for i in range(n))
    if len(names) != n:
        raise ValueError(f"there are {n} models but {len(names)} names")
    return tuple(map(str, names))


def _pairs(names: Sequence[str]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    if len(names) < 2:
        raise ValueError("to compare models at least two are needed")
    first, second = np.triu_indices(len(names), 1)
    return first, second


def _pair_names(
    names: Sequence[str], first: NDArray[np.intp], second: NDArray[np.intp]
) -> tuple[str, ...]:
    return tuple(f"{names[i]} - {names[j]}" for i, j in zip(first, second, strict=True))


def _check(word: str, known: Sequence[str], name: str) -> None:
    if word not in known:
        raise ValueError(f"{name} {word!r} is not one of: {', '.join(known)}")


def _check_number(number: int, name: str, least: int) -> None:
    if isinstance(number, bool) or not isinstance(number, (int, np.integer)) or number < least:
        raise ValueError(f"{name} must be a whole number, at least {least}, got {number!r}")


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"the level must be between 0 and 1, got {level}")


def _t_p(t: Floats, dof: int | Floats, alternative: str) -> Floats:
    # Imported here: it takes longer than the rest of the package.
    from scipy.special import stdtr

    tails = {"greater": -t, "less": t, "two-sided": -np.abs(t)}
    return np.asarray(stdtr(dof, tails[alternative]) * (2 if alternative == "two-sided" else 1))


def _quantiles(draws: Floats, tails: Floats) -> Floats:
    """Quantiles (n, tails) of numbers (draws, n), the (n_draws + 1)p-th each."""
    n = len(draws)
    places = tails * (n + 1)
    if not ((places >= 1) & (places <= n)).all():
        raise ValueError(f"{n} draws are too few for an interval of this level")
    ordered = np.sort(draws, axis=0)
    whole = np.minimum(places.astype(np.intp), n - 1)
    columns = np.arange(draws.shape[1])[:, None]
    low, high = ordered[whole - 1, columns], ordered[whole, columns]
    return np.asarray(low + (places - whole) * (high - low))


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
