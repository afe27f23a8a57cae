"""The paper's bars: networks or checkpoints by the share of the noise ceiling that their best layer reaches."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastrdm._base import require


@dataclass(frozen=True)
class Bar:
    """One network's or checkpoint's score: percent of the noise ceiling, and its deviation over subjects."""

    label: str
    percent: float
    std: float


@dataclass(frozen=True)
class Panel:
    """The scores on one image set, and the score of the baseline; None where it is not known."""

    title: str
    bars: tuple[Bar, ...]
    baseline: float | None = None
    baseline_label: str = ""


def draw_bars(panels: Sequence[Panel], path: str | Path, title: str = "") -> Path:
    """Draw a panel for each image set, with the noise ceiling above an axis that is broken below it.

    Parameters
    ----------
    panels : sequence of Panel
        With the same labels in the same order. Scores that are NaN have no bar.
    path : path
        Where to; the ending says the format.
    title : str
        Above the figure.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    ValueError
        If there is nothing to draw, or the panels differ in their labels.
    MissingExtraError
        If matplotlib is not installed.
    """
    require("matplotlib", "plot", "to draw figures")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    labels = {tuple(bar.label for bar in panel.bars) for panel in panels}
    if len(labels) != 1 or labels == {()}:
        raise ValueError("bars need one panel at least, all with the same labels")
    n_bars = len(next(iter(labels)))
    figure = Figure(
        figsize=(max(7.0, 1.6 + 0.5 * n_bars), 0.9 + 3.1 * len(panels)), layout="constrained"
    )
    FigureCanvasAgg(figure)
    axes = figure.subplots(
        2 * len(panels), 1, sharex=True, squeeze=False, height_ratios=[1, 9] * len(panels)
    )[:, 0]
    for panel, top, axis in zip(panels, axes[::2], axes[1::2], strict=True):
        _draw_panel(panel, top, axis)
    names = [bar.label for bar in panels[-1].bars]
    axes[-1].set_xticks(range(n_bars), names, rotation=90 if n_bars > 6 else 0, fontsize=9)
    axes[-1].set_xlim(-0.6, n_bars - 0.4)
    figure.supylabel("percent of noise ceiling ± population SD over subjects", fontsize=9)
    if title:
        figure.suptitle(title, fontsize=10)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    return path


def _draw_panel(panel: Panel, top: Any, axis: Any) -> None:
    values = np.array([bar.percent for bar in panel.bars])
    spread = np.array([bar.std for bar in panel.bars])
    axis.bar(
        range(len(values)),
        values,
        yerr=spread,
        color="C0",
        error_kw={"elinewidth": 0.8, "ecolor": "0.35", "capsize": 2},
    )
    highest = np.nanmax([*values, *(values + spread), panel.baseline or 0, 0])
    # From zero on, though whiskers reach below: shares are squares.
    axis.set_ylim(0, 1.05 * highest or 1)
    if panel.baseline is not None:
        axis.axhline(panel.baseline, color="C3", linestyle="--", linewidth=1)
        top.set_title(f"– – {panel.baseline_label}", loc="right", fontsize=8, color="C3")
    top.axhline(100, color="0.2", linewidth=1)
    top.text(1, 0.45, "noise ceiling ", transform=top.transAxes, ha="right", va="top", fontsize=8)
    top.set_ylim(99, 101)
    top.set_yticks([100])
    top.tick_params(bottom=False)
    top.set_title(panel.title, loc="left", fontsize=10)
    top.spines[["top", "right", "bottom"]].set_visible(False)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="y", linewidth=0.4)
    axis.set_axisbelow(True)
    # The two strokes by which a broken axis is known.
    stroke = {
        "marker": [(-1, -0.6), (1, 0.6)],
        "markersize": 8,
        "linestyle": "none",
        "clip_on": False,
    }
    top.plot(0, 0, transform=top.transAxes, color="k", **stroke)
    axis.plot(0, 1, transform=axis.transAxes, color="k", **stroke)
