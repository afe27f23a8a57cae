"""Responses of a region → a `Target`: RDMs of its subjects, for each time."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import as_floats
from fastrdm.rdm import method_named
from fastrdm.similarity import Target
from fastrdm.studies.response_fields import protocols_of
from fastrdm.studies.response_regions import RegionResponses
from fastrdm.studies.row_values import of_subject, only_array
from fastrdm.studies.study import Report

# Residuals that are the deviations of repeats from their mean.
_OF_REPEATS = "repeats"


def make_response_target(
    found: RegionResponses,
    region: str,
    fields: Mapping[str, Any],
    folder: Path,
    where: str,
    nan_policy: str,
    times: Sequence[float] | None,
    report: Report | None,
) -> Target:
    """Make RDMs of responses as the fields of a target's table say; with `report`, an invalid ceiling is one of 1."""
    options: dict[str, Any] = {
        "method": fields.get("rdm", "correlation"),
        "protocol": protocols_of(fields, f"{where}.")[0],
        "name": region,
        "nan_policy": nan_policy,
        "estimator": fields.get("estimator"),
        "residuals": _residuals(found, fields, folder, where),
    }
    if "folds" in method_named(options["method"]).takes:
        options["folds"] = fields.get("crossvalidate", "repeats")
        if options["folds"] == "sessions":
            options["folds"] = found.sessions_of_all(f"{where}.crossvalidate")
    over_time = {"over_time": fields.get("over_time", "mean"), "times": times}
    try:
        try:
            return _target(found, options, over_time, fields.get("ceiling"))
        except ValueError as error:
            if report is None:
                raise
            report(region, f"{where}: {error}")
        return _target(found, options, over_time, 1.0)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _target(
    found: RegionResponses,
    options: Mapping[str, Any],
    over_time: Mapping[str, Any],
    ceiling: float | None,
) -> Target:
    n_times = found.facts.n_times
    if n_times == 1 and over_time["over_time"] == "mean":
        return Target.from_responses(found.measured, ceiling=ceiling, zscore=False, **options)
    rdms = []
    for time in range(n_times):
        units = [np.arange(time, n, n_times) for n in found.measured.n_units]
        at_time = found.measured.of_units(units)
        rdms.append(
            Target.from_responses(at_time, ceiling=1.0, zscore=False, **options).subject_rdms
        )
    shared = {name: options[name] for name in ("protocol", "name", "nan_policy")}
    return Target(np.concatenate(rdms, axis=1), ceiling=ceiling, **shared, **over_time)


def _residuals(
    found: RegionResponses, fields: Mapping[str, Any], folder: Path, where: str
) -> str | list[NDArray[Any]] | None:
    """Return the residuals of each subject, of the units that its mask keeps."""
    given: str | Sequence[str] | None = fields.get("residuals")
    if given is None or given == _OF_REPEATS:
        return given if given is None else _OF_REPEATS
    if found.facts.n_times > 1:
        raise ValueError(
            f"{where}.residuals: responses with {found.facts.n_times} times take residuals of repeats alone:"
            ' residuals = "repeats"'
        )
    residuals = []
    for i, kept in enumerate(found.kept):
        file = of_subject(given, i, len(found.kept), f"{where}.residuals")
        name = f"{where}.residuals = {file!r}"
        if not (folder / file).is_file():
            raise FileNotFoundError(f'{name} is neither a file beside it nor "repeats"')
        array = as_floats(only_array(folder / file, name), name)
        n_units = found.measured.n_units[i] + found.facts.n_masked[i]
        if array.ndim != 2 or array.shape[1] != n_units:
            raise ValueError(
                f"{name} has shape {array.shape}; expected (observations, {n_units}), a column for each unit"
            )
        residuals.append(array if kept is None else array[:, kept])
    return residuals
