"""Figures of the JSON that pytest-benchmark writes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastrdm._base import read_json
from fastrdm.plot.benchmark_dots import benchmarks
from fastrdm.plot.stage_bars import stages
from fastrdm.plot.style import new_panels, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass
class BenchmarkTimes:
    """By task, the seconds of contenders, those of their stages if they were recorded, and the reference's name."""

    medians: dict[str, dict[str, float]] = field(default_factory=dict)
    stages: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    ours: dict[str, str] = field(default_factory=dict)


def read_benchmarks(path: str | Path) -> BenchmarkTimes:
    """Read a file of ``pytest --benchmark-json``; ValueError if it is something else.

    A task is a group of benchmarks. A contender's name and stages are the keys ``contender`` and ``stages`` of its
    ``extra_info``; without them, the name is that of the benchmark. ``per_round`` there is the number of calls in a
    round. The reference is ``ours`` there, else the kernels in use when `make bench` wrote the file, else the first
    contender whose name begins with fastrdm, else the first one.
    """
    content = read_json(Path(path))
    times = BenchmarkTimes()
    try:
        kernels = content.get("machine_info", {}).get("bench", {}).get("kernels", "")
        for entry in content["benchmarks"]:
            _add(times, entry, f"fastrdm {kernels}")
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{path} is not a file of pytest --benchmark-json ({type(error).__name__}: {error})"
        ) from None
    if not times.medians:
        raise ValueError(f"{path} has no benchmarks")
    for task, row in times.medians.items():
        if times.ours.get(task) not in row:
            times.ours[task] = next(
                (name for name in row if name.startswith("fastrdm")), next(iter(row))
            )
    return times


def _add(times: BenchmarkTimes, entry: Mapping[str, Any], default: str) -> None:
    info: Mapping[str, Any] = entry.get("extra_info", {})
    task = str(entry.get("group") or "benchmarks")
    name = str(info.get("contender", entry["name"]))
    median = float(entry["stats"]["median"]) / info.get("per_round", 1)
    times.medians.setdefault(task, {})[name] = median
    times.ours.setdefault(task, str(info.get("ours", default)))
    if "stages" in info:
        parts = {str(stage): float(value) for stage, value in info["stages"].items()}
        times.stages.setdefault(task, {})[name] = parts


def figure_of_benchmarks(path: str | Path) -> "Figure":
    """Draw how contenders compare in all tasks of a file of ``pytest --benchmark-json``, see `benchmarks`."""
    times = read_benchmarks(path)
    figure: Figure = benchmarks(times.medians, times.ours).figure  # type: ignore[assignment]
    return figure


def figure_of_stages(path: str | Path) -> "Figure":
    """Draw where the time went, a panel for each task of a file of ``pytest --benchmark-json`` with stages.

    ValueError if no benchmark recorded its stages.
    """
    tasks = read_benchmarks(path).stages
    if not tasks:
        raise ValueError(
            f"{path} has no times of stages; benchmarks record them as extra_info['stages']"
        )
    with styled():
        height = 0.9 + 0.24 * max(map(len, tasks.values()))
        figure, axes = new_panels(len(tasks), (6.0, height), columns=1)
        for ax, (task, times) in zip(axes, tasks.items(), strict=True):
            stages(times, title=task, ax=ax)
    return figure
