"""Everything that the kept RDMs say about the paper's claim, computed once for tables and figures."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fastrdm.studies import Study
from models.study.claim_choice import Brain, Floats, NotComparable
from models.study.claim_differences import (
    Group,
    NetworkDifference,
    SeedVariance,
    average_epochs,
    compare_groups,
    pooled_seed_variance,
    with_holm,
)
from models.study.claim_draws import BrainDraws, LayerChoice, Observed, observe, redraw
from models.study.claim_relations import (
    Relation,
    average,
    correlate,
    relative_depths,
    spearman,
    weighted_layers,
)
from models.study.kept import Kept

REFERENCE = "resnet20"
"""The network of the claim."""
EPOCHS = (1, 5, 10)
"""The paper's epochs."""
UNITS = ("percent", "rho")
"""Of each measure: percent of the noise ceiling, and mean ρ."""

# The ends of stages and the classifier, which the paper scores and which every network has.
_COMPARABLE = re.compile(r"(dense)?block\d+(@.*)?|fc(@.*)?")


def comparable_layers(kept: Kept, study: str) -> tuple[str, ...]:
    """Return the layers among which one is chosen.

    They are the ends of the stages and the classifier: more layers would favour the network that has them. A pretrained
    network has all its layers.
    """
    layers = kept.rdms(study)
    chosen = [layer for layer in layers if kept.epoch is None or _COMPARABLE.fullmatch(layer)]
    if not chosen:
        raise NotComparable(f"{kept.path} has no layer block1 … or fc, only {', '.join(layers)}")
    return tuple(chosen)


def measures_of(brains: Sequence[Brain]) -> list[str]:
    """Return the names of the measures, ``score percent``, ``score rho``, ``evc percent`` and so on."""
    return [f"{target} {unit}" for target in brains[0].targets for unit in UNITS]


@dataclass(frozen=True)
class Claim:
    """The results; lists of differences have an item for each measure."""

    brains: list[Brain]
    kept: list[Kept]
    # One for each of `kept`, with the layers among which one is chosen.
    candidates: list[LayerChoice]
    observed: Observed
    # By epoch, with p corrected over all of them.
    differences: list[NetworkDifference]
    # Of the paper's epochs together, with p corrected over all of them.
    together: list[NetworkDifference]
    # The same with all layers of the reference.
    all_layers: list[NetworkDifference]
    # Own means of networks by epoch, then of pretrained ones.
    levels: list[NetworkDifference]
    # Pretrained networks against the reference at its last epoch.
    pretrained: list[NetworkDifference]
    relations: list[Relation]
    n_draws: int
    seed: int


def claim_brains(studies: Sequence[Study]) -> list[Brain]:
    """Return the brains of the two studies; NotComparable unless there are two with the same regions."""
    if len(studies) != 2:
        names = ", ".join(study.name for study in studies) or "none"
        raise NotComparable(
            f"the claim needs two studies, one to choose layers and one to judge: {names}"
        )
    brains = [Brain.of(study) for study in studies]
    if brains[0].regions != brains[1].regions:
        raise NotComparable(
            f"studies {brains[0].study} and {brains[1].study} must have the same regions, not"
            f" {', '.join(brains[0].regions)} and {', '.join(brains[1].regions)}"
        )
    return brains


