"""The fields of a target of responses in a `study.toml`, and what their values may be."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fastrdm._base import check_choice, check_integer
from fastrdm.encoding import ENCODING_PROTOCOLS
from fastrdm.rdm import method_named
from fastrdm.similarity import OVER_TIME, PROTOCOLS, check_times
from fastrdm.studies.response_files import check_response_axes
from fastrdm.studies.study import MEASURES

#: Fields, and the types of their values in TOML.
RESPONSE_FIELDS: Mapping[str, type | tuple[type, ...]] = {
    "responses": (str, list),
    "key": (str, list),
    "axes": list,
    "labels": (str, list),
    "stimulus": str,
    "subject": str,
    "repeats": (str, list),
    "sessions": (str, list),
    "zscore": bool,
    "masks": (str, list),
    "mask": (str, list),
    "rdm": str,
    "residuals": (str, list),
    "estimator": str,
    "crossvalidate": str,
    "measures": list,
    "protocol": (str, list),
    "ceiling": (int, float),
    "nan_policy": str,
    "over_time": str,
    "times": (list, str),
    "folds": (int, str),
    "groups": str,
    "strata": str,
    "seed": int,
    "alphas": list,
    "n_components": int,
}
#: Fields that are files, or may be.
_PATHS = ("responses", "labels", "repeats", "sessions", "masks", "mask", "residuals")
_TEXTS = ("key", "axes", "measures", "protocol", "subject", *_PATHS)
#: Arguments of `Responses.score`.
SCORE_OPTIONS = ("folds", "groups", "strata", "seed", "alphas", "n_components")


def paths_of(fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the name of a field and a path, for all fields that may be files."""
    for name in _PATHS:
        values = fields.get(name, ())
        for value in [values] if isinstance(values, str) else values:
            yield name, value


def check_measures(measures: Sequence[Any], where: str) -> None:
    """Refuse measures that are unknown or repeated, and an empty list."""
    if not measures:
        raise ValueError(f"{where}measures is an empty list; choose among {', '.join(MEASURES)}")
    for name in measures:
        check_choice(name, MEASURES, f"{where}measures: the measure")
        if list(measures).count(name) > 1:
            raise ValueError(f"{where}measures = {list(measures)} names {name!r} twice")


def check_method(method: str, where: str) -> None:
    """Refuse an unknown method of RDMs."""
    try:
        method_named(method)
    except ValueError as error:
        raise ValueError(f"{where}rdm: {error}") from None


def protocols_of(fields: Mapping[str, Any], where: str) -> tuple[str, str | None]:
    """Return the names of the protocol of RDMs, and of that of encoding models, None without one."""
    given = fields.get("protocol", ())
    names = [given] if isinstance(given, str) else list(given)
    for name in names:
        check_choice(name, (*PROTOCOLS, *ENCODING_PROTOCOLS), f"{where}protocol")
    of_rdms = [name for name in names if name in PROTOCOLS]
    of_encoding = [name for name in names if name in ENCODING_PROTOCOLS]
    if len(of_rdms) > 1 or len(of_encoding) > 1:
        raise ValueError(
            f"{where}protocol = {names} names two of one kind; RDMs have one of {', '.join(PROTOCOLS)}, and encoding"
            f" models one of {', '.join(ENCODING_PROTOCOLS)}"
        )
    return (of_rdms or ["algonauts2019"])[0], (of_encoding or [None])[0]


def check_responses(fields: Mapping[str, Any], where: str) -> None:
    """Check the values of the fields of responses; `where` precedes their names in errors."""
    for name in _TEXTS:
        values = fields.get(name)
        if isinstance(values, list) and not all(isinstance(value, str) for value in values):
            raise ValueError(f"{where}{name} = {values!r} is not a list of text")
        if values in ([], ""):
            raise ValueError(f"{where}{name} is empty")
    check_response_axes(fields.get("axes", ()), where)
    if "measures" in fields:
        check_measures(fields["measures"], where)
    check_method(fields.get("rdm", "correlation"), where)
    check_choice(
        fields.get("crossvalidate", "repeats"), ("repeats", "sessions"), f"{where}crossvalidate"
    )
    protocols_of(fields, where)
    check_choice(fields.get("over_time", "mean"), OVER_TIME, f"{where}over_time")
    if isinstance(times := fields.get("times"), list):
        check_times(times, len(times), where.rstrip("."))
    if isinstance(fields.get("folds"), int):
        check_integer(fields["folds"], f"{where}folds", 2)
    if "masks" in fields and "mask" in fields:
        raise ValueError(f"{where}masks and {where}mask are the same field; use one of them")
    if "groups" in fields and "strata" in fields:
        raise ValueError(f"{where}groups and {where}strata cannot be used together")
    if "seed" in fields:
        check_integer(fields["seed"], f"{where}seed", 0)
    if "n_components" in fields:
        check_integer(fields["n_components"], f"{where}n_components", 1)
    if "alphas" in fields:
        _check_alphas(fields["alphas"], where)


def _check_alphas(alphas: Sequence[Any], where: str) -> None:
    valid = [
        isinstance(a, int | float) and not isinstance(a, bool) and 0 < a < float("inf")
        for a in alphas
    ]
    if not valid or not all(valid):
        raise ValueError(f"{where}alphas = {list(alphas)!r} must be a list of positive numbers")
