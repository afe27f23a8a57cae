"""Which measures a region of a `study.toml` is scored by."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastrdm._base import list_names
from fastrdm.studies.study import MEASURES

#: Methods of RDMs that are square roots of the squared distances that "cka" needs. Others are squared distances: 1 - r
#: is one of patterns with mean 0 and length 1, but for a factor.
ROOTS = ("euclidean", "mahalanobis")
# Measures of Gram matrices, which responses and RDMs have.
_OF_GRAMS = ("cka", "cka-debiased")


def check_possible(fields: Mapping[str, Any], where: str) -> None:
    """Raise a ValueError if a target's table names a measure that it has no data for."""
    for measure in fields.get("measures", ()):
        if measure not in possible_measures(fields):
            raise ValueError(
                f"{where}measures: {measure!r} needs responses = [...], not RDMs in file"
            )


def check_possible_anywhere(
    measures: Sequence[str], targets: Mapping[str, Mapping[str, Any]], where: str
) -> None:
    """Raise a ValueError if a study names a measure that no target has data for, or a target has data for none."""
    inheriting = {
        region: possible_measures(fields)
        for region, fields in targets.items()
        if "measures" not in fields
    }
    for measure in measures:
        if not any(measure in possible for possible in inheriting.values()):
            raise ValueError(
                f"{where}measures: {measure!r} needs responses = [...], which no target has"
            )
    for region, possible in inheriting.items():
        if not set(measures) & set(possible):
            raise ValueError(
                f"{where}measures = {list(measures)} leaves none for targets.{region}, which can be scored by"
                f" {list_names(possible, 8)}; give it measures of its own"
            )


def possible_measures(fields: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the measures that a target's table has data for."""
    if "responses" in fields:
        return MEASURES
    return ("rsa", *_OF_GRAMS)


def chosen_measures(
    fields: Mapping[str, Any], of_study: Sequence[str] | None, asked: Sequence[str] | None
) -> tuple[str, ...]:
    """Return the measures of a target: those asked, its own, or the study's that it has data for; else "rsa"."""
    possible = possible_measures(fields)
    if asked is None and "measures" in fields:
        return tuple(fields["measures"])
    wanted = asked if asked is not None else of_study or ("rsa",)
    return tuple(measure for measure in wanted if measure in possible)
