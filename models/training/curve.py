"""Curves by epoch, for the layers of a training run or for several networks."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

from fastrdm._base import require

Lines = Mapping[str, Sequence[tuple[int, float]]]


def draw_curve(rows: Sequence[Mapping[str, Any]], title: str = "") -> bytes:
    """Draw percent of the noise ceiling by epoch as a PNG: a panel for each study and region, a line for each layer."""
    panels: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for row in rows:
        heading = f"{row['study']} · {row['region'].upper()} (100 % = {row['ceiling']:.4f})"
        points = panels.setdefault(heading, {}).setdefault(row["layer"], [])
        points.append((int(row["epoch"]), row["percent_nc"]))
    return draw_lines(panels, "percent of noise ceiling", title)


def draw_lines(panels: Mapping[str, Lines], label: str = "", title: str = "") -> bytes:
    """Draw a panel for each heading, with a line (epoch, value) for each name, as a PNG.

    A name has the same colour in all panels, from dark to light. `label` is that of the vertical axes.
    """
    require("matplotlib", "plot", "to draw curves")
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    colours = colormaps["viridis"].resampled(max(2, len(names)))
    figure = Figure(figsize=(8, 0.8 + 2.4 * len(panels)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (heading, lines) in zip(axes, panels.items(), strict=True):
        for name, points in lines.items():
            colour = colours(names.index(name))
            axis.plot(*zip(*sorted(points), strict=True), ".-", color=colour, label=name)
        axis.set_title(heading, loc="left", fontsize=10)
        axis.grid(linewidth=0.4)
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1].set_xlabel("epoch")
    axes[-1].xaxis.get_major_locator().set_params(integer=True)
    figure.supylabel(label, fontsize=10)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=8)
    if title:
        figure.suptitle(title, fontsize=11)
    image = io.BytesIO()
    figure.savefig(image, dpi=120, format="png")
    return image.getvalue()
