"""Legends beside Axes: names in colours, with markers, and in line styles, and of many names some."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastrdm.plot.style import legend_text

# Styles of lines, of which each of a figure's first lines has its own.
_STYLES = ("-", "--", ":", "-.", (0, (8, 3)), (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)), (0, (3, 5)))
_MARKERS = "osD^vPX"
# Points of a line, about, that have markers.
_MARKED = 10
# Names of colours, and of line styles, up to which a legend has all.
_MOST_COLOURS = 12
_MOST_STYLES = len(_STYLES)


def line_style(number: int) -> Any:
    """The style of a line; after eight lines, styles repeat."""
    return _STYLES[number % len(_STYLES)]


def markers_of(names: Sequence[str]) -> dict[str, str]:
    """A marker for each of up to seven names, which have colours of similar lightness; else all have the same."""
    if len(names) > len(_MARKERS):
        return dict.fromkeys(names, _MARKERS[0])
    return dict(zip(names, _MARKERS, strict=False))


def marker_style(marker: str, n_points: int) -> dict[str, Any]:
    """Markers on all points of a line, or on some of many."""
    every = 1 if n_points < 2 * _MARKED else n_points // _MARKED
    return {"marker": marker, "markersize": 3, "markevery": every}


def line_handles(colours: Mapping[str, Any], markers: Mapping[str, str]) -> list[Any]:
    """A line for each name; of more than twelve, the first, one in the middle, and the last.

    The colours of many names are a sequence, so that these three explain all.
    """
    from matplotlib.lines import Line2D

    names = list(colours)
    texts = {name: legend_text(name, 32) for name in names}
    if len(names) > _MOST_COLOURS:
        middle = names[len(names) // 2]
        texts[middle] += f"\n(one of {len(names)})"
        names = [names[0], middle, names[-1]]
    return [
        Line2D([], [], color=colours[name], marker=markers[name], markersize=4, label=texts[name])
        for name in names
    ]


def style_handles(names: Sequence[str]) -> list[Any]:
    """A grey line for each name, in its style; none for a single name, and at most eight."""
    from matplotlib.lines import Line2D

    if len(names) < 2:
        return []
    shown = names if len(names) <= _MOST_STYLES else names[: _MOST_STYLES - 1]
    handles = [
        Line2D([], [], color="0.3", linestyle=line_style(i), label=legend_text(name, 32))
        for i, name in enumerate(shown)
    ]
    if len(shown) < len(names):
        rest = f"and {len(names) - len(shown)} more"
        handles.append(Line2D([], [], linestyle="", label=rest))
    return handles


def draw_legend(axes: Any, handles: Sequence[Any]) -> None:
    """Draw a legend at the right of Axes, if there is anything to explain."""
    if handles:
        place = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0), "borderaxespad": 0.2}
        axes.legend(handles=handles, **place)
