"""The paper's figures 4 and 5: the best layers of networks or checkpoints as bars, in percent of the noise ceiling."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fastrdm import plot
from models.study.comparison import Published
from models.study.network_scores import TEST_STUDY, NetworkScores, SubjectResult

_BASELINE = "alexnet"
# AlexNet's row of the leaderboard, fMRI of the test images.
_BASELINE_ON_TEST = 7.4066


@dataclass(frozen=True)
class Panel:
    """The scores on one study, the layer of each network, and the score of the baseline, None if unknown."""

    study: str
    results: tuple[SubjectResult, ...]
    layers: dict[str, str]
    baseline: float | None = None
    baseline_label: str = ""


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

    n_bars = max(len(panel.layers) for panel in panels)
    size = (max(7.0, 2.0 + 0.4 * n_bars), 0.5 + 3.4 * len(panels))
    figure = Figure(figsize=size, layout="constrained")
    for panel, axes in zip(
        panels, figure.subplots(len(panels), 1, squeeze=False).flat, strict=True
    ):
        plot.figure4(
            panel.results,
            best=panel.layers,
            baseline=panel.baseline,
            baseline_name=panel.baseline_label,
            title=panel.study,
            ax=axes,
        )
    if title:
        figure.suptitle(plot.plain_text(title, 500), x=0.01, ha="left", fontsize=8)
    return plot.write_figure(figure, path)
