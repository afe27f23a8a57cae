"""Whether a store holds what was written: SQLite's own check, the values and relations of rows, keys and checksums."""

import contextlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fastrdm._base import counted, printable
from fastrdm.scoring import store_values as values
from fastrdm.scoring.database import Database
from fastrdm.scoring.records import (
    LayerRow,
    Pipeline,
    StoreError,
    TargetRecord,
    checksum_of,
    digest_of,
)
from fastrdm.scoring.results import COLUMNS
from fastrdm.scoring.store_rules import RELATIONS, VALUES
from fastrdm.scoring.store_schema import columns_of
from fastrdm.scoring.store_tables import unpacked

# Problems of one kind that are listed; others are counted.
_SHOWN = 20


@dataclass(frozen=True)
class StoreCheck:
    """What a check of a store found.

    Attributes
    ----------
    problems : tuple of str
        What is wrong, each in a sentence; empty if the store is whole.
    n_checkpoints, n_results : int
        Contents, and results of layers.
    n_without_checksum : int
        Results that an older version wrote without a checksum.
    """

    problems: tuple[str, ...]
    n_checkpoints: int = 0
    n_results: int = 0
    n_without_checksum: int = 0


def check_store(database: Database) -> StoreCheck:
    """Check everything in a store."""
    problems: list[str] = []
    # What SQLite cannot read ends a part of the check.
    for part in (_integrity, _types, _texts, _relations, _keys, _checksums, _rdms):
        try:
            problems += part(database)
        except StoreError as error:
            text = str(error).replace(f"{database.path} ", "the store ", 1)
            if text not in problems:
                problems.append(text)
    numbers = [0, 0, 0]
    with contextlib.suppress(StoreError):
        ((numbers[0],),) = database.query("SELECT count(*) FROM checkpoints")
        ((numbers[1],),) = database.query("SELECT count(*) FROM results")
        ((numbers[2],),) = database.query(
            "SELECT count(*) FROM results JOIN scored USING (checkpoint, target) WHERE checksum = ''"
        )
    return StoreCheck(tuple(map(printable, problems)), *numbers)


def _shown(problems: Iterable[str], nouns: str) -> Iterator[str]:
    """Yield the first problems of a kind, and how many more there are."""
    n = 0
    for problem in problems:
        n += 1
        if n <= _SHOWN:
            yield problem
    if n > _SHOWN:
        yield f"{n - _SHOWN} more {nouns}"


def _integrity(database: Database) -> Iterator[str]:
    for (line,) in database.query(f"PRAGMA integrity_check({_SHOWN})"):
        if line != "ok":
            yield f"SQLite finds damage: {' '.join(str(line).split())}"


def _types(database: Database) -> Iterator[str]:
    """Values of the wrong type or outside their range."""
    for table, columns in columns_of(database.version).items():
        rules = VALUES.get(table, {})
        for name, kind, can_be_null in columns:
            null = f"{name} IS NULL" if can_be_null else "0"
            is_type = f"typeof({name}) = '{kind.lower()}'"
            if name == "path":
                # Of a file name that is not UTF-8.
                is_type = f"typeof({name}) IN ('text', 'blob')"
            yield from _violations(database, table, name, f"{null} OR {is_type}", f"not {kind}")
            if name in rules:
                condition, meaning = rules[name]
                wanted = f"{null} OR NOT ({is_type}) OR ({condition})"
                yield from _violations(database, table, name, wanted, meaning)


def _texts(database: Database) -> Iterator[str]:
    """Read all texts; the first one that is not UTF-8 is an error of the database."""
    for table, columns in columns_of(database.version).items():
        if names := [name for name, kind, _ in columns if kind == "TEXT"]:
            for _ in database.each(f"SELECT {', '.join(names)} FROM main.{table}"):
                pass
    yield from ()


def _violations(
    database: Database, table: str, name: str, condition: str, meaning: str
) -> Iterator[str]:
    ((n, first),) = database.query(
        f"SELECT count(*), min(quote({name})) FROM main.{table} WHERE NOT coalesce({condition}, 0)"
    )
    if n:
        yield f"{table}: {counted(n, 'value')} of {name} {'is' if n == 1 else 'are'} {meaning}, such as {first:.40}"


