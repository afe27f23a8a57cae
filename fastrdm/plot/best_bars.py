"""The figures 4 and 5 of Meijer (2019): the best layers of networks, and of a network over the epochs of training."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrdm.plot.best_layer_scores import BestScore, best_scores
from fastrdm.plot.ceiling_strips import draw_ceiling
from fastrdm.plot.epoch_lines import draw_epoch_axis, epochs_of, runs_of
from fastrdm.plot.legends import draw_legend, line_style, style_handles
from fastrdm.plot.point_names import draw_names
from fastrdm.plot.series import check_results, colours_of, score_label
from fastrdm.plot.style import legend_text, new_axes, plain_text, styled
from fastrdm.scoring import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The scores of a run on one study, each with its epoch.
_Points = Sequence[tuple[float, BestScore]]
# Points up to which each has the name of its layer.
_NAMED = 24
_MOST = 80


def figure4(
    results: Iterable[Result],
    *,
    best: Mapping[str, str] | None = None,
    baseline: float | None = None,
    baseline_name: str = "baseline",
    title: str = "",
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw the best layer of each network as a bar, in percent of the noise ceiling, as in figure 4 of Meijer (2019).

    The score of a study is 100 × mean value over the regions / mean ceiling; the best layer has the highest mean over
    the studies. Studies are side by side, in colours. Lines are 95 % intervals, dots subjects. Layers that are opposite
    to the brain in a region have ‡ and hatched bars. If the ceiling is far above the scores, the axis is broken.

    Parameters
    ----------
    results : iterable of Result
        Results by one measure, without time points, of all layers of the networks.
    best : mapping of str to str, optional
        The layer to draw of each checkpoint, for example as other studies choose it.
    baseline : float, optional
        The score of a baseline in percent of the noise ceiling, as a dashed line.
    baseline_name : str
        Text above it.
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
        If there are no results, they are by several measures, no layer has a score, or there are more than 80 networks.
    MissingExtraError
        Without matplotlib.
    """
    found = check_results(results, "figure 4")
    scores = _scores(found, best)
    names = list(dict.fromkeys(score.network for score in scores))
    if len(names) > _MOST:
        raise ValueError(
            f"figure 4 has at most {_MOST} networks, and the results have {len(names)}"
        )
    series = _by_study(scores)
    with styled():
        width = 1.0 + 0.3 * max(1, 0.6 * len(series)) * len(names)
        texts = [_bar_text(name, scores) for name in names]
        longest = max(len(line) for text in texts for line in text.split("\n"))
        is_long = longest * len(names) > 40
        height = 2.6 + 0.05 * longest * is_long
        axes = new_axes((min(max(3.4, width), 16), height)) if ax is None else ax
        drawn = [] if baseline is None else [baseline]
        drawn += _draw_bars(axes, series, names)
        draw_ceiling(axes, drawn)
        axes.set_xticks(range(len(names)), texts, rotation=90 if is_long else 0)
        axes.set_xlim(-0.6, len(names) - 0.4)
        axes.set_ylabel(score_label(found))
        axes.grid(axis="y", color="0.92")
        handles = _patches(colours_of(series)) if len(series) > 1 else []
        if baseline is not None:
            handles.append(_draw_baseline(axes, baseline, baseline_name))
        draw_legend(axes, handles)
        if title or len(series) == 1:
            axes.set_title(plain_text(title or next(iter(series)), 90), loc="left")
    return axes


