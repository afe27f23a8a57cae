"""The layer of a network by the paper's rule, chosen on one study's subjects and judged on another's.

A layer is chosen for ``score``, the mean of the regions, or for one region. The rule takes the highest percentage of
the noise ceiling. Squares hide the sign of a correlation: an RDM that orders pairs as often the wrong way as the right
way has a mean ρ of 0 and still a percentage. Therefore a layer with a mean ρ of 0 or less in a region is never chosen.
A network without a layer to choose predicts nothing: its percentage and ρ are 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrdm.similarity import SubjectData
from fastrdm.studies import Study

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

SCORE = "score"
"""The target that is the mean of all regions."""
NONE = -1
"""The index of no layer."""


class NotComparable(ValueError):
    """The kept RDMs or the studies do not suffice to compare networks."""


@dataclass(frozen=True)
class Brain:
    """The subjects of one study, whose RDMs of all regions are compared with models at once."""

    study: str
    regions: tuple[str, ...]
    ceilings: Floats
    data: SubjectData
    n_subjects: int

    @classmethod
    def of(cls, study: Study) -> "Brain":
        """Return a study's brain; NotComparable if its regions have different numbers of subjects."""
        targets = study.targets
        rdms = [np.asarray(t.subject_rdms).reshape(t.n_subjects, -1) for t in targets.values()]
        if len({rows.shape for rows in rdms}) != 1:
            raise NotComparable(f"the regions of study {study.name} must have the same subjects")
        data = SubjectData.take(np.concatenate(rdms), "algonauts2019", None, None)
        ceilings = np.array([target.ceiling for target in targets.values()])
        return cls(study.name, tuple(targets), ceilings, data, len(rdms[0]))

    @property
    def n_images(self) -> int:
        """Number of images."""
        return self.data.n_conditions

    @property
    def targets(self) -> tuple[str, ...]:
        """What a layer is chosen for: the score, then each region."""
        return (SCORE, *self.regions)


class Scores(NamedTuple):
    """Percent of the ceiling and mean ρ, each (draws, layers, targets)."""

    percent: Floats
    rho: Floats
    # Whether a layer may be chosen for a target.
    allowed: NDArray[np.bool_]


def score_layers(brain: Brain, similarities: Floats, subjects: NDArray[np.integer]) -> Scores:
    """Return scores from similarities (draws, layers, regions × subjects), given counts (draws, subjects).

    One of the two may have a single draw, which is then used for all.
    """
    shape = (*similarities.shape[:2], len(brain.regions), brain.n_subjects)
    rho = similarities.reshape(shape)
    weights = (subjects / subjects.sum(axis=1, keepdims=True))[:, None, :, None]
    r2, rho = ((values @ weights)[..., 0] for values in (rho**2, rho))
    overall = r2.mean(axis=2, keepdims=True) / brain.ceilings.mean()
    percent = 100 * np.concatenate([overall, r2 / brain.ceilings], axis=2)
    allowed = np.concatenate([(rho > 0).all(axis=2, keepdims=True), rho > 0], axis=2)
    mean_rho = np.concatenate([rho.mean(axis=2, keepdims=True), rho], axis=2)
    return Scores(percent, mean_rho, allowed & np.isfinite(percent))


def choose(scores: Scores, layers: Indices) -> Indices:
    """Return the best of the layers (draws, targets) by their percentages, or NONE; of equals, the first."""
    allowed = scores.allowed[:, layers]
    best = layers[np.where(allowed, scores.percent[:, layers], -np.inf).argmax(axis=1)]
    return np.where(allowed.any(axis=1), best, NONE)


def judge(scores: Scores, chosen: Indices) -> Floats:
    """Return percentage and mean ρ (draws, targets, 2) of the chosen layers (draws, targets)."""
    index = np.maximum(chosen, 0)[:, None]
    values = (scores.percent, scores.rho)
    found = np.stack([np.take_along_axis(v, index, axis=1)[:, 0] for v in values], axis=-1)
    return np.where(chosen[..., None] == NONE, 0.0, found)


def held_out(scores: Sequence[Scores], networks: Sequence[Indices]) -> Floats:
    """Return what networks score on each of two studies by the layers that the other chose.

    The result is (draws, networks, studies, targets, 2), the last axis as in `judge`.
    """
    first, second = scores
    parts = [
        np.stack([judge(first, choose(second, each)), judge(second, choose(first, each))], axis=1)
        for each in networks
    ]
    return np.stack(parts, axis=1)


def own_best(scores: Sequence[Scores], networks: Sequence[Indices]) -> Floats:
    """Return what networks score by the layers that each study chose for itself, shaped as `held_out`."""
    parts = [
        np.stack([judge(each, choose(each, layers)) for each in scores], axis=1)
        for layers in networks
    ]
    return np.stack(parts, axis=1)
