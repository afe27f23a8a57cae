"""The figures of the claim: differences with intervals, scores by layer, scores against accuracy."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fastrdm import plot
from models.study.claim_choice import SCORE, Floats
from models.study.claim_differences import Interval, NetworkDifference
from models.study.claim_relations import relative_depths
from models.study.claim_study import EPOCHS, REFERENCE, Claim

_NAMES = {"resnet": "ResNet-", "densenet": "DenseNet-", "efficientnet_lite": "EfficientNet-Lite"}


def shown(network: str) -> str:
    """Return a network's name as papers write it."""
    for start, name in _NAMES.items():
        if network.startswith(start):
            return name + network.removeprefix(start)
    return network


def title_of(target: str) -> str:
    """Return a target's name as papers write it."""
    return target if target == SCORE else target.upper()


def colours_of(claim: Claim) -> dict[str, str]:
    """Return the colour of each network, the reference first; the same in all figures."""
    names = [REFERENCE, *dict.fromkeys(each.against for each in claim.together)]
    names += [each.network for each in claim.kept if each.epoch is None]
    unique = list(dict.fromkeys(names))
    return {name: plot.COLOURS[i % len(plot.COLOURS)] for i, name in enumerate(unique)}


def draw_differences(claim: Claim, path: Path) -> Path:
    """Draw the differences in percentage points with their intervals: a panel for each target, a row for each epoch."""
    targets = claim.brains[0].targets
    rows = _rows(claim)
    colours = colours_of(claim)
    figure = _figure((2.1 * len(targets) + 1.4, 0.9 + 0.19 * len(rows)))
    panels = figure.subplots(1, len(targets), sharey=True)
    for axes, target in zip(panels, targets, strict=True):
        for y, row in enumerate(rows):
            each = row[f"{target} percent"]
            colour, is_mean = colours[each.against], "," in each.epoch
            _bar(axes, y, each.any_seed, colour, 0.8, "-" if not each.conditional else ":")
            _bar(axes, y, each.interval, colour, 1.8, "-")
            axes.plot(each.interval.estimate, y, "D" if is_mean else "o", color=colour, ms=4)
        axes.axvline(0, color="0.3", lw=0.8)
        axes.set_title(title_of(target), loc="left")
        axes.grid(axis="x")
    labels = [_label(row["score percent"]) for row in rows]
    panels[0].set_yticks(range(len(rows)), labels)
    panels[0].set_ylim(len(rows) - 0.4, -0.6)
    figure.supxlabel(
        f"{shown(REFERENCE)} minus the other network, percentage points of the noise ceiling",
        fontsize=8,
    )
    return plot.write_figure(figure, path)


def _rows(claim: Claim) -> list[Mapping[str, NetworkDifference]]:
    """Return differences by measure: of each network the paper's epochs together, then each epoch."""
    rows: dict[tuple[str, str], dict[str, NetworkDifference]] = {}
    for each in (*claim.together, *claim.differences):
        rows.setdefault((each.against, each.epoch), {})[each.measure] = each
    networks = list(dict.fromkeys(against for against, _ in rows))
    return [rows[key] for key in sorted(rows, key=lambda key: networks.index(key[0]))]


def _label(each: NetworkDifference) -> str:
    epochs = f"epochs {each.epoch}" if "," in each.epoch else f"epoch {each.epoch}"
    return f"{shown(each.against)}, {epochs}{' †' if each.conditional else ''}"


def _bar(axes: Any, y: float, interval: Interval, colour: str, width: float, style: str) -> None:
    axes.plot([interval.low, interval.high], [y, y], style, color=colour, lw=width)


