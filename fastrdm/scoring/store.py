"""The SQLite file of a sweep's results: one writer, any number of readers, a transaction for each checkpoint.

What is scored is found by content. A result belongs to the SHA-256 of the weights' file, to a `Method` (graph,
preprocessing, precision, kernels) and to a `Subjects` (stimuli, subjects' RDMs, protocol, ceiling), so a file that was
renamed is not scored again and one that changed is. The instruction set and the execution provider are recorded but are
no part of the key: they change a score's last bits, and a sweep that moves to another machine goes on.

The file is in WAL mode with ``synchronous=NORMAL``: a killed process loses nothing that was committed; a power cut may
lose the last transactions, and leaves the file whole. WAL needs a file system of this machine, not one of the network.
"""

import contextlib
import csv
import datetime
import json
import math
import os
import socket
import sqlite3
import time
import uuid
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import new_file, require
from fastrdm.scoring.records import Method, Report, Stamp, StoreError, Subjects, digest_of
from fastrdm.scoring.scorer import COLUMNS
from fastrdm.scoring.store_schema import MERGE
from fastrdm.similarity import Score

if TYPE_CHECKING:
    import pandas

# "fRDM": how SQLite and `file` know whose database it is.
_APPLICATION = 0x6652444D
_HEADER = b"SQLite format 3\0"
_PATIENCE_S = 60.0
_ROWS_AT_ONCE = 50_000

# Each brings a store from the version that is its index to the next; what was released is not changed.
_MIGRATIONS: tuple[str, ...] = (
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
)

_REASONS = {
    sqlite3.SQLITE_FULL: "cannot be written because the disk is full; all that was reported done is in it, and the "
    "same command goes on from there",
    sqlite3.SQLITE_IOERR: "cannot be read or written ({error}); all that was reported done is in it",
    sqlite3.SQLITE_CORRUPT: "is damaged ({error}); take a copy of before, or begin another store",
    sqlite3.SQLITE_NOTADB: "is damaged or no store of fastrdm's: it is not an SQLite database",
    sqlite3.SQLITE_BUSY: f"was in use by other writers for more than {_PATIENCE_S:g} s",
    sqlite3.SQLITE_READONLY: "cannot be written: the file or its folder is read-only",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened; its folder must be there and allow files to be made",
}


