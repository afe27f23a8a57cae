"""The scores of checkpoints whose RDMs are kept, and their means over seeds."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastrdm.studies import Study
from models.study.kept import Kept
from models.study.network_scores import NetworkScores, SubjectResult, mean_of_best, results_of

# The paper has results for epochs 1, 5 and 10.
_PAPERS_LAST = 10
# The paper's network and those of the miniature come first in tables.
_FIRST = ("resnet20", "resnet18", "resnet34", "densenet121")


@dataclass(frozen=True)
class Checkpoint:
    """Kept RDMs of a checkpoint or a pretrained network, and the scores of its layers."""

    kept: Kept
    scores: NetworkScores

    @property
    def top1(self) -> float | None:
        """Top-1 accuracy on the validation images in percent; None if it was not kept."""
        return self.kept.metrics.get("val_top1")


@dataclass(frozen=True)
class Seeds:
    """The checkpoints of a network after the same epoch, one for each seed, or a pretrained network alone."""

    checkpoints: tuple[Checkpoint, ...]

    @property
    def network(self) -> str:
        """The network's name."""
        return self.checkpoints[0].kept.network

    @property
    def epoch(self) -> int | None:
        """The epoch; None for a pretrained network."""
        return self.checkpoints[0].kept.epoch

    @property
    def top1(self) -> list[float]:
        """Top-1 accuracies of the seeds for which it is known, in percent."""
        return [each.top1 for each in self.checkpoints if each.top1 is not None]

    def mean(self, name: str = "") -> NetworkScores:
        """Return the mean over seeds of each seed's best layer, by default under the network's name."""
        return mean_of_best(name or self.network, [each.scores for each in self.checkpoints])


def score_kept(kept: Iterable[Kept], studies: Sequence[Study]) -> list[Checkpoint]:
    """Score all layers of kept checkpoints against all regions; ValueError if one lacks RDMs of a study."""
    return [Checkpoint(each, _score(each, studies)) for each in kept]


def _score(kept: Kept, studies: Sequence[Study]) -> NetworkScores:
    results: list[SubjectResult] = []
    for study in studies:
        rdms = kept.rdms(study.name)
        stack = np.stack(list(rdms.values()))
        for region, target in study.targets.items():
            results += results_of(kept.name, study, region, rdms, target.score(stack))
    return NetworkScores(kept.name, tuple(results))


def by_epoch(checkpoints: Iterable[Checkpoint]) -> list[Seeds]:
    """Group checkpoints by network and epoch, in the order of tables: pretrained networks are last."""
    groups: dict[tuple[str, int | None], list[Checkpoint]] = {}
    for each in checkpoints:
        groups.setdefault((each.kept.network, each.kept.epoch), []).append(each)
    return [Seeds(tuple(groups[key])) for key in sorted(groups, key=_place)]


def _place(key: tuple[str, int | None]) -> tuple[bool, int, str, int]:
    network, epoch = key
    rank = _FIRST.index(network) if network in _FIRST else len(_FIRST)
    return epoch is None, rank, network, epoch or 0


def after_the_papers_epochs(groups: Iterable[Seeds]) -> list[Seeds]:
    """Return each trained network after the last of the paper's epochs that it has, then the pretrained ones.

    A network without any of them is that after its own last epoch.
    """
    groups = list(groups)
    by_network: dict[str, dict[int, Seeds]] = {}
    for each in groups:
        if each.epoch is not None:
            by_network.setdefault(each.network, {})[each.epoch] = each
    shown = [
        of[max([epoch for epoch in of if epoch <= _PAPERS_LAST] or of)]
        for of in by_network.values()
    ]
    return shown + [each for each in groups if each.epoch is None]


def layer_rows(checkpoints: Iterable[Checkpoint]) -> list[dict[str, Any]]:
    """Return a table with a row for each checkpoint, study and layer.

    Values are the percentages of the noise ceiling and the mean ρ of each region, the score of the regions and its
    population standard deviation over subjects, rounded to 4 decimals; unknown ones are None.
    """
    checkpoints = list(checkpoints)
    found = [r for each in checkpoints for r in each.scores.results]
    regions = list(dict.fromkeys(r.region for r in found))
    columns = ["network", "seed", "epoch", "study", "layer", "size", "top1", "best"]
    columns += [f"{region}_{number}" for region in regions for number in ("percent", "rho")]
    rows = []
    for each in checkpoints:
        known = {"network": each.kept.network, "seed": each.kept.seed, "epoch": each.kept.epoch}
        places: dict[tuple[str, str], list[SubjectResult]] = {}
        for r in each.scores.results:
            places.setdefault((r.study, r.layer), []).append(r)
        for (study, label), results in places.items():
            layer, _, size = label.partition("@")
            row = dict.fromkeys([*columns, "score", "score_std"]) | known
            row |= {"study": study, "layer": layer, "size": size, "top1": each.top1}
            row["best"] = int(label == each.scores.best)
            for r in results:
                row[f"{r.region}_percent"] = round(r.percent_nc, 4)
                row[f"{r.region}_rho"] = round(r.mean_rho, 4)
            score = each.scores.score(study, label)
            row |= {"score": round(score.percent, 4), "score_std": round(score.std, 4)}
            rows.append(row)
    return rows
