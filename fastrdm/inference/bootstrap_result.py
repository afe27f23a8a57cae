"""The draws of a bootstrap, and intervals and tests from them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastrdm._base import check_choice, check_fraction
from fastrdm.inference.results import InferenceResult, made_by
from fastrdm.inference.significance import (
    Floats,
    TestResult,
    all_pairs,
    make_result,
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
        Resampled factors: ``"subjects"``, ``"conditions"`` or ``"both"``; also ``"units"`` for scores of responses.
    value : ndarray, shape (n_models,)
        Scores on the original data.
    ceiling : ndarray, shape (2,)
        Lower and upper bound on the original data; NaN without ceilings.
    evaluations : ndarray, shape (kinds, n_draws, n_models)
        Scores of each draw. One kind, or three with ``"both"``: both factors resampled, subjects alone, conditions
        alone, by the same draws. NaN for a draw with fewer than three different conditions.
    ceilings : ndarray, shape (kinds, n_draws, 2)
        Bounds of each draw.
    acceleration : ndarray, shape (n_models,)
        Acceleration of BCa intervals, from the jackknife over the resampled factors.
    n_subjects, n_conditions : int
        Numbers of subjects and conditions.
    seed : int or None
        None if the draws were passed.
    method, pool : str
        Similarity and pooling of ceilings, as in `noise_ceiling`.
    squared : bool
        Whether similarities are squared.
    mean_rho : ndarray, shape (n_models,)
        Mean over subjects of the unsquared similarity on the original data. If it is below 0, the model orders pairs in
        the opposite way to the brain, however high a squared score is. Empty in results of earlier versions.
    n_units : int
        Units of the subject with the fewest, for scores of responses; 0 for RDMs.
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
    n_units: int = field(default=0, metadata={"later": True})
    made_by: dict[str, str] = field(default_factory=made_by)

    @property
    def n_draws(self) -> int:
        """Number of draws."""
        return int(self.evaluations.shape[1])

    @property
    def dof(self) -> int:
        """Degrees of freedom as in rsatoolbox: the smallest resampled number, minus one."""
        n = {"subjects": self.n_subjects, "conditions": self.n_conditions, "units": self.n_units}
        return n.get(self.over, min(self.n_subjects, self.n_conditions)) - 1

    def _dof(self, draws: Floats) -> Floats:
        """Return degrees of freedom for draws (kinds, n_draws, n).

        Over both, those of a sum of variances (Satterthwaite 1946). If scores vary mainly with the conditions, the
        degrees of freedom of few subjects led to 0.030 false positives instead of 0.05.
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
        """Variances (n_models,) of the scores; over both, corrected as described in `bootstrap`."""
        return self._variance(self.evaluations)

    @property
    def standard_error(self) -> Floats:
        """Square roots of the variances."""
        return np.asarray(np.sqrt(self.variance))

    def _raw(self, draws: Floats) -> list[Floats]:
        """Return variances over the valid draws of numbers (kinds, n_draws, …)."""
        valid = np.asarray(~np.isnan(self.evaluations).any(axis=2))
        return [kind[ok].var(axis=0, ddof=1) for kind, ok in zip(draws, valid, strict=True)]

    def _variance(self, draws: Floats) -> Floats:
        raw = self._raw(draws)
        if self.over != "both":
            return np.asarray(raw[0] * ((self.dof + 1) / self.dof))
        s, c = (n / (n - 1) for n in (self.n_subjects, self.n_conditions))
        both, subjects, conditions = raw
        corrected = s * subjects + c * conditions - s * c * (both - subjects - conditions)
        least = np.maximum(s * subjects, c * conditions)
        return np.asarray(np.minimum(np.maximum(corrected, least), both))

    def interval(self, level: float = 0.95, kind: str = "t", *, dof: float | None = None) -> Floats:
        """Return confidence intervals of the scores.

        Parameters
        ----------
        level : float
            Between 0 and 1.
        kind : str
            ``"t"``: the score ± a quantile of Student's t × its standard error. ``"percentile"``: quantiles of the
            scores of draws, the (n + 1)p-th of n (Davison & Hinkley 1997). ``"bca"``: the same, corrected for bias and
            skewness (Efron 1987). Over both, only ``"t"`` uses the corrected variance; the other two are too wide.
        dof : float, optional
            Degrees of freedom of t: `Bootstrap.dof` for rsatoolbox's interval. By default the same, except over both:
            those of a sum of variances (Satterthwaite 1946).

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
        draws = _valid(self.evaluations[0])
        tails = tails_of(level)
        if kind == "bca":
            tails = _bca_tails(draws, self.value, self.acceleration, tails)
        return quantiles(draws, tails)

    def test(
        self, against: str = "zero", *, kind: str = "t-test", correction: str | None = "fdr_bh"
    ) -> TestResult:
        """Test each model's score against zero, or against the noise ceiling.

        Parameters
        ----------
        against : str
            ``"zero"``: one-sided, whether the score is above 0. ``"ceiling"``: whether it differs from the lower bound;
            the t-test includes the variance of the bound.
        kind : str
            ``"t-test"``: of the score and its bootstrapped variance, with the degrees of freedom of `interval`.
            ``"bootstrap"``: the fraction of draws, plus one, on the other side.
        correction : str or None
            As in `correct`.

        Returns
        -------
        TestResult
            A row for each model.

        Raises
        ------
        ValueError
            If an option is unknown, scores are squared and therefore never below 0, or there are no ceilings.
        """
        check_choice(against, ("zero", "ceiling"), "against")
        if against == "zero" and self.squared:
            raise ValueError(
                "squared similarities are never below 0, so a test against 0 is meaningless; bootstrap the similarities"
                " without squaring (protocol='brainscore'), or pass Target.score(rdms).rho to subject_test"
            )
        if against == "ceiling" and np.isnan(self.ceilings).all():
            raise ValueError("no ceilings were bootstrapped; pass ceiling=True to bootstrap")
        draws, estimate = self.evaluations, self.value
        if against == "ceiling":
            draws, estimate = draws - self.ceilings[..., :1], estimate - self.ceiling[0]
        sided = "greater" if against == "zero" else "two-sided"
        return self._tested(self.names, draws, estimate, kind, correction, against, sided)

    def compare_models(
        self, *, kind: str = "t-test", level: float = 0.95, correction: str | None = "fdr_bh"
    ) -> TestResult:
        """Test the differences of all pairs of models, two-sided.

        Parameters
        ----------
        kind : str
            ``"t-test"`` or ``"bootstrap"``, as in `test`.
        level : float
            Level of the differences' intervals, by t or percentiles.
        correction : str or None
            As in `correct`.

        Returns
        -------
        TestResult
            A row for each pair.

        Raises
        ------
        ValueError
            If there is one model, or an option is unknown.
        """
        first, second, names = all_pairs(self.names)
        draws = self.evaluations[..., first] - self.evaluations[..., second]
        estimate = self.value[first] - self.value[second]
        check_fraction(level, "level")
        return self._tested(
            names, draws, estimate, kind, correction, "each other", "two-sided", level
        )

    def _tested(
        self,
        names: tuple[str, ...],
        draws: Floats,
        estimate: Floats,
        kind: str,
        correction: str | None,
        against: str,
        sided: str,
        level: float | None = None,
    ) -> TestResult:
        check_choice(kind, ("t-test", "bootstrap"), "kind")
        interval = None
        if kind == "t-test":
            variance, dof = self._variance(draws), self._dof(draws)
            statistic = estimate / np.sqrt(np.maximum(variance, np.finfo(float).eps))
            p = t_p(statistic, dof, sided)
            if level is not None:
                interval = t_interval(estimate, np.sqrt(variance), dof, level)
        else:
            valid = _valid(draws[0])
            statistic, p = estimate, share_p(valid, sided)
            if level is not None:
                interval = percentiles(valid, level)
        return make_result(
            names, estimate, correction, statistic=statistic, p=p, interval=interval,
            test=f"{kind} on a bootstrap over {self.over}", against=against, alternative=sided,
            n_resamples=self.n_draws, seed=self.seed, made_by=self.made_by,
        )  # fmt: skip

    def facts(self) -> str:
        """Return the method and its options, on one line."""
        unit = f"{self.method}{' squared' if self.squared else ''}"
        seed = "draws given" if self.seed is None else f"seed {self.seed}"
        lower, upper = self.ceiling
        ceiling = "" if math.isnan(lower) else f"; noise ceiling {lower:.4f} to {upper:.4f}"
        return (
            f"bootstrap over {self.over}, {self.n_draws} draws, {seed}: {unit}, {self.n_subjects} subjects,"
            f" {self.n_conditions} conditions{ceiling}"
        )

    def _columns(self) -> dict[str, Sequence[Any]]:
        low, high = self.interval().T.tolist()
        columns: dict[str, Sequence[Any]] = {
            "model": self.names,
            "value": self.value.tolist(),
            "se": self.standard_error.tolist(),
            "low": low,
            "high": high,
        }
        if self.squared and len(self.mean_rho):
            columns["mean rho"] = self.mean_rho.tolist()
        return columns


def _valid(draws: Floats) -> Floats:
    """Return the draws (n_draws, n) with enough conditions."""
    return draws[~np.isnan(draws).any(axis=1)]


def _bca_tails(draws: Floats, value: Floats, acceleration: Floats, tails: Floats) -> Floats:
    from scipy.special import ndtr, ndtri

    n = len(draws)
    below = np.count_nonzero(draws < value, axis=0) + np.count_nonzero(draws == value, axis=0) / 2
    bias = ndtri(np.clip(below / n, 1 / (n + 1), n / (n + 1)))[:, None]
    shifted = bias + ndtri(tails)
    moved = ndtr(bias + shifted / (1 - acceleration[:, None] * shifted))
    # There are no quantiles beyond the draws.
    return np.asarray(np.clip(moved, 1 / (n + 1), n / (n + 1)))
