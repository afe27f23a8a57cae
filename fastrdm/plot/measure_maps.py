"""Scores by one measure against those by another."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrdm._base import list_names
from fastrdm.plot.style import COLOURS, legend_text, new_axes, plain_text, styled
from fastrdm.scoring import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARKERS = "osD^vP*X"


def measures(
    results: Iterable[Result],
    x: str | None = None,
    y: str | None = None,
    *,
    title: str = "",
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw the scores by one measure against those by another: a point for each layer, checkpoint and time point.

    Scores are in percent of each measure's noise ceiling. Each region of a study has a colour and a marker; the legend
    has Spearman's rank correlation over its points. On the line, both measures give the same percentage.

    Parameters
    ----------
    results : iterable of Result
        Results by at least two measures.
    x, y : str, optional
        Measures of the axes; by default the first two in the results.
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
        If the results have fewer than two measures, lack `x` or `y`, or no layer and region has a score by both.
    MissingExtraError
        Without matplotlib.
    """
    results = list(results)
    found = list(dict.fromkeys(r.measure for r in results))
    if len(found) < 2:
        raise ValueError(
            f"the results are by {list_names(found) or 'no measure'}; a figure of measures needs two of them"
        )
    x = found[0] if x is None else x
    y = next(each for each in found if each != x) if y is None else y
    for measure in (x, y):
        if measure not in found:
            raise ValueError(f"no result is by {measure}, only by {list_names(found, 6)}")
    groups = _pairs(results, x, y)
    if not any(groups.values()):
        raise ValueError(f"no layer and region has a score by both {x} and {y}")
    with styled():
        axes = new_axes((3.4, 3.6)) if ax is None else ax
        several = len({study for study, _ in groups}) > 1
        for number, ((study, region), points) in enumerate(groups.items()):
            name = f"{region.upper()}, {study}" if several else region.upper()
            across, up = np.array(points).T
            axes.scatter(
                across,
                up,
                s=16,
                alpha=0.8,
                color=COLOURS[number % len(COLOURS)],
                marker=_MARKERS[number % len(_MARKERS)],
                edgecolors="white",
                linewidths=0.3,
                label=f"{legend_text(name, 32)}{_correlation(across, up)}",
            )
        axes.autoscale_view()
        low = max(axes.get_xlim()[0], axes.get_ylim()[0])
        high = min(axes.get_xlim()[1], axes.get_ylim()[1])
        if low < high:
            axes.plot([low, high], [low, high], color="0.6", linewidth=0.8, zorder=0)
        axes.set_xlabel(f"{plain_text(x)} (% of noise ceiling)")
        axes.set_ylabel(f"{plain_text(y)} (% of noise ceiling)")
        axes.grid(color="0.92")
        below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.16), "ncols": 2}
        axes.legend(columnspacing=1, handletextpad=0.2, **below)
        if title:
            axes.set_title(plain_text(title))
    return axes


def _pairs(results: Iterable[Result], x: str, y: str) -> dict[tuple[str, str], list[Any]]:
    """Finite scores by both measures, by study and region."""
    scores: dict[Any, dict[str, float]] = {}
    for r in results:
        if r.measure in (x, y) and np.isfinite(r.percent_nc):
            place = (r.study, r.region, r.checkpoint, getattr(r, "settings", ""), r.layer, r.time)
            scores.setdefault(place, {})[r.measure] = r.percent_nc
    groups: dict[tuple[str, str], list[Any]] = {}
    for (study, region, *_), found in scores.items():
        if len(found) == 2:
            groups.setdefault((study, region), []).append((found[x], found[y]))
    return groups


def _correlation(x: Any, y: Any) -> str:
    """Spearman's correlation in words, empty without one."""
    ranks = [np.unique(each, return_inverse=True, return_counts=True) for each in (x, y)]
    mean = [(np.cumsum(counts) - (counts - 1) / 2)[which] for _, which, counts in ranks]
    if len(x) < 3 or any(len(values) < 2 for values, _, _ in ranks):
        return ""
    rho = np.asarray(np.corrcoef(np.stack(mean)))[0, 1]
    return f" (ρ = {rho:.2f}, n = {len(x)})".replace("-", "−")
