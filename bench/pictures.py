"""The report's pictures."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from bench.results import TaskResults, seconds, stages_of

# The picture of stages has a panel of its own for contenders that take up to this many forward passes.
NEAR = 3


def draw_ratios(tasks: list[TaskResults], path: Path) -> None:
    """Draw the ratios to fastrdm as bars, a panel for each task, on one logarithmic scale."""
    tasks = [task for task in tasks if task.ours in task.rows]
    figure, axes = plt.subplots(
        len(tasks),
        sharex=True,
        squeeze=False,
        figsize=(8, 0.28 * sum(len(task.rows) + 2 for task in tasks) + 0.5),
        height_ratios=[len(task.rows) for task in tasks],
        layout="constrained",
    )
    for axis, task in zip(axes[:, 0], tasks, strict=True):
        names = list(task.rows)
        ratios = [task.times_slower(name, task.ours) for name in names]
        colours = ["tab:blue" if name.startswith("fastrdm") else "tab:grey" for name in names]
        # Bars start at 1, so those of faster contenders point to the left.
        bars = axis.barh(names, [ratio - 1 for ratio in ratios], left=1, color=colours)
        labels = [f"{r:,.0f} ×" if r >= 100 else f"{r:.3g} ×" for r in ratios]
        axis.bar_label(bars, labels, padding=3, fontsize=8)
        axis.axvline(1, color="black", linewidth=0.8)
        axis.set_xscale("log")
        axis.invert_yaxis()
        axis.set_title(task.name, fontsize=9, loc="left")
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0.15)
    axes[-1, 0].set_xlabel("time relative to fastrdm (logarithmic; longer is slower)", fontsize=9)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def draw_stages(task: TaskResults, path: Path) -> None:
    """Draw the stages of each contender of a whole path as a bar; above, the fast contenders on another scale."""
    rows = [row for row in task.rows.values() if "stages" in row.info]
    fast = [row for row in rows if row.pace <= NEAR]
    panels = [fast, rows] if fast and len(fast) < len(rows) else [rows]
    figure, axes = plt.subplots(
        len(panels),
        squeeze=False,
        figsize=(8, 0.3 * sum(len(panel) + 3 for panel in panels) + 0.5),
        height_ratios=[len(panel) for panel in panels],
        layout="constrained",
    )
    stages = stages_of(task)
    colours = dict(
        zip(stages, [*plt.get_cmap("tab10").colors[: len(stages) - 1], "lightgrey"], strict=True)
    )
    for axis, panel in zip(axes[:, 0], panels, strict=True):
        names = [row.name for row in panel]
        left = [0.0] * len(panel)
        for stage in stages:
            widths = [row.info["stages"][stage] for row in panel]
            axis.barh(names, widths, left=left, color=colours[stage], label=stage)
            left = [a + b for a, b in zip(left, widths, strict=True)]
        for y, (row, end) in enumerate(zip(panel, left, strict=True)):
            label = f"{seconds(row.median)}, {row.pace:.2f} ×"
            axis.annotate(
                label, (end, y), (4, 0), textcoords="offset points", va="center", fontsize=8
            )
        axis.invert_yaxis()
        axis.set_xlabel("seconds", fontsize=9)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0.2)
    axes[0, 0].set_title(f"{task.name}\n(×: of the forward pass alone)", fontsize=9, loc="left")
    axes[-1, 0].legend(fontsize=8, loc="upper right", frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)
