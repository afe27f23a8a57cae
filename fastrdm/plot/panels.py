"""Files of figures: the panels of several studies, regions and measures in one figure."""

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastrdm._base import first_line, new_file, require
from fastrdm.plot.layer_dots import layers
from fastrdm.plot.style import plain_text, styled
from fastrdm.plot.time_lines import time
from fastrdm.scoring import RSA, Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST = 40
_WIDTH, _HEIGHT = 4.8, 2.9


def check_figure(path: str | Path, name: str = "path") -> None:
    """Refuse a figure that cannot be drawn; `name` is the argument's, for the error.

    MissingExtraError without matplotlib, ValueError unless the ending is a format that matplotlib can write here.
    """
    require("matplotlib", "plot", "to draw figures")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    formats = FigureCanvasAgg.get_supported_filetypes()
    form = Path(path).suffix.lstrip(".").lower()
    if form not in formats:
        endings = ", ".join(f".{each}" for each in sorted(formats))
        raise ValueError(f"{name}: {path} must end in one of: {endings}")
    figure = Figure(figsize=(1, 1))
    figure.text(0, 0, "1")
    # Some formats need other programs or packages.
    try:
        figure.savefig(io.BytesIO(), format=form)
    except Exception as error:
        raise ValueError(f"{name}: .{form} cannot be written here: {first_line(error)}") from error


def write_figure(figure: "Figure", path: str | Path) -> Path:
    """Write a figure in the format of the path's ending, and return the path.

    The file appears only when it is complete. Text of vector files stays text.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with styled(), new_file(path) as file:
        figure.savefig(file, format=path.suffix.lstrip(".").lower())
    return path


def draw_panels(
    draw: Callable[..., Any],
    groups: Mapping[str, Sequence[Result]],
    *,
    title: str = "",
    size: tuple[float, float] = (_WIDTH, _HEIGHT),
    **options: Any,
) -> "Figure":
    """Draw groups of results as the panels of one figure, up to two in a row.

    Parameters
    ----------
    draw : callable
        A function of this package; each call has the results of a group, their name as `title`, and `options`.
    groups : mapping of str to results
        The panels by title.
    title : str
        Title of the figure.
    size : (width, height)
        Size of a panel in inches, by default 4.8 × 2.9.

    Raises
    ------
    ValueError
        If there are no groups, or more than 40.
    """
    if not 0 < len(groups) <= _MOST:
        raise ValueError(
            f"the results have {len(groups)} panels (measures, studies and regions); a figure has 1 to {_MOST}"
        )
    require("matplotlib", "plot", "to draw figures")
    from matplotlib.figure import Figure

    n_columns = min(2, len(groups))
    n_rows = -(-len(groups) // n_columns)
    with styled():
        # Not by pyplot, which keeps figures.
        figure = Figure(figsize=(size[0] * n_columns, size[1] * n_rows), layout="constrained")
        places = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
        for axes in places[len(groups) :]:
            axes.remove()
        for axes, (name, results) in zip(places, groups.items(), strict=False):
            draw(results, title=name, ax=axes, **options)
        if title:
            figure.suptitle(plain_text(title, 300), x=0.01, ha="left", fontsize=8)
    return figure


def panels_of(results: Iterable[Result]) -> dict[str, list[Result]]:
    """Results by measure, study and region, under titles for panels."""
    found: dict[tuple[str, str, str], list[Result]] = {}
    for r in results:
        found.setdefault((r.measure, r.study, r.region), []).append(r)
    measures = {measure for measure, _, _ in found}
    return {
        f"{study}, {region.upper()}{f', {measure}' if measures != {RSA} else ''}": group
        for (measure, study, region), group in found.items()
    }


def panel_size(results: Sequence[Result]) -> tuple[float, float]:
    """Width and height in inches of a panel in which the names of layers and all checkpoints side by side fit."""
    names = {r.layer for r in results}
    n_series = min(len({(r.checkpoint, getattr(r, "settings", "")) for r in results}), 6)
    longest = min(max(map(len, names)), 32)
    is_long = longest * len(names) > 60
    width = min(max(_WIDTH, 1.8 + len(names) * max(0.24, 0.11 * n_series)), 14)
    return width, _HEIGHT + 0.05 * longest * is_long


def plot_scores(
    results: Sequence[Result],
    path: str | Path,
    title: str = "",
    *,
    ceilings: Mapping[tuple[str, str], tuple[float, float]] | None = None,
) -> Path:
    """Draw the scores of all layers into a file: a panel for each measure, study and region, as `layers` draws it.

    Regions with results of time points have panels as `time` draws them.

    Parameters
    ----------
    results : sequence of Result
    path : path-like
        File, whose ending is the format (`.png`, `.pdf`, `.svg`, ...); its folder is made.
    title : str
        Title of the figure.
    ceilings : mapping, optional
        As for `layers`.

    Returns
    -------
    Path

    Raises
    ------
    ValueError
        If there are no results, the format is unknown, or there would be more than 40 panels.
    MissingExtraError
        Without matplotlib.
    """
    check_figure(path)
    if not results:
        raise ValueError("there are no results to draw")

    def draw(group: Sequence[Result], **options: Any) -> Any:
        if any(r.time is not None for r in group):
            return time(group, **options)
        return layers(group, ceilings=ceilings, **options)

    groups = panels_of(results)
    figure = draw_panels(draw, groups, title=title, size=panel_size(results))
    return write_figure(figure, path)
