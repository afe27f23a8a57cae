"""Figures of scores."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastrdm._base import first_line, printable, require
from fastrdm.report.time_curves import draw_curves
from fastrdm.scoring import RSA, Result


def check_figure(path: str | Path, name: str = "path") -> None:
    """Refuse a figure that cannot be drawn; `name` is the argument's, for the error.

    MissingExtraError without matplotlib, ValueError unless the ending is a format that matplotlib can write here.
    """
    require("matplotlib", "plot", "to draw figures")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    formats = FigureCanvasAgg.get_supported_filetypes()
    form = Path(path).suffix.lstrip(".").lower()
    if form not in formats:
        endings = ", ".join(f".{each}" for each in sorted(formats))
        raise ValueError(f"{name}: {path} must end in one of: {endings}")
    figure = Figure(figsize=(1, 1))
    FigureCanvasAgg(figure)
    figure.text(0, 0, "1")
    # Some formats need other programs or packages.
    try:
        figure.savefig(io.BytesIO(), format=form)
    except Exception as error:
        raise ValueError(f"{name}: .{form} cannot be written here: {first_line(error)}") from error


def plot_scores(results: Sequence[Result], path: str | Path, title: str = "") -> Path:
    """Draw the scores of all layers: a panel for each study, region and measure, a group of bars for each checkpoint.

    Bars are percent of the noise ceiling, whiskers the population standard deviation over subjects. Bars of layers with
    a negative mean similarity are hatched. Results of time points are curves over time, a colour for each layer and a
    line style for each checkpoint. The suffix of `path`, which is returned, is the format (`.png`, `.pdf`,
    `.svg`); ValueError if it is unknown, or if there are no results.
    """
    require("matplotlib", "plot", "to draw figures")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    path = Path(path)
    if not results:
        raise ValueError("there are no results to draw")
    check_figure(path)

    checkpoints = list(dict.fromkeys(r.checkpoint for r in results))
    studies = list(dict.fromkeys(r.study for r in results))
    regions = list(dict.fromkeys(r.region for r in results))
    measures = list(dict.fromkeys(r.measure for r in results))
    present = {(r.study, r.region, r.measure) for r in results}
    places = ((s, r, m) for m in measures for s in studies for r in regions)
    panels = [place for place in places if place in present]
    n_bars = len({(r.checkpoint, r.layer) for r in results})
    # In inches: 0.07 for a character of the layers' names below the panels, 0.17 for a row of the legend.
    below = 0.07 * max(len(r.layer) for r in results) + 0.17 * -(-len(checkpoints) // 2)
    height = 1.2 + 1.9 * len(panels) + below
    figure = Figure(figsize=(max(7.0, 2.5 + 0.26 * n_bars), height), layout="constrained")
    FigureCanvasAgg(figure)
    has_times = any(r.time is not None for r in results)
    axes = figure.subplots(len(panels), 1, sharex=not has_times, squeeze=False)[:, 0]
    for axis, panel in zip(axes, panels, strict=True):
        study, region, measure = panel
        shown = [r for r in results if (r.study, r.region, r.measure) == panel]
        ceiling = f"{shown[0].ceiling:.4f}"
        if shown[0].time is None:
            _draw_panel(axis, shown, checkpoints)
        else:
            ceiling = "ceiling of each time point"
            draw_curves(axis, shown, checkpoints)
        by = f" · {measure}" if measures != [RSA] else ""
        axis.set_title(
            f"{_label(study)} · {_label(region.upper())}{by} (100 % = {ceiling})",
            loc="left",
            fontsize=10,
        )
        axis.set_ylabel("% of ceiling", fontsize=9)
    hatched = "; hatched: mean ρ below 0" if any(r.mean_rho < 0 for r in results) else ""
    note = f"percent of the noise ceiling ± SD over subjects{hatched}"
    if has_times:
        note += "\ncurves: a colour for each layer, a line style for each checkpoint, the first one solid"
    # Patches of their own: a legend would copy the hatching of a checkpoint's first bar.
    handles = [
        Patch(color=f"C{number}", label=_legend_label(Path(checkpoint).name))
        for number, checkpoint in enumerate(checkpoints)
    ]
    figure.legend(handles=handles, loc="outside lower left", ncols=2, frameon=False, fontsize=9)
    figure.suptitle("\n".join(filter(None, (_label(title), note))), x=0.01, ha="left", fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    return path


def _label(text: str) -> str:
    """Text in which matplotlib finds no formula."""
    return printable(text).replace("$", r"\$")


def _legend_label(text: str) -> str:
    # matplotlib leaves labels that begin with an underscore out of legends.
    return f"{' ' * text.startswith('_')}{_label(text)}"


def _draw_panel(axis: Any, results: Sequence[Result], checkpoints: Sequence[str]) -> None:
    position, ticks = 0, []
    for number, checkpoint in enumerate(checkpoints):
        group = [r for r in results if r.checkpoint == checkpoint]
        places = range(position, position + len(group))
        bars = axis.bar(
            places,
            [r.percent_nc for r in group],
            yerr=[100 * r.std / r.ceiling for r in group],
            color=f"C{number}",
            error_kw={"elinewidth": 0.8, "ecolor": "0.35"},
        )
        for bar, result in zip(bars, group, strict=True):
            if result.mean_rho < 0:
                bar.set_hatch("///")
        ticks += [(place, _label(r.layer)) for place, r in zip(places, group, strict=True)]
        position += len(group) + 1
    axis.set_xticks([t for t, _ in ticks], [layer for _, layer in ticks], rotation=90, fontsize=8)
    axis.set_xlim(-1, position - 1)
    axis.set_ylim(bottom=0)
    axis.grid(axis="y", linewidth=0.4)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