def _relations(database: Database) -> Iterator[str]:
    orphans: dict[tuple[str, str], int] = {}
    for table, _, parent, _ in database.query("PRAGMA main.foreign_key_check"):
        orphans[table, parent] = orphans.get((table, parent), 0) + 1
    for (table, parent), n in orphans.items():
        refer = "it refers" if n == 1 else "they refer"
        yield f"{table}: {counted(n, 'row')} without the row of {parent} that {refer} to"
    for what, statement in RELATIONS.items():
        ((n,),) = database.query(statement)
        if n:
            yield f"{what}: {n}"


def _keys(database: Database) -> Iterator[str]:
    """Rows that are not what their key identifies."""
    for row in database.dicts("SELECT * FROM methods"):
        number, key = row.pop("id"), row.pop("key")
        if _key_of(Pipeline, row) != key:
            yield f"methods: row {number} is not what its key identifies"
    for row in database.dicts("SELECT * FROM targets"):
        number, key = row.pop("id"), row.pop("key")
        if _key_of(TargetRecord, row | {"synthetic": bool(row["synthetic"])}) != key:
            yield f"targets: row {number} is not what its key identifies"
    for row in database.dicts("SELECT * FROM environments"):
        try:
            key = digest_of(json.loads(row["facts"]))
        except (TypeError, ValueError, RecursionError):
            key = ""
        if key != row["key"]:
            yield f"environments: row {row['id']} is not what its key identifies"


def _key_of(kind: type[Pipeline] | type[TargetRecord], row: dict[str, Any]) -> str:
    try:
        return kind(**row).key
    # Values that JSON does not have.
    except (TypeError, ValueError):
        return ""


def _checksums(database: Database) -> Iterator[str]:
    """Results that are not what was written."""
    yield from _shown(_changed(database), "results that are not what was written")


def _changed(database: Database) -> Iterator[str]:
    statement = (
        "SELECT s.checkpoint, s.target, s.checksum, t.n_subjects, c.path, t.study, t.region, c.sha256, m.key, t.key"
        " FROM scored s JOIN checkpoints c ON c.id = s.checkpoint JOIN methods m ON m.id = c.method"
        " JOIN targets t ON t.id = s.target"
    )
    for checkpoint, target, checksum, n_subjects, path, study, region, *keys in database.each(
        statement
    ):
        found = database.query(
            f"SELECT position, layer, {', '.join(COLUMNS)}, rho FROM results WHERE checkpoint = ? AND target = ?"
            " ORDER BY position",
            checkpoint,
            target,
        )
        where = f"{_name(path)} against {region} of {study}"
        if checksum and _checksum(keys, found) != checksum:
            yield f"results of {where} are not what was written: their checksum differs"
        elif any(not isinstance(row[-1], bytes) or len(row[-1]) != 8 * n_subjects for row in found):
            yield f"results of {where} are not those of {n_subjects} subjects"


def _checksum(keys: Sequence[Any], found: Iterable[Sequence[Any]]) -> str:
    """The checksum of results; empty if it cannot be computed."""
    try:
        layers = [
            LayerRow(position, layer, [math.nan if n is None else n for n in numbers], rho)
            for position, layer, *numbers, rho in found
        ]
        content, pipeline, target = keys
        return checksum_of(content, pipeline, target, layers)
    except Exception:
        # Values of any type, which the check of types names.
        return ""


def _rdms(database: Database) -> Iterator[str]:
    yield from _shown(_damaged_rdms(database), "damaged RDMs")


def _damaged_rdms(database: Database) -> Iterator[str]:
    statement = (
        "SELECT c.path, r.layer, r.content FROM rdms r JOIN checkpoints c ON c.id = r.checkpoint"
    )
    for path, layer, content in database.each(statement):
        try:
            n = len(unpacked(content))
        except values.RowError:
            n = -1
        if n < 0 or math.isqrt(8 * n + 1) ** 2 != 8 * n + 1:
            yield f"the RDM of {layer} of {_name(path)} is damaged"


def _name(path: Any) -> str:
    return os.fsdecode(path) if isinstance(path, bytes) else str(path)
