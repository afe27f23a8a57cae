"""What the layers of a store were scored against, for a report, and the results that belong to each."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastrdm._base import natural_key, printable
from fastrdm.report.study_rdms import StudyRdms
from fastrdm.scoring import MEASURES, StoredResult


@dataclass(frozen=True)
class ScorePlaces:
    """The regions of studies under their measures that have results, in the order of tables.

    `numbers` has the number of the place of each result: by study, region, measure, protocol, number of subjects, time
    and ceiling, which tell all targets of a store apart.
    """

    targets: Sequence[Mapping[str, Any]]
    numbers: Mapping[tuple[Any, ...], int]
    squared: Sequence[bool]

    @classmethod
    def of(
        cls, targets: Iterable[Mapping[str, Any]], results: Iterable[StoredResult]
    ) -> "ScorePlaces":
        """Match the targets of a store to results; ValueError if one has no target."""
        found = {key: target for target in targets for key in _keys(target)}
        first: dict[str, StoredResult] = {}
        for r in results:
            key = _key(r)
            if key not in found:
                raise ValueError(
                    f"results of {printable(r.region)} of the study {printable(r.study)!r} have {len(r.rho)} subjects"
                    " or a ceiling that no target in the store has; fastrdm table STORE --check shows what is wrong"
                )
            first.setdefault(found[key]["key"], r)
        used = sorted(
            {t["key"]: t for t in found.values() if t["key"] in first}.values(), key=_order
        )
        squared = [
            bool(t["squared"]) if t["squared"] is not None else _equals_r2(first[t["key"]])
            for t in used
        ]
        return cls(used, {k: i for i, t in enumerate(used) for k in _keys(t)}, squared)

    def place(self, result: StoredResult) -> tuple[int, int]:
        """The numbers of a result's place, and of its time point there, 0 without any."""
        number = self.numbers[_key(result)]
        if result.time is None:
            return number, 0
        return number, list(self.targets[number]["ceilings"]).index(result.time)

    def facts(self, brains: StudyRdms) -> list[dict[str, Any]]:
        """What a report says of each place; noise ceilings are those of the studies that were found."""
        names = _names(self.targets)
        facts = []
        for target, name, squared in zip(self.targets, names, self.squared, strict=True):
            ceilings = target["ceilings"]
            bounds = brains.bounds(target)
            facts.append(
                {
                    "name": name,
                    "study": printable(target["study"]),
                    "region": printable(target["region"]),
                    "measure": target["measure"],
                    "symbol": MEASURES[target["measure"]].symbol,
                    "protocol": printable(target["protocol"]),
                    "n_subjects": target["n_subjects"],
                    "squared": squared,
                    "ceiling": target["ceiling"],
                    "lower": bounds and bounds[0],
                    "upper": bounds and bounds[1],
                    "times": [_rounded(time) for time in ceilings] or None,
                    "ceilings": [None if math.isnan(c) else c for c in ceilings.values()] or None,
                }
            )
        return facts


def _order(target: Mapping[str, Any]) -> tuple[Any, ...]:
    names = natural_key(target["study"]), natural_key(target["region"])
    return (*names, list(MEASURES).index(target["measure"]), target["key"])


def _keys(target: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    place = (*(target[name] for name in ("study", "region", "measure", "protocol", "n_subjects")),)
    ceilings = target["ceilings"] or {None: target["ceiling"]}
    return [(*place, time, _hashable(ceiling)) for time, ceiling in ceilings.items()]


def _key(r: StoredResult) -> tuple[Any, ...]:
    place = (r.study, r.region, r.measure, r.protocol, len(r.rho))
    return (*place, r.time, _hashable(r.ceiling))


def _hashable(ceiling: float) -> float | None:
    """A ceiling, or None for NaN, which differs from itself."""
    return None if math.isnan(ceiling) else ceiling


def _equals_r2(result: StoredResult) -> bool:
    return bool(np.array_equal(result.value, result.r2, equal_nan=True))


def _names(targets: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of places within their measures: the region, and what else tells them apart."""
    n_studies = len({target["study"] for target in targets})
    names = []
    for target in targets:
        region = printable(target["region"].upper())
        names.append(f"{printable(target['study'])} {region}" if n_studies > 1 else region)
    repeated = Counter((n, t["measure"]) for n, t in zip(names, targets, strict=True))
    return [
        f"{name} ({printable(t['protocol'])}, {t['key'][:6]})"
        if repeated[name, t["measure"]] > 1
        else name
        for name, t in zip(names, targets, strict=True)
    ]


def _rounded(time: float) -> float | int:
    """A time as JavaScript shows it, without digits that no one measured."""
    short = float(f"{time:.6g}")
    return int(short) if short.is_integer() else short
