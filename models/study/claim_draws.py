"""Networks scored on brains whose subjects and images are drawn again, with the layer chosen anew in each draw.

All networks see the same draws. In each draw, a layer is chosen on the drawn subjects and images of one study and
judged on those of the other. Pairs of an image with itself are left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastrdm.similarity import blocks_of
from models.study.claim_choice import (
    NONE,
    Brain,
    Floats,
    Indices,
    Scores,
    choose,
    held_out,
    own_best,
    score_layers,
)
from models.study.kept import Kept

Counts = NDArray[np.int32]

# Similarities that a block of draws holds in memory: 16 MB.
_BLOCK_SIZE = 1 << 21


@dataclass(frozen=True)
class LayerChoice:
    """A checkpoint with the layers among which one is chosen."""

    kept: Kept
    layers: tuple[str, ...]


@dataclass(frozen=True)
class Observed:
    """What candidates score, without draws; arrays are (candidates, studies, targets, 2), percentage and ρ."""

    # By the layers that the other study chose.
    held_out: Floats
    # By the layers that the same study chose.
    own_best: Floats
    # The layers that the other study chose, by candidate, study and target; "" if it allowed none.
    chosen: tuple[tuple[tuple[str, ...], ...], ...]
    # All layers of a candidate, (studies, layers, targets, 2).
    of_layers: tuple[Floats, ...]

    @property
    def values(self) -> Floats:
        """The mean of `held_out` over studies, (candidates, targets, 2)."""
        return np.asarray(self.held_out.mean(axis=1))


def observe(brains: Sequence[Brain], candidates: Sequence[LayerChoice]) -> Observed:
    """Score candidates on the subjects and images as they are."""
    pool = _Pool(candidates)
    scores = _scores(
        brains,
        [brain.data.observed(pool.rdms(brain))[None] for brain in brains],
        [np.ones((1, brain.n_subjects), np.int32) for brain in brains],
    )
    names, of_layers = [], []
    for rows in pool.groups:
        names.append(tuple(pool.names(choose(scores[1 - i], rows)[0]) for i in range(2)))
        values = [np.stack([each.percent[0, rows], each.rho[0, rows]], axis=-1) for each in scores]
        of_layers.append(np.stack(values))
    return Observed(
        held_out(scores, pool.groups)[0],
        own_best(scores, pool.groups)[0],
        tuple(names),
        tuple(of_layers),
    )


@dataclass(frozen=True)
class BrainDraws:
    """How often each subject and each image of each study is drawn, (draws, subjects or images)."""

    subjects: tuple[Counts, ...]
    images: tuple[Counts, ...]

    @classmethod
    def of(cls, brains: Sequence[Brain], n_draws: int, seed: int) -> "BrainDraws":
        """Draw with replacement; every study, its subjects and its images have their own stream."""
        if n_draws < 2:
            raise ValueError(f"n_draws must be at least 2, not {n_draws}")
        sizes = [(brain.n_subjects, brain.n_images) for brain in brains]
        streams = [
            [_drawn(np.random.default_rng([seed, i, factor]), n_draws, n) for i, n in enumerate(of)]
            for factor, of in enumerate(zip(*sizes, strict=True))
        ]
        return cls(tuple(streams[0]), tuple(streams[1]))


def _drawn(rng: np.random.Generator, n_draws: int, n: int) -> Counts:
    counts = np.zeros((n_draws, n), np.int32)
    np.add.at(counts, (np.arange(n_draws)[:, None], rng.integers(n, size=(n_draws, n))), 1)
    return counts


def redraw(brains: Sequence[Brain], candidates: Sequence[LayerChoice], draws: BrainDraws) -> Floats:
    """Return what candidates score in each draw, (kinds, draws, candidates, targets, 2).

    The kinds are: subjects and images drawn, subjects alone, images alone. The last axis is percentage and ρ; both are
    means over the studies.
    """
    pool = _Pool(candidates)
    models = [pool.rdms(brain) for brain in brains]
    observed = [brain.data.observed(rdms)[None] for brain, rdms in zip(brains, models, strict=True)]
    n_draws = len(draws.subjects[0])
    width = len(models[0]) * max(brain.data.n_subjects for brain in brains)
    out = []
    for block in blocks_of(n_draws, width, _BLOCK_SIZE):
        subjects, images = (
            [each[block] for each in kind] for kind in (draws.subjects, draws.images)
        )
        everyone = [np.ones((1, brain.n_subjects), np.int32) for brain in brains]
        drawn = [
            brain.data.resampled(rdms, counts)
            for brain, rdms, counts in zip(brains, models, images, strict=True)
        ]
        kinds = [(drawn, subjects), (observed, subjects), (drawn, everyone)]
        out.append([held_out(_scores(brains, *kind), pool.groups).mean(axis=2) for kind in kinds])
    return np.concatenate([np.stack(kinds) for kinds in out], axis=1)


def _scores(
    brains: Sequence[Brain], similarities: Sequence[Floats], subjects: Sequence[Counts]
) -> list[Scores]:
    return [score_layers(*each) for each in zip(brains, similarities, subjects, strict=True)]


class _Pool:
    """The layers of all candidates as one stack, each once, and the rows of each candidate."""

    def __init__(self, candidates: Sequence[LayerChoice]) -> None:
        places = [(each.kept, layer) for each in candidates for layer in each.layers]
        self._places = list({(kept.path, layer): (kept, layer) for kept, layer in places}.values())
        rows = {(kept.path, layer): i for i, (kept, layer) in enumerate(self._places)}
        self.groups: list[Indices] = [
            np.array([rows[each.kept.path, layer] for layer in each.layers]) for each in candidates
        ]

    def rdms(self, brain: Brain) -> Floats:
        rdms = [kept.rdms(brain.study)[layer] for kept, layer in self._places]
        return brain.data.take_models(np.stack(rdms))

    def names(self, indices: Indices) -> tuple[str, ...]:
        return tuple("" if i == NONE else self._places[i][1] for i in indices)
