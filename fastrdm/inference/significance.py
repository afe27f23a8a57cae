"""Common parts of the tests: their result, p values and corrections, intervals, names of models and of pairs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrdm._base import as_array, check_choice, check_integer
from fastrdm.inference.draws import Counts, check_seed
from fastrdm.inference.results import InferenceResult, made_by

Floats = NDArray[np.float64]
# Up to this number of permutations, all are taken and p is exact.
EXACT = 1 << 16


@dataclass(frozen=True, eq=False)
class TestResult(InferenceResult):
    """Tests of one question: one row per model or pair of models.

    Attributes
    ----------
    names : tuple of str
        Models, or pairs of models as ``"a - b"``.
    estimate : ndarray, shape (n,)
        Estimated value, 0 under the null hypothesis.
    statistic, p, p_corrected : ndarray, shape (n,)
        Test statistic, its p value, and the p value corrected for all rows.
    interval : ndarray, shape (n, 2)
        Confidence interval of the estimate; NaN if the test has none.
    test, against, alternative : str
        Test, null hypothesis and alternative.
    correction : str or None
        As in `correct`, or ``"max"``.
    n_resamples : int
        Number of draws or permutations; 0 for tests without.
    exact : bool
        Whether all possible permutations were taken.
    seed : int or None
        None if nothing was drawn.
    made_by : dict
        Versions and kernels.
    """

    __test__ = False  # pytest must not collect it
    former_names = ("Tests",)

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
        """Return the test and its options, on one line."""
        how = f", {self.n_resamples} resamples" if self.n_resamples else ""
        how += ", exact" if self.exact else f", seed {self.seed}" if self.seed is not None else ""
        return f"{self.test} against {self.against}, {self.alternative}{how}; corrected: {self.correction or 'no'}"

    def _columns(self) -> dict[str, Sequence[Any]]:
        low, high = self.interval.T.tolist()
        interval = {} if np.isnan(self.interval).all() else {"low": low, "high": high}
        return {
            "model": self.names,
            "estimate": self.estimate.tolist(),
            **interval,
            "statistic": self.statistic.tolist(),
            "p": self.p.tolist(),
            "p corrected": self.p_corrected.tolist(),
        }


def make_result(
    names: tuple[str, ...],
    estimate: Floats,
    correction: str | None,
    *,
    p: Floats,
    p_max: Floats | None = None,
    interval: Floats | None = None,
    **fields: Any,
) -> TestResult:
    """Return a result with its p values corrected; `p_max` are those corrected by the maximum."""
    corrected = p_max if correction == "max" and p_max is not None else correct(p, correction)
    interval = np.full((len(names), 2), np.nan) if interval is None else interval
    fields = {"n_resamples": 0, "exact": False, "seed": None, **fields}
    return TestResult(
        names,
        estimate,
        p=p,
        p_corrected=corrected,
        interval=interval,
        correction=correction,
        **fields,
    )


def correct(p: ArrayLike, correction: str | None) -> Floats:
    r"""Correct p values for the number of tests.

    ============== ==================================================================================================
    ``fdr_bh``     false discovery rate, :math:`\min_{k \ge i} p_{(k)} m / k`, for tests that are independent or
                   positively dependent (Benjamini & Hochberg 1995)
    ``holm``       family-wise error, :math:`\max_{k \le i} p_{(k)} (m - k + 1)`, for any dependence (Holm 1979)
    ``bonferroni`` family-wise error, :math:`m p`, for any dependence
    ============== ==================================================================================================

    Parameters
    ----------
    p : array_like
        p values of any shape, as one family. NaN means no test: it remains and does not count. Masked values are NaN.
    correction : str or None
        A name from the table; None returns the values unchanged.

    Returns
    -------
    ndarray of float64, shape of `p`
        At most 1.

    Raises
    ------
    ValueError
        If the correction is unknown, or a value is not between 0 and 1.
    """
    values = as_array(p, "p", masked_as_nan=True).astype(np.float64)
    check_correction(correction)
    known = ~np.isnan(values)
    if ((values[known] < 0) | (values[known] > 1)).any():
        raise ValueError("p values must be between 0 and 1")
    if correction is not None and known.any():
        values[known] = CORRECTIONS[correction](values[known])
    return values


def check_correction(correction: str | None, *more: str) -> None:
    """Raise ValueError for an unknown correction."""
    if correction is not None:
        check_choice(correction, (*CORRECTIONS, *more), "correction")


def _fdr_bh(p: Floats) -> Floats:
    order, m = np.argsort(p), len(p)
    rising = p[order] * m / np.arange(1, m + 1)
    return _at(order, np.minimum.accumulate(rising[::-1])[::-1])


def _holm(p: Floats) -> Floats:
    order, m = np.argsort(p), len(p)
    return _at(order, np.maximum.accumulate(p[order] * (m - np.arange(m))))


def _at(order: NDArray[np.intp], values: Floats) -> Floats:
    out = np.empty_like(values)
    out[order] = np.minimum(values, 1)
    return out


def _bonferroni(p: Floats) -> Floats:
    return np.asarray(np.minimum(p * len(p), 1))


CORRECTIONS: Mapping[str, Callable[[Floats], Floats]] = MappingProxyType(
    {"fdr_bh": _fdr_bh, "holm": _holm, "bonferroni": _bonferroni}
)


def permutation_p(
    observed: Floats, null: Callable[[], Iterator[Floats]], alternative: str, exact: bool
) -> tuple[Floats, Floats]:
    """Return p values, and those corrected by the maximum; `null` yields statistics (permutations, some columns)."""
    orient = ORIENTATIONS[alternative]
    extreme = orient(observed)
    # Sums in another order differ in the last bits, and an equal statistic must count.
    least = extreme - 1e-10 * np.maximum(1, np.abs(np.where(np.isfinite(extreme), extreme, 1)))
    hits, tops, start = [], [], 0
    for block in null():
        block = orient(block)
        hits.append(np.count_nonzero(block >= least[start : start + block.shape[1]], axis=0))
        start += block.shape[1]
        tops.append(block.max(axis=1))
    highest = np.sort(np.max(tops, axis=0))
    beyond = len(highest) - np.searchsorted(highest, least, side="left")
    more, n = (0, len(highest)) if exact else (1, len(highest) + 1)
    return (np.concatenate(hits) + more) / n, (beyond + more) / n


ORIENTATIONS: Mapping[str, Callable[[Floats], Floats]] = MappingProxyType(
    {"greater": np.asarray, "less": np.negative, "two-sided": np.abs}
)


def t_of_rows(rows: Floats) -> Floats:
    """Return the one-sample t of each row, with the arithmetic of the flipped signs."""
    return t_of_sums(rows.sum(axis=1), np.einsum("ms,ms->m", rows, rows), rows.shape[1])


def t_of_sums(sums: Floats, squares: Floats, n: int) -> Floats:
    """Return the one-sample t of n values from their sum and the sum of their squares, which no flip changes."""
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = np.maximum(squares - sums**2 / n, 0)
        t = sums / np.sqrt(spread * (n / (n - 1)))
    return np.asarray(np.where(sums == 0, 0.0, t))


def t_p(t: Floats, dof: float | Floats, alternative: str) -> Floats:
    """Return the p value of Student's t."""
    # Imported here because it takes longer than the rest of the package.
    from scipy.special import stdtr

    tails = {"greater": -t, "less": t, "two-sided": -np.abs(t)}
    return np.asarray(stdtr(dof, tails[alternative]) * (2 if alternative == "two-sided" else 1))