def draw_layers(claim: Claim, path: Path, epoch: int = EPOCHS[-1]) -> Path:
    """Draw each layer's percentage and mean ρ by its relative depth: columns are regions, a line for each network.

    Values are means over seeds, sizes and studies, of trained networks after one epoch.
    """
    regions, colours = claim.brains[0].regions, colours_of(claim)
    figure = _figure((3.1 * len(regions) + 1.3, 4.4))
    panels = figure.subplots(2, len(regions), squeeze=False, sharex=True)
    labels = ("percent of the noise ceiling", "mean ρ")
    for network, colour in colours.items():
        depths, values = by_depth(claim, network, epoch)
        if not len(depths):
            continue
        pretrained = any(e.network == network and e.epoch is None for e in claim.kept)
        style = "s--" if pretrained else "o-"
        for i, row in enumerate(panels):
            for r, axes in enumerate(row):
                options = {"color": colour, "ms": 3, "label": shown(network)}
                axes.plot(depths, values[:, 1 + r, i], style, **options)
    for i, label in enumerate(labels):
        panels[i, 0].set_ylabel(label)
    for axes in panels.flat:
        axes.axhline(0, color="0.3", lw=0.6)
        axes.grid()
    for axes, region in zip(panels[0], regions, strict=True):
        axes.set_title(title_of(region), loc="left")
    figure.supxlabel("relative depth of the layer", fontsize=8)
    _legend(figure, panels[0, 0], colours)
    return plot.write_figure(figure, path)


def by_depth(claim: Claim, network: str, epoch: int) -> tuple[Floats, Floats]:
    """Return the depths of a network's layers, rising, and their means (depths, targets, 2)."""
    depths, values = [], []
    for each, of_layers in zip(claim.candidates, claim.observed.of_layers, strict=True):
        if each.kept.network == network and each.kept.epoch in (epoch, None):
            depths.append(relative_depths(network, each.layers))
            values.append(of_layers.mean(axis=0))
    if not depths:
        return np.empty(0), np.empty((0, 1, 2))
    all_depths, all_values = np.concatenate(depths), np.concatenate(values)
    unique = np.unique(all_depths)
    return unique, np.stack([all_values[all_depths == depth].mean(axis=0) for depth in unique])


def draw_accuracy(claim: Claim, path: Path) -> Path:
    """Draw held-out scores against top-1: a panel for each target, a line for each run by its epochs."""
    targets, colours = claim.brains[0].targets, colours_of(claim)
    figure = _figure((2.3 * len(targets) + 1.3, 2.7))
    panels = figure.subplots(1, len(targets))
    runs: dict[str, list[int]] = {}
    for i, each in enumerate(claim.kept):
        if each.epoch is not None and "val_top1" in each.metrics:
            runs.setdefault(each.run, []).append(i)
    for t, (axes, target) in enumerate(zip(panels, targets, strict=True)):
        for rows in runs.values():
            network = claim.kept[rows[0]].network
            x = [claim.kept[i].metrics["val_top1"] for i in rows]
            y = claim.observed.values[rows, t, 0]
            options: Any = {"color": colours[network], "label": shown(network)}
            axes.plot(x, y, ".-", lw=0.6, ms=4, **options)
            axes.plot(x[-1], y[-1], "o", mfc="white", ms=4, color=colours[network])
        axes.set_title(title_of(target), loc="left")
        axes.set_ylim(bottom=0)
        axes.grid()
    panels[0].set_ylabel("percent of the noise ceiling")
    figure.supxlabel("top-1 of the validation images, %; ○ the last epoch of a run", fontsize=8)
    _legend(figure, panels[0], colours)
    return plot.write_figure(figure, path)


def _figure(size: tuple[float, float]) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=size, layout="constrained")


def _legend(figure: Any, axes: Any, colours: Mapping[str, str]) -> None:
    handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    names = [name for name in map(shown, colours) if name in handles]
    figure.legend([handles[name] for name in names], names, loc="outside right upper")


def draw_all(claim: Claim, folder: Path) -> list[Path]:
    """Draw the three figures into a folder, and return their paths."""
    with plot.styled():
        return [
            draw_differences(claim, folder / "RESULTS-differences.png"),
            draw_layers(claim, folder / "RESULTS-layers.png"),
            draw_accuracy(claim, folder / "RESULTS-accuracy.png"),
        ]
