"""Results of tests over time; they print as tables and convert like all results."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm.inference.results import InferenceResult, made_by
from fastrdm.inference.significance import ORIENTATIONS, Floats
from fastrdm.similarity import time_runs, time_texts

_ALPHA = 0.05
# Number of clusters that are printed.
_MOST = 20


@dataclass(frozen=True, eq=False)
class TimeTest(InferenceResult):
    """Tests of each time point of each model; printed with a line for each model, otherwise a row for each time point.

    Attributes
    ----------
    names : tuple of str
        Models.
    times : ndarray, shape (n_times,)
        Times.
    estimate, statistic : ndarray, shape (n_models, n_times)
        Mean over subjects, and t.
    p, p_corrected : ndarray, shape (n_models, n_times)
        p value of the time point alone, and the one corrected by the largest t.
    alternative : str
        As passed.
    jointly : bool
        Whether p is corrected over all models, too.
    n_resamples : int
        Number of sign flips.
    exact : bool
        Whether all sign flips were taken.
    seed : int or None
        None if nothing was drawn.
    made_by : dict
        Versions and kernels.
    """

    names: tuple[str, ...]
    times: Floats
    estimate: Floats
    statistic: Floats
    p: Floats
    p_corrected: Floats
    alternative: str
    jointly: bool
    n_resamples: int
    exact: bool
    seed: int | None
    made_by: dict[str, str] = field(default_factory=made_by)

    def facts(self) -> str:
        """Return the test and its options, on one line."""
        what = "models and times" if self.jointly else "times"
        return f"sign flips with the largest t over {what}, {self.alternative}, {_resamples(self)}"

    def _columns(self) -> dict[str, Sequence[Any]]:
        return {
            "model": [name for name in self.names for _ in self.times],
            "time": self.times.tolist() * len(self.names),
            "estimate": self.estimate.ravel().tolist(),
            "statistic": self.statistic.ravel().tolist(),
            "p": self.p.ravel().tolist(),
            "p corrected": self.p_corrected.ravel().tolist(),
        }

    def _printed(self) -> list[dict[str, Any]]:
        texts = time_texts(self.times)
        rows = []
        for i, name in enumerate(self.names):
            runs = time_runs((self.p_corrected[i] < _ALPHA).tolist(), self.times)
            significant = ", ".join(when for is_significant, when in runs if is_significant) or "–"
            peak = int(np.argmax(ORIENTATIONS[self.alternative](self.statistic[i])))
            rows.append(
                {
                    "model": name,
                    "peak": texts[peak],
                    "t": float(self.statistic[i, peak]),
                    "p": float(self.p[i, peak]),
                    "p corrected": float(self.p_corrected[i, peak]),
                    f"p corrected < {_ALPHA}": significant,
                }
            )
        return rows


def _resamples(result: Any) -> str:
    how = "exact" if result.exact else f"seed {result.seed}"
    return f"{result.n_resamples} resamples, {how}"


@dataclass(frozen=True, eq=False)
class ClusterTest(InferenceResult):
    """Tests of clusters of time points: one row per cluster, by model and time.

    Attributes
    ----------
    names : tuple of str
        Models.
    times : ndarray, shape (n_times,)
        Times.
    model, first, last : ndarray of int, shape (n_clusters,)
        Position of the cluster's model in `names`, and of its first and its last time point in `times`.
    mass, p : ndarray, shape (n_clusters,)
        Sum of t over the cluster, and its p value, corrected over clusters.
    statistic : ndarray, shape (n_models, n_times)
        t of each time point.
    threshold : float
        Cluster-forming threshold of t.
    alternative, jointly, n_resamples, exact, seed, made_by
        As for `TimeTest`.
    """

    names: tuple[str, ...]
    times: Floats
    model: NDArray[np.intp]
    first: NDArray[np.intp]
    last: NDArray[np.intp]
    mass: Floats
    p: Floats
    statistic: Floats
    threshold: float
    alternative: str
    jointly: bool
    n_resamples: int
    exact: bool
    seed: int | None
    made_by: dict[str, str] = field(default_factory=made_by)

    @property
    def p_of_times(self) -> Floats:
        """The p value of the cluster that each time point belongs to, (n_models, n_times); 1 outside of clusters."""
        out = np.ones(self.statistic.shape)
        for model, first, last, p in zip(self.model, self.first, self.last, self.p, strict=True):
            out[model, first : last + 1] = p
        return out

    def facts(self) -> str:
        """Return the test and its options, on one line."""
        sign = {"greater": "t >", "less": "-t >", "two-sided": "|t| >"}[self.alternative]
        what = "models" if self.jointly else "each model"
        n = len(self.mass)
        end = f"; {n or 'no'} cluster{'s' if n != 1 else ''}"
        end += f", of which the {_MOST} with the lowest p:" if n > _MOST else ""
        return (
            f"clusters of {sign} {self.threshold:.4f} over time, largest mass over {what}, {self.alternative},"
            f" {_resamples(self)}{end}"
        )

    def _columns(self) -> dict[str, Sequence[Any]]:
        return {
            "model": [self.names[i] for i in self.model],
            "start": self.times[self.first].tolist(),
            "end": self.times[self.last].tolist(),
            "peak": self.times[self._peaks()].tolist(),
            "mass": self.mass.tolist(),
            "p": self.p.tolist(),
        }

    def _peaks(self) -> NDArray[np.intp]:
        clusters = zip(self.model, self.first, self.last, strict=True)
        tops = [a + int(np.abs(self.statistic[m, a : b + 1]).argmax()) for m, a, b in clusters]
        return np.array(tops, np.intp)

    def _printed(self) -> list[dict[str, Any]]:
        texts = dict(zip(self.times.tolist(), time_texts(self.times), strict=True))
        shown = np.sort(np.argsort(self.p, kind="stable")[:_MOST])
        rows = self.rows()
        return [
            rows[i] | {name: texts[rows[i][name]] for name in ("start", "end", "peak")}
            for i in shown
        ]


@dataclass(frozen=True, eq=False)
class Latencies(InferenceResult):
    """Onset and peak of each model, with intervals over subjects.

    Attributes
    ----------
    names : tuple of str
        Models.
    onset, peak : ndarray, shape (n_models,)
        Times; an onset is NaN without a significant cluster.
    onset_interval, peak_interval : ndarray, shape (n_models, 2)
        Percentile intervals; NaN for an onset that less than half of the draws have.
    share : ndarray, shape (n_models,)
        Share of draws with an onset.
    threshold, alpha, level : float
        Cluster-forming threshold of t, level of the cluster test, level of the intervals.
    n_draws, seed : int
        Number of draws of subjects, and the seed.
    made_by : dict
        Versions and kernels.
    """

    names: tuple[str, ...]
    onset: Floats
    onset_interval: Floats
    share: Floats
    peak: Floats
    peak_interval: Floats
    threshold: float
    alpha: float
    level: float
    n_draws: int
    seed: int
    made_by: dict[str, str] = field(default_factory=made_by)

    def facts(self) -> str:
        """Return the method and its options, on one line."""
        return (
            f"onset of the first cluster of t > {self.threshold:.4f} with p <= {self.alpha:g}, and peak of the mean;"
            f" {100 * self.level:g} % intervals of {self.n_draws} draws of subjects, seed {self.seed}"
        )

    def _columns(self) -> dict[str, Sequence[Any]]:
        columns: dict[str, Sequence[Any]] = {"model": self.names}
        for name in ("onset", "peak"):
            low, high = getattr(self, f"{name}_interval").T.tolist()
            columns |= {name: getattr(self, name).tolist()}
            columns |= {f"{name} low": low, f"{name} high": high}
        return {**columns, "draws with onset": self.share.tolist()}

    def _printed(self) -> list[dict[str, Any]]:
        return [
            {k: f"{v:g}" if isinstance(v, float) else v for k, v in row.items()}
            for row in self.rows()
        ]
