"""Results that print as a table, become a DataFrame, and go to JSON and back."""

import abc
import dataclasses
import importlib.metadata
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np

from fastrdm import _kernels
from fastrdm._base import require


def made_by() -> dict[str, str]:
    """Versions and kernels that a result is made by."""
    kernels = _kernels.kernels()
    versions = {name: importlib.metadata.version(name) for name in ("fastrdm", "numpy", "scipy")}
    return {**versions, "kernels": f"{kernels.name}-{kernels.isa}"}


@dataclasses.dataclass(frozen=True, eq=False)
class InferenceResult(abc.ABC):
    """Base of all results; their fields are plain values and arrays."""

    # Class names under which earlier versions wrote the result.
    former_names: ClassVar[tuple[str, ...]] = ()

    @abc.abstractmethod
    def rows(self) -> list[dict[str, Any]]:
        """The table, a dict a row."""

    @abc.abstractmethod
    def facts(self) -> str:
        """What was done, in one line."""

    def __str__(self) -> str:
        return "\n".join([self.facts(), *_table(self.rows())])

    def to_dataframe(self) -> Any:
        """The table as a DataFrame, with the other facts in its `attrs`.

        Returns
        -------
        pandas.DataFrame
            A row for each row of the printed table, unrounded.

        Raises
        ------
        MissingExtraError
            If pandas is not installed; the extra `table` installs it.
        """
        frame = require("pandas", "table", "to make a DataFrame").DataFrame(self.rows())
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, np.ndarray) and field.name != "names":
                frame.attrs[field.name] = value
        return frame

    def to_dict(self) -> dict[str, Any]:
        """Plain values, lists and dicts, from which `from_dict` makes an equal result; NaN is None."""
        values = {f.name: _plain(getattr(self, f.name)) for f in dataclasses.fields(self)}
        return {"kind": type(self).__name__, **values}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The result that `to_dict` was called of.

        Raises
        ------
        ValueError
            If the values are of another kind of result, or some are missing or unknown.
        """
        values = dict(values)
        if (kind := values.pop("kind", None)) not in (cls.__name__, *cls.former_names):
            raise ValueError(f"these are the values of a {kind}, not of a {cls.__name__}")
        fields = dataclasses.fields(cls)
        # Results of before a field was added lack it.
        later = {f.name for f in fields if f.metadata.get("later")}
        if wrong := sorted(({f.name for f in fields} ^ values.keys()) - (later - values.keys())):
            raise ValueError(f"a {cls.__name__} lacks or has not: {', '.join(wrong)}")
        return cls(**{name: _restored(value) for name, value in values.items()})

    def to_json(self) -> str:
        """`to_dict` as JSON, every float to its last bit."""
        return json.dumps(self.to_dict(), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The result that `to_json` was called of; ValueError as `from_dict`."""
        return cls.from_dict(json.loads(text))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        flat = [_plain(item) for item in value.ravel().tolist()]
        return {"dtype": value.dtype.name, "shape": list(value.shape), "values": flat}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value


def _restored(value: Any) -> Any:
    if isinstance(value, Mapping) and value.keys() == {"dtype", "shape", "values"}:
        numbers = [math.nan if item is None else float(item) for item in value["values"]]
        return np.array(numbers).astype(value["dtype"]).reshape(value["shape"])
    return tuple(value) if isinstance(value, list) else value


def _table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    if not rows:
        return []
    lines = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]


def _cell(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return (
        "nan"
        if math.isnan(value)
        else f"{value:.4f}"
        if abs(value) >= 1e-3 or value == 0
        else f"{value:.1e}"
    )