def figure5(
    results: Iterable[Result],
    *,
    epoch: str | Mapping[str, float] = "epoch",
    best: Mapping[str, str] | None = None,
    baseline: float | None = None,
    baseline_name: str = "baseline",
    title: str = "",
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw the best layer of each checkpoint over the epochs of training, as in figure 5 of Meijer (2019).

    Each point is a checkpoint with its 95 % interval. A line connects the checkpoints of a run on a study; studies have
    colours, runs line styles. The name of the best layer is where it changes, if there is room. Points of layers that
    are opposite to the brain in a region are open.

    Parameters
    ----------
    results : iterable of Result
        Results by one measure, without time points, of all layers of the checkpoints.
    epoch : str or mapping of str to float
        As for `epochs`.
    best, baseline, baseline_name, title, ax
        As for `figure4`.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        As for `figure4`, and if a checkpoint has no epoch, or several checkpoints of a run have the same epoch.
    MissingExtraError
        Without matplotlib.
    """
    found = check_results(results, "figure 5")
    at = epochs_of(found, epoch)
    runs = runs_of(found, at, epoch)
    of_runs = {name: _scores(group, best) for name, group in runs.items()}
    studies = list(dict.fromkeys(each for scores in of_runs.values() for each in _by_study(scores)))
    n_points = sum(map(len, of_runs.values()))
    with styled():
        axes = new_axes((4.6, 3.0)) if ax is None else ax
        of_studies: list[tuple[Any, _Points]] = []
        colours = colours_of(studies)
        drawn = [] if baseline is None else [baseline]
        for number, scores in enumerate(of_runs.values()):
            for study, own in _by_study(scores).items():
                points = sorted(
                    ((at[score.checkpoint], score) for score in own), key=lambda point: point[0]
                )
                drawn += _draw_run(axes, points, colours[study], line_style(number))
                of_studies.append((colours[study], points))
        draw_ceiling(axes, drawn)
        draw_epoch_axis(axes, at.values(), epoch)
        axes.set_ylabel(score_label(found))
        axes.grid(color="0.92")
        handles = _patches(colours) if len(studies) > 1 else []
        handles += style_handles(list(runs))
        if baseline is not None:
            handles.append(_draw_baseline(axes, baseline, baseline_name))
        draw_legend(axes, handles)
        if title or len(studies) == 1:
            axes.set_title(plain_text(title or studies[0], 90), loc="left")
        if n_points <= _NAMED:
            _draw_changes(axes, of_studies)
    return axes


def _scores(results: Sequence[Result], best: Mapping[str, str] | None) -> list[BestScore]:
    scores = [score for score in best_scores(results, best) if np.isfinite(score.percent)]
    if not scores:
        raise ValueError("no layer has a score; all are NaN, or no result is of the chosen layers")
    return scores


def _by_study(scores: Iterable[BestScore]) -> dict[str, list[BestScore]]:
    """Scores by study, and by modality if a study's name is not enough."""
    scores = list(scores)
    several = len({score.modality for score in scores}) > 1
    found: dict[str, list[BestScore]] = {}
    for score in scores:
        modality = f" {score.modality.upper()}" if several and score.modality else ""
        found.setdefault(f"{score.study}{modality}", []).append(score)
    return found


def _bar_text(network: str, scores: Iterable[BestScore]) -> str:
    """The name of a network, and of each of its layers in a line below."""
    own = [score for score in scores if score.network == network]
    layers = dict.fromkeys(score.layer for score in own)
    opposite = {score.layer for score in own if score.is_opposite}
    lines = [f"{plain_text(each, 28)}{' ‡' * (each in opposite)}" for each in layers]
    return "\n".join([plain_text(network, 28), *lines])


def _draw_bars(
    axes: Any, series: Mapping[str, Sequence[BestScore]], names: Sequence[str]
) -> list[float]:
    """Draw the bars, and return all values that were drawn."""
    colours, drawn = colours_of(series), []
    width = 0.8 / len(series)
    for number, (study, scores) in enumerate(series.items()):
        offset = (number - (len(series) - 1) / 2) * width
        for score in scores:
            x = names.index(score.network) + offset
            (bar,) = axes.bar(x, score.percent, 0.9 * width, color=colours[study], alpha=0.75)
            if score.is_opposite:
                bar.set(hatch="///", edgecolor="white", linewidth=0)
            axes.vlines(x, score.low, score.high, color="black", linewidth=1, zorder=4)
            spread = np.linspace(-0.3, 0.3, len(score.subjects)) * width
            dots = {"s": 4, "color": "0.25", "alpha": 0.5, "linewidths": 0, "zorder": 3}
            axes.scatter(x + spread, score.subjects, **dots)
            drawn += [score.percent, score.low, score.high, *score.subjects]
    return drawn


def _draw_run(
    axes: Any,
    points: _Points,
    colour: Any,
    style: Any,
) -> list[float]:
    """Draw the checkpoints of a run on one study, and return all values that were drawn."""
    x, y = [at for at, _ in points], [score.percent for _, score in points]
    axes.plot(x, y, linestyle=style, color=colour, linewidth=0.9, zorder=2)
    drawn = list(y)
    for at, score in points:
        axes.vlines(at, score.low, score.high, color=colour, linewidth=1, alpha=0.6, zorder=2)
        face = "white" if score.is_opposite else colour
        axes.plot(at, score.percent, "o", color=colour, markerfacecolor=face, markersize=4)
        drawn += [score.low, score.high]
    return drawn


def _draw_changes(axes: Any, runs: Sequence[tuple[Any, _Points]]) -> None:
    """Draw the names of best layers beside the points where they change, as far as there is room."""
    positions, names, colours, lines = [], [], [], []
    for colour, points in runs:
        lines.append(np.array([(at, score.percent) for at, score in points]))
        before = ""
        for at, score in points:
            text = f"{plain_text(score.layer, 20)}{' ‡' * score.is_opposite}"
            names.append(text if score.layer != before else "")
            positions.append((at, score.percent))
            colours.append(colour)
            if np.isfinite(score.low):
                lines.append(np.array([(at, score.low), (at, score.high)]))
            before = score.layer
    draw_names(axes, np.array(positions), names, lines=lines, colours=colours, needs_room=True)


def _draw_baseline(axes: Any, percent: float, name: str) -> Any:
    style: Any = {"color": "black", "linestyle": "--", "linewidth": 0.9, "zorder": 5}
    return axes.axhline(percent, label=legend_text(name, 40), **style)


def _patches(colours: Mapping[str, Any]) -> list[Any]:
    from matplotlib.patches import Patch

    return [Patch(color=colour, label=legend_text(name, 32)) for name, colour in colours.items()]