def study_claim(
    kept: Sequence[Kept], studies: Sequence[Study], *, n_draws: int = 1000, seed: int = 0
) -> Claim:
    """Compute everything.

    NotComparable if the reference, the other networks, or one of the paper's epochs of the reference is missing, a
    network has no epoch in common with it, or no network has two seeds.
    """
    brains, kept = claim_brains(studies), list(kept)
    first, names = brains[0].study, measures_of(brains)
    plan = plan_epochs(kept)
    _check_seeds(kept)
    candidates = [LayerChoice(each, comparable_layers(each, first)) for each in kept]
    observed = observe(brains, candidates)
    drawn = [c for c in candidates if c.kept.epoch is None or _is_planned(c.kept, plan)]
    wide = [
        LayerChoice(each.kept, tuple(each.kept.rdms(first)))
        for each in drawn
        if each.kept.network == REFERENCE
    ]
    evaluations = redraw(brains, [*drawn, *wide], BrainDraws.of(brains, n_draws, seed))
    groups = _Groups(drawn, observed_values(brains, drawn), evaluations[:, :, : len(drawn)])
    wide_groups = _Groups(wide, observed_values(brains, wide), evaluations[:, :, len(drawn) :])

    def difference(
        network: str, epochs: Sequence[int], own: _Groups = groups
    ) -> list[NetworkDifference]:
        pair = own.mean(REFERENCE, epochs), groups.mean(network, epochs)
        label = ", ".join(map(str, epochs))
        return compare_groups(*pair, brains, names, groups.pooled(epochs, brains), label)

    others = [network for network in plan if network != REFERENCE]
    papers = {network: [e for e in plan[network] if e in EPOCHS] for network in others}
    by_epoch = [d for n in others for epoch in plan[n] for d in difference(n, [epoch])]
    together = [d for n in others for d in difference(n, papers[n])]
    all_layers = [d for n in others for d in difference(n, papers[n], wide_groups)]
    last = groups.mean(REFERENCE, [max(plan[REFERENCE])])
    levels, pretrained = _levels(groups, plan, brains), []
    for network in dict.fromkeys(c.kept.network for c in drawn if c.kept.epoch is None):
        own = groups.mean(network, [None])
        levels += compare_groups(own, None, brains, names, None)
        pretrained += compare_groups(own, last, brains, names, None, str(max(plan[REFERENCE])))
    trained = [i for i, each in enumerate(kept) if each.epoch is not None]
    return Claim(
        brains,
        kept,
        candidates,
        observed,
        with_holm(by_epoch),
        with_holm(together),
        with_holm(all_layers),
        levels,
        with_holm(pretrained),
        relate(brains, [kept[i] for i in trained], observed.values[trained], seed)
        + relate_layers(
            brains,
            [candidates[i] for i in trained],
            [observed.of_layers[i] for i in trained],
            seed,
        ),
        n_draws,
        seed,
    )


def _check_seeds(kept: Sequence[Kept]) -> None:
    trained = {(each.network, each.seed) for each in kept if each.epoch is not None}
    networks = sorted({network for network, _ in trained})
    if len(trained) == len(networks):
        names = ", ".join(networks)
        raise NotComparable(f"one of {names} needs at least two seeds, to know how seeds vary")


def _levels(
    groups: "_Groups", plan: Mapping[str, Sequence[int]], brains: Sequence[Brain]
) -> list[NetworkDifference]:
    """Return the own means of trained networks at the planned epochs."""
    names, found = measures_of(brains), []
    for network, epochs in plan.items():
        for epoch in epochs:
            own, pooled = groups.mean(network, [epoch]), groups.pooled([epoch], brains)
            found += compare_groups(own, None, brains, names, pooled, str(epoch))
    return found


def plan_epochs(kept: Sequence[Kept]) -> dict[str, list[int]]:
    """Return the epochs of each trained network that are compared: the paper's, and the last one in common.

    The reference comes first, then the others by their depth. NotComparable as in `study_claim`.
    """
    has: dict[str, set[int]] = {}
    for each in kept:
        if each.epoch is not None:
            has.setdefault(each.network, set()).add(each.epoch)
    for epoch in EPOCHS:
        if epoch not in has.get(REFERENCE, ()):
            raise NotComparable(f"there are no kept RDMs of {REFERENCE} after epoch {epoch}")
    others = sorted(has.keys() - {REFERENCE}, key=lambda name: (_depth(name), name))
    if not others:
        raise NotComparable(f"there are no kept RDMs of trained networks other than {REFERENCE}")
    plan: dict[str, list[int]] = {REFERENCE: []}
    for network in others:
        common = has[network] & has[REFERENCE]
        if not common & set(EPOCHS):
            epochs = ", ".join(map(str, EPOCHS))
            raise NotComparable(f"there are no kept RDMs of {network} after epochs {epochs}")
        plan[network] = sorted(common & {*EPOCHS, max(common)})
    plan[REFERENCE] = sorted({epoch for epochs in plan.values() for epoch in epochs} | {*EPOCHS})
    return plan


