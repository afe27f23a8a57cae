"""Whether a store holds what was written: SQLite's own check, the values and relations of rows, keys and checksums."""

import contextlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastrdm._base import counted, printable
from fastrdm.scoring import store_values as values
from fastrdm.scoring.database import Database
from fastrdm.scoring.kept_layers import unpacked, unpacked_gram
from fastrdm.scoring.records import (
    LayerRow,
    Pipeline,
    StoreError,
    TargetRecord,
    checksum_of,
    digest_of,
)
from fastrdm.scoring.results import COLUMNS
from fastrdm.scoring.store_schema import columns_of

# Problems of one kind that are listed; others are counted.
_SHOWN = 20

_SHA256 = "length({0}) = 64 AND {0} NOT GLOB '*[^0-9a-f]*'"
_OBJECT = "CASE WHEN json_valid({0}) THEN json_type({0}) = 'object' END"
_STATE = "{0} IN (0, 1)"
_FINITE = "abs({0}) < 9e999"

# For each table and column, a condition that a value of the right type meets, and what it means.
_VALUES: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "runs": {
        "outcome": ("outcome IN ('finished', 'stopped')", "not a known state"),
        "settings": (_OBJECT.format("settings"), "not a JSON object"),
    },
    "environments": {"facts": (_OBJECT.format("facts"), "not a JSON object")},
    "targets": {
        "protocol": (_OBJECT.format("protocol"), "not a JSON object"),
        "ceiling": (_FINITE.format("ceiling"), "not finite"),
        "n_subjects": ("n_subjects > 0", "not positive"),
        "synthetic": (_STATE.format("synthetic"), "not a known state"),
    },
    "checkpoints": {
        "sha256": (_SHA256.format("sha256"), "not a SHA-256"),
        "taken": (_OBJECT.format("taken"), "not a JSON object"),
    },
    "scored": {
        "seconds": ("seconds >= 0 AND seconds < 9e999", "not a duration"),
        "warnings": (
            "CASE WHEN json_valid(warnings) THEN json_type(warnings) = 'array' END",
            "not a JSON array",
        ),
        "checksum": (f"checksum = '' OR {_SHA256.format('checksum')}", "not a SHA-256"),
    },
    "results": {
        "position": ("position >= 0", "negative"),
        "std": ("std >= 0", "negative"),
        "sample_std": ("sample_std >= 0", "negative"),
        "p": ("p BETWEEN 0 AND 1", "not between 0 and 1"),
        "rho": ("length(rho) > 0 AND length(rho) % 8 = 0", "not the numbers of subjects"),
    },
    "rdms": {"position": ("position >= 0", "negative")},
    "grams": {
        "position": ("position >= 0", "negative"),
        "facts": (_OBJECT.format("facts"), "not a JSON object"),
    },
    "files": {
        "size": ("size >= -1", "negative"),
        "sha256": (_SHA256.format("sha256"), "not a SHA-256"),
    },
    "failures": {
        "size": ("size >= -1", "negative"),
        "attempts": ("attempts > 0", "not positive"),
    },
    "entries": {"is_current": (_STATE.format("is_current"), "not a known state")},
    "writers": {"is_open": (_STATE.format("is_open"), "not a known state")},
    "labels": {"labels": (_OBJECT.format("labels"), "not a JSON object")},
}

# What is wrong with rows, and a statement that counts them.
_RELATIONS: Mapping[str, str] = {
    "results without the row of scored that completes them": "SELECT count(*) FROM results r WHERE NOT EXISTS"
    " (SELECT 1 FROM scored s WHERE s.checkpoint = r.checkpoint AND s.target = r.target)",
    "rows of scored without results": "SELECT count(*) FROM scored s WHERE NOT EXISTS"
    " (SELECT 1 FROM results r WHERE r.checkpoint = s.checkpoint AND r.target = s.target)",
    "checkpoints without the path of any file": "SELECT count(*) FROM checkpoints c WHERE NOT EXISTS"
    " (SELECT 1 FROM entries e WHERE e.checkpoint = c.id)",
    "entries with another method than their checkpoint": "SELECT count(*) FROM entries e"
    " JOIN checkpoints c ON c.id = e.checkpoint WHERE c.method != e.method",
    "paths with several current contents": "SELECT count(*) FROM"
    " (SELECT 1 FROM entries WHERE is_current GROUP BY path, method HAVING count(*) > 1)",
    "RDMs of stimuli that no target has": "SELECT count(*) FROM rdms r WHERE NOT EXISTS"
    " (SELECT 1 FROM targets t WHERE t.stimuli = r.stimuli)",
    "Gram matrices of stimuli that no target has": "SELECT count(*) FROM grams r WHERE NOT EXISTS"
    " (SELECT 1 FROM targets t WHERE t.stimuli = r.stimuli)",
    "labels that are not text": "SELECT count(*) FROM labels,"
    " json_each(CASE WHEN json_valid(labels) THEN labels ELSE '{}' END) j WHERE j.type != 'text'",
}


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
    # Each part is a generator: what SQLite cannot read ends the part, not the check.
    parts = (
        *(part(database) for part in (_integrity, _types, _texts, _relations, _keys)),
        _shown(_results(database), "results that are not what was written"),
        _shown(_rdms(database), "damaged RDMs"),
        _shown(_grams(database), "damaged Gram matrices"),
    )
    for part in parts:
        try:
            problems += part
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
        rules = _VALUES.get(table, {})
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
    for what, statement in _RELATIONS.items():
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


def _results(database: Database) -> Iterator[str]:
    """Results that are not what was written, by their checksums."""
    statement = (
        "SELECT s.checkpoint, s.target, s.checksum, t.n_subjects, c.path, t.study, t.region, c.sha256, m.key, t.key"
        " FROM scored s JOIN checkpoints c ON c.id = s.checkpoint JOIN methods m ON m.id = c.method"
        " JOIN targets t ON t.id = s.target"
    )
    for checkpoint, target, checksum, n_subjects, path, study, region, *keys in database.each(
        statement
    ):
        found = database.query(
            f"SELECT position, layer, {', '.join(COLUMNS)}, rho, time FROM results WHERE checkpoint = ? AND target = ?"
            " ORDER BY position",
            checkpoint,
            target,
        )
        where = f"{_name(path)} against {region} of {study}"
        if checksum and _checksum(keys, found) != checksum:
            yield f"results of {where} are not what was written: their checksum differs"
        elif any(not isinstance(rho, bytes) or len(rho) != 8 * n_subjects for *_, rho, _ in found):
            yield f"results of {where} are not those of {n_subjects} subjects"


def _checksum(keys: Sequence[Any], found: Iterable[Sequence[Any]]) -> str:
    """The checksum of results; empty if it cannot be computed."""
    try:
        layers = [
            LayerRow(position, layer, [math.nan if n is None else n for n in numbers], rho, time)
            for position, layer, *numbers, rho, time in found
        ]
        content, pipeline, target = keys
        return checksum_of(content, pipeline, target, layers)
    except Exception:
        # Values of any type, which the check of types names.
        return ""


def _rdms(database: Database) -> Iterator[str]:
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


def _grams(database: Database) -> Iterator[str]:
    statement = (
        "SELECT c.path, g.layer, g.content FROM grams g JOIN checkpoints c ON c.id = g.checkpoint"
    )
    for path, layer, content in database.each(statement):
        try:
            unpacked_gram(content)
        except values.RowError:
            yield f"the Gram matrix of {layer} of {_name(path)} is damaged"


def _name(path: Any) -> str:
    return os.fsdecode(path) if isinstance(path, bytes) else str(path)
