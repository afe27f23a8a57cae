"""The paper's figures 4 and 5: the best layers of networks or checkpoints as bars, in percent of the noise ceiling."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fastrdm import plot
from models.study.comparison import Published
from models.study.network_scores import TEST_STUDY, NetworkScores, SubjectResult

_BASELINE = "alexnet"
# AlexNet's row of the leaderboard, fMRI of the test images.
_BASELINE_ON_TEST = 7.4066
# Names of more bars are vertical.
_MOST_HORIZONTAL = 12


@dataclass(frozen=True)
class Panel:
    """The scores on one study, the layer of each network, and the score of the baseline, None if unknown.

    `marks` are further values of a network, such as those of single seeds, whose mean its bar shows.
    """

    study: str
    results: tuple[SubjectResult, ...]
    layers: dict[str, str]
    baseline: float | None = None
    baseline_label: str = ""
    marks: Mapping[str, Sequence[float]] = field(default_factory=dict)


def panels(
    scores: Sequence[NetworkScores], published: Published | None, networks: Sequence[NetworkScores]
) -> list[Panel]:
    """Return a figure's panels: the test study if it was scored, else the other studies.

    Scores with an error are left out. The baseline is one of `networks`, else from `published`.
    """
    shown = [each for each in scores if not each.error]
    studies = shown[0].studies if shown else []
    layers = {each.name: each.best for each in shown}
    drawn = []
    for study in [TEST_STUDY] if TEST_STUDY in studies else studies:
        # Under the name of the network, which may differ from that of its weights.
        results = tuple(
            replace(r, checkpoint=each.name)
            for each in shown
            for r in each.results
            if r.study == study
        )
        drawn.append(Panel(study, results, layers, *_baseline(study, published, networks)))
    return drawn


def _baseline(
    study: str, published: Published | None, networks: Sequence[NetworkScores]
) -> tuple[float | None, str]:
    scored = next((each for each in networks if each.name == _BASELINE and not each.error), None)
    if scored is not None:
        return scored.score(study, scored.best).percent, "AlexNet, the baseline"
    if study == TEST_STUDY:
        return _BASELINE_ON_TEST, "AlexNet, the baseline (leaderboard)"
    if published is not None:
        layer = published.best(_BASELINE, ("92", "118"))
        if (_BASELINE, study, layer) in published.values:
            value = published.values[_BASELINE, study, layer][2]
            return value, f"AlexNet, the baseline (published, {layer})"
    return None, ""


def draw_bars(panels: Sequence[Panel], path: str | Path, title: str = "") -> Path:
    """Draw the panels, each as `fastrdm.plot.figure4`, and return the path.

    ValueError if there are no panels, or a panel has no score.
    """
    if not panels:
        raise ValueError("a figure needs at least one panel")
    from matplotlib.figure import Figure

    texts = _texts(panels)
    size = (max(6.5, 1.5 + 0.75 * len(texts)), 1.3 + 2.4 * len(panels))
    with plot.styled():
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(len(panels), 1, squeeze=False, sharex=True)[:, 0]
        for panel, axes in zip(panels, grid, strict=True):
            plot.figure4(
                panel.results,
                best=panel.layers,
                baseline=panel.baseline,
                baseline_name=panel.baseline_label,
                title=panel.study,
                ax=axes,
            )
            _draw_marks(axes, panel)
        rotation = 0 if len(texts) <= _MOST_HORIZONTAL else 90
        grid[-1].set_xticks(range(len(texts)), texts, rotation=rotation)
        _draw_legend(figure, grid)
        if title:
            lines = "\n".join(plot.plain_text(line, 200) for line in title.split("\n"))
            figure.suptitle(lines, x=0.01, ha="left", fontsize=8)
    return plot.write_figure(figure, path)


def _texts(panels: Sequence[Panel]) -> list[str]:
    """The names below the bars, each with its layers in lines of their own, ‡ if opposite to the brain in a panel."""
    shown = [r for panel in panels for r in panel.results if r.layer == panel.layers[r.checkpoint]]
    opposite = {r.checkpoint for r in shown if r.mean_rho < 0}
    layers = {r.checkpoint: r.layer for r in shown}
    return [
        "\n".join(map(plot.plain_text, [name, *layer.split(", ")])) + " ‡" * (name in opposite)
        for name, layer in layers.items()
    ]


def _draw_marks(axes: Any, panel: Panel) -> None:
    """Draw the marks of a panel as diamonds on its bars."""
    names = list(dict.fromkeys(r.checkpoint for r in panel.results))
    for name, values in panel.marks.items():
        x = [names.index(name)] * len(values)
        (drawn,) = axes.plot(x, values, "D", color="white", markersize=3.5, zorder=6)
        drawn.set(markeredgecolor="black", markeredgewidth=0.7, label="seeds")


def _draw_legend(figure: Any, grid: Iterable[Any]) -> None:
    """Draw one legend below all panels, in place of one beside each."""
    handles: dict[str, Any] = {}
    for axes in grid:
        found, labels = axes.get_legend_handles_labels()
        handles |= dict(zip(labels, found, strict=True))
        if legend := axes.get_legend():
            legend.remove()
    if handles:
        options = {"loc": "outside lower left", "ncols": len(handles)}
        figure.legend(handles.values(), handles.keys(), **options)
