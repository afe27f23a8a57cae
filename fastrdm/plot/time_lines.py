"""Scores over the time points of a region, below their noise ceiling."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fastrdm._base import list_names
from fastrdm.plot.legends import (
    draw_legend,
    line_handles,
    line_style,
    marker_style,
    markers_of,
    style_handles,
)
from fastrdm.plot.series import banded_lines, check_results, colours_of, place_title, series_of
from fastrdm.plot.style import new_axes, plain_text, styled
from fastrdm.scoring import RSA, Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BAND = "0.86"


def time(
    results: Iterable[Result],
    *,
    ceiling: bool = True,
    unit: str = "",
    title: str | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw scores over time, and the noise ceiling of each time point.

    A line is a layer, its band the 95 % interval; of more than eight lines, only the one with the highest score has a
    band. Checkpoints have line styles. Scores are in units of the protocol (R²
    or ρ) and not in percent, which are large and noisy where the ceiling is low.

    Parameters
    ----------
    results : iterable of Result
        Results of time points by one measure against one region of one study. NaN interrupts a line.
    ceiling : bool
        Whether to draw the noise ceiling, as a grey area.
    unit : str
        Unit of the times, for the label of the axis.
    title : str, optional
        By default the study and the region.
    ax : Axes, optional
        Where to draw; by default a new figure.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        If there are no results of time points, or they are of several measures, studies or regions.
    MissingExtraError
        Without matplotlib.
    """
    found = check_results(results, "a figure of time", times=True)
    if len({(r.study, r.region) for r in found}) > 1:
        places = dict.fromkeys(f"{r.region} of {r.study}" for r in found)
        raise ValueError(
            f"the results are of {list_names(places)}; a figure of time draws one region"
        )
    series = series_of(found, places=False)
    layers = list(dict.fromkeys(r.layer for r in found))
    with styled():
        axes = new_axes((4.6, 2.9)) if ax is None else ax
        colours, markers = colours_of(layers), markers_of(layers)
        lines = {
            (number, layer): sorted((r for r in group if r.layer == layer), key=_time)
            for number, group in enumerate(series.values())
            for layer in layers
        }
        banded = banded_lines(lines)
        for (number, layer), line in lines.items():
            style = {"linestyle": line_style(number), **marker_style(markers[layer], len(line))}
            _draw_line(axes, line, colours[layer], style, (number, layer) in banded)
        if ceiling:
            _draw_ceiling(axes, found)
        axes.margins(x=0)
        if all(not r.value < 0 and not r.low < 0 for r in found):
            axes.set_ylim(bottom=0)
        else:
            axes.axhline(0, color="0.35", linewidth=0.6, zorder=1)
        axes.set_xlabel(f"time ({plain_text(unit)})" if unit else "time")
        axes.set_ylabel(_label(found))
        axes.grid(color="0.92")
        handles, _ = axes.get_legend_handles_labels()
        draw_legend(axes, [*handles, *line_handles(colours, markers), *style_handles(list(series))])
        axes.set_title(plain_text(place_title(found) if title is None else title, 90), loc="left")
    return axes


def _time(result: Result) -> float:
    return math.nan if result.time is None else result.time


def _label(results: Sequence[Result]) -> str:
    measure = results[0].measure
    if measure != RSA:
        return f"score by {measure}"
    known = [r for r in results if math.isfinite(r.value)]
    if all(math.isclose(r.value, r.r2, abs_tol=1e-12) for r in known):
        return "score (R²)"
    is_mean = all(math.isclose(r.value, r.mean_rho, abs_tol=1e-12) for r in known)
    return "score (similarity)" if is_mean else "score"


def _draw_line(
    axes: Any, results: Sequence[Result], colour: Any, style: Mapping[str, Any], is_banded: bool
) -> None:
    x = [_time(r) for r in results]
    axes.plot(x, [r.value for r in results], color=colour, zorder=3, **style)
    if is_banded:
        low, high = (
            [getattr(r, end) * r.ceiling / 100 for r in results] for end in ("low", "high")
        )
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)


def _draw_ceiling(axes: Any, results: Sequence[Result]) -> None:
    """Draw the area below the ceiling; NaN interrupts it."""
    ceilings = sorted({_time(r): r.ceiling for r in results}.items())
    x, y = [at for at, _ in ceilings], [each for _, each in ceilings]
    axes.fill_between(x, 0, y, color=_BAND, linewidth=0, zorder=0, label="noise ceiling")
