"""The noise ceiling above scores: on the same axis, or if it is far above them, in a strip above a broken axis."""

import math
from collections.abc import Iterable
from typing import Any

_COLOUR = "0.35"
_BAND = "0.86"
# The axis is broken if the ceiling is more than this many times the highest value.
_FAR = 1.6
# Heights of the scores and of the strip, as shares of the Axes.
_SCORES, _STRIP = 0.86, 0.09


def draw_ceiling(
    axes: Any, values: Iterable[float], bounds: tuple[float, float] | None = None
) -> None:
    """Draw the noise ceiling, 100 %, as a line, and its `bounds` as a band, and set the limits of the y axis.

    `values` are all that is drawn; what is not finite is ignored.
    """
    known = [value for value in values if math.isfinite(value)]
    low, high = min([0.0, *known]), max([0.0, *known]) or 1.0
    bottom = 1.05 * low
    least, most = min(100.0, *(bounds or (100.0,))), max(100.0, *(bounds or (100.0,)))
    if low < 0:
        axes.axhline(0, color=_COLOUR, linewidth=0.6, zorder=1)
    if least <= _FAR * high:
        axes.set_ylim(bottom, 1.06 * max(high, most))
        _draw_bounds(axes, bounds)
        _name(axes, most, axes.get_yaxis_transform())
        return
    top = 1.04 * high
    axes.set_ylim(bottom, bottom + (top - bottom) / _SCORES)
    ticks = [tick for tick in axes.get_yticks() if bottom <= tick <= top]
    axes.set_yticks(ticks)
    axes.spines.left.set_bounds(bottom, top)
    strip = axes.inset_axes((0, 1 - _STRIP, 1, _STRIP))
    strip.set_facecolor("none")
    margin = 0.25 * (most - least) or 1
    strip.set_ylim(least - margin, most + margin)
    strip.set_yticks([100])
    strip.set_xticks([])
    strip.spines[["top", "right", "bottom"]].set_visible(False)
    _draw_bounds(strip, bounds)
    _name(strip, most, strip.get_yaxis_transform())
    # Strokes where the axis is broken.
    stroke: Any = {"marker": [(-1, -0.6), (1, 0.6)], "markersize": 6, "clip_on": False}
    for height in (_SCORES, 1 - _STRIP):
        axes.plot(0, height, color="black", transform=axes.transAxes, **stroke)


def _draw_bounds(axes: Any, bounds: tuple[float, float] | None) -> None:
    if bounds:
        axes.axhspan(*bounds, color=_BAND, linewidth=0, zorder=0)
    axes.axhline(100, color=_COLOUR, linewidth=0.8, linestyle="--" if bounds else "-", zorder=1)


def _name(axes: Any, height: float, transform: Any) -> None:
    axes.annotate(
        "noise ceiling",
        (1, height),
        (0, 1.5),
        xycoords=transform,
        textcoords="offset points",
        ha="right",
        va="bottom",
        fontsize=6.5,
        color=_COLOUR,
        annotation_clip=False,
    )
