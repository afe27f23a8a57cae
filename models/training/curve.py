"""Curves by epoch, for the layers of a training run or for several networks."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

from fastrdm._base import require

Points = Sequence[tuple[int, float]]
Lines = Mapping[str, Points]


def draw_curve(rows: Sequence[Mapping[str, Any]], title: str = "") -> bytes:
    """Draw percent of the noise ceiling by epoch as a PNG: a panel for each study and region, a line for each layer."""
    panels: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for row in rows:
        heading = f"{row['study']} · {row['region'].upper()} (100 % = {row['ceiling']:.4f})"
        points = panels.setdefault(heading, {}).setdefault(row["layer"], [])
        points.append((int(row["epoch"]), row["percent_nc"]))
    return draw_lines(panels, "percent of noise ceiling", title)


def draw_lines(
    panels: Mapping[str, Lines],
    label: str = "",
    title: str = "",
    *,
    runs: Mapping[str, Mapping[str, Sequence[Points]]] | None = None,
    ticks: Sequence[int] = (),
) -> bytes:
    """Draw a panel for each heading, with a line (epoch, value) for each name, as a PNG.

    A name has the same colour in all panels, from dark to light. `label` is that of the vertical axes. `runs` are
    further, thin lines of the names by heading, such as those of single seeds. With `ticks`, the axis of epochs is
    logarithmic and has these ticks.
    """
    require("matplotlib", "plot", "to draw curves")
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    # Without the lightest colours, which are faint on white.
    shades = {n: 0.8 * i / max(1, len(names) - 1) for i, n in enumerate(names)}
    colours = {name: colormaps["viridis"](shade) for name, shade in shades.items()}
    figure = Figure(figsize=(8, 0.8 + 2.4 * len(panels)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (heading, lines) in zip(axes, panels.items(), strict=True):
        thin = (runs or {}).get(heading, {})
        for name, points in lines.items():
            style: Any = {"color": colours[name]}
            for own in thin.get(name, ()):
                axis.plot(*zip(*sorted(own), strict=True), linewidth=0.7, alpha=0.6, **style)
            style["linewidth"] = 1.8 if thin else 1.5
            axis.plot(*zip(*sorted(points), strict=True), ".-", label=name, **style)
        axis.set_title(heading, loc="left", fontsize=10)
        axis.grid(linewidth=0.4)
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1].set_xlabel("epoch")
    if ticks:
        axes[-1].set_xscale("log")
        axes[-1].set_xticks(ticks, [str(tick) for tick in ticks])
        axes[-1].set_xticks([], minor=True)
    else:
        axes[-1].xaxis.get_major_locator().set_params(integer=True)
    figure.supylabel(label, fontsize=10)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=8)
    if title:
        figure.suptitle(title, fontsize=11)
    image = io.BytesIO()
    figure.savefig(image, dpi=120, format="png")
    return image.getvalue()
