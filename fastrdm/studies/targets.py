"""A target's table in a `study.toml`: its fields are checked, and its file becomes a `Target`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastrdm._base import check_choice, square
from fastrdm.similarity import OVER_TIME, PROTOCOLS, Target, check_times
from fastrdm.studies.rdm_files import StoredRdms, read_stored
from fastrdm.studies.rdm_values import check_axes
from fastrdm.studies.response_fields import check_measures, check_method

#: Fields, and the types of their values in TOML.
TARGET_FIELDS: Mapping[str, type | tuple[type, ...]] = {
    "file": str,
    "key": (str, list),
    "axes": list,
    "names": (str, list),
    "labels": str,
    "protocol": str,
    "ceiling": (int, float),
    "nan_policy": str,
    "over_time": str,
    "times": (list, str),
    "rdm": str,
    "measures": list,
}


def check_target(fields: Mapping[str, Any], where: str) -> None:
    """Check the values of a target's fields; `where` precedes their names in errors."""
    check_choice(fields.get("protocol", "algonauts2019"), PROTOCOLS, f"{where}protocol")
    if "measures" in fields:
        check_measures(fields["measures"], where)
    if "rdm" in fields:
        check_method(fields["rdm"], where)
    for name in ("key", "axes", "names"):
        values = fields.get(name)
        if isinstance(values, list) and not all(isinstance(value, str) for value in values):
            raise ValueError(f"{where}{name} = {values!r} is not a list of text")
        if values == []:
            raise ValueError(f"{where}{name} is an empty list")
    check_axes(fields.get("axes", ()), where)
    check_choice(fields.get("over_time", "mean"), OVER_TIME, f"{where}over_time")
    if isinstance(times := fields.get("times"), list):
        check_times(times, len(times), where.rstrip("."))


def stored_rdms(
    fields: Mapping[str, Any], folder: Path, where: str, nan_policy: str, n_conditions: int | None
) -> StoredRdms:
    """Read the RDMs of a target; the number of conditions may be unknown."""
    file = folder / fields["file"]
    if not file.is_file():
        raise FileNotFoundError(f"{where}.file = {fields['file']!r} is not a file beside it")
    return read_stored(
        file,
        fields.get("key"),
        fields.get("axes", ()),
        fields.get("names"),
        fields.get("labels"),
        times if isinstance(times := fields.get("times"), str) else None,
        n_conditions=n_conditions,
        nan_policy=nan_policy,
        where=f"{where}.",
    )


def make_target(
    stored: StoredRdms, region: str, fields: Mapping[str, Any], where: str, nan_policy: str
) -> Target:
    """Prepare the RDMs of a target."""
    protocol = fields.get("protocol", "algonauts2019")
    rdms = stored.rdms
    if rdms.ndim == 2 and rdms.shape[0] == rdms.shape[1]:
        # (n, n) would be refused as a possible square RDM.
        rdms = rdms[:, None]
    if rdms.shape[-2] == rdms.shape[-1]:
        # (subjects, n, n) would be read as square RDMs.
        rdms = square(rdms)
    times = fields.get("times")
    try:
        return Target(
            rdms,
            protocol,
            fields.get("ceiling"),
            region,
            nan_policy=nan_policy,
            over_time=fields.get("over_time", "mean"),
            times=times if isinstance(times, list) else stored.times,
        )
    except ValueError as error:
        # The argument's name means nothing in a study.toml.
        text = str(error).replace(f"subject_rdms of {region}", stored.source)
        raise ValueError(f"{where}: {text}") from error
