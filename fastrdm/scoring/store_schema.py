"""The SQL of a store: its schema, and the statements that merge one store into another."""

import contextlib
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING

from fastrdm._base import printable

if TYPE_CHECKING:
    import sqlite3

# Each upgrades a store from the version of its index to the next. Released ones never change.
MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE runs (
        id INTEGER PRIMARY KEY, uuid TEXT NOT NULL UNIQUE, started TEXT NOT NULL, ended TEXT, outcome TEXT,
        host TEXT NOT NULL, pid INTEGER NOT NULL, settings TEXT NOT NULL);
    CREATE TABLE environments (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, facts TEXT NOT NULL);
    CREATE TABLE methods (
        id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, arch TEXT NOT NULL, graph TEXT NOT NULL,
        preprocessing TEXT NOT NULL, precision TEXT NOT NULL, kernels TEXT NOT NULL);
    CREATE TABLE targets (
        id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, study TEXT NOT NULL, region TEXT NOT NULL,
        stimuli TEXT NOT NULL, subjects TEXT NOT NULL, protocol TEXT NOT NULL, ceiling REAL NOT NULL,
        n_subjects INTEGER NOT NULL, synthetic INTEGER NOT NULL);
    CREATE TABLE checkpoints (
        id INTEGER PRIMARY KEY, sha256 TEXT NOT NULL, method INTEGER NOT NULL REFERENCES methods,
        path TEXT NOT NULL, labels TEXT NOT NULL, UNIQUE (sha256, method));
    CREATE INDEX checkpoints_by_path ON checkpoints (path);
    CREATE TABLE scored (
        checkpoint INTEGER NOT NULL REFERENCES checkpoints, target INTEGER NOT NULL REFERENCES targets,
        run INTEGER NOT NULL REFERENCES runs, environment INTEGER NOT NULL REFERENCES environments,
        at TEXT NOT NULL, seconds REAL NOT NULL, warnings TEXT NOT NULL,
        PRIMARY KEY (checkpoint, target)) WITHOUT ROWID;
    CREATE TABLE results (
        checkpoint INTEGER NOT NULL REFERENCES checkpoints, target INTEGER NOT NULL REFERENCES targets,
        position INTEGER NOT NULL, layer TEXT NOT NULL, r2 REAL, std REAL, sample_std REAL, percent_nc REAL, p REAL,
        value REAL, rho BLOB NOT NULL, PRIMARY KEY (checkpoint, target, position)) WITHOUT ROWID;
    CREATE TABLE rdms (
        checkpoint INTEGER NOT NULL REFERENCES checkpoints, stimuli TEXT NOT NULL, position INTEGER NOT NULL,
        layer TEXT NOT NULL, content BLOB NOT NULL, PRIMARY KEY (checkpoint, stimuli, position)) WITHOUT ROWID;
    CREATE TABLE files (
        path TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, sha256 TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE failures (
        path TEXT NOT NULL, method INTEGER NOT NULL REFERENCES methods, run INTEGER NOT NULL REFERENCES runs,
        size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, at TEXT NOT NULL, attempts INTEGER NOT NULL,
        error TEXT NOT NULL, traceback TEXT NOT NULL, PRIMARY KEY (path, method)) WITHOUT ROWID;
    """,
    # A row belongs to a path, results to a content. An entry is current while its path holds its content, as far as is
    # known; `at` is when this changed last. Version 1 kept one path for each content; of several contents of a path,
    # the last one is current.
    """
    ALTER TABLE methods ADD COLUMN taps TEXT NOT NULL DEFAULT '';
    ALTER TABLE checkpoints ADD COLUMN taken TEXT NOT NULL DEFAULT '{}';
    CREATE TABLE entries (
        path TEXT NOT NULL, method INTEGER NOT NULL REFERENCES methods,
        checkpoint INTEGER NOT NULL REFERENCES checkpoints, at TEXT NOT NULL, is_current INTEGER NOT NULL,
        PRIMARY KEY (path, method, checkpoint)) WITHOUT ROWID;
    CREATE INDEX entries_by_checkpoint ON entries (checkpoint);
    CREATE TABLE labels (path TEXT PRIMARY KEY, labels TEXT NOT NULL) WITHOUT ROWID;
    INSERT INTO entries
        SELECT c.path, c.method, c.id,
            coalesce((SELECT max(s.at) FROM scored s WHERE s.checkpoint = c.id), ''),
            1 = row_number() OVER (
                PARTITION BY c.path, c.method ORDER BY coalesce(f.sha256 = c.sha256, 0) DESC, c.id DESC)
        FROM checkpoints c LEFT JOIN files f ON f.path = c.path;
    INSERT OR REPLACE INTO labels
        SELECT c.path, c.labels FROM checkpoints c JOIN entries e ON e.checkpoint = c.id
        WHERE c.labels != '{}' ORDER BY e.is_current, c.id;
    """,
    # The checksum is of a checkpoint's results against a target, and empty for those that an older version wrote. While
    # a writer is open, the log may hold what the database does not.
    """
    ALTER TABLE scored ADD COLUMN checksum TEXT NOT NULL DEFAULT '';
    CREATE TABLE writers (is_open INTEGER NOT NULL);
    INSERT INTO writers VALUES (0);
    """,
    # A target is a region of a study under one measure. A result of one time point has its time, and the positions of a
    # layer's results differ; a result over all times, or without a time axis, has none.
    """
    ALTER TABLE targets ADD COLUMN measure TEXT NOT NULL DEFAULT 'rsa';
    ALTER TABLE results ADD COLUMN time REAL;
    CREATE TABLE grams (
        checkpoint INTEGER NOT NULL REFERENCES checkpoints, stimuli TEXT NOT NULL, position INTEGER NOT NULL,
        layer TEXT NOT NULL, facts TEXT NOT NULL, content BLOB NOT NULL,
        PRIMARY KEY (checkpoint, stimuli, position)) WITHOUT ROWID;
    """,
)

_SCORED_WITHOUT_CHECKSUMS = """
    CREATE TEMP VIEW scored AS
        SELECT checkpoint, target, run, environment, at, seconds, warnings, '' AS checksum FROM main.scored;
    """

_WITHOUT_MEASURES = """
    CREATE TEMP VIEW targets AS SELECT *, 'rsa' AS measure FROM main.targets;
    CREATE TEMP VIEW results AS SELECT *, NULL AS time FROM main.results;
    CREATE TEMP TABLE grams (checkpoint, stimuli, position, layer, facts, content);
    """

# What a reader of an older store sees in place of the tables that it lacks, by the store's version.
VIEWS: dict[int, str] = {
    1: _WITHOUT_MEASURES
    + _SCORED_WITHOUT_CHECKSUMS
    + """
    CREATE TEMP VIEW methods AS
        SELECT id, key, arch, graph, preprocessing, precision, kernels, '' AS taps FROM main.methods;
    CREATE TEMP TABLE entries AS
        SELECT c.path, c.method, c.id AS checkpoint, '' AS at,
            1 = row_number() OVER (
                PARTITION BY c.path, c.method ORDER BY coalesce(f.sha256 = c.sha256, 0) DESC, c.id DESC)
            AS is_current
        FROM main.checkpoints c LEFT JOIN main.files f ON f.path = c.path;
    CREATE TEMP TABLE labels (path TEXT PRIMARY KEY, labels TEXT NOT NULL);
    INSERT OR REPLACE INTO labels
        SELECT c.path, c.labels FROM main.checkpoints c JOIN entries e ON e.checkpoint = c.id
        WHERE c.labels != '{}' ORDER BY e.is_current, c.id;
    CREATE TEMP VIEW checkpoints AS
        SELECT id, sha256, method, path, labels, '{}' AS taken FROM main.checkpoints;
    """,
    2: _WITHOUT_MEASURES + _SCORED_WITHOUT_CHECKSUMS,
    3: _WITHOUT_MEASURES,
}


def statements(script: str) -> list[str]:
    """The statements of a script without semicolons in its texts."""
    return [statement for statement in script.split(";") if statement.strip()]


@functools.cache
def columns_of(version: int) -> Mapping[str, list[tuple[str, str, bool]]]:
    """Columns of each table of a version of the schema: name, type, and whether they can be NULL."""
    import sqlite3

    with contextlib.closing(sqlite3.connect(":memory:")) as empty:
        for script in MIGRATIONS[:version]:
            for statement in statements(script):
                empty.execute(statement)
        found = empty.execute(
            'SELECT t.name, c.name, c.type, NOT (c."notnull" OR c.pk)'
            " FROM sqlite_schema t JOIN pragma_table_info(t.name) c WHERE t.type = 'table'"
        )
        columns: dict[str, list[tuple[str, str, bool]]] = {}
        for table, name, kind, can_be_null in found:
            columns.setdefault(table, []).append((name, kind, bool(can_be_null)))
    return columns


def problem_of_schema(database: "sqlite3.Connection", version: int) -> str:
    """What is wrong with the tables of a store that has a version of the schema; empty if nothing is."""
    if version < 1:
        return f"its schema has version {version}, and the first version is 1"
    found: dict[str, set[str]] = {}
    for table, column in database.execute(
        "SELECT t.name, c.name FROM sqlite_schema t JOIN pragma_table_info(t.name) c WHERE t.type = 'table'"
    ):
        found.setdefault(table, set()).add(column)
    missing = []
    for table, columns in columns_of(version).items():
        if names := [name for name, *_ in columns if name not in found.get(table, ())]:
            missing.append(f"{table} ({', '.join(names)})" if table in found else table)
    if missing:
        return f"it has no table {', '.join(missing)}"
    # A trigger would change results when others are written.
    trigger = database.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchone()
    return (
        f"it has a trigger, {printable(str(trigger[0]))}, and fastrdm makes none" if trigger else ""
    )


def _copy(table: str, columns: str) -> str:
    return f"INSERT OR IGNORE INTO main.{table} ({columns}) SELECT {columns} FROM o.{table}"


# Row numbers of the other store → row numbers of this one, by the keys of the rows.
_SAME_METHOD = "JOIN o.methods om ON om.id = {0}.method JOIN main.methods m ON m.key = om.key"
_SAME_TARGET = "JOIN o.targets ot ON ot.id = {0}.target JOIN main.targets t ON t.key = ot.key"
_SAME_RUN = "JOIN o.runs ou ON ou.id = {0}.run JOIN main.runs u ON u.uuid = ou.uuid"
_SAME_CHECKPOINT = (
    "JOIN o.checkpoints oc ON oc.id = {0}.checkpoint "
    + _SAME_METHOD.format("oc")
    + " JOIN main.checkpoints c ON c.sha256 = oc.sha256 AND c.method = m.id"
)


MERGE = (
    _copy("runs", "uuid, started, ended, outcome, host, pid, settings"),
    _copy("environments", "key, facts"),
    _copy("methods", "key, arch, graph, preprocessing, precision, kernels, taps"),
    _copy(
        "targets",
        "key, study, region, stimuli, subjects, protocol, ceiling, n_subjects, synthetic, measure",
    ),
    "INSERT OR IGNORE INTO main.checkpoints (sha256, method, path, labels, taken)"
    f" SELECT oc.sha256, m.id, oc.path, oc.labels, oc.taken FROM o.checkpoints oc {_SAME_METHOD.format('oc')}",
    # Results come before the rows that mark them as complete, so that results of both stores are kept once.
    "INSERT OR IGNORE INTO main.results"
    " SELECT c.id, t.id, r.position, r.layer, r.r2, r.std, r.sample_std, r.percent_nc, r.p, r.value, r.rho, r.time"
    f" FROM o.results r {_SAME_CHECKPOINT.format('r')} {_SAME_TARGET.format('r')}"
    " WHERE NOT EXISTS (SELECT 1 FROM main.scored s WHERE s.checkpoint = c.id AND s.target = t.id)",
    "INSERT OR IGNORE INTO main.scored"
    " SELECT c.id, t.id, u.id, e.id, s.at, s.seconds, s.warnings, s.checksum"
    f" FROM o.scored s {_SAME_CHECKPOINT.format('s')} {_SAME_TARGET.format('s')} {_SAME_RUN.format('s')}"
    " JOIN o.environments oe ON oe.id = s.environment JOIN main.environments e ON e.key = oe.key",
    "INSERT OR IGNORE INTO main.rdms SELECT c.id, d.stimuli, d.position, d.layer, d.content"
    f" FROM o.rdms d {_SAME_CHECKPOINT.format('d')}",
    "INSERT OR IGNORE INTO main.grams SELECT c.id, d.stimuli, d.position, d.layer, d.facts, d.content"
    f" FROM o.grams d {_SAME_CHECKPOINT.format('d')}",
    # Of two states of an entry, the later one; of several current contents of a path, the latest one.
    "INSERT INTO main.entries (path, method, checkpoint, at, is_current)"
    " SELECT oe.path, m.id, c.id, oe.at, oe.is_current"
    f" FROM o.entries oe {_SAME_CHECKPOINT.format('oe')} WHERE true"
    " ON CONFLICT DO UPDATE SET at = excluded.at, is_current = excluded.is_current"
    " WHERE excluded.at > entries.at",
    "UPDATE main.entries SET is_current = 0 WHERE is_current AND EXISTS (SELECT 1 FROM main.entries x"
    " WHERE x.path = entries.path AND x.method = entries.method AND x.is_current"
    " AND (x.at, x.checkpoint) > (entries.at, entries.checkpoint))",
    "INSERT INTO main.labels (path, labels) SELECT path, labels FROM o.labels WHERE true"
    " ON CONFLICT DO UPDATE SET labels = json_patch(excluded.labels, labels.labels)",
    "INSERT OR IGNORE INTO main.files SELECT path, size, mtime_ns, sha256 FROM o.files",
    "INSERT OR IGNORE INTO main.failures"
    " SELECT f.path, m.id, u.id, f.size, f.mtime_ns, f.at, f.attempts, f.error, f.traceback FROM o.failures f"
    f" {_SAME_METHOD.format('f')} {_SAME_RUN.format('f')} WHERE NOT EXISTS"
    " (SELECT 1 FROM main.entries e WHERE e.path = f.path AND e.method = m.id AND e.is_current)",
)
