"""The rules by which a submission is chosen and fitted: from the layers' RDMs of studies with brain data to weights.

Each rule takes one study or several. With one, what has to be chosen is chosen by folds of its images, which is how
the other study can judge the whole rule (`models.study.submissions`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

import fastrdm
from fastrdm import FittedRdm
from fastrdm.studies import Study
from models.study.kept import Kept

Floats: TypeAlias = NDArray[np.float64]
# Layer → RDM; the layers of all checkpoints have names such as resnet20-seed0-epoch005/block1@48.
Layers: TypeAlias = Mapping[str, Floats]

RIDGE = 0.3
"""The penalty of weighted layers, which shares weight among near copies of a layer (other seeds and epochs)."""

_FOLDS = 2
_POOLS: Mapping[str, Callable[[Kept], bool]] = {
    "ResNet-20": lambda kept: kept.network == "resnet20",
    "ResNets": lambda kept: kept.network.startswith("resnet"),
    "trained here": lambda kept: kept.epoch is not None,
    "ImageNet": lambda kept: kept.epoch is None,
    "everything": lambda kept: True,
}


class NoLayerError(ValueError):
    """No layer of a pool is similar to a region."""


@dataclass(frozen=True)
class Fit:
    """The model of one region: the pool of layers that it was chosen from, and the weights."""

    pool: str
    model: FittedRdm


@dataclass(frozen=True)
class Rule:
    """A named rule; `fit` takes all that is kept and the studies, and returns a fit for each region."""

    key: str
    title: str
    fit: Callable[["LayerPools", Sequence[Study]], dict[str, Fit]]

    @property
    def folder(self) -> str:
        """The name of the submission's folder."""
        return f"{self.key}_{self.title.replace(' ', '_')}".lower().replace("-", "")


class LayerPools:
    """The layers' RDMs of kept networks by pool and study, and the weights fitted to them."""

    def __init__(self, kept: Sequence[Kept], studies: Sequence[str]) -> None:
        self._fits: dict[tuple[str, tuple[str, ...], str], FittedRdm] = {}
        self._by_study: dict[str, dict[str, Floats]] = {study: {} for study in studies}
        self._members: dict[str, list[str]] = {pool: [] for pool in _POOLS}
        for each in kept:
            layers = [each.rdms(study) for study in studies]
            for layer in layers[0]:
                name = f"{each.name}/{layer}"
                for study, of_study in zip(studies, layers, strict=True):
                    if layer not in of_study:
                        raise ValueError(f"{each.path} has no RDM {study}/{layer}")
                    self._by_study[study][name] = of_study[layer]
                for pool, holds in _POOLS.items():
                    if holds(each):
                        self._members[pool].append(name)

    @property
    def names(self) -> list[str]:
        """The pools that have layers, without those that hold the same layers as an earlier one."""
        found = {tuple(names): pool for pool, names in reversed(self._members.items()) if names}
        return [pool for pool in self._members if pool in found.values()]

    def of(self, pool: str, study: str) -> Layers:
        """Return a pool's RDMs for a study; ValueError if no kept network belongs to the pool."""
        if not self._members[pool]:
            raise ValueError(f"no RDMs of the pool {pool!r} are kept")
        by_name = self._by_study[study]
        return {name: by_name[name] for name in self._members[pool]}

    def weighted(self, pool: str, studies: Sequence[Study], region: str) -> FittedRdm:
        """Return the weights of a pool's layers for a region of studies, which several rules ask for.

        Studies are told apart by their names.
        """
        key = (pool, tuple(study.name for study in studies), region)
        if key not in self._fits:
            rdms = [self.of(pool, study.name) for study in studies]
            targets = [study.targets[region] for study in studies]
            self._fits[key] = fastrdm.WeightedRdm(RIDGE).fit(rdms, targets)
        return self._fits[key]


def _regions(studies: Sequence[Study]) -> list[str]:
    return list(studies[0].targets)


def _percentages(pools: LayerPools, pool: str, studies: Sequence[Study]) -> dict[str, Floats]:
    """Return (studies, layers) percentages of the ceiling by region; NaN where the mean similarity is not positive.

    A squared score hides that a layer orders images in the opposite way to the brain.
    """
    found: dict[str, list[Floats]] = {region: [] for region in _regions(studies)}
    for study in studies:
        rdms = np.stack(list(pools.of(pool, study.name).values()))
        for region, target in study.targets.items():
            score = target.score(rdms)
            found[region].append(np.where(score.mean_rho > 0, score.percent_nc, np.nan))
    return {region: np.stack(rows) for region, rows in found.items()}