def t_interval(estimate: Floats, error: Floats, dof: float | Floats, level: float) -> Floats:
    """Return intervals (n, 2) of estimates, from their standard errors and Student's t."""
    from scipy.special import stdtrit

    half = error * stdtrit(dof, (1 + level) / 2)
    return np.stack([estimate - half, estimate + half], axis=1)


def share_p(draws: Floats, alternative: str) -> Floats:
    """Return p values of draws (draws, n): the fraction of draws, plus one, on the other side of 0."""
    below, above = (
        (np.count_nonzero(side, axis=0) + 1) / (len(draws) + 1) for side in (draws <= 0, draws >= 0)
    )
    both = np.minimum(2 * np.minimum(below, above), 1)
    return np.asarray(below if alternative == "greater" else both)


def tails_of(level: float) -> Floats:
    """Return the probabilities at the two ends of an interval."""
    return np.array([(1 - level) / 2, (1 + level) / 2])


def percentiles(draws: Floats, level: float) -> Floats:
    """Return percentile intervals (n, 2) of draws (draws, n)."""
    return quantiles(draws, tails_of(level))


def quantiles(draws: Floats, tails: Floats) -> Floats:
    """Return quantiles (n, tails) of draws (draws, n), the (n_draws + 1)p-th each; `tails` (tails,) or (n, tails)."""
    n = len(draws)
    places = tails * (n + 1)
    if not ((places >= 1) & (places <= n)).all():
        raise ValueError(f"{n} draws are too few for an interval of this level")
    ordered = np.sort(draws, axis=0)
    whole = np.minimum(places.astype(np.intp), n - 1)
    columns = np.arange(draws.shape[1])[:, None]
    low, high = ordered[whole - 1, columns], ordered[whole, columns]
    return np.asarray(low + (places - whole) * (high - low))


def weighted(counts: Counts, values: Floats) -> Floats:
    """Return means over subjects, weighted by how often each is drawn; without BLAS, whose threads can change bits."""
    weights = np.broadcast_to(counts, (len(counts), 1, values.shape[2])).astype(np.float64)[:, 0]
    if len(values) == 1:
        return np.asarray(np.einsum("ds,ms->dm", weights, values[0]) / values.shape[2])
    return np.asarray(np.einsum("ds,dms->dm", weights, values) / values.shape[2])


def label_models(names: Sequence[str] | None, n: int) -> tuple[str, ...]:
    """Return the names of n models, by default their numbers."""
    if names is None:
        return tuple(str(i) for i in range(n))
    if len(names) != n:
        raise ValueError(f"there are {n} models but {len(names)} names")
    return tuple(map(str, names))


def all_pairs(
    names: Sequence[str],
) -> tuple[NDArray[np.intp], NDArray[np.intp], tuple[str, ...]]:
    """Return the indices of the first and the second model of each pair, and the names of pairs."""
    if len(names) < 2:
        raise ValueError("comparing models needs at least two models")
    first, second = np.triu_indices(len(names), 1)
    pairs = zip(first.tolist(), second.tolist(), strict=True)
    return first, second, tuple(f"{names[i]} - {names[j]}" for i, j in pairs)


def check_permutations(alternative: str, n_permutations: int, seed: int) -> None:
    """Raise ValueError for arguments that no permutation test takes."""
    check_choice(alternative, ORIENTATIONS, "alternative")
    check_seed(seed)
    check_integer(n_permutations, "n_permutations", 1)