def _is_planned(kept: Kept, plan: Mapping[str, Sequence[int]]) -> bool:
    return kept.epoch in plan.get(kept.network, ())


def _depth(network: str) -> int:
    return max(weighted_layers(network).values(), default=0)


def observed_values(brains: Sequence[Brain], candidates: Sequence[LayerChoice]) -> Floats:
    """Return what candidates score without draws, (candidates, targets, 2)."""
    return observe(brains, candidates).values


class _Groups:
    """The seeds of networks at their epochs, with their values and draws."""

    def __init__(self, candidates: Sequence[LayerChoice], values: Floats, draws: Floats) -> None:
        rows: dict[tuple[str, int | None], list[int]] = {}
        for i, each in enumerate(candidates):
            rows.setdefault((each.kept.network, each.kept.epoch), []).append(i)
        flat = values.reshape(len(candidates), -1)
        flat_draws = draws.reshape(*draws.shape[:3], -1)
        self._groups = {
            key: Group(
                key[0],
                tuple(candidates[i].kept.seed for i in own),
                flat[own],
                flat_draws[:, :, own],
            )
            for key, own in rows.items()
        }

    def mean(self, network: str, epochs: Sequence[int | None]) -> Group:
        """Return the mean over epochs, seed by seed."""
        return average_epochs([self._groups[network, epoch] for epoch in epochs])

    def pooled(self, epochs: Sequence[int], brains: Sequence[Brain]) -> SeedVariance:
        """Return how seeds vary in the networks that have all these epochs."""
        networks = dict.fromkeys(network for network, _ in self._groups)
        complete = [n for n in networks if all((n, epoch) in self._groups for epoch in epochs)]
        return pooled_seed_variance([self.mean(n, epochs) for n in complete], brains)


def relate(
    brains: Sequence[Brain], kept: Sequence[Kept], values: Floats, seed: int
) -> list[Relation]:
    """Correlate scores (checkpoints, targets, 2) of trained networks with accuracy, epoch and depth."""
    rng = np.random.default_rng([seed, len(kept)])
    found = []
    facts: dict[str, list[float]] = {
        "top-1": [each.metrics.get("val_top1", np.nan) for each in kept],
        "epoch": [float(each.epoch or 0) for each in kept],
        "depth": [float(_depth(each.network)) or np.nan for each in kept],
    }
    late = [each.epoch is not None and each.epoch >= EPOCHS[-1] for each in kept]
    early = [each.epoch in EPOCHS for each in kept]
    everything = [True] * len(kept)
    for of, fact, chosen in (
        ("top-1", "top-1", everything),
        (f"top-1, from epoch {EPOCHS[-1]} on", "top-1", late),
        ("epoch", "epoch", everything),
        (f"epoch, from epoch {EPOCHS[-1]} on", "epoch", late),
        ("depth, at the paper's epochs", "depth", early),
    ):
        rows = [i for i, use in enumerate(chosen) if use and not np.isnan(facts[fact][i])]
        if not rows:
            continue
        of_rows = [kept[i] for i in rows]
        for i, measure in enumerate(measures_of(brains)):
            y = values[rows].reshape(len(rows), -1)[:, i]
            x = [facts[fact][row] for row in rows]
            found.append(correlate(of, measure, of_rows, x, y.tolist(), rng))
    return found


def relate_layers(
    brains: Sequence[Brain],
    candidates: Sequence[LayerChoice],
    of_layers: Sequence[Floats],
    seed: int,
) -> list[Relation]:
    """Average over checkpoints how a layer's score goes with its relative depth, all sizes together."""
    rng = np.random.default_rng([seed, len(candidates), 1])
    names, found = measures_of(brains), []
    depths = [relative_depths(each.kept.network, each.layers) for each in candidates]
    for i, measure in enumerate(names):
        values = [
            of.mean(axis=0).reshape(len(x), -1)[:, i]
            for of, x in zip(of_layers, depths, strict=True)
        ]
        rhos = [spearman(x, y) for x, y in zip(depths, values, strict=True)]
        found.append(
            average("relative depth of the layer", measure, [c.kept for c in candidates], rhos, rng)
        )
    return found
