"""Scores by layer: a point for each layer, with its interval and a dot for each subject."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrdm.plot.ceiling_strips import draw_ceiling
from fastrdm.plot.legends import draw_legend, line_handles
from fastrdm.plot.series import (
    bounds_in_percent,
    check_results,
    colours_of,
    place_title,
    score_label,
    series_of,
    subject_percents,
)
from fastrdm.plot.style import new_axes, plain_text, styled
from fastrdm.scoring import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Series up to which intervals and subjects are legible side by side.
_DETAILED = 6


def layers(
    results: Iterable[Result],
    *,
    ceilings: Mapping[tuple[str, str], tuple[float, float]] | None = None,
    subjects: bool = True,
    title: str | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw the score of each layer, in percent of the noise ceiling.

    A large point is the mean over subjects, a line its 95 % interval, a small dot one subject. Points of layers with a
    negative mean similarity are open. Checkpoints, studies and regions are side by side, in colours; more than six are
    lines without intervals and subjects. If the ceiling is far above the scores, the axis is broken.

    Parameters
    ----------
    results : iterable of Result
        Results by one measure, without time points, layers in the order of the axis. NaN has no point.
    ceilings : mapping of (study, region) to (lower, upper), optional
        Bounds of the noise ceiling in units of the score, drawn as a band if all results are of one region; otherwise,
        the ceiling is a line.
    subjects : bool
        Whether to draw the subjects.
    title : str, optional
        By default the study and the region, if all results have the same.
    ax : Axes, optional
        Where to draw; by default a new figure.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        If there are no results, they are by several measures, or a layer has several results in a series.
    MissingExtraError
        Without matplotlib.

    Examples
    --------
    >>> import fastrdm.plot
    >>> from fastrdm.scoring import Result
    >>> results = [
    ...     Result("net.pth", "92", layer, "it", 0.02, 0.01, 0.01, percent, 0.01, 0.02, 0.2)
    ...     for layer, percent in {"conv1": 5.0, "conv2": 12.0, "fc": 9.0}.items()
    ... ]
    >>> axes = fastrdm.plot.layers(results)
    """
    found = check_results(results, "a figure of layers")
    series = series_of(found)
    names = list(dict.fromkeys(r.layer for r in found))
    by_layer = {name: _by_layer(group, name) for name, group in series.items()}
    with styled():
        width = 1.0 + len(names) * max(0.22, 0.11 * min(len(series), _DETAILED))
        texts = [plain_text(name, 32) for name in names]
        is_long = max(map(len, texts)) * len(names) > 40
        height = 2.6 + 0.05 * max(map(len, texts)) * is_long
        axes = new_axes((min(max(3.4, width), 16), height)) if ax is None else ax
        drawn = _draw_series(axes, by_layer, names, subjects)
        draw_ceiling(axes, drawn, bounds_in_percent(found, ceilings))
        axes.set_xticks(range(len(names)), texts, rotation=90 if is_long else 0)
        axes.set_xlim(-0.6, len(names) - 0.4)
        axes.set_ylabel(score_label(found))
        axes.grid(axis="y", color="0.92")
        if len(series) > 1:
            draw_legend(axes, line_handles(colours_of(series), dict.fromkeys(series, "o")))
        heading = place_title(found) if title is None else title
        if heading:
            axes.set_title(plain_text(heading, 90), loc="left")
    return axes


def _by_layer(results: Sequence[Result], name: str) -> dict[str, Result]:
    found: dict[str, Result] = {}
    for r in results:
        if r.layer in found:
            raise ValueError(
                f"the layer {r.layer!r} has several results for {r.checkpoint!r} against {r.region!r} of {r.study!r};"
                " a figure of layers draws one"
            )
        found[r.layer] = r
    return found


def _draw_series(
    axes: Any, series: Mapping[str, Mapping[str, Result]], layers: Sequence[str], subjects: bool
) -> list[float]:
    """Draw the series, and return all values that were drawn."""
    is_detailed = len(series) <= _DETAILED
    colours = colours_of(series)
    step = 0.8 / len(series) if is_detailed else 0
    drawn: list[float] = []
    for number, (name, results) in enumerate(series.items()):
        style = {"color": colours[name]}
        offset = (number - (len(series) - 1) / 2) * step
        known = [(i + offset, results[layer]) for i, layer in enumerate(layers) if layer in results]
        x = [place for place, _ in known]
        y = [r.percent_nc for _, r in known]
        drawn += y
        line: Any = {"alpha": 0.45} if is_detailed else {"marker": ".", "markersize": 3}
        axes.plot(x, y, linewidth=0.7, zorder=2, **line, **style)
        if is_detailed:
            drawn += _draw_details(axes, known, step, subjects, style)
    return drawn


def _draw_details(
    axes: Any,
    results: Sequence[tuple[float, Result]],
    step: float,
    subjects: bool,
    style: Mapping[str, Any],
) -> list[float]:
    """Draw points, intervals and subjects of one series, and return what is beyond the points."""
    drawn: list[float] = []
    for x, r in results:
        dots = subject_percents(r) if subjects else ()
        drawn += dots
        # Subjects from left to right in their order, so that they can be followed from layer to layer.
        spread = np.linspace(-0.3, 0.3, len(dots)) * step if len(dots) > 1 else [0.0]
        if dots:
            axes.scatter(
                x + np.asarray(spread), dots, s=4, alpha=0.4, linewidths=0, zorder=2, **style
            )
        if math.isfinite(r.low) and math.isfinite(r.high):
            axes.vlines(x, r.low, r.high, linewidth=1.4, zorder=3, **style)
            drawn += (r.low, r.high)
        face = "white" if r.mean_rho < 0 else style["color"]
        axes.plot(x, r.percent_nc, "o", markersize=4.5, markerfacecolor=face, zorder=4, **style)
    return drawn
