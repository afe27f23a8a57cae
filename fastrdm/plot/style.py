"""Colours, sizes and fonts of figures: small enough for a column of a journal, safe for colour-blind readers."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from fastrdm._base import printable, require

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Colours of categories, told apart with any colour vision: Okabe and Ito (2008), from dark to light.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#F0E442")
_SETTINGS: Mapping[str, Any] = {
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.axisbelow": True,
    "lines.linewidth": 1.2,
    "grid.linewidth": 0.4,
    "savefig.dpi": 200,
    # Text of vector files stays text.
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
}


@contextlib.contextmanager
def styled() -> Iterator[None]:
    """Draw with the settings of all figures; MissingExtraError without matplotlib."""
    require("matplotlib", "plot", "to draw figures")
    from cycler import cycler
    from matplotlib import rcParams

    settings = {**_SETTINGS, "axes.prop_cycle": cycler(color=COLOURS)}
    before = {name: rcParams[name] for name in settings}
    # Not `rc_context`: it would also undo what a backend sets when the first figure opens it, and Jupyter then shows
    # none of the later figures.
    rcParams.update(settings)
    try:
        yield
    finally:
        rcParams.update(before)


def shortened(text: object, longest: int) -> str:
    """At most `longest` characters, without the middle of longer text: paths and layers differ at their ends."""
    text = str(text)
    if len(text) <= longest:
        return text
    head = longest // 3
    return f"{text[:head]}…{text[head + 1 - longest :]}"


def plain_text(text: object, longest: int = 60) -> str:
    """Text as a figure shows it: `shortened`, and without formulas and control characters."""
    # matplotlib reads what is between dollar signs as a formula.
    return printable(shortened(text, longest)).replace("$", r"\$")


def legend_text(text: object, longest: int = 60) -> str:
    """As `plain_text`, for legends, from which matplotlib omits text that begins with an underscore."""
    shown = plain_text(text, longest)
    return f"\u200b{shown}" if shown.startswith("_") else shown


def new_axes(size: tuple[float, float]) -> Any:
    """Axes of a new figure, with a size in inches."""
    from matplotlib import pyplot

    _, axes = pyplot.subplots(figsize=size, layout="constrained")
    return axes


def new_panels(n: int, size: tuple[float, float], columns: int) -> tuple["Figure", list[Any]]:
    """A new figure with n Axes in columns, each with a size in inches."""
    # Not by pyplot, which keeps figures.
    from matplotlib.figure import Figure

    rows = -(-n // columns)
    figure = Figure(figsize=(columns * size[0], rows * size[1]), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for unused in axes[n:]:
        unused.remove()
    return figure, list(axes[:n])
