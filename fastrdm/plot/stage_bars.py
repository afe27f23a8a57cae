"""Where the time went: the stages of each contender as one bar."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrdm.plot.style import COLOURS, legend_text, new_axes, plain_text, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_OTHER = "other"
_UNITS = (
    (1.0, "s", "seconds"),
    (1e-3, "ms", "milliseconds"),
    (1e-6, "µs", "microseconds"),
)


def stages(
    times: Mapping[str, Mapping[str, float]],
    *,
    order: Sequence[str] | None = None,
    notes: Mapping[str, str] | None = None,
    legend: bool = True,
    title: str = "",
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw where the time went: a bar for each contender, divided into its stages.

    Parameters
    ----------
    times : mapping of str to mapping of str to float
        Seconds of each stage of each contender; contenders may lack stages.
    order : sequence of str, optional
        The stages in the order of the bars; by default in that of the contenders. The same order gives the same colours
        in several Axes. A stage called "other" is grey.
    notes : mapping of str to str, optional
        Text after the total time of a contender.
    legend : bool
        Whether to draw the legend of the stages.
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
        If there is no contender, a time is negative or not finite, or `order` lacks a stage.
    MissingExtraError
        Without matplotlib.

    Examples
    --------
    >>> import fastrdm.plot
    >>> axes = fastrdm.plot.stages({"fastrdm": {"forward": 3.4, "RDM": 0.3}, "torch": {"forward": 6.2, "RDM": 1.6}})
    """
    if not times:
        raise ValueError("times has no contender; a figure of stages needs at least one")
    for name, parts in times.items():
        for stage, value in parts.items():
            if not (np.isfinite(value) and value >= 0):
                raise ValueError(
                    f"times of {name!r}: stage {stage!r} takes {value} s, not 0 or more"
                )
    if order is None:
        found = list(dict.fromkeys(stage for parts in times.values() for stage in parts))
        order = [*(s for s in found if s != _OTHER), *(s for s in found if s == _OTHER)]
    if lacking := [s for parts in times.values() for s in parts if s not in order]:
        raise ValueError(f"order lacks the stage {lacking[0]!r}")
    totals = [sum(parts.values()) for parts in times.values()]
    unit, _, word = _unit(max(totals))
    with styled():
        axes = new_axes((6.0, 0.8 + 0.24 * len(times))) if ax is None else ax
        _draw_bars(axes, times, order, unit)
        for y, (name, total) in enumerate(zip(times, totals, strict=True)):
            note = (notes or {}).get(name, "")
            text = ", ".join(filter(None, (_seconds(total), plain_text(note))))
            axes.annotate(
                text, (total / unit, y), (3, 0), textcoords="offset points", va="center", fontsize=7
            )
        axes.set_yticks(range(len(times)), [plain_text(name, 48) for name in times])
        axes.set_ylim(len(times) - 0.4, -0.6)
        axes.set_xlim(0, (1.22 * max(totals) or 1) / unit)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(word)
        if title:
            axes.set_title(plain_text(title, 100), loc="left")
        if legend and order:
            axes.legend(loc="upper left", bbox_to_anchor=(1, 1), borderaxespad=0.3)
    return axes


def _draw_bars(
    axes: Any, times: Mapping[str, Mapping[str, float]], order: Sequence[str], unit: float
) -> None:
    left = np.zeros(len(times))
    for number, stage in enumerate(order):
        widths = np.array([parts.get(stage, 0.0) for parts in times.values()]) / unit
        axes.barh(
            range(len(times)),
            widths,
            left=left,
            height=0.7,
            color="0.75" if stage == _OTHER else COLOURS[number % len(COLOURS)],
            hatch="///" * (number // len(COLOURS)),
            edgecolor="white",
            linewidth=0.3,
            label=legend_text(stage, 32),
        )
        left += widths


def _unit(seconds: float) -> tuple[float, str, str]:
    return next((unit for unit in _UNITS if seconds >= unit[0]), _UNITS[-1])


def _seconds(seconds: float) -> str:
    size, short, _ = _unit(seconds)
    number = seconds / size
    return f"{number:.3g} {short}" if number < 1000 else f"{number:,.0f} {short}"
