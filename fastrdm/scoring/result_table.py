"""A store's results as a table for reading: filtered, with the best layers, sorted, with sign flips."""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from fastrdm._base import list_names, natural_key, nearest_known
from fastrdm.scoring import store_values as values
from fastrdm.scoring.database import Database
from fastrdm.scoring.held_out import HeldOutScore, held_out_layers
from fastrdm.scoring.results import COLUMNS, Result, best_layers, layer_scores, modalities
from fastrdm.scoring.store_columns import SCORE, TIME, table_columns
from fastrdm.scoring.store_rows import PathEntry, Row, RowOptions, RowReader
from fastrdm.scoring.table_filters import Condition, known_names, read_condition


class ResultTable:
    """The results of a store as a table.

    Parameters
    ----------
    store : Store
    regions, sets, measures : str or sequence of str, optional
        Only these regions, studies and measures, in any case; by default all.
    layers : str or sequence of str, optional
        Only layers that match one of these patterns, as for taps: ``*`` stands for any characters but dots.
    where : str or sequence of str
        Conditions COLUMN OP VALUE that rows must meet: ``= != < <= > >=``, and ``~`` with a regular expression for
        text. An empty value means a missing label.
    best : bool
        Only the best layer of each checkpoint by each measure, as `best_layers` chooses it among the regions, sets and
        layers chosen, with its score in the column `score`. `held_out_layer` is the layer that the other studies choose
        for a region, `held_out` its percentage of the noise ceiling in the row's study; empty and NaN if no other study
        has the region. Conditions apply afterwards.
    sort : str, optional
        Column to sort by, numbers as numbers, names in natural order, missing values last; by default the order of
        `Store.rows`.
    descending : bool
        Whether to sort from high to low.
    subjects, history : bool
        As for `Store.rows`.
    sign_flips : bool
        Whether to add `p_sign_flip` and `p_corrected`, one-sided tests over subjects, corrected over all layers,
        regions and studies that the store has of a checkpoint, whatever is shown.

    Raises
    ------
    ValueError
        If a region, study, measure or column does not exist, or a condition is not valid; while rows are read, if a
        pattern of layers matches no layer.
    """

    def __init__(
        self,
        store: Database,
        *,
        regions: str | Sequence[str] | None = None,
        sets: str | Sequence[str] | None = None,
        measures: str | Sequence[str] | None = None,
        layers: str | Sequence[str] | None = None,
        where: str | Sequence[str] = (),
        best: bool = False,
        sort: str | None = None,
        descending: bool = False,
        subjects: bool = False,
        history: bool = False,
        sign_flips: bool = True,
    ) -> None:
        if best and subjects:
            raise ValueError(
                "best and subjects exclude each other; a best layer is one for all subjects"
            )
        self._reader = RowReader(store, RowOptions(subjects, history, sign_flips))
        self.columns = table_columns(
            self._reader.labels,
            subjects=subjects,
            history=history,
            sign_flips=sign_flips,
            score=best,
            times=self._reader.has_times,
        )
        self._best, self._sort, self._descending = best, sort, descending
        self._places = {name: i for i, name in enumerate(self.columns)}
        # In rows of the reader, which have no columns of the score.
        self._read_places = {name: i for i, name in enumerate(self._reader.columns)}
        self._filters = {
            "region": _chosen(store, _listed(regions), "region"),
            "study": _chosen(store, _listed(sets), "study"),
            "measure": _chosen(store, _listed(measures), "measure"),
        }
        self._layers = _LayerFilter(_listed(layers))
        conditions = [read_condition(text, self.columns) for text in _listed(where) or ()]
        # Those on a checkpoint's first columns, before its results are read.
        n_first = self._places["study"]
        self._of_entry = [each for each in conditions if self._places[each.column] < n_first]
        self._of_row = [each for each in conditions if self._places[each.column] >= n_first]
        if sort is not None and sort not in self.columns:
            raise ValueError(
                f"there is no column {sort!r} to sort by; {nearest_known(sort, self.columns)}"
            )

    @property
    def labels(self) -> list[str]:
        """Names of the columns of labels."""
        return [label.column for label in self._reader.labels]

    def rows(self) -> Iterator[Row]:
        """Yield the rows."""
        if self._sort is None:
            yield from self._unsorted()
            return
        place, numeric = self._places[self._sort], self.columns[self._sort] is not str
        rows = list(self._unsorted())
        known = [row for row in rows if not _is_missing(row[place])]
        missing = [row for row in rows if _is_missing(row[place])]

        def key(row: Row) -> Any:
            return row[place] if numeric else natural_key(row[place])

        yield from sorted(known, key=key, reverse=self._descending)
        yield from missing

    def _unsorted(self) -> Iterator[Row]:
        self._layers.begin()
        for entry in self._reader.entries():
            if self._of_entry and not _meets(
                self._reader.head(entry), self._of_entry, self._places
            ):
                continue
            yield from self._rows_of(entry)
        self._layers.end()

    def _rows_of(self, entry: PathEntry) -> list[Row]:
        rows = self._reader.rows(entry)
        layer = self._places["layer"]
        for name, wanted in self._filters.items():
            if wanted is not None:
                rows = [row for row in rows if row[self._read_places[name]] in wanted]
        rows = [row for row in rows if self._layers.takes(row[layer])]
        if self._best:
            rows = self._best_rows(rows)
        if self._of_row:
            rows = [row for row in rows if _meets(row, self._of_row, self._places)]
        return rows

    def _best_rows(self, rows: Sequence[Row]) -> list[Row]:
        """The rows of the best layer of each modality by each measure, at each time point, with its score."""
        results = [self._result(row) for row in rows]
        place, modality_of = self._places[SCORE], modalities(results)
        groups: dict[tuple[str, float | None], list[Result]] = {}
        for result in results:
            groups.setdefault((result.measure, result.time), []).append(result)
        best = {key: best_layers(group) for key, group in groups.items()}
        scores = {key: layer_scores(group) for key, group in groups.items()}
        held_out = {key: _held_out(group) for key, group in groups.items()}
        kept = []
        for row, result in zip(rows, results, strict=True):
            modality = modality_of[result.study, result.region]
            key = result.measure, result.time
            if best[key].get(modality) == result.layer:
                other = held_out[key].get((result.study, result.region))
                more = (other.layer, other.percent_nc) if other else ("", math.nan)
                kept.append(
                    (*row[:place], scores[key][modality][result.layer], *more, *row[place:])
                )
        return kept

    def _result(self, row: Row) -> Result:
        at = self._read_places
        # Studies of one name with another protocol are others.
        study = json.dumps([row[at["study"]], row[at["protocol"]]])
        numbers = {name: row[at[name]] for name in (*COLUMNS, "ceiling", "mean_rho")}
        place = (row[at["checkpoint"]], study, row[at["layer"]], row[at["region"]])
        time = row[at[TIME]] if TIME in at else math.nan
        own_time = None if math.isnan(time) else time
        return Result(*place, **numbers, measure=row[at["measure"]], time=own_time)


