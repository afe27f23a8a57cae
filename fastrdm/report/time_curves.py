"""Scores over time as curves."""

from collections.abc import Sequence
from typing import Any

from fastrdm._base import printable
from fastrdm.scoring import Result

_STYLES = ("-", "--", ":", "-.")


def draw_curves(axis: Any, results: Sequence[Result], checkpoints: Sequence[str]) -> None:
    """Draw the results of one region: a curve for each layer and checkpoint, and a legend of the layers."""
    from matplotlib import colormaps

    layers = list(dict.fromkeys(r.layer for r in results))
    colours = colormaps["viridis"]
    for number, layer in enumerate(layers):
        colour = colours(number / max(1, len(layers) - 1))
        label = " " + printable(layer).replace("$", r"\$")
        for place, checkpoint in enumerate(checkpoints):
            own = [r for r in results if (r.layer, r.checkpoint) == (layer, checkpoint)]
            axis.plot(
                [r.time for r in own],
                [r.percent_nc for r in own],
                _STYLES[place % len(_STYLES)],
                color=colour,
                label=label,
                linewidth=1.2,
                marker="." if len(own) < 20 else None,
            )
            # One entry of the legend for all checkpoints.
            label = "_"
    axis.set_xlabel("time", fontsize=9)
    if all(not r.percent_nc < 0 for r in results):
        axis.set_ylim(bottom=0)
    axis.grid(linewidth=0.4)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(fontsize=7, frameon=False, ncols=2)
