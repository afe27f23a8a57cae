"""The rows of a store: for each path, the results of the content that it held last."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import natural_key
from fastrdm.scoring import store_values as values
from fastrdm.scoring.database import Database
from fastrdm.scoring.results import COLUMNS, RSA
from fastrdm.scoring.store_columns import (
    HELD,
    SETTINGS,
    TAKEN,
    LabelColumn,
    label_columns,
    preprocessing_text,
    protocol_text,
    table_columns,
)
from fastrdm.scoring.time_axis import TimeAxis

Row = tuple[Any, ...]


@dataclass(frozen=True)
class RowOptions:
    """Which rows there are, and with which columns: a row for each subject; contents that no path holds; sign flips.

    `pipelines` and `targets` are the only ones; with them, rows are of the weights that each file held last. With
    `similarities`, a row has two values more than columns: an array of each subject's similarity, and whether the
    protocol squares them.
    """

    subjects: bool = False
    history: bool = False
    sign_flips: bool = False
    pipelines: Collection[int] | None = None
    targets: Collection[int] | None = None
    similarities: bool = False


class PathEntry(NamedTuple):
    """A content of a path under a pipeline."""

    path: str
    method: int
    checkpoint: int
    is_current: int


class LayerResult(NamedTuple):
    """A row of the table `results`; `time` is NaN for results without one."""

    target: int
    layer: str
    numbers: Sequence[float]
    rho: NDArray[np.float64]
    time: float


class RowReader:
    """Reads the rows of a store's paths, one path after the other."""

    def __init__(self, database: Database, options: RowOptions) -> None:
        self._db, self._options = database, options
        self._cache: dict[tuple[str, int], dict[str, Any]] = {}

    @cached_property
    def labels(self) -> list[LabelColumn]:
        """The columns of labels."""
        condition = "" if self._options.history else "WHERE e.is_current"
        found = self._db.query(
            f"SELECT DISTINCT l.labels FROM entries e JOIN labels l ON l.path = e.path {condition}"
        )
        with self._db.reading():
            # Not read by SQLite, because a label may have bytes that are not UTF-8.
            return label_columns(
                pair for (labels,) in found for pair in values.texts(labels, "labels").items()
            )

    @cached_property
    def columns(self) -> dict[str, type]:
        """Names and types of the columns."""
        options = self._options
        return table_columns(
            self.labels,
            subjects=options.subjects,
            history=options.history,
            sign_flips=options.sign_flips,
            times=self.has_times,
        )

    @cached_property
    def has_times(self) -> bool:
        """Whether time points of a target have results of their own."""
        with self._db.reading():
            found = self._db.query("SELECT protocol FROM targets")
            return any(
                TimeAxis.from_facts(values.facts(protocol, "protocol of a target"))
                for (protocol,) in found
            )

    def entries(self) -> list[PathEntry]:
        """The contents of paths, in natural order of the paths; earlier contents in order of time."""
        conditions = [] if self._options.history else ["e.is_current"]
        if self._options.pipelines is not None:
            numbers = ", ".join(map(str, self._options.pipelines))
            conditions += [
                f"e.method IN ({numbers})",
                "EXISTS (SELECT 1 FROM files f WHERE f.path = e.path AND f.sha256 ="
                " (SELECT sha256 FROM checkpoints c WHERE c.id = e.checkpoint))",
            ]
        found = self._db.query(
            "SELECT e.path, e.method, e.checkpoint, e.is_current FROM entries e JOIN methods m ON m.id = e.method"
            f" {'WHERE ' if conditions else ''}{' AND '.join(conditions)} ORDER BY m.key, e.is_current, e.at"
        )
        with self._db.reading():
            entries = [PathEntry(values.path(path), *row) for path, *row in found]
        entries.sort(key=lambda entry: natural_key(entry.path))
        return entries

    def head(self, entry: PathEntry) -> Row:
        """The columns before the results: path, architecture, labels."""
        found = self._db.query(
            "SELECT labels FROM labels WHERE path = ?", values.stored(entry.path)
        )
        with self._db.reading():
            labels = values.texts(found[0][0], f"labels of {entry.path}") if found else {}
            arch = self._fact("methods", entry.method)["arch"]
        return (entry.path, arch, *(label.value(labels) for label in self.labels))

    def rows(self, entry: PathEntry) -> list[Row]:
        """The rows of an entry by study, region and position of the layer."""
        with self._db.reading():
            return self._rows(entry)

    def _rows(self, entry: PathEntry) -> list[Row]:
        options = self._options
        results = self._results(entry.checkpoint)
        flips = self._sign_flips(results) if options.sign_flips else [()] * len(results)
        head, tails = self._settings(entry, results)
        wanted = options.targets
        rows: list[Row] = []
        for result, p in zip(results, flips, strict=True):
            if wanted is not None and result.target not in wanted:
                continue
            target = self._fact("targets", result.target)
            place: Row = (target["study"], result.layer, target["region"])
            if self.has_times:
                place += (result.time,)
            ceiling = _ceiling(target, result.time)
            mean = float(np.add.reduce(result.rho) / len(result.rho))
            numbers: Row = (*result.numbers, ceiling, mean, *p, *tails[result.target])
            if options.similarities:
                numbers += (result.rho, _is_squared(target, result))
            if options.subjects:
                rows += [
                    (*head, *place, *each, *numbers) for each in enumerate(result.rho.tolist())
                ]
            else:
                rows.append((*head, *place, *numbers))
        return rows

    def _settings(
        self, entry: PathEntry, results: Sequence[LayerResult]
    ) -> tuple[Row, dict[int, Row]]:
        """The first columns of an entry, and the last columns by target."""
        method = self._fact("methods", entry.method)
        content = self._fact("checkpoints", entry.checkpoint)
        parts, head = content["taken"], self.head(entry)
        taps = method["taps"] or ",".join(dict.fromkeys(result.layer for result in results))
        of_entry = {
            **method,
            "taps": taps,
            **{name: str(parts.get(name, "")) for name in TAKEN},
            HELD: "now" if entry.is_current else "before",
            "sha256": content["sha256"],
        }
        names = [name for name in (*SETTINGS, HELD, "sha256") if name in self.columns]
        tails = {}
        for target, number in self._db.query(
            "SELECT target, environment FROM scored WHERE checkpoint = ?", entry.checkpoint
        ):
            provider = self._fact("environments", number)["provider"]
            fact = self._fact("targets", target)
            of_target = {name: fact[name] for name in ("measure", "protocol")}
            all_values = {**of_entry, "provider": provider, **of_target}
            tails[target] = tuple(all_values[name] for name in names)
        if missing := {result.target for result in results} - tails.keys():
            raise values.RowError(
                f"scored has no row of checkpoint {entry.checkpoint} and target {min(missing)}"
            )
        return head, tails

    def _results(self, checkpoint: int) -> list[LayerResult]:
        found = self._db.query(
            f"SELECT target, layer, {', '.join(COLUMNS)}, rho, time FROM results WHERE checkpoint = ?"
            " ORDER BY target, position",
            checkpoint,
        )
        results = []
        for target, layer, *numbers, rho, time in found:
            results.append(
                LayerResult(
                    target,
                    values.text(layer, "a layer"),
                    [values.number(n, name) for n, name in zip(numbers, COLUMNS, strict=True)],
                    values.similarities(rho, f"rho of {layer}"),
                    values.number(time, "time"),
                )
            )
        if len({(result.target, len(result.rho)) for result in results}) > len(
            {result.target for result in results}
        ):
            raise values.RowError("the layers of a checkpoint have different numbers of subjects")
        results.sort(key=lambda result: self._fact("targets", result.target)["order"])
        return results

    def _fact(self, table: str, number: int) -> dict[str, Any]:
        """A row of a small table, which is read once."""
        if (table, number) not in self._cache:
            found = self._db.dicts(f"SELECT * FROM {table} WHERE id = ?", number)
            if not found:
                raise values.RowError(f"{table} has no row {number}")
            fact = _FACTS[table](found[0])
            # There are as many checkpoints as entries.
            if table == "checkpoints":
                return fact
            self._cache[table, number] = fact
        return self._cache[table, number]

    def _sign_flips(self, results: Sequence[LayerResult]) -> list[Row]:
        """P values of sign flips, corrected over all layers, regions and studies of a content, as `score` has them."""
        from fastrdm.inference import max_statistic

        flips: list[Row] = [(math.nan, math.nan)] * len(results)
        # Measure → target → results; each measure is a family of tests.
        families: dict[str, dict[int, list[int]]] = {}
        for i, result in enumerate(results):
            if len(result.rho) > 1 and np.isfinite(result.rho).all():
                family = families.setdefault(self._fact("targets", result.target)["measure"], {})
                family.setdefault(result.target, []).append(i)
        for tested in families.values():
            rhos = [np.stack([results[i].rho for i in rows]) for rows in tested.values()]
            places = [i for rows in tested.values() for i in rows]
            for i, *p in zip(places, *max_statistic(rhos), strict=True):
                flips[i] = tuple(map(float, p))
        return flips