def _held_out(results: Sequence[Result]) -> dict[tuple[str, str], HeldOutScore]:
    """What other studies choose for each study and region; a study under another protocol is not another study."""
    by_protocol: dict[str, list[Result]] = {}
    for result in results:
        by_protocol.setdefault(json.loads(result.study)[1], []).append(result)
    return {
        (each.judged_on, each.region): each
        for some in by_protocol.values()
        for each in held_out_layers(some)
        if each.region
    }


class _LayerFilter:
    """Patterns of layers, and whether each has matched one."""

    def __init__(self, patterns: Sequence[str] | None) -> None:
        self._compiled: dict[str, Any] = {}
        if patterns is not None:
            from fastrdm.networks import compile_pattern

            self._compiled = {text: compile_pattern(text, "module") for text in patterns}
        self.begin()

    def begin(self) -> None:
        """Forget what was seen."""
        self._verdicts: dict[str, bool] = {}
        self._matched: set[str] = set()

    def takes(self, layer: str) -> bool:
        """Whether a layer matches, or there is no pattern."""
        if not self._compiled:
            return True
        if layer not in self._verdicts:
            matched = {
                text
                for text, each in self._compiled.items()
                if text == layer or each.fullmatch(layer)
            }
            self._matched |= matched
            self._verdicts[layer] = bool(matched)
        return self._verdicts[layer]

    def end(self) -> None:
        """Raise ValueError for a pattern that matched none of the layers that were seen."""
        if not self._verdicts:
            return
        for text in self._compiled:
            if text not in self._matched:
                raise ValueError(
                    f"no layer matches {text!r}; layers are {list_names(self._verdicts, 6)}"
                )


def _listed(names: str | Sequence[str] | None) -> Sequence[str] | None:
    return [names] if isinstance(names, str) else names


def _chosen(store: Database, names: Sequence[str] | None, column: str) -> set[str] | None:
    if names is None:
        return None
    found = store.query(f"SELECT DISTINCT {column} FROM targets ORDER BY 1")
    with store.reading():
        known = [values.text(name, f"{column} of a target") for (name,) in found]
    return known_names(names, known, column)


def _meets(row: Row, conditions: Iterable[Condition], places: dict[str, int]) -> bool:
    return all(condition.test(row[places[condition.column]]) for condition in conditions)


def _is_missing(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))
