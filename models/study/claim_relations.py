"""How scores go with accuracy, epoch, depth and layer: Spearman correlations, with intervals over runs.

Checkpoints of a run are not independent, so intervals draw whole runs again, with replacement.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from models.study.claim_choice import Floats
from models.study.kept import Kept

LEVEL = 0.95

# Blocks of each stage of two 3 × 3 convolutions; DenseNet has a convolution in each transition between stages.
_RESNETS = {"resnet18": (2, 2, 2, 2), "resnet20": (3, 2, 2, 2), "resnet34": (3, 4, 6, 3)}
_DENSENETS = {"densenet121": (6, 12, 24, 16)}


def weighted_layers(network: str) -> dict[str, int]:
    """Return for each layer the number of weighted layers up to it, as in the network's name; empty if unknown."""
    if network not in _RESNETS | _DENSENETS:
        return {}
    name, transition = ("block", 0) if network in _RESNETS else ("denseblock", 1)
    depth, found = 1, {"stem": 1}
    for stage, n_blocks in enumerate((_RESNETS | _DENSENETS)[network], 1):
        for block in range(1, n_blocks + 1):
            depth += 2
            found[f"{name}{stage}_{block}" if block < n_blocks else f"{name}{stage}"] = depth
        depth += transition
    # The last stage has no transition.
    return found | {"fc": depth - transition + 1}


def relative_depths(network: str, layers: Sequence[str]) -> Floats:
    """Return each layer's depth, 1 for the last: by weighted layers, or by position if the network is unknown.

    Layers are named as in kept files, ``block1@32``.
    """
    names = [layer.partition("@")[0] for layer in layers]
    unique = list(dict.fromkeys(names))
    depths = weighted_layers(network)
    if not set(unique) <= set(depths):
        depths = {name: i for i, name in enumerate(unique, 1)}
    last = max(depths.values())
    return np.array([depths[name] / last for name in names])


@dataclass(frozen=True)
class Relation:
    """A Spearman correlation, or a mean of them, over checkpoints of runs."""

    of: str
    measure: str
    rho: float
    low: float
    high: float
    n_checkpoints: int
    n_runs: int


def correlate(
    of: str,
    measure: str,
    kept: Sequence[Kept],
    x: Sequence[float],
    y: Sequence[float],
    rng: np.random.Generator,
    n_draws: int = 1000,
) -> Relation:
    """Correlate two values of checkpoints; NaN if one of them is constant. Such draws are left out."""
    pairs = np.array([x, y], np.float64)

    def statistic(rows: Sequence[int]) -> float:
        return spearman(*pairs[:, rows])

    return _over_runs(of, measure, kept, statistic, rng, n_draws)


def spearman(x: Floats, y: Floats) -> float:
    """Return Spearman's ρ of two short vectors; NaN if one is constant."""
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    a, b = _centred_ranks(x), _centred_ranks(y)
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def _centred_ranks(x: Floats) -> Floats:
    # Of few values, by comparing all with all: ten times as fast as scipy's ranks.
    signs = np.sign(x[:, None] - x)
    return np.asarray(signs.sum(axis=1) / 2)


def average(
    of: str,
    measure: str,
    kept: Sequence[Kept],
    values: Sequence[float],
    rng: np.random.Generator,
    n_draws: int = 1000,
) -> Relation:
    """Average a value of checkpoints."""
    array = np.array(values)
    return _over_runs(of, measure, kept, lambda rows: float(array[rows].mean()), rng, n_draws)


def _over_runs(
    of: str,
    measure: str,
    kept: Sequence[Kept],
    statistic: Callable[[Sequence[int]], float],
    rng: np.random.Generator,
    n_draws: int,
) -> Relation:
    runs: dict[str, list[int]] = {}
    for i, each in enumerate(kept):
        runs.setdefault(each.run, []).append(i)
    groups = list(runs.values())
    drawn = rng.integers(len(groups), size=(n_draws, len(groups)))
    values = [statistic([row for group in draw for row in groups[group]]) for draw in drawn]
    known = np.array(values)[~np.isnan(values)]
    tails = [50 * (1 - LEVEL), 50 * (1 + LEVEL)]
    low, high = np.percentile(known, tails) if len(known) else (np.nan, np.nan)
    everything = statistic([row for group in groups for row in group])
    return Relation(of, measure, everything, float(low), float(high), len(kept), len(groups))