def _ceiling(target: dict[str, Any], time: float) -> float:
    """The noise ceiling of a result."""
    if math.isnan(time):
        return float(target["ceiling"])
    if time not in target["ceilings"]:
        raise values.RowError(f"a result has the time {time:g}, which its target does not have")
    return float(target["ceilings"][time])


def _is_squared(target: dict[str, Any], result: LayerResult) -> bool:
    """Whether the value of a result is the mean of squares; for a protocol without facts, whether it equals R²."""
    squared = target["squared"]
    numbers = dict(zip(COLUMNS, result.numbers, strict=True))
    return numbers["value"] == numbers["r2"] if squared is None else bool(squared)


def target_facts(fact: dict[str, Any]) -> dict[str, Any]:
    """A row of the table `targets`, checked: `protocol` as a short text, `squared`, `ceilings` by time, `order`."""
    for name in ("study", "region", "measure", "key"):
        values.text(fact[name], f"{name} of a target")
    values.integer(fact["n_subjects"], "n_subjects of a target", 1)
    if math.isnan(values.number(fact["ceiling"], "ceiling of a target")):
        raise values.RowError("ceiling of a target is missing")
    facts = values.facts(fact["protocol"], "protocol of a target")
    axis = TimeAxis.from_facts(facts)
    ceilings = dict(zip(axis.times, axis.ceilings, strict=True)) if axis else {}
    order = (fact["study"], fact["region"], fact["measure"] != RSA, fact["measure"], fact["key"])
    texts = {"order": order, "protocol": protocol_text(fact["protocol"])}
    return fact | texts | {"ceilings": ceilings, "squared": facts.get("squared")}


def _environment(fact: dict[str, Any]) -> dict[str, Any]:
    found = values.facts(fact["facts"], "facts of an environment")
    return fact | {"provider": str(found.get("provider", ""))}


def method_facts(fact: dict[str, Any]) -> dict[str, Any]:
    """A row of the table `methods`, checked: `preprocessing` as a short text, `settings` is the start of the key."""
    for name in ("key", "arch", "taps", "precision", "kernels", "preprocessing"):
        values.text(fact[name], f"{name} of a method")
    preprocessing = preprocessing_text(fact["preprocessing"])
    return fact | {"preprocessing": preprocessing, "settings": fact["key"][:8]}


def _checkpoint(fact: dict[str, Any]) -> dict[str, Any]:
    values.sha256(fact["sha256"], "sha256 of a checkpoint")
    return fact | {"taken": values.facts(fact["taken"], "taken of a checkpoint")}


_FACTS: Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "targets": target_facts,
    "environments": _environment,
    "methods": method_facts,
    "checkpoints": _checkpoint,
}
