"""Tests and intervals over subjects.

`subject_test`, `compare_models` and `max_statistic` take each model's values for the subjects, such as
`Target.score(rdms).rho`, and generalise to the population of subjects only. A result depends on its seed, not on the
number of threads.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastrdm._base import as_floats, check_choice, check_fraction, check_integer, depth, labels_of
from fastrdm.inference.draws import SUBJECTS, check_seed, count, draw_indices, draw_signs
from fastrdm.inference.sign_flips import all_flips
from fastrdm.inference.significance import (
    EXACT,
    Floats,
    TestResult,
    all_pairs,
    check_correction,
    check_permutations,
    label_models,
    make_result,
    percentiles,
    permutation_p,
    share_p,
    t_interval,
    t_of_rows,
    t_of_sums,
    t_p,
    weighted,
)
from fastrdm.similarity import blocks_of, in_range


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
) -> TestResult:
    """Test over subjects whether each model's values differ from a number, or from the noise ceiling.

    ============= ==================================================================================================
    ``sign-flip`` assumes that the subjects' differences are symmetric about 0 under the null hypothesis; flips
                  their signs, with t as the statistic. If there are at most 65,536 flips (n ≤ 16), all 2ⁿ are taken
                  and p is exact; else random ones
    ``t-test``    assumes normal differences, or many subjects
    ``wilcoxon``  signed ranks; assumes differences symmetric about 0 under the null hypothesis
    ============= ==================================================================================================

    Parameters
    ----------
    values : array_like, shape (n_models, n_subjects) or (n_subjects,)
        Each subject's value, such as `Score.rho`; not squared, because a square is never below 0.
    against : array_like
        A number, or one for each subject: for the noise ceiling, `NoiseCeiling.lower_per_subject`, not squared, with
        ``alternative="less"``.
    test : str
        A name from the table.
    alternative : {"greater", "less", "two-sided"}
        Alternative hypothesis about the values, relative to `against`.
    correction : str or None
        As in `correct`, or with ``"sign-flip"`` ``"max"``: by the largest t over all models under each flip.
    n_permutations, seed : int
        Number of random flips, and their seed.
    level : float
        Level of the intervals of the mean that ``"t-test"`` returns.
    names : sequence of str, optional
        Names of the models.

    Returns
    -------
    TestResult
        A row for each model.

    Raises
    ------
    ValueError
        If the shape does not fit, a value is masked or not finite, there is one subject, labels of subjects (of pandas
        and xarray objects) differ, or an option is unknown.
    """
    rows = _values(values)
    bound = as_floats(against, "against").astype(np.float64)
    if bound.shape not in ((), (rows.shape[1],)) or not np.isfinite(bound).all():
        raise ValueError(
            f"against must be a number or one for each of {rows.shape[1]} subjects, got shape {bound.shape}"
        )
    if (labels := labels_of(values, -1, "values", "subject")) is not None:
        labels.check(labels_of(against, -1, "against", "subject"))
    label = "zero" if np.ndim(against) == 0 and against == 0 else "a given value"
    return _over_subjects(
        rows - bound, label_models(names, len(rows)), label, test, alternative, correction,
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
) -> TestResult:
    """Test over subjects whether models differ, all pairs, two-sided.

    Parameters
    ----------
    values : array_like, shape (n_models, n_subjects)
        Each subject's value of each model.
    test : str
        ``"t-test"``, ``"wilcoxon"``, ``"sign-flip"``: as in `subject_test`, of the differences within subjects.
        ``"bootstrap"``: subjects are resampled `n_permutations` times, and p is twice the smaller fraction of draws,
        plus one, on one side of 0; with percentile intervals.
    correction : str or None
        ``"fdr_bh"``, ``"holm"``, ``"bonferroni"``, None; with ``"sign-flip"`` also ``"max"``.
    n_permutations, seed, level, names
        As in `subject_test`.

    Returns
    -------
    TestResult
        A row for each pair.

    Raises
    ------
    ValueError
        As `subject_test`, or if there is one model.
    """
    rows = _values(values)
    first, second, labels = all_pairs(label_models(names, len(rows)))
    return _over_subjects(
        rows[first] - rows[second], labels, "each other", test, "two-sided", correction,
        n_permutations, seed, level,
    )  # fmt: skip


def max_statistic(
    values: ArrayLike | Sequence[ArrayLike],
    *,
    alternative: str = "greater",
    n_permutations: int = 10_000,
    seed: int = 0,
) -> tuple[Floats, Floats]:
    """Test thousands of values against zero by sign flips, corrected over all of them.

    For sweeps over models × layers × regions. p is corrected by the largest t over all tests under each flip (Nichols &
    Holmes 2002), which, unlike Bonferroni, accounts for similar layers.

    Parameters
    ----------
    values : array_like, shape (..., n_subjects), or a list of such arrays
        Each subject's value, not squared. The arrays of a list may have different subjects, and different numbers of
        subjects: signs are shared by position, which is valid for any subjects.
    alternative, n_permutations, seed
        As in `subject_test`; all flips if there are at most 65,536.

    Returns
    -------
    p, p_corrected : ndarray, shape (n_tests,)
        p values of all tests, array after array, each in C order.

    Raises
    ------
    ValueError
        As `subject_test`.
    """
    check_permutations(alternative, n_permutations, seed)
    several = isinstance(values, (list, tuple)) and depth(values) > 2
    arrays: Sequence[Any] = list(values) if several else [values]  # type: ignore[arg-type]
    stacks = [as_floats(a, "values") for a in arrays]
    parts = [in_range(_values(s.reshape(-1, s.shape[-1])))[0] for s in stacks]
    p, corrected, _, _ = _flipped(parts, alternative, n_permutations, seed)
    return p, corrected


def subject_intervals(
    values: ArrayLike, *, n_draws: int = 1000, seed: int = 0, level: float = 0.95
) -> Floats:
    """Return percentile intervals (n_models, 2) of means over resampled subjects.

    `values` (n_models, n_subjects) are as the protocol averages them: squared if it squares. All models share the
    draws. ValueError as `subject_test`, or if there are too few draws for the level.
    """
    rows = _values(values)
    check_seed(seed)
    check_integer(n_draws, "n_draws", 2)
    check_fraction(level, "level")
    intervals: Floats = _by_bootstrap(rows, "two-sided", n_draws, seed, level)["interval"]
    return intervals


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
) -> TestResult:
    check_permutations(alternative, n_permutations, seed)
    check_correction(correction, "max")
    check_fraction(level, "level")
    known = [name for name in SUBJECT_TESTS if against == "each other" or name != "bootstrap"]
    check_choice(test, known, "test")
    if correction == "max" and test != "sign-flip":
        raise ValueError(f"correction 'max' needs test 'sign-flip', not {test!r}")
    estimate = differences.mean(axis=1)
    differences, exponent = in_range(differences)
    fields = SUBJECT_TESTS[test](differences, alternative, n_permutations, int(seed), level)
    if "interval" in fields:
        fields["interval"] = np.ldexp(fields["interval"], exponent)
    return make_result(
        names, estimate, correction, test=test, against=against, alternative=alternative, **fields
    )


def _by_flips(
    differences: Floats, alternative: str, n_permutations: int, seed: int, level: float
) -> dict[str, Any]:
    p, p_max, n, exact = _flipped([differences], alternative, n_permutations, seed)
    drawn = {"n_resamples": n, "exact": exact, "seed": None if exact else seed}
    return {"statistic": t_of_rows(differences), "p": p, "p_max": p_max, **drawn}


def _by_t(
    differences: Floats, alternative: str, n_draws: int, seed: int, level: float
) -> dict[str, Any]:
    n = differences.shape[1]
    statistic, error = t_of_rows(differences), differences.std(axis=1, ddof=1) / math.sqrt(n)
    interval = t_interval(differences.mean(axis=1), error, n - 1, level)
    return {"statistic": statistic, "p": t_p(statistic, n - 1, alternative), "interval": interval}


def _by_signed_ranks(
    differences: Floats, alternative: str, n_draws: int, seed: int, level: float
) -> dict[str, Any]:
    from scipy.stats import wilcoxon

    result = [wilcoxon(row, alternative=alternative) if row.any() else None for row in differences]
    return {
        "statistic": np.array([np.nan if r is None else r.statistic for r in result]),
        "p": np.array([1.0 if r is None else r.pvalue for r in result]),
    }


def _by_bootstrap(
    differences: Floats, alternative: str, n_draws: int, seed: int, level: float
) -> dict[str, Any]:
    n = differences.shape[1]
    counts = count(draw_indices(seed, SUBJECTS, n_draws, n), n)
    p, intervals = [], []
    for block in blocks_of(len(differences), n_draws):
        drawn = weighted(counts[:, None], differences[None, block])
        p.append(share_p(drawn, "two-sided"))
        intervals.append(percentiles(drawn, level))
    results = {"p": np.concatenate(p), "interval": np.concatenate(intervals)}
    return {"statistic": differences.mean(axis=1), **results, "n_resamples": n_draws, "seed": seed}


# Each takes differences (rows, subjects) and returns fields of the result.
SUBJECT_TESTS: Mapping[str, Callable[..., dict[str, Any]]] = MappingProxyType(
    {
        "sign-flip": _by_flips,
        "t-test": _by_t,
        "wilcoxon": _by_signed_ranks,
        "bootstrap": _by_bootstrap,
    }
)


def _flipped(
    parts: Sequence[Floats], alternative: str, n_permutations: int, seed: int
) -> tuple[Floats, Floats, int, bool]:
    """Return p of sign flips, p corrected by the maximum, the number of flips, and whether p is exact."""
    most = max(part.shape[1] for part in parts)
    if most < 63 and 1 << most <= EXACT:
        p, corrected = all_flips(parts, alternative)
        return p, corrected, 1 << most, True
    signs = draw_signs(seed, n_permutations, most)

    def null() -> Iterator[Floats]:
        for part in parts:
            scale = np.einsum("ms,ms->m", part, part)
            for block in blocks_of(len(part), len(signs)):
                yield t_of_sums(
                    signs[:, : part.shape[1]] @ part[block].T, scale[block], part.shape[1]
                )

    observed = np.concatenate([t_of_rows(part) for part in parts])
    p, corrected = permutation_p(observed, null, alternative, exact=False)
    return p, corrected, len(signs), False


def _values(values: ArrayLike) -> Floats:
    rows = as_floats(values, "values")
    shape = rows.shape
    rows = np.asarray(rows[None] if rows.ndim == 1 else rows, np.float64)
    if rows.ndim != 2 or rows.shape[1] < 2 or len(rows) == 0:
        raise ValueError(
            f"values have shape {shape}; expected (models, subjects), at least two subjects"
        )
    if not np.isfinite(rows).all():
        model, subject = np.argwhere(~np.isfinite(rows))[0]
        raise ValueError(f"values are not finite for model {model}, subject {subject}")
    return rows
