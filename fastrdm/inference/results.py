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
    """Return the versions and kernels in use."""
    kernels = _kernels.kernels()
    versions = {name: importlib.metadata.version(name) for name in ("fastrdm", "numpy", "scipy")}
    return {**versions, "kernels": f"{kernels.name}-{kernels.isa}"}


@dataclasses.dataclass(frozen=True, eq=False)
class InferenceResult(abc.ABC):
    """Base of all results; their fields are plain values and arrays."""

    # Class names under which earlier versions wrote the result.
    former_names: ClassVar[tuple[str, ...]] = ()

    @abc.abstractmethod
    def _columns(self) -> dict[str, Sequence[Any]]:
        """Return the columns of the table."""

    @abc.abstractmethod
    def facts(self) -> str:
        """Return the method and its options, on one line."""

    def rows(self) -> list[dict[str, Any]]:
        """Return a dict for each row of the table."""
        columns = self._columns()
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def _printed(self) -> list[dict[str, Any]]:
        """Return the rows that are printed; by default all."""
        return self.rows()

    def __str__(self) -> str:
        return "\n".join([self.facts(), *_table(self._printed())])

    def to_dataframe(self) -> Any:
        """Return the table, unrounded, as a pandas DataFrame with the other fields in its `attrs`.

        MissingExtraError if pandas is not installed; the extra `table` installs it.
        """
        frame = require("pandas", "table", "to make a DataFrame").DataFrame(self.rows())
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, np.ndarray) and field.name != "names":
                frame.attrs[field.name] = value
        return frame

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, lists and dicts that `from_dict` turns into an equal result; NaN becomes None."""
        values = {f.name: _plain(getattr(self, f.name)) for f in dataclasses.fields(self)}
        return {"kind": type(self).__name__, **values}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the result from the values of `to_dict`.

        ValueError if the values are of another kind of result, or some are missing or unknown.
        """
        values = dict(values)
        if (kind := values.pop("kind", None)) not in (cls.__name__, *cls.former_names):
            raise ValueError(f"these are the values of a {kind}, not of a {cls.__name__}")
        fields = dataclasses.fields(cls)
        # Earlier versions wrote results without the fields that were added later.
        later = {f.name for f in fields if f.metadata.get("later")}
        if wrong := sorted(({f.name for f in fields} ^ values.keys()) - (later - values.keys())):
            raise ValueError(f"missing from a {cls.__name__}, or unknown there: {', '.join(wrong)}")
        return cls(**{name: _restored(value) for name, value in values.items()})

    def to_json(self) -> str:
        """Return `to_dict` as JSON, with all bits of every float."""
        return json.dumps(self.to_dict(), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the result from the text of `to_json`; ValueError as `from_dict`."""
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
    small = 0 < abs(value) < 1e-3
    return f"{value:.1e}" if small else f"{value:.4f}"
