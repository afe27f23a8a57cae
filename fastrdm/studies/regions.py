"""The regions to score against, chosen by name."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fastrdm._base import nearest, warn_caller
from fastrdm.studies.challenge import REGIONS
from fastrdm.studies.study import Study


def with_regions(
    studies: Sequence[Study], regions: Iterable[str] | None, *, named: bool = False
) -> list[Study]:
    """Return studies with these regions only, in this order; all of them for None.

    Case does not matter where a name is not exact. A study without any of the regions is left out with a warning; if
    the studies are `named`, this is an error, and so is a region that no study has.
    """
    if regions is None:
        return list(studies)
    wanted = list(dict.fromkeys(regions))
    if isinstance(regions, str) or not wanted or not all(isinstance(each, str) for each in wanted):
        raise ValueError(f"regions must be a list of names, such as ['it'], not {regions!r}")
    for region in wanted:
        if not any(_find(region, study) for study in studies):
            raise ValueError(_unknown(region, studies))
    chosen = []
    for study in studies:
        names = list(dict.fromkeys(filter(None, (_find(region, study) for region in wanted))))
        if names:
            chosen.append(only(study, names))
            continue
        missing, present = (list(map(repr, each)) for each in (wanted, study.regions))
        problem = f"the study {study.name!r} has no region {' or '.join(missing)}, only {', '.join(present)}"
        if named:
            raise ValueError(problem)
        warn_caller(f"{problem}; the study is left out")
    return chosen


def only(study: Study, regions: Sequence[str]) -> Study:
    """Return a study with these of its regions, in this order."""
    fields = ("targets", "responses", "grams", "measures", "options", "facts", "conventions")
    kept: dict[str, Any] = {field: _named(getattr(study, field), regions) for field in fields}
    return replace(study, **kept)


def _named(values: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: values[name] for name in names if name in values}


def _find(region: str, study: Study) -> str | None:
    """The name of a region in a study."""
    if region in study.regions:
        return region
    similar = [name for name in study.regions if name.casefold() == region.casefold()]
    return similar[0] if len(similar) == 1 else None


def _unknown(region: str, studies: Sequence[Study]) -> str:
    present = list(dict.fromkeys(name for study in studies for name in study.regions))
    names = ", ".join(study.name for study in studies)
    problem = f"no region {region!r} in {names}; present: {', '.join(present)}"
    modality = next((m for m, known in REGIONS.items() if region.casefold() in known), "")
    if modality and any(name in known for known in REGIONS.values() for name in present):
        return f"{problem}; the challenge's {region} needs the modality {modality}"
    return f"{problem}; the nearest is {nearest(region, present, 1)}"
