"""What a bootstrap gives: draws, and the intervals and tests that follow from them."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastrdm._base import check_choice, check_fraction
from fastrdm.inference.corrections import correct
from fastrdm.inference.results import InferenceResult, made_by
from fastrdm.inference.significance import (
    Floats,
    TestResult,
    all_pairs,
    name_pairs,
    percentiles,
    quantiles,
    share_p,
    t_interval,
    t_p,
    tails_of,
)


@dataclass(frozen=True, eq=False)
class Bootstrap(InferenceResult):
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
        check_fraction(level, "level")
        check_choice(kind, ("t", "percentile", "bca"), "kind")
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
    ) -> "TestResult":
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
        TestResult
            A row a model.

        Raises
        ------
        ValueError
            If a word is unknown, scores are squared, which are never below 0, or there are no ceilings.
        """
        check_choice(against, ("zero", "ceiling"), "against")
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
    ) -> "TestResult":
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
        TestResult
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
        check_fraction(level, "level")
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
        check_choice(kind, ("t-test", "bootstrap"), "kind")
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
    ) -> "TestResult":
        return TestResult(
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
