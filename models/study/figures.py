"""The paper's figures 4 and 5: the best layers of networks or checkpoints as bars, in percent of the noise ceiling."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastrdm._base import require
from models.study.comparison import Published
from models.study.network_scores import TEST_STUDY, NetworkScores

_BASELINE = "alexnet"
# AlexNet's row of the leaderboard, fMRI of the test images.
_BASELINE_ON_TEST = 7.4066


@dataclass(frozen=True)
class Bar:
    """The score of a network or checkpoint in percent of the noise ceiling, and its deviation over subjects."""

    label: str
    percent: float
    std: float


@dataclass(frozen=True)
class Panel:
    """The scores on one study, and the score of the baseline, None if unknown."""

    title: str
    bars: tuple[Bar, ...]
    baseline: float | None = None
    baseline_label: str = ""


def panels(
    scores: Sequence[NetworkScores], published: Published | None, networks: Sequence[NetworkScores]
) -> list[Panel]:
    """Return a figure's panels: the test study if it was scored, else the other studies.

    Scores with an error are left out. The baseline is one of `networks`, else from `published`.
    """
    shown = [each for each in scores if not each.error]
    studies = shown[0].studies if shown else []
    drawn = []
    for study in [TEST_STUDY] if TEST_STUDY in studies else studies:
        bars = tuple(
            Bar(f"{each.name}\n{each.marked(each.best)}", *each.score(study, each.best)[:2])
            for each in shown
        )
        drawn.append(Panel(study, bars, *_baseline(study, published, networks)))
    return drawn


def _baseline(
    study: str, published: Published | None, networks: Sequence[NetworkScores]
) -> tuple[float | None, str]:
    scored = next((each for each in networks if each.name == _BASELINE and not each.error), None)
    if scored is not None:
        return scored.score(study, scored.best).percent, "AlexNet, the baseline"
    if study == TEST_STUDY:
        return _BASELINE_ON_TEST, "AlexNet, the baseline (leaderboard)"
    if published is not None:
        layer = published.best(_BASELINE, ("92", "118"))
        if (_BASELINE, study, layer) in published.values:
            value = published.values[_BASELINE, study, layer][2]
            return value, f"AlexNet, the baseline (published, {layer})"
    return None, ""


def draw_bars(panels: Sequence[Panel], path: str | Path, title: str = "") -> Path:
    """Draw the panels, each with the noise ceiling above a broken axis, and return the path.

    NaN has no bar. Raise ValueError if there are no bars, or the panels differ in their labels.
    """
    require("matplotlib", "plot", "to draw figures")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    labels = {tuple(bar.label for bar in panel.bars) for panel in panels}
    if len(labels) != 1 or labels == {()}:
        raise ValueError("a figure needs at least one panel, and all panels need the same labels")
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
    whiskers = {"elinewidth": 0.8, "ecolor": "0.35", "capsize": 2}
    axis.bar(range(len(values)), values, yerr=spread, color="C0", error_kw=whiskers)
    highest = np.nanmax([*values, *(values + spread), panel.baseline or 0, 0])
    # Squared correlations are not negative, although whiskers may be.
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
    # Strokes that mark a broken axis.
    stroke: Any = {"marker": [(-1, -0.6), (1, 0.6)], "markersize": 8, "clip_on": False}
    top.plot(0, 0, "k", linestyle="none", transform=top.transAxes, **stroke)
    axis.plot(0, 1, "k", linestyle="none", transform=axis.transAxes, **stroke)