def _fixed(pools: LayerPools, pool: str, studies: Sequence[Study], region: str, best: int) -> Fit:
    layer = list(pools.of(pool, studies[0].name))[best]
    rdms = [{layer: pools.of(pool, study.name)[layer]} for study in studies]
    targets = [study.targets[region] for study in studies]
    return Fit(pool, fastrdm.FixedRdm(layer).fit(rdms, targets))


def _best(scores: Floats, pool: str, region: str) -> int:
    """Return the layer with the best mean over studies (rows), among those with a score for each."""
    means = scores.mean(axis=0)
    if np.isnan(means).all():
        raise NoLayerError(f"no layer of the pool {pool!r} is similar to {region} in all studies")
    return int(np.nanargmax(means))


def paper_rule(pools: LayerPools, studies: Sequence[Study]) -> dict[str, Fit]:
    """One layer of the ResNet-20 for both regions: the best mean over studies of the score (Meijer 2019)."""
    percent = _percentages(pools, "ResNet-20", studies)
    # The score of a study is the mean R² of the regions / their mean ceiling.
    ceilings = {
        region: np.array([[study.targets[region].ceiling] for study in studies])
        for region in percent
    }
    total = sum(percent[region] * ceilings[region] for region in percent)
    score = total / sum(ceilings.values())
    best = _best(score, "ResNet-20", " and ".join(percent))
    return {region: _fixed(pools, "ResNet-20", studies, region, best) for region in percent}


def best_layers(pools: LayerPools, studies: Sequence[Study]) -> dict[str, Fit]:
    """The layer of any network with the best mean over studies of the percentage, for each region."""
    percent = _percentages(pools, "everything", studies)
    return {
        region: _fixed(pools, "everything", studies, region, _best(rows, "everything", region))
        for region, rows in percent.items()
    }


def weighted_resnet20(pools: LayerPools, studies: Sequence[Study]) -> dict[str, Fit]:
    """Non-negative weights of all layers of the ResNet-20, of all seeds and epochs, for each region."""
    return {
        region: Fit("ResNet-20", _some_weight(pools, "ResNet-20", studies, region))
        for region in _regions(studies)
    }


def weighted_everything(pools: LayerPools, studies: Sequence[Study]) -> dict[str, Fit]:
    """Non-negative weights of the layers of a pool, which is chosen for each region.

    With several studies, the chosen pool has the best mean similarity, in units of the root of the noise ceiling, when
    fitted on all studies but one and judged on that one. With one study, folds of its images take the place of studies.
    """
    out = {}
    for region in _regions(studies):
        values = {pool: _transfer(pools, pool, studies, region) for pool in pools.names}
        chosen = max(values, key=values.__getitem__)
        out[region] = Fit(chosen, _some_weight(pools, chosen, studies, region))
    return out


def _some_weight(pools: LayerPools, pool: str, studies: Sequence[Study], region: str) -> FittedRdm:
    model = pools.weighted(pool, studies, region)
    if not model.weights.any():
        raise NoLayerError(f"no layer of the pool {pool!r} is similar to {region}")
    return model


def _transfer(pools: LayerPools, pool: str, studies: Sequence[Study], region: str) -> float:
    if len(studies) == 1:
        (study,) = studies
        rdms, target = pools.of(pool, study.name), study.targets[region]
        weighted = fastrdm.WeightedRdm(RIDGE)
        return fastrdm.cross_validate(weighted, rdms, target, _FOLDS, None).score
    values = []
    for judged in studies:
        model = pools.weighted(pool, [s for s in studies if s is not judged], region)
        target, rho = judged.targets[region], 0.0
        if model.weights.any():
            rho = float(model.score(pools.of(pool, judged.name), target).mean_rho[0])
        values.append(rho / np.sqrt(target.ceiling))
    return float(np.mean(values))


RULES = (
    Rule("a", "paper rule", paper_rule),
    Rule("b", "best layer of each region", best_layers),
    Rule("c", "weighted layers of the ResNet-20", weighted_resnet20),
    Rule("d", "weighted layers of everything", weighted_everything),
)
