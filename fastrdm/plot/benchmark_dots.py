"""Benchmarks in one picture: a row for each task, a dot for each contender."""

import math
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrdm.plot.style import COLOURS, legend_text, new_axes, plain_text, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Filled markers, so that families with equal colours differ.
_MARKERS = "osD^vP*X"
_LINE = 54


def benchmarks(
    times: Mapping[str, Mapping[str, float]],
    ours: str | Mapping[str, str],
    *,
    families: Mapping[str, str] | None = None,
    title: str = "",
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw how many times longer than one contender the others take: a row for each task, a dot for each contender.

    The axis is logarithmic. Dots at the right of the line are slower than the contender `ours`, those at the left
    faster; the slowest one of another family has its number.

    Parameters
    ----------
    times : mapping of str to mapping of str to float
        Time of each contender in each task, in any unit, such as the median of pytest-benchmark. The first task is at
        the top.
    ours : str or mapping of str to str
        The contender to which the others are related, or that of each task.
    families : mapping of str to str, optional
        What a contender is called in the legend; by default the first word of its name, such as "scipy" for "scipy
        pdist". Contenders of the family of `ours` are hollow.
    title : str
        Title of the Axes.
    ax : Axes, optional
        Where to draw; by default a new figure.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        If there is no task, `ours` did not run in one (it is named), or a time is not positive.
    MissingExtraError
        Without matplotlib.

    Examples
    --------
    >>> import fastrdm.plot
    >>> axes = fastrdm.plot.benchmarks(
    ...     {"RDM": {"fastrdm": 0.1, "scipy pdist": 5.1}, "ceiling": {"fastrdm": 2e-3, "rsatoolbox": 0.25}}, "fastrdm"
    ... )
    """
    if not times:
        raise ValueError("times has no task; a figure of benchmarks needs at least one")
    bases = {task: ours if isinstance(ours, str) else ours.get(task, "") for task in times}
    _check(times, bases)
    rows = {
        task: {name: time / row[bases[task]] for name, time in row.items() if name != bases[task]}
        for task, row in times.items()
    }
    known = families or {}
    called = {name: known.get(name, name.split()[0]) for row in times.values() for name in row}
    base = next(iter(bases.values()))
    with styled():
        axes = new_axes((6.5, 0.9 + 0.29 * len(rows))) if ax is None else ax
        order = [called[base], *(f for f in dict.fromkeys(called.values()) if f != called[base])]
        _draw_dots(axes, rows, called, order)
        for y, row in enumerate(rows.values()):
            peers = [ratio for name, ratio in row.items() if called[name] != order[0]]
            if peers and max(peers) > 1:
                place: dict[str, Any] = {
                    "textcoords": "offset points",
                    "va": "center",
                    "fontsize": 6.5,
                }
                # Beside the last dot, which may be one of our own.
                axes.annotate(_times(max(peers)), (max(row.values()), y), (5, 0), **place)
        axes.set_xscale("log")
        axes.axvline(1, color="0.2", linewidth=0.8, zorder=1)
        texts = [textwrap.fill(plain_text(task, 2 * _LINE - 8), _LINE) for task in rows]
        axes.set_yticks(range(len(rows)), texts, fontsize=6.5)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.margins(x=0.08)
        axes.xaxis.set_major_formatter(_times)
        low, high = axes.get_xlim()
        axes.xaxis.set_minor_formatter(_minor_times if high < 30 * low else lambda *_: "")
        axes.grid(axis="both", color="0.92")
        what = order[0] if len(set(bases.values())) > 1 else base
        axes.set_xlabel(f"time relative to {plain_text(what)} (right of the line: slower)")
        if any(rows.values()):
            axes.legend(loc="upper left", bbox_to_anchor=(1, 1), borderaxespad=0.3)
        if title:
            axes.set_title(plain_text(title, 100), loc="left")
    return axes


def _check(times: Mapping[str, Mapping[str, float]], bases: Mapping[str, str]) -> None:
    for task, row in times.items():
        if bases[task] not in row:
            raise ValueError(
                f"the task {task!r} has no time of {bases[task]!r}, the others' reference"
            )
        for name, time in row.items():
            if not (np.isfinite(time) and time > 0):
                raise ValueError(f"the task {task!r} has the time {time} of {name!r}, not above 0")


def _draw_dots(
    axes: Any,
    rows: Mapping[str, Mapping[str, float]],
    called: Mapping[str, str],
    order: list[str],
) -> None:
    for number, family in enumerate(order):
        found = [
            (ratio, y)
            for y, row in enumerate(rows.values())
            for name, ratio in row.items()
            if called[name] == family
        ]
        if not found:
            continue
        colour = COLOURS[number % len(COLOURS)]
        x, y = zip(*found, strict=True)
        axes.scatter(
            x,
            y,
            s=26,
            marker=_MARKERS[(number + number // len(COLOURS)) % len(_MARKERS)],
            facecolors="white" if number == 0 else colour,
            edgecolors=colour if number == 0 else "white",
            linewidths=0.9 if number == 0 else 0.4,
            label=legend_text(family, 32),
            zorder=3,
        )


def _times(ratio: float, place: float = 0) -> str:
    return f"{ratio:,.0f} ×" if ratio >= 100 else f"{ratio:.3g} ×"


def _minor_times(ratio: float, place: float) -> str:
    """Labels between powers of ten, of which few are within narrow limits."""
    digit = round(ratio / 10 ** math.floor(math.log10(ratio)))
    return _times(ratio) if digit in (2, 3, 5) else ""
