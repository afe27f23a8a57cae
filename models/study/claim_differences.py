"""Differences between networks with intervals over seeds, subjects and images together.

The estimate is the difference of means over seeds. Its variance has two parts. That of the brains (subjects and images)
is from the draws: these count the noise of single measurements three times, which the corrected two-factor bootstrap of
Schütt et al. (2023), as in `fastrdm.bootstrap`, removes. That of each network's n seeds is s² / n, without the part
that changes with the brains, which the draws of brains contain already. Intervals and p are those of Student's t with
Satterthwaite's degrees of freedom. In simulations of networks that do not differ, intervals of 95 % covered 0 in 95 to
100 % of cases.

A network with one seed has no variance of seeds. Its difference is conditional on this seed; beside it is an interval
for any seed, which borrows the variance of seeds that the other networks have on average.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fastrdm.inference import Bootstrap, correct
from models.study.claim_choice import Brain, Floats, NotComparable

LEVEL = 0.95


@dataclass(frozen=True)
class Group:
    """What one network's seeds score: `values` (seeds, measures) and `draws` (kinds, draws, seeds, measures)."""

    network: str
    seeds: tuple[int | None, ...]
    values: Floats
    draws: Floats

    @property
    def n_seeds(self) -> int:
        """Number of seeds."""
        return len(self.values)


@dataclass(frozen=True)
class Interval:
    """An estimate with its standard error, degrees of freedom, interval and two-sided p."""

    estimate: float
    se: float
    dof: float
    low: float
    high: float
    p: float

    @classmethod
    def of(cls, estimate: float, variance: float, terms: Sequence[tuple[float, int]]) -> "Interval":
        """Return the interval of a variance whose terms have degrees of freedom (Satterthwaite 1946)."""
        # Imported here because it takes longer than all else of this module.
        from scipy.stats import t

        parts = sum(term**2 / dof for term, dof in terms)
        dof = max(1.0, variance**2 / parts) if parts > 0 else math.inf
        se = math.sqrt(variance)
        half = float(t.ppf((1 + LEVEL) / 2, dof)) * se
        p = float(2 * t.sf(abs(estimate) / se, dof)) if se > 0 else float(estimate == 0)
        return cls(estimate, se, dof, estimate - half, estimate + half, p)


@dataclass(frozen=True)
class NetworkDifference:
    """The difference of two networks, or one network's own mean, in one measure."""

    network: str
    against: str
    epoch: str
    measure: str
    interval: Interval
    # For any seed of networks that have one; as `interval` if both have several.
    any_seed: Interval
    sd_seeds: float
    sd_subjects: float
    sd_images: float
    # Of subjects and images, corrected.
    sd_brains: float
    # Of everything drawn together, without correction.
    sd_together: float
    p_holm: float = math.nan

    @property
    def conditional(self) -> bool:
        """Whether the interval is that of one seed."""
        return self.interval != self.any_seed


def average_epochs(groups: Sequence[Group]) -> Group:
    """Return the mean of a network's groups of several epochs, seed by seed; NotComparable if seeds differ."""
    first = groups[0]
    if len({group.seeds for group in groups}) != 1:
        seeds = " and ".join(dict.fromkeys(str(list(group.seeds)) for group in groups))
        raise NotComparable(f"{first.network} must have the same seeds at all epochs, not {seeds}")
    values = np.mean([group.values for group in groups], axis=0)
    return Group(first.network, first.seeds, values, np.mean([g.draws for g in groups], axis=0))


@dataclass(frozen=True)
class SeedVariance:
    """How one network's seeds vary, (measures,), with the degrees of freedom of `total`."""

    # Of one seed's score on these brains, s².
    total: Floats
    # The part of it that changes with the brains, so that the draws of brains have it too.
    shared: Floats
    dof: int


def seed_variance(group: Group, brains: Sequence[Brain]) -> SeedVariance | None:
    """Return how a network's seeds vary; None for one seed."""
    n = group.n_seeds
    if n < 2:
        return None
    deviations = group.draws - group.draws.mean(axis=2, keepdims=True)
    flat = deviations.reshape(*deviations.shape[:2], -1)
    shared = _bootstrap(flat, brains).variance.reshape(n, -1).sum(axis=0) / (n - 1)
    return SeedVariance(np.asarray(group.values.var(axis=0, ddof=1)), shared, n - 1)


