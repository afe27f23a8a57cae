"""The report's pictures."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from bench.results import Measurement, TaskResults, stages_of
from fastrdm import plot

# Contenders of the README's picture, by their names there.
SPEED = {
    "ONNX Runtime, forward pass alone": "forward pass alone",
    "fastrdm": "fastrdm",
    "eager torch + hooks + numpy + scipy": "torch + NumPy + SciPy",
    "eager torch + hooks + rsatoolbox": "torch + rsatoolbox",
}
# Share of the longest bar below which a stage of that picture is among the others.
VISIBLE = 0.03
_FAMILIES = {
    "fastrdm": "fastrdm, other kernels",
    "mne-rsa": "MNE-RSA",
    "numpy": "NumPy",
    "scipy": "SciPy",
    "scipy.sparse": "SciPy",
}


def draw_ratios(tasks: list[TaskResults], path: Path) -> None:
    """Draw the ratios to fastrdm: a row for each task, a dot for each contender."""
    tasks = [task for task in tasks if task.ours in task.rows]
    times = {task.name: {name: task.time(name) or 0.0 for name in task.rows} for task in tasks}
    names = {name for row in times.values() for name in row}
    families = {name: _FAMILIES.get(name.split()[0], name.split()[0]) for name in names}
    ours = {task.name: task.ours for task in tasks}
    _save(plot.benchmarks(times, ours, families=families), path)


def draw_stages(task: TaskResults, path: Path) -> None:
    """Draw the stages of each contender of a whole path as a bar."""
    rows = [row for row in task.rows.values() if "stages" in row.info]
    notes = {row.name: f"{row.pace:.2f} ×" for row in rows if row.pace is not None}
    order = stages_of(task)
    ax = plot.stages(_seconds(rows, order), order=order, notes=notes)
    _title(ax, f"{task.name} (×: of the forward pass alone)")
    _save(ax, path)


def draw_speed(task: TaskResults, machine: str, path: Path) -> None:
    """Draw the README's picture: the stages of few contenders of a whole path, measured on `machine`."""
    rows = [task.rows[name] for name in SPEED]
    stages = stages_of(task)
    times = dict(zip(SPEED.values(), _seconds(rows, stages).values(), strict=True))
    longest = max(sum(parts.values()) for parts in times.values())
    shown = [s for s in stages if max(parts[s] for parts in times.values()) > VISIBLE * longest]
    for name, parts in times.items():
        some = {stage: parts[stage] for stage in shown if stage != "other"}
        times[name] = {**some, "other": sum(parts.values()) - sum(some.values())}
    ax = plot.stages(times)
    _title(ax, f"Time to score one checkpoint on {machine}:\n{task.name}")
    _save(ax, path)


def _seconds(rows: list[Measurement], order: list[str]) -> dict[str, dict[str, float]]:
    return {row.name: {stage: row.info["stages"][stage] for stage in order} for row in rows}


def _title(ax: plt.Axes, text: str) -> None:
    """Give the whole figure a title, for texts that are longer than the Axes."""
    ax.figure.suptitle(text, x=0.01, ha="left", fontsize=8)


def _save(ax: plt.Axes, path: Path) -> None:
    # The same measurements give the same file.
    with plot.styled(), plt.rc_context({"svg.hashsalt": "fastrdm"}):
        ax.figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(ax.figure)
