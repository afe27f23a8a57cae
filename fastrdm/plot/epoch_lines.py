"""Scores over the epochs of training: a line for each layer, with its interval."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fastrdm._base import list_names
from fastrdm.plot.ceiling_strips import draw_ceiling
from fastrdm.plot.legends import (
    draw_legend,
    line_handles,
    line_style,
    marker_style,
    markers_of,
    style_handles,
)
from fastrdm.plot.series import (
    banded_lines,
    bounds_in_percent,
    check_results,
    colours_of,
    place_title,
    score_label,
)
from fastrdm.plot.style import new_axes, plain_text, styled
from fastrdm.scoring import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def epochs(
    results: Iterable[Result],
    *,
    epoch: str | Mapping[str, float] = "epoch",
    ceilings: Mapping[tuple[str, str], tuple[float, float]] | None = None,
    title: str | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw the scores over the epochs of training, in percent of the noise ceiling.

    A line is a layer, its band the 95 % interval; of more than eight lines, only the one with the highest score has a
    band. Runs of training, which differ in their other labels, their network or their folder, have line styles.

    Parameters
    ----------
    results : iterable of Result
        Results by one measure against one region of one study, without time points.
    epoch : str or mapping of str to float
        Name of the label with the epochs, which results from `fastrdm.scoring.read_results` have, or the epoch of each
        checkpoint by its path.
    ceilings : mapping of (study, region) to (lower, upper), optional
        As for `layers`.
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
        If there are no results, they are of several measures, studies or regions, a checkpoint has no epoch, or several
        checkpoints of a run have the same epoch.
    MissingExtraError
        Without matplotlib.
    """
    found = check_results(results, "a figure of epochs")
    if len({(r.study, r.region) for r in found}) > 1:
        places = dict.fromkeys(f"{r.region} of {r.study}" for r in found)
        raise ValueError(
            f"the results are of {list_names(places)}; a figure of epochs draws one region"
        )
    at = epochs_of(found, epoch)
    runs = runs_of(found, at, epoch)
    layers = list(dict.fromkeys(r.layer for r in found))
    lines = _lines(runs, at)
    with styled():
        axes = new_axes((4.6, 2.9)) if ax is None else ax
        colours, markers, drawn = colours_of(layers), markers_of(layers), []
        banded = banded_lines(lines)
        for (run, layer), line in lines.items():
            x = [at[r.checkpoint] for r in line]
            style: Any = {"color": colours[layer], "linestyle": line_style(list(runs).index(run))}
            marker = marker_style(markers[layer], len(x))
            y = [r.percent_nc for r in line]
            axes.plot(x, y, zorder=3, **style, **marker)
            drawn += y
            if (run, layer) in banded:
                low, high = [r.low for r in line], [r.high for r in line]
                axes.fill_between(x, low, high, color=colours[layer], alpha=0.15, linewidth=0)
                drawn += low + high
        draw_ceiling(axes, drawn, bounds_in_percent(found, ceilings))
        draw_epoch_axis(axes, at.values(), epoch)
        axes.set_ylabel(score_label(found))
        axes.grid(color="0.92")
        draw_legend(axes, [*line_handles(colours, markers), *style_handles(list(runs))])
        axes.set_title(plain_text(place_title(found) if title is None else title, 90), loc="left")
    return axes


def epochs_of(
    results: Sequence[Result], epoch: str | Mapping[str, float] = "epoch"
) -> dict[str, float]:
    """The epoch of each checkpoint, from a label or as given; ValueError if one has none, or it is not a number."""
    found: dict[str, float] = {}
    for r in results:
        if isinstance(epoch, str):
            labels = getattr(r, "labels", {})
            value = labels.get(epoch)
            if value is None:
                known = f"; its labels are {list_names(labels, 6)}" if labels else ""
                raise ValueError(
                    f"{r.checkpoint} has no label {epoch!r}{known}; labels with epochs come from `--labels"
                    rf" 'epoch(?P<epoch>\d+)'` of `fastrdm sweep` or `fastrdm label`"
                )
        else:
            value = epoch.get(r.checkpoint)
            if value is None:
                raise ValueError(f"epoch has no value for {r.checkpoint}")
        if isinstance(value, str) or not math.isfinite(value):
            raise ValueError(f"the epoch of {r.checkpoint} is {value!r}, not a number")
        found[r.checkpoint] = value
    return found


def runs_of(
    results: Sequence[Result], at: Mapping[str, float], epoch: str | Mapping[str, float]
) -> dict[str, list[Result]]:
    """Results by run of training: its network, labels and settings, and the folder if epochs are ambiguous without it.

    Names consist of what differs. ValueError if several checkpoints of a run have the same epoch.
    """
    groups: dict[tuple[Any, ...], list[Result]] = {}
    for r in results:
        labels = {k: v for k, v in getattr(r, "labels", {}).items() if k != epoch}
        settings = tuple(getattr(r, name, "") for name in ("arch", "settings", "protocol"))
        groups.setdefault((*labels.items(), *(("", each) for each in settings)), []).append(r)
    split: dict[tuple[Any, ...], list[Result]] = {}
    for key, group in groups.items():
        checkpoints = {r.checkpoint for r in group}
        by_folder = len({at[each] for each in checkpoints}) < len(checkpoints)
        for r in group:
            folder = r.checkpoint.rpartition("/")[0] if by_folder else ""
            split.setdefault((*key, ("", folder)), []).append(r)
    for group in split.values():
        seen: dict[float, str] = {}
        for r in group:
            other = seen.setdefault(at[r.checkpoint], r.checkpoint)
            if other != r.checkpoint:
                raise ValueError(
                    f"{other} and {r.checkpoint} have the same epoch, {at[other]:g}; choose checkpoints of one run, or"
                    " add a label that differs between runs"
                )
    return dict(zip(_run_names(list(split)), split.values(), strict=True))


def _run_names(keys: Sequence[tuple[Any, ...]]) -> list[str]:
    """Names of what differs between the keys of runs, of as many parts as are needed."""
    differing = [
        [part for part in key if part[1] != "" and any(part not in other for other in keys)]
        for key in keys
    ]
    # Settings and folders, at the end, follow from the rest in most cases.
    for n in range(1, 1 + max(map(len, differing))):
        names = [
            ", ".join(
                f"{name} {str(value).rpartition(':')[2]}".strip() for name, value in parts[:n]
            )
            for parts in differing
        ]
        if len(set(names)) == len(names):
            return names
    return [", ".join(f"{name} {value}".strip() for name, value in parts) for parts in differing]


def _lines(
    runs: Mapping[str, Sequence[Result]], at: Mapping[str, float]
) -> dict[tuple[str, str], list[Result]]:
    """The results of each run and layer, in order of the epochs."""
    lines: dict[tuple[str, str], list[Result]] = {}
    for run, group in runs.items():
        for r in sorted(group, key=lambda r: at[r.checkpoint]):
            lines.setdefault((run, r.layer), []).append(r)
    return lines


def draw_epoch_axis(axes: Any, epochs: Iterable[float], epoch: str | Mapping[str, float]) -> None:
    """Draw the name of the epochs below the axis, and ticks, which are whole numbers if the epochs are."""
    axes.set_xlabel(plain_text(epoch) if isinstance(epoch, str) else "epoch")
    places = set(epochs)
    if len(places) == 1:
        axes.set_xticks(list(places))
    else:
        axes.xaxis.get_major_locator().set_params(integer=all(at == int(at) for at in places))