def pooled_seed_variance(groups: Sequence[Group], brains: Sequence[Brain]) -> SeedVariance:
    """Return how seeds vary on average in the networks with several; NotComparable without."""
    known = [each for group in groups if (each := seed_variance(group, brains)) is not None]
    if not known:
        names = ", ".join(group.network for group in groups)
        raise NotComparable(f"one of {names} needs at least two seeds, to know how seeds vary")
    dof = sum(each.dof for each in known)
    total, shared = (
        np.sum([each.dof * getattr(each, name) for each in known], axis=0) / dof
        for name in ("total", "shared")
    )
    return SeedVariance(total, shared, dof)


def compare_groups(
    group: Group,
    against: Group | None,
    brains: Sequence[Brain],
    measures: Sequence[str],
    borrowed: SeedVariance | None,
    epoch: str = "",
) -> list[NetworkDifference]:
    """Return the difference of two networks in each measure; without `against`, the first one's own mean.

    `borrowed` says how seeds of networks that have one vary; None takes any seed for this one.
    """
    groups = [group] if against is None else [group, against]
    signs = (1.0, -1.0)
    estimate = np.sum(
        [s * g.values.mean(axis=0) for s, g in zip(signs, groups, strict=False)], axis=0
    )
    draws = np.sum([s * g.draws.mean(axis=2) for s, g in zip(signs, groups, strict=False)], axis=0)
    bootstrap = _bootstrap(draws, brains)
    s, c = bootstrap.n_subjects, bootstrap.n_conditions
    raw = draws.var(axis=1, ddof=1)
    own = [(seed_variance(each, brains), each.n_seeds) for each in groups]
    any_seed = [(variance or borrowed, n) for variance, n in own]
    found = []
    for i, measure in enumerate(measures):
        brain = (float(bootstrap.variance[i]), bootstrap.dof)
        value = float(estimate[i])
        seeds = sum(variance.total[i] / n for variance, n in own if variance is not None)
        found.append(
            NetworkDifference(
                group.network,
                "" if against is None else against.network,
                epoch,
                measure,
                _interval(value, brain, own, i),
                _interval(value, brain, any_seed, i),
                sd_seeds=math.sqrt(seeds),
                sd_subjects=math.sqrt(raw[1, i] * s / (s - 1)),
                sd_images=math.sqrt(raw[2, i] * c / (c - 1)),
                sd_brains=math.sqrt(brain[0]),
                sd_together=math.sqrt(raw[0, i] + seeds),
            )
        )
    return found


def _interval(
    estimate: float,
    brain: tuple[float, int],
    seeds: Sequence[tuple[SeedVariance | None, int]],
    measure: int,
) -> Interval:
    """Return the interval from the variance of brains and that of each network's mean over n seeds."""
    total, terms = brain[0], [brain]
    for variance, n in seeds:
        if variance is not None:
            total += max(0.0, float(variance.total[measure] - variance.shared[measure])) / n
            terms.append((float(variance.total[measure]) / n, variance.dof))
    return Interval.of(estimate, total, terms)


def _bootstrap(draws: Floats, brains: Sequence[Brain]) -> Bootstrap:
    """Return draws (kinds, draws, columns) as a bootstrap, for its corrected variance."""
    n = draws.shape[2]
    return Bootstrap(
        names=tuple(map(str, range(n))),
        over="both",
        value=np.full(n, np.nan),
        ceiling=np.full(2, np.nan),
        evaluations=draws,
        ceilings=np.full((*draws.shape[:2], 2), np.nan),
        acceleration=np.zeros(n),
        n_subjects=min(brain.n_subjects for brain in brains),
        n_conditions=min(brain.n_images for brain in brains),
        seed=None,
        method="spearman",
        pool="raw",
        squared=True,
    )


def with_holm(differences: Sequence[NetworkDifference]) -> list[NetworkDifference]:
    """Return differences with the p of `any_seed` corrected by Holm's method; each measure is a family."""
    corrected: dict[int, float] = {}
    families: Mapping[str, list[int]] = {
        measure: [i for i, each in enumerate(differences) if each.measure == measure]
        for measure in {each.measure for each in differences}
    }
    for family in families.values():
        p = correct([differences[i].any_seed.p for i in family], "holm")
        corrected |= dict(zip(family, p.tolist(), strict=True))
    return [replace(each, p_holm=corrected[i]) for i, each in enumerate(differences)]
