"""A table of results over time with a column for each time point."""

import math
from collections.abc import Iterator
from typing import Any

from fastrdm._base import nearest_known
from fastrdm.scoring.result_table import ResultTable
from fastrdm.scoring.store_columns import SETTINGS, TIME


class TimePivot:
    """The results of time points of a `ResultTable`, a row for each layer and region, a column for each time point.

    Parameters
    ----------
    table : ResultTable
        Its results without a time are left out. All others are kept in memory.
    value : str
        The column that the cells show: a number such as ``"percent_nc"``, or ``"layer"`` in a table of best layers.

    Raises
    ------
    ValueError
        If there are no results of time points, the column is not one of these, or the table has rows of subjects.
    """

    def __init__(self, table: ResultTable, value: str = "percent_nc") -> None:
        names = list(table.columns)
        if TIME not in names:
            raise ValueError("no time point has results of its own; score with --over-time each")
        if "subject" in names:
            raise ValueError(
                "a column for each time point has no room for subjects; leave out --subjects"
            )
        is_best = "score" in names
        numbers = names[names.index(TIME) + 1 : names.index(SETTINGS[0])]
        possible = [*numbers, *(["layer"] if is_best else [])]
        if value not in possible:
            raise ValueError(f"no time point has a {value!r}; {nearest_known(value, possible)}")
        # What tells rows apart, before and after the numbers.
        kept = [name for name in names if name not in (TIME, *numbers)]
        if is_best:
            kept.remove("layer")
        at = {name: i for i, name in enumerate(names)}
        self._cells: dict[tuple[Any, ...], dict[float, Any]] = {}
        for row in table.rows():
            if not math.isnan(row[at[TIME]]):
                key = tuple(row[at[name]] for name in kept)
                self._cells.setdefault(key, {})[row[at[TIME]]] = row[at[value]]
        self._times = sorted({time for cells in self._cells.values() for time in cells})
        self._n_first = kept.index("region") + 1
        kind = table.columns[value]
        self._missing = "" if kind is str else math.nan
        self.labels, self.time_columns = table.labels, [f"{time:g}" for time in self._times]
        if len(set(self.time_columns)) < len(self._times):
            self.time_columns = [repr(time) for time in self._times]
        self.columns: dict[str, type] = {
            **{name: table.columns[name] for name in kept[: self._n_first]},
            **dict.fromkeys(self.time_columns, kind),
            **{name: table.columns[name] for name in kept[self._n_first :]},
        }

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """Yield the rows."""
        for key, cells in self._cells.items():
            values = (cells.get(time, self._missing) for time in self._times)
            yield (*key[: self._n_first], *values, *key[self._n_first :])
