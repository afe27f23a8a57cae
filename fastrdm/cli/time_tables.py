"""Results over time as text: layers in rows and time points in columns, the best layer by time, and clusters."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import list_names
from fastrdm.inference import cluster_test
from fastrdm.scoring import Result
from fastrdm.similarity import TimeTable, time_runs

_SIGNIFICANT = 0.05


def lines_over_time(results: Sequence[Result], symbol: str, seed: int) -> Iterator[str]:
    """Yield the lines for the results of one region by one measure; `symbol` is that of the measure's similarities."""
    layers = list(dict.fromkeys(r.layer for r in results))
    times = np.array(list(dict.fromkeys(r.time for r in results)), np.float64)
    grid = [[r for r in results if r.layer == layer] for layer in layers]
    is_tested = not all(math.isnan(r.p_corrected) for r in results)
    marks = [[_mark(r) for r in row] for row in grid]
    values = np.array([[r.percent_nc for r in row] for row in grid])
    meanings = (
        [f"‡ mean {symbol} below 0"] if any("‡" in mark for row in marks for mark in row) else []
    )
    if is_tested:
        meanings.insert(0, f"† {symbol} above 0, p < {_SIGNIFICANT} corrected")
    yield "; ".join(["percent of the noise ceiling of each time point", *meanings])
    yield from str(TimeTable("percent_nc", layers, times, values, marks)).splitlines()
    yield f"best layer by time: {_best(grid, times)}"
    if is_tested:
        yield from _clusters(grid, times, seed)


def _mark(result: Result) -> str:
    if result.mean_rho < 0:
        return "‡"
    return "†" if result.p_corrected < _SIGNIFICANT else ""


def _best(grid: Sequence[Sequence[Result]], times: NDArray[np.float64]) -> str:
    """The layer with the highest value at each time point, as runs of time points with the same one."""
    best = []
    for column in zip(*grid, strict=True):
        known = [r for r in column if not math.isnan(r.value)]
        best.append(max(known, key=lambda r: r.value).layer if known else "–")
    return ", ".join(f"{layer} ({when})" for layer, when in time_runs(best, times))


def _clusters(
    grid: Sequence[Sequence[Result]], times: NDArray[np.float64], seed: int
) -> Iterator[str]:
    """Yield a line with the significant clusters of layers that have all similarities."""
    rho = np.array([[r.rho for r in row] for row in grid])
    known = np.flatnonzero(np.isfinite(rho).all(axis=(1, 2))).tolist()
    if rho.shape[2] < 2 or not known:
        return
    names = [grid[i][0].layer for i in known]
    found = cluster_test(rho[known], times=times, names=names, seed=seed)
    rows = [row for row in found.rows() if row["p"] < _SIGNIFICANT]
    texts = [
        f"{row['model']} {_interval(row['start'], row['end'])} (p {row['p']:.2g})" for row in rows
    ]
    yield (
        f"clusters of t > {found.threshold:.3f} with p < {_SIGNIFICANT}, corrected over layers:"
        f" {list_names(texts, 20) if texts else 'none'}"
    )


def _interval(start: float, end: float) -> str:
    return f"{start:g}" if start == end else f"{start:g} to {end:g}"