class Store:
    """A file of scores.

    Parameters
    ----------
    path : path-like
        The file.
    write : bool
        Whether it is made where it is not there, brought to this version's schema, and written.

    Raises
    ------
    FileNotFoundError
        If it is opened to be read and is not there.
    StoreError
        If it is damaged, another program's, or written by a later fastrdm.
    """

    def __init__(self, path: str | Path, *, write: bool = False) -> None:
        self.path = Path(path)
        self._check_file(write)
        mode = "rwc" if write else "ro"
        with self._errors():
            self._db = sqlite3.connect(
                f"{self.path.resolve().as_uri()}?mode={mode}",
                uri=True,
                timeout=_PATIENCE_S,
                isolation_level=None,
                check_same_thread=False,
            )
        try:
            with self._errors():
                self._check_owner(write)
                if write:
                    self._prepare()
        except BaseException:
            self._db.close()
            raise

    def _check_file(self, write: bool) -> None:
        if self.path.is_dir():
            raise StoreError(f"{self.path} is a folder, not a store")
        if not self.path.exists():
            if not write:
                raise FileNotFoundError(f"{self.path}: no such store")
            if not self.path.absolute().parent.is_dir():
                raise StoreError(f"{self.path}: its folder is not there")
            return
        with self.path.open("rb") as file:
            head = file.read(100)
        if head and not head.startswith(_HEADER):
            raise StoreError(f"{self.path} is no store of fastrdm's, nor any SQLite file")
        if head:
            page, pages = int.from_bytes(head[16:18], "big"), int.from_bytes(head[28:32], "big")
            # 1 stands for 65536. What WAL has not yet brought over is not counted in the header.
            if self.path.stat().st_size < pages * (65536 if page == 1 else page):
                raise StoreError(f"{self.path} is damaged: it has lost its end")

    def _check_owner(self, write: bool) -> None:
        # In one view of the file: another process may be making the store.
        with self._transaction("BEGIN"):
            owner, version = self._one("PRAGMA application_id"), self._one("PRAGMA user_version")
            is_new = not self._one("SELECT count(*) FROM sqlite_schema") and not version
        if owner != _APPLICATION and not (write and is_new):
            raise StoreError(
                f"{self.path} is an SQLite file of another program, not a store of fastrdm's"
            )
        if version > len(_MIGRATIONS):
            raise StoreError(
                f"{self.path} was written by a later fastrdm, in version {version} of the schema; this one knows"
                f" {len(_MIGRATIONS)}"
            )
        if not write and version < len(_MIGRATIONS):
            raise StoreError(
                f"{self.path} is of version {version} of the schema, and this fastrdm reads {len(_MIGRATIONS)}; "
                "a sweep or a merge into it brings it up"
            )

    def _prepare(self) -> None:
        end = time.monotonic() + _PATIENCE_S
        while True:
            try:
                self._db.execute("PRAGMA journal_mode=WAL")
                break
            # While another process does the same, SQLite does not wait.
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                    raise
                time.sleep(0.05)
        self._db.execute("PRAGMA synchronous=NORMAL")
        with self._transaction():
            for script in _MIGRATIONS[self._one("PRAGMA user_version") :]:
                for statement in filter(str.strip, script.split(";")):
                    self._db.execute(statement)
            self._db.execute(f"PRAGMA application_id={_APPLICATION}")
            self._db.execute(f"PRAGMA user_version={len(_MIGRATIONS)}")

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", None)
            # The lower byte is the kind, the rest what exactly.
            reason = _REASONS.get(0 if code is None else code & 0xFF)
            if reason is None:
                raise
            raise StoreError(f"{self.path} {reason.format(error=error)}") from error

    @contextlib.contextmanager
    def _transaction(self, begin: str = "BEGIN IMMEDIATE") -> Iterator[None]:
        self._db.execute(begin)
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            # A full disk ends the transaction by itself.
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def _one(self, statement: str, *values: object) -> Any:
        row = self._db.execute(statement, values).fetchone()
        return None if row is None else row[0]

    def _id(self, table: str, columns: Mapping[str, object]) -> int:
        """The number of a row that is found by its first column, and made where there is none."""
        key = next(iter(columns))
        marks = ", ".join("?" * len(columns))
        self._db.execute(
            f"INSERT OR IGNORE INTO {table} ({', '.join(columns)}) VALUES ({marks})",
            list(columns.values()),
        )
        return int(self._one(f"SELECT id FROM {table} WHERE {key} = ?", columns[key]))

    def add_method(self, method: Method) -> int:
        """The number under which the store knows a method."""
        with self._errors(), self._transaction():
            return self._id("methods", {"key": method.key} | asdict(method))

    def add_target(self, target: Subjects) -> int:
        """The number under which the store knows a region's subjects."""
        with self._errors(), self._transaction():
            return self._id("targets", {"key": target.key} | asdict(target))

    def add_environment(self, facts: Mapping[str, Any]) -> int:
        """The number under which the store knows what a worker runs on."""
        text = json.dumps(facts, sort_keys=True)
        with self._errors(), self._transaction():
            return self._id("environments", {"key": digest_of(facts), "facts": text})

    def begin_run(self, settings: Mapping[str, Any]) -> int:
        """Enter a run, and give its number."""
        facts = {
            "uuid": uuid.uuid4().hex,
            "started": _now(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "settings": json.dumps(settings),
        }
        with self._errors(), self._transaction():
            return self._id("runs", facts)

    def end_run(self, run: int, outcome: str) -> None:
        """Say how a run ended; one that was killed never does."""
        with self._errors():
            self._db.execute(
                "UPDATE runs SET ended = ?, outcome = ? WHERE id = ?", (_now(), outcome, run)
            )

    def state(self, path: str, stamp: Stamp, method: int, targets: Sequence[int]) -> str:
        """Whether a file is "done", "failed", or "new": not known to be either as it is now.

        A file of known path, size and time is taken to be what it was; others have to be read to know.
        """
        marks = ", ".join("?" * len(targets))
        key = (path, stamp.size, stamp.mtime_ns)
        with self._errors():
            done, failed = self._db.execute(
                "SELECT (SELECT count(*) FROM files f JOIN checkpoints c ON c.sha256 = f.sha256 AND c.method = ?"
                f" JOIN scored ON checkpoint = c.id AND target IN ({marks})"
                " WHERE f.path = ? AND f.size = ? AND f.mtime_ns = ?),"
                " (SELECT 1 FROM failures WHERE path = ? AND size = ? AND mtime_ns = ? AND method = ?)",
                (method, *targets, *key, *key, method),
            ).fetchone()
        if done == len(targets):
            return "done"
        return "failed" if failed else "new"

    def is_done(self, sha256: str, method: int, targets: Sequence[int]) -> bool:
        """Whether weights are scored against all of the targets."""
        marks = ", ".join("?" * len(targets))
        with self._errors():
            found = self._one(
                "SELECT count(*) FROM checkpoints JOIN scored ON checkpoint = id"
                f" WHERE sha256 = ? AND method = ? AND target IN ({marks})",
                sha256,
                method,
                *targets,
            )
        return bool(found == len(targets))

    def known(self, method: int, targets: Sequence[int]) -> NDArray[np.bytes_]:
        """SHA-256 of all weights that are done, sorted: for workers to know renamed files by."""
        marks = ", ".join("?" * len(targets))
        with self._errors():
            found = self._db.execute(
                "SELECT sha256 FROM checkpoints JOIN scored ON checkpoint = id"
                f" WHERE method = ? AND target IN ({marks}) GROUP BY id HAVING count(*) = ?",
                (method, *targets, len(targets)),
            )
            return np.sort(np.fromiter((bytes.fromhex(sha) for (sha,) in found), "S32"))

    def record(
        self,
        report: Report,
        method: int,
        targets: Mapping[tuple[str, str], int],
        run: int,
        environment: int,
    ) -> bool:
        """Enter a checkpoint's results in one transaction; False where they were all there already.

        Parameters
        ----------
        report : Report
        method : int
            From `add_method`.
        targets : mapping of (study, region) to int
            From `add_target`.
        run, environment : int
            From `begin_run` and `add_environment`.

        Raises
        ------
        StoreError
            If the file cannot be written; nothing of the checkpoint is then in it.
        """
        told = (run, environment, _now(), report.seconds, json.dumps(report.warnings))
        added = False
        with self._errors(), self._transaction():
            checkpoint = self._checkpoint(report, method)
            for study in report.studies:
                for region, score in study.scores.items():
                    target = targets[study.study, region]
                    new = self._db.execute(
                        "INSERT OR IGNORE INTO scored VALUES (?, ?, ?, ?, ?, ?, ?)",
                        (checkpoint, target, *told),
                    )
                    if new.rowcount:
                        added = True
                        self._add_results(checkpoint, target, study.layers, score)
                if study.rdms is not None:
                    self._db.executemany(
                        "INSERT OR IGNORE INTO rdms VALUES (?, ?, ?, ?, ?)",
                        [
                            (checkpoint, study.stimuli, i, layer, _packed(rdm))
                            for i, (layer, rdm) in enumerate(
                                zip(study.layers, study.rdms, strict=True)
                            )
                        ],
                    )
            self._remember(report, method)
        return added

    def _checkpoint(self, report: Report, method: int) -> int:
        key = (report.sha256, method)
        self._db.execute(
            "INSERT OR IGNORE INTO checkpoints (sha256, method, path, labels) VALUES (?, ?, ?, ?)",
            (*key, report.path, json.dumps(dict(report.labels))),
        )
        where = "WHERE sha256 = ? AND method = ?"
        number = int(self._one(f"SELECT id FROM checkpoints {where}", *key))
        path = self._one("SELECT path FROM checkpoints WHERE id = ?", number)
        # A renamed file is called by its new name; of copies, by that which sorts first, whoever came first.
        if path != report.path and (report.path < path or not Path(path).exists()):
            self._db.execute(
                "UPDATE checkpoints SET path = ?, labels = ? WHERE id = ?",
                (report.path, json.dumps(dict(report.labels)), number),
            )
        return number

    def _add_results(
        self, checkpoint: int, target: int, layers: Sequence[str], score: Score
    ) -> None:
        columns = [getattr(score, name).tolist() for name in COLUMNS]
        rho = np.ascontiguousarray(score.rho, "<f8")
        self._db.executemany(
            f"INSERT INTO results VALUES ({', '.join('?' * (5 + len(COLUMNS)))})",
            [
                (checkpoint, target, i, layer, *numbers, rho[i].tobytes())
                for i, (layer, *numbers) in enumerate(zip(layers, *columns, strict=True))
            ],
        )

    def _remember(self, report: Report, method: int) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)",
            (report.path, report.stamp.size, report.stamp.mtime_ns, report.sha256),
        )
        self._db.execute(
            "DELETE FROM failures WHERE path = ? AND method = ?", (report.path, method)
        )

    def recognise(self, report: Report, method: int) -> None:
        """Enter that a file holds weights that are scored under another name."""
        with self._errors(), self._transaction():
            self._checkpoint(report, method)
            self._remember(report, method)

    def fail(
        self, path: str, stamp: Stamp, method: int, run: int, error: str, traceback: str
    ) -> None:
        """Enter why a file could not be scored, in place of what was said of it before."""
        with self._errors(), self._transaction():
            self._db.execute(
                "INSERT INTO failures VALUES (?, ?, ?, ?, ?, ?, 1, ?, ?) ON CONFLICT DO UPDATE SET"
                " run = excluded.run, size = excluded.size, mtime_ns = excluded.mtime_ns, at = excluded.at,"
                " attempts = attempts + 1, error = excluded.error, traceback = excluded.traceback",
                (path, method, run, stamp.size, stamp.mtime_ns, _now(), error, traceback),
            )

    def counts(self) -> dict[str, int]:
        """How many checkpoints, results and failures there are."""
        with self._errors():
            return {
                table: self._one(f"SELECT count(*) FROM {table}")
                for table in ("checkpoints", "results", "failures")
            }

    def mean_seconds(self, method: int) -> float | None:
        """What a checkpoint took on average by a method; None where none is done."""
        with self._errors():
            seconds = self._one(
                "SELECT avg(s) FROM (SELECT max(seconds) AS s FROM scored JOIN checkpoints ON checkpoint = id"
                " WHERE method = ? GROUP BY checkpoint LIMIT 1000)",
                method,
            )
        return None if seconds is None else float(seconds)

    def failures(self) -> list[dict[str, Any]]:
        """The files that could not be scored, with the traceback of each."""
        return self._dicts(
            "SELECT path AS checkpoint, arch, at, attempts, error, traceback FROM failures"
            " JOIN methods ON methods.id = method ORDER BY path, key"
        )

    def runs(self) -> list[dict[str, Any]]:
        """The runs, first to last; `ended` is None of one that goes on or was killed."""
        return self._dicts(
            "SELECT started, ended, outcome, host, pid, settings FROM runs ORDER BY started, id"
        )

    def environments(self) -> list[dict[str, Any]]:
        """What the workers ran on: versions, kernels, providers."""
        return [json.loads(row["facts"]) for row in self._dicts("SELECT facts FROM environments")]

    def _dicts(self, statement: str) -> list[dict[str, Any]]:
        with self._errors():
            found = self._db.execute(statement)
            names = [column[0] for column in found.description]
            return [dict(zip(names, row, strict=True)) for row in found]

    def labels(self) -> list[str]:
        """Names of the labels that any checkpoint has."""
        with self._errors():
            return [
                name
                for (name,) in self._db.execute(
                    "SELECT DISTINCT j.key FROM checkpoints, json_each(labels) AS j ORDER BY 1"
                )
            ]

    def columns(self, *, subjects: bool = False) -> dict[str, type]:
        """Names and types of the columns that `rows` gives."""
        texts = ["checkpoint", "arch", *self.labels(), "set", "layer", "region"]
        numbers = [*COLUMNS, "ceiling", "mean_rho"]
        own: dict[str, type] = {"subject": int, "rho": float} if subjects else {}
        return {
            **dict.fromkeys(texts, str),
            **own,
            **dict.fromkeys(numbers, float),
            "sha256": str,
        }

    def rows(self, *, subjects: bool = False) -> Iterator[tuple[Any, ...]]:
        """Yield the results in an order that follows from the results alone.

        Parameters
        ----------
        subjects : bool
            Whether each subject has a row, with its similarity.

        Yields
        ------
        tuple
            As `columns` names them: by checkpoint, architecture, study, region and position of the layer.
        """
        labels = self.labels()
        statement = f"""
            SELECT c.path, m.arch, c.labels, t.study, r.layer, t.region, {", ".join(f"r.{c}" for c in COLUMNS)},
                   t.ceiling, c.sha256, r.rho
            FROM checkpoints c JOIN methods m ON m.id = c.method JOIN results r ON r.checkpoint = c.id
                 JOIN targets t ON t.id = r.target
            ORDER BY c.path, c.sha256, m.key, t.study, t.region, t.key, r.position"""
        with self._errors():
            for path, arch, text, study, layer, region, *numbers, sha256, rho in self._db.execute(
                statement
            ):
                own, similarities = json.loads(text), np.frombuffer(rho, "<f8")
                head = (path, arch, *(own.get(name, "") for name in labels), study, layer, region)
                # SQLite has no NaN.
                known = (math.nan if n is None else n for n in numbers)
                tail = (*known, float(np.add.reduce(similarities) / len(similarities)), sha256)
                if not subjects:
                    yield (*head, *tail)
                    continue
                for i, similarity in enumerate(similarities.tolist()):
                    yield (*head, i, similarity, *tail)

    def frame(self, *, subjects: bool = False) -> "pandas.DataFrame":
        """The results as a pandas DataFrame.

        Parameters
        ----------
        subjects : bool
            As for `rows`.

        Raises
        ------
        MissingExtraError
            If pandas is not installed.
        """
        pandas = require("pandas", "table", "to make a DataFrame")
        columns = self.columns(subjects=subjects)
        frame = pandas.DataFrame(self.rows(subjects=subjects), columns=list(columns))
        return frame.astype(
            {
                name: {str: "object", int: "int64", float: "float64"}[k]
                for name, k in columns.items()
            }
        )

    def write_csv(self, file: IO[str], *, subjects: bool = False) -> None:
        """Write the results as CSV; numbers as Python writes them, which gives them back to the last bit."""
        writer = csv.writer(file)
        writer.writerow(self.columns(subjects=subjects))
        writer.writerows(self.rows(subjects=subjects))

    def write_parquet(self, path: str | Path, *, subjects: bool = False) -> None:
        """Write the results as a Parquet file, which appears when it is complete.

        Raises
        ------
        MissingExtraError
            If pyarrow is not installed.
        """
        arrow = require("pyarrow", "table", "to write Parquet")
        parquet = require("pyarrow.parquet", "table", "to write Parquet")
        kinds = {str: arrow.string(), int: arrow.int64(), float: arrow.float64()}
        columns = self.columns(subjects=subjects)
        schema = arrow.schema([(name, kinds[kind]) for name, kind in columns.items()])
        with new_file(Path(path)) as file, parquet.ParquetWriter(file, schema) as writer:
            for block in _blocks(self.rows(subjects=subjects), _ROWS_AT_ONCE):
                arrays = [
                    arrow.array(values, field.type)
                    for values, field in zip(zip(*block, strict=True), schema, strict=True)
                ]
                writer.write_table(arrow.Table.from_arrays(arrays, schema=schema))

    def rdms(self, sha256: str) -> dict[tuple[str, str], NDArray[np.float32]]:
        """The RDMs that were kept of weights.

        Parameters
        ----------
        sha256 : str
            Of the weights' file.

        Returns
        -------
        dict of (str, str) to ndarray of float32, shape (pairs,)
            (Study, layer) → condensed RDM.
        """
        with self._errors():
            found = self._db.execute(
                "SELECT DISTINCT t.study, d.position, d.layer, d.content FROM rdms d"
                " JOIN checkpoints c ON c.id = d.checkpoint JOIN targets t ON t.stimuli = d.stimuli"
                " WHERE c.sha256 = ? ORDER BY t.study, d.position",
                (sha256,),
            ).fetchall()
        return {(study, layer): _unpacked(content) for study, _, layer, content in found}

    def merge(self, other: "str | Path") -> int:
        """Take over what another store has and this one has not.

        Parameters
        ----------
        other : path-like
            A store of the same schema. Of what both have, this one's stays.

        Returns
        -------
        int
            Checkpoints that became known.

        Raises
        ------
        FileNotFoundError, StoreError
            As for opening either, or if it is this store itself.
        """
        with Store(other):
            pass
        if Path(other).resolve() == self.path.resolve():
            raise StoreError(f"{other} cannot be merged into itself")
        with self._errors():
            before = self.counts()["checkpoints"]
            self._db.execute("ATTACH ? AS o", (f"{Path(other).resolve().as_uri()}?mode=ro",))
            try:
                with self._transaction():
                    for statement in MERGE:
                        self._db.execute(statement)
            finally:
                self._db.execute("DETACH o")
            return self.counts()["checkpoints"] - before


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def _packed(rdm: NDArray[np.float32]) -> bytes:
    """Compressed, its bytes sorted by significance: to 0.70 of their size, where zlib alone came to 0.82."""
    return zlib.compress(np.ascontiguousarray(rdm, "<f4").view(np.uint8).reshape(-1, 4).T.tobytes())


def _unpacked(content: bytes) -> NDArray[np.float32]:
    values = np.frombuffer(zlib.decompress(content), np.uint8).reshape(4, -1).T
    return np.ascontiguousarray(values).view("<f4").ravel()


def _blocks(rows: Iterable[tuple[Any, ...]], size: int) -> Iterator[list[tuple[Any, ...]]]:
    block: list[tuple[Any, ...]] = []
    for row in rows:
        block.append(row)
        if len(block) == size:
            yield block
            block = []
    if block:
        yield block
