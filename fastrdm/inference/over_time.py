"""Tests of scores over time, corrected over all time points: by the largest t, or by clusters of time points.

`time_test` and `cluster_test` flip signs of subjects; `clusters` finds the clusters under each flip. `latencies`
resamples subjects. All of them generalise to the population of subjects only.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from fastrdm._base import as_floats, check_fraction, check_integer, labels_of
from fastrdm.inference.clusters import Runs, find_clusters, largest_masses
from fastrdm.inference.comparisons import max_statistic
from fastrdm.inference.draws import SUBJECTS, all_signs, count, draw_indices, draw_signs
from fastrdm.inference.significance import (
    EXACT,
    Floats,
    check_permutations,
    label_models,
    percentiles,
    t_of_rows,
    t_of_sums,
    weighted,
)
from fastrdm.inference.time_results import ClusterTest, Latencies, TimeTest
from fastrdm.similarity import TimeScore, blocks_of, check_times, in_range, labelled_times


def time_test(
    values: "TimeScore | ArrayLike",
    *,
    times: ArrayLike | None = None,
    names: Sequence[str] | None = None,
    alternative: str = "greater",
    jointly: bool = True,
    n_permutations: int = 10_000,
    seed: int = 0,
) -> TimeTest:
    """Test each time point of each model against zero by sign flips, corrected by the largest t over all of them.

    Under each flip of the subjects' signs, t is computed at each time point; a corrected p value is the fraction of
    flips with a largest t of at least the observed one (Nichols & Holmes 2002). It bounds the probability of any false
    positive, and holds for each time point by itself.

    Parameters
    ----------
    values : TimeScore or array_like, shape (n_models, n_times, n_subjects) or (n_times, n_subjects)
        Scores of each time point, ``Target.score(rdms, over_time="each")``, whose `rho` is tested; or each subject's
        value, not squared.
    times : array_like, optional
        Times of the time points, increasing; by default those of the score, the labels of the axis (of pandas and
        xarray objects), or 0, 1, ....
    names : sequence of str, optional
        Names of the models; by default those of the score.
    alternative : {"greater", "less", "two-sided"}
        Alternative hypothesis about the values.
    jointly : bool
        Whether p is corrected over all models and time points, or over the time points of each model.
    n_permutations, seed : int
        Number of random flips, and their seed. If there are at most 65,536 flips (16 subjects), all are taken and p is
        exact.

    Returns
    -------
    TimeTest
        t and p values (n_models, n_times).

    Raises
    ------
    ValueError
        If the shape does not fit, a value is masked or not finite, there is one subject, or an option is unknown.

    Examples
    --------
    >>> import numpy as np, fastrdm
    >>> rho = np.random.default_rng(0).normal(0, 0.1, (2, 5, 12))
    >>> rho[1, 2:4] += 0.3
    >>> print(fastrdm.time_test(rho, times=[-100, 0, 100, 200, 300], names=["conv1", "fc"]))
    sign flips with the largest t over models and times, greater, 4096 resamples, exact
    model  peak        t        p  p corrected  p corrected < 0.05
    conv1   200   2.0588   0.0332       0.2483                   –
    fc      100  11.5133  2.4e-04      2.4e-04          100 to 200
    """
    given = _given(values, times, names)
    check_permutations(alternative, n_permutations, seed)
    rows, n = given.values, given.values.shape[2]
    options: dict[str, Any] = {
        "alternative": alternative,
        "n_permutations": n_permutations,
        "seed": seed,
    }
    families = [rows.reshape(-1, n)] if jointly else list(rows)
    p, corrected = (
        np.concatenate(each)
        for each in zip(*(max_statistic(family, **options) for family in families), strict=True)
    )
    exact = _is_exact(n)
    return TimeTest(
        given.names,
        given.times,
        estimate=rows.mean(axis=2),
        statistic=t_of_rows(in_range(rows.reshape(-1, n))[0]).reshape(rows.shape[:2]),
        p=p.reshape(rows.shape[:2]),
        p_corrected=corrected.reshape(rows.shape[:2]),
        alternative=alternative,
        jointly=bool(jointly),
        n_resamples=1 << n if exact else n_permutations,
        exact=exact,
        seed=None if exact else int(seed),
    )


def cluster_test(
    values: "TimeScore | ArrayLike",
    *,
    threshold: float | None = None,
    threshold_p: float = 0.05,
    times: ArrayLike | None = None,
    names: Sequence[str] | None = None,
    alternative: str = "greater",
    jointly: bool = True,
    n_permutations: int = 10_000,
    seed: int = 0,
) -> ClusterTest:
    r"""Test clusters of neighbouring time points against zero by sign flips, corrected over all clusters.

    A cluster is a run of time points of one model with t above a threshold (with ``"less"``, −t; with ``"two-sided"``,
    runs of either sign are clusters of their own). Its mass is the sum of t. Under each flip of the subjects' signs,
    the largest mass is taken, and p is the fraction of flips with at least the observed mass (Maris & Oostenveld 2007).
    p holds for the cluster as a whole: that a cluster is significant does not say when exactly its effect begins or
    ends (Sassenhagen & Draschkow 2019).

    Parameters
    ----------
    values, times, names
        As in `time_test`.
    threshold : float, optional
        Cluster-forming threshold of t, positive.
    threshold_p : float
        Without `threshold`, the p value of one time point that t of the threshold has, two-sided for ``"two-sided"``.
        It determines which effects are found, not the rate of false positives.
    alternative : {"greater", "less", "two-sided"}
        Alternative hypothesis about the values.
    jointly : bool
        Whether p is corrected over the clusters of all models, or over those of each model.
    n_permutations, seed : int
        As in `time_test`.

    Returns
    -------
    ClusterTest
        A row for each cluster.

    Raises
    ------
    ValueError
        As `time_test`, or if a threshold is out of range.

    Examples
    --------
    >>> import numpy as np, fastrdm
    >>> rho = np.random.default_rng(0).normal(0, 0.1, (2, 5, 12))
    >>> rho[1, 2:4] += 0.3
    >>> print(fastrdm.cluster_test(rho, times=[-100, 0, 100, 200, 300], names=["conv1", "fc"]))
    clusters of t > 1.7959 over time, largest mass over models, greater, 4096 resamples, exact; 2 clusters
    model  start  end  peak     mass        p
    conv1    200  200   200   2.0588   0.2517
    fc       100  200   100  21.9889  2.4e-04
    """
    given = _given(values, times, names)
    check_permutations(alternative, n_permutations, seed)
    shape, n = given.values.shape, given.values.shape[2]
    rows = in_range(given.values.reshape(-1, n))[0].reshape(shape)
    height = _threshold(threshold, threshold_p, n, alternative)
    both, exact = alternative == "two-sided", _is_exact(n)
    # Flips are relative to zero, so the other direction is that of the opposite values.
    signed = -rows if alternative == "less" else rows
    t = t_of_rows(signed.reshape(-1, n)).reshape(rows.shape[:2])
    found = find_clusters(t, height, both=both)
    null = _null_masses(signed, height, both, n_permutations, seed, jointly)
    mass = found.mass * (-1 if alternative == "less" else 1)
    return ClusterTest(
        given.names,
        given.times,
        model=found.model,
        first=found.first,
        last=found.last,
        mass=mass,
        p=_p_of_masses(np.abs(mass), found.model, null, exact),
        statistic=-t if alternative == "less" else t,
        threshold=height,
        alternative=alternative,
        jointly=bool(jointly),
        n_resamples=1 << n if exact else n_permutations,
        exact=exact,
        seed=None if exact else int(seed),
    )


def latencies(
    values: "TimeScore | ArrayLike",
    *,
    threshold: float | None = None,
    threshold_p: float = 0.05,
    alpha: float = 0.05,
    times: ArrayLike | None = None,
    names: Sequence[str] | None = None,
    jointly: bool = True,
    n_draws: int = 1000,
    n_permutations: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> Latencies:
    """Estimate when each model's values first exceed zero and when they peak, with intervals over subjects.

    The onset is the first time point of the first cluster with a mass above the critical one, that of p = `alpha` in
    `cluster_test` with ``alternative="greater"``. The peak is the time point with the highest mean over subjects. The
    intervals are percentiles over draws of subjects with replacement (Cichy et al. 2014); the critical mass is not
    computed again in each draw. Draws without an onset do not count in its interval; `share` is that of the others.

    Parameters
    ----------
    values, threshold, threshold_p, times, names, jointly, n_permutations
        As in `cluster_test`.
    alpha : float
        Level of the test that the onset's cluster passes.
    n_draws, seed : int
        Number of draws of subjects, and the seed of all random numbers.
    level : float
        Level of the intervals.

    Returns
    -------
    Latencies
        A row for each model; an onset is NaN without a significant cluster.

    Raises
    ------
    ValueError
        As `cluster_test`, or if there are too few draws for the level.
    """
    given = _given(values, times, names)
    check_permutations("greater", n_permutations, seed)
    check_integer(n_draws, "n_draws", 2)
    check_fraction(alpha, "alpha")
    check_fraction(level, "level")
    shape, n = given.values.shape, given.values.shape[2]
    rows = in_range(given.values.reshape(-1, n), alike=True)[0].reshape(shape)
    height = _threshold(threshold, threshold_p, n, "greater")
    critical = _critical_masses(
        _null_masses(rows, height, False, n_permutations, seed, jointly), alpha, _is_exact(n)
    )
    counts = count(draw_indices(seed, SUBJECTS, n_draws, n), n)
    onsets, _ = _timing(rows, np.ones((1, n), np.int32), height, critical)
    drawn, peaks = _timing(rows, counts, height, critical)
    peak = rows.mean(axis=2).argmax(axis=1)
    # NaN in place of −1, the onset of a draw without one.
    own, all_drawn = (
        np.where(each < 0, np.nan, given.times[np.maximum(each, 0)]) for each in (onsets[0], drawn)
    )
    interval = np.full((len(rows), 2), np.nan)
    for i, column in enumerate(all_drawn.T):
        known = column[np.isfinite(column)]
        if np.isfinite(own[i]) and len(known) > n_draws / 2:
            interval[i] = percentiles(known[:, None], level)[0]
    return Latencies(
        given.names,
        onset=own,
        onset_interval=interval,
        share=np.isfinite(all_drawn).mean(axis=0),
        peak=given.times[peak],
        peak_interval=percentiles(given.times[peaks], level),
        threshold=height,
        alpha=float(alpha),
        level=float(level),
        n_draws=int(n_draws),
        seed=int(seed),
    )


class _Given(NamedTuple):
    values: Floats
    times: Floats
    names: tuple[str, ...]


def _given(
    values: "TimeScore | ArrayLike", times: ArrayLike | None, names: Sequence[str] | None
) -> _Given:
    if isinstance(values, TimeScore):
        times = values.times if times is None else times
        names = values.names if names is None else names
        values = values.rho
    elif times is None and (found := labels_of(values, -2, "values", "time")) is not None:
        times = labelled_times(found, len(found.values))
    array = as_floats(values, "values")
    shape = array.shape
    rows = np.asarray(array[None] if array.ndim == 2 else array, np.float64)
    if rows.ndim != 3 or rows.shape[2] < 2 or 0 in rows.shape:
        raise ValueError(
            f"values have shape {shape}; expected (models, times, subjects), at least two subjects"
        )
    labels = label_models(names, len(rows))
    if not np.isfinite(rows).all():
        model, time, subject = np.argwhere(~np.isfinite(rows))[0]
        raise ValueError(
            f"values are not finite for model {labels[model]}, time {time}, subject {subject}"
        )
    n_times = rows.shape[1]
    checked = check_times(np.arange(n_times) if times is None else times, n_times, "values")
    return _Given(rows, checked, labels)


def _is_exact(n_subjects: int) -> bool:
    return n_subjects < EXACT.bit_length() and 1 << n_subjects <= EXACT


def _threshold(threshold: float | None, threshold_p: float, n: int, alternative: str) -> float:
    from scipy.special import stdtrit

    if threshold is None:
        check_fraction(threshold_p, "threshold_p")
        tail = threshold_p / (2 if alternative == "two-sided" else 1)
        return float(stdtrit(n - 1, 1 - tail))
    if not (np.isfinite(threshold) and threshold > 0):
        raise ValueError(f"threshold must be a positive number, got {threshold}")
    return float(threshold)


def _null_masses(
    rows: Floats, height: float, both: bool, n_permutations: int, seed: int, jointly: bool
) -> Floats:
    """Return the largest masses under sign flips, (flips, 1) over all models if `jointly`, else (flips, models)."""
    n = rows.shape[2]
    if _is_exact(n):
        # A flip and its opposite have opposite t, so half of them are enough.
        masses = largest_masses(rows, all_signs(n)[: 1 << (n - 1)], height, both=True)
        null = masses.max(axis=0) if both else np.concatenate(list(masses))
    else:
        signs = draw_signs(seed, n_permutations, n)
        null = largest_masses(rows, signs, height, both=both).max(axis=0)
    return np.asarray(null.max(axis=1, keepdims=True) if jointly else null)


def _p_of_masses(mass: Floats, model: Any, null: Floats, exact: bool) -> Floats:
    ordered = np.sort(null, axis=0)
    column = model if null.shape[1] > 1 else np.zeros_like(model)
    # Sums in another order differ in the last bits, and an equal mass must count.
    least = mass - 1e-10 * np.maximum(1, np.where(np.isfinite(mass), mass, 1))
    below = np.array(
        [np.searchsorted(ordered[:, c], each) for c, each in zip(column, least, strict=True)], int
    )
    n = len(null)
    return np.asarray((n - below + (not exact)) / (n + (not exact)), np.float64)


def _critical_masses(null: Floats, alpha: float, exact: bool) -> Floats:
    """Return the masses (models,) or (1,) beyond which p is at most `alpha`."""
    n = len(null)
    allowed = int(alpha * (n + (not exact))) - (not exact)
    # The null distribution of all flips contains the observed mass.
    if allowed < exact:
        return np.full(null.shape[1], np.inf)
    ordered = np.sort(null, axis=0)
    # At most `allowed` values of the null distribution are larger.
    return np.asarray(ordered[n - allowed - 1])


def _timing(rows: Floats, counts: Any, height: float, critical: Floats) -> tuple[Any, Any]:
    """Return the onset, −1 without one, and the peak (draws, models) of drawn subjects, as time points."""
    n_models, n_times, n = rows.shape
    onset, peak = (np.empty((len(counts), n_models), np.intp) for _ in range(2))
    for block in blocks_of(len(counts), n_models * n_times):
        drawn = counts[block][:, None]
        runs = Runs(height, (len(drawn), n_models), critical)
        highest = np.full((len(drawn), n_models), -np.inf)
        for time in range(n_times):
            values = rows[None, :, time]
            means, squares = weighted(drawn, values), weighted(drawn, values**2)
            runs.add(t_of_sums(means * n, squares * n, n), time)
            higher = means > highest
            peak[block][higher] = time
            highest = np.maximum(highest, means)
        onset[block] = runs.onset
    return onset, peak
