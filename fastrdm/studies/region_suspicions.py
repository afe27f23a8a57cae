"""What looks wrong with the RDMs of a region's subjects; each suspicion is a sentence that says what to do."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from fastrdm._base import counted, list_names, square
from fastrdm.similarity import Target
from fastrdm.studies.agreement import Floats, RegionFacts, correlations
from fastrdm.studies.suspicions import Suspicion

# A mean correlation of a subject with the others below this is hardly agreement, one above _COPIES not that of brains.
_AGREEMENT, _COPIES = 0.1, 0.95
# A subject is opposite to the others if its correlation with them is below minus this and minus half the median.
_OPPOSITE = 0.05
# A subject is odd if its correlation with the others is below this share of the median.
_ODD = 0.25
# A given ceiling may differ from the computed one by this factor.
_CEILING = 1.5
# A subject dominates a mean of RDMs if its spread is this many times the median.
_SPREAD = 10
# Fewer subjects than this make a bound of the ceiling inaccurate.
_FEW = 4
_NAMED = 8


def suspect_region(target: Target, facts: RegionFacts, names: Sequence[str]) -> Iterator[Suspicion]:
    """Yield the suspicions about the subjects of a region; `names` are those of the stimuli."""
    where = f"{facts.name} ({facts.source})" if facts.source else facts.name
    for kind, text in (
        *_subjects(facts),
        *_ceilings(facts),
        *_agreement(facts),
        *_copies(target),
        *_values(target, facts),
        *_conditions(target, names),
    ):
        yield Suspicion(kind, f"{where}: {text}", facts.name)


def suspect_equal_regions(targets: Mapping[str, Target]) -> Iterator[Suspicion]:
    """Yield a suspicion for regions that have the same RDMs."""
    by_content: dict[str, list[str]] = {}
    for region, target in targets.items():
        by_content.setdefault(target.sha256, []).append(region)
    for regions in by_content.values():
        if len(regions) > 1:
            yield Suspicion(
                "duplicates",
                f"the regions {' and '.join(regions)} have the same RDMs; check file and key of each",
                regions[0],
            )


def _subjects(facts: RegionFacts) -> Iterator[tuple[str, str]]:
    if facts.n_subjects == 1:
        yield (
            "one subject",
            "there is one subject, so no noise ceiling, interval or test over subjects can be computed, and a given"
            " ceiling cannot be checked; check that the array is not an average over subjects",
        )
    elif facts.n_subjects < _FEW:
        yield (
            "few subjects",
            f"there are {facts.n_subjects} subjects, too few for an accurate noise ceiling, and sign-flip tests over"
            f" them cannot have p below {0.5**facts.n_subjects:.3g}",
        )


def _ceilings(facts: RegionFacts) -> Iterator[tuple[str, str]]:
    if facts.n_subjects < 2:
        return
    mean = facts.mean_leave_one_out
    bounds = f"noise ceiling {facts.lower:.4f} … {facts.upper:.4f}"
    if mean < _AGREEMENT:
        how = "do not agree" if mean <= 0 else "hardly agree"
        yield (
            "ceiling",
            f"the subjects {how}: their mean correlation with the mean of the others is {mean:.3f} ({bounds}), so that"
            " percentages of the ceiling say little; check that all subjects have the conditions in one order",
        )
    if mean > _COPIES:
        yield (
            "ceiling",
            f"the subjects agree more than brains do: their mean correlation with the mean of the others is {mean:.3f}"
            f" ({bounds}); check that they are not copies, averages or a model",
        )
    computed = facts.upper if facts.bound == "upper" else facts.lower
    if facts.ceiling_source in ("computed", "invalid") or not np.isfinite(computed):
        return
    if computed <= 0 or not 1 / _CEILING <= facts.ceiling / computed <= _CEILING:
        unit = "squared correlation" if facts.squared else "correlation"
        yield (
            "ceiling",
            f"the {facts.ceiling_source} ceiling of {facts.ceiling:.4g} is far from the {facts.bound} bound of"
            f" {computed:.4g} that the subjects have (a {unit}); check its unit, or omit it to have it computed",
        )


def _agreement(facts: RegionFacts) -> Iterator[tuple[str, str]]:
    values = np.array(facts.leave_one_out)
    known = np.isfinite(values)
    if known.sum() < 2:
        return
    median = float(np.median(values[known]))
    opposite = known & (values < -_OPPOSITE) & (-values >= median / 2)
    weak = known & ~opposite & (median >= _AGREEMENT) & (values < _ODD * median)
    for kind, chosen, text in (
        (
            "opposite",
            opposite,
            "negative correlation with the mean of the others: {}; check whether these are similarities instead of"
            " dissimilarities, or have their conditions in another order",
        ),
        (
            "odd subject",
            weak,
            f"much lower correlation with the mean of the others than the median of {median:.3f}: {{}}; check their"
            " data and the order of their conditions",
        ),
    ):
        if chosen.any():
            who = [f"{facts.subject(int(i))} ({values[i]:+.3f})" for i in np.flatnonzero(chosen)]
            yield kind, text.format(f"{list_names(who, _NAMED)}, counted from 0")


def _copies(target: Target) -> Iterator[tuple[str, str]]:
    if target.n_subjects < 2:
        return
    rdms = target.subject_rdms
    # Equal ranks are a first condition; a few conditions may have them by chance.
    ranked = np.triu(correlations(target) > 1 - 1e-9, 1)
    pairs = [
        (int(i), int(j))
        for i, j in zip(*np.nonzero(ranked), strict=True)
        if _is_scaled(rdms[i].ravel(), rdms[j].ravel())
    ]
    if pairs:
        texts = [
            f"{i} and {j}{'' if np.array_equal(rdms[i], rdms[j], equal_nan=True) else ' (in other units)'}"
            for i, j in pairs
        ]
        yield (
            "duplicates",
            f"subjects {list_names(texts, _NAMED)}, counted from 0, have the same RDM, which raises the noise ceiling;"
            " remove the copies",
        )


def _is_scaled(first: Floats, second: Floats) -> bool:
    """Whether an RDM is the other in another unit."""
    known = ~np.isnan(first) & ~np.isnan(second)
    with np.errstate(all="ignore"):
        return bool(np.corrcoef(first[known], second[known])[0, 1] > 1 - 1e-9)


def _values(target: Target, facts: RegionFacts) -> Iterator[tuple[str, str]]:
    rdms = target.subject_rdms
    missing = np.isnan(rdms).sum(axis=(1, 2))
    if missing.any():
        size = rdms[0].size
        who = [f"{facts.subject(i)} {n} of {size}" for i, n in enumerate(missing) if n]
        yield (
            "nan",
            f"pairs are NaN: {list_names(who, _NAMED)}; nan_policy = {target.nan_policy!r}"
            " applies to them, check that this is meant",
        )
    negative = [i for i, rdm in enumerate(rdms) if np.nanmin(rdm, initial=0) < 0]
    if negative:
        verb = "has" if len(negative) == 1 else "have"
        yield (
            "similarities",
            f"{len(negative)} of {counted(len(rdms), 'subject')} {verb} negative values (the least is"
            f" {np.nanmin(rdms):.4g}), as crossvalidated distances may and similarities do; if these are similarities"
            " such as correlations r, pass 1 - r",
        )
    if target.n_subjects > 2 and target.protocol.pool == "raw":
        spread = np.nanstd(rdms, axis=(1, 2))
        median = np.median(spread)
        large = np.flatnonzero(spread > _SPREAD * median)
        if median > 0 and len(large):
            who = [f"{facts.subject(int(i))} ({spread[i] / median:.0f} times)" for i in large]
            yield (
                "units",
                f"{list_names(who, _NAMED)}, counted from 0, have values that spread much more than those of the median"
                " subject and dominate the mean RDM of the ceiling; bring all subjects to one unit",
            )


def _conditions(target: Target, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Rows that are equal, or have one value throughout."""
    equal: dict[tuple[int, ...], int] = {}
    constant: dict[int, int] = {}
    empty: dict[int, int] = {}
    n = target.n_conditions
    apart = ~np.eye(n, dtype=bool)
    rdms = target.subject_rdms.reshape(-1, target.n_pairs)
    for rdm in rdms:
        # Adding 0 makes -0 equal to 0.
        matrix = square(rdm) + 0.0
        rows: dict[bytes, list[int]] = {}
        others = matrix[apart].reshape(n, n - 1)
        void = np.isnan(others).all(axis=1)
        for i in np.flatnonzero(void):
            empty[int(i)] = empty.get(int(i), 0) + 1
        for i in np.flatnonzero((others == others[:, :1]).all(axis=1)):
            constant[int(i)] = constant.get(int(i), 0) + 1
        for i in np.flatnonzero(~void):
            rows.setdefault(matrix[i].tobytes(), []).append(int(i))
        for group in rows.values():
            if len(group) > 1:
                equal[tuple(group)] = equal.get(tuple(group), 0) + 1
    label = [f"{name} (row {i})" for i, name in enumerate(names)]
    of = f"of {len(rdms)} RDMs"
    if equal:
        texts = [
            f"{list_names((label[i] for i in group), 4, ' = ')} in {count} {of}"
            for group, count in equal.items()
        ]
        yield (
            "duplicates",
            f"conditions have the same distances to all others and 0 to each other: {list_names(texts, _NAMED, '; ')};"
            " check that no condition is there twice",
        )
    for found, text in (
        (constant, "have one distance to all others, so that they say nothing"),
        (empty, "are NaN throughout"),
    ):
        if found:
            texts = [f"{label[i]} in {count} {of}" for i, count in found.items()]
            yield (
                "constant",
                f"conditions {text}: {list_names(texts, _NAMED, '; ')}; check their data",
            )
