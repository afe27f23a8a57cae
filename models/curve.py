"""The curve of a training run: each layer's score by epoch."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fastrdm._extras import require

if TYPE_CHECKING:
    from models.scoring import EpochResult


def draw_curve(results: "Sequence[EpochResult]", title: str = "") -> bytes:
    """Draw percent of the noise ceiling by epoch: a panel for each study and region, a line for each layer.

    Parameters
    ----------
    results : sequence of EpochResult
        One or more.
    title : str
        Above the figure.

    Returns
    -------
    bytes
        A PNG.
    """
    require("matplotlib", "plot", "to draw the curve of scores")
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = list(dict.fromkeys((r.set, r.region) for r in results))
    layers = list(dict.fromkeys(r.layer for r in results))
    # Early layers dark, late ones light.
    colours = colormaps["viridis"].resampled(max(2, len(layers)))
    figure = Figure(figsize=(8, 0.8 + 2.4 * len(panels)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (study, region) in zip(axes, panels, strict=True):
        shown = [r for r in results if (r.set, r.region) == (study, region)]
        for number, layer in enumerate(layers):
            own = sorted((r.epoch, r.percent_nc) for r in shown if r.layer == layer)
            axis.plot(*zip(*own, strict=True), ".-", color=colours(number), label=layer)
        axis.set_title(
            f"{study} · {region.upper()} (100 % = {shown[0].ceiling:.4f})", loc="left", fontsize=10
        )
        axis.grid(linewidth=0.4)
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1].set_xlabel("epoch")
    figure.supylabel("percent of noise ceiling", fontsize=10)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=8)
    if title:
        figure.suptitle(title, fontsize=11)
    image = io.BytesIO()
    figure.savefig(image, dpi=120, format="png")
    return image.getvalue()
