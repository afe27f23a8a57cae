"""The SQLite file of a store: opened, checked, upgraded, and its errors in plain words.

The file is in WAL mode with ``synchronous=NORMAL``: a killed process loses nothing that was committed; a power cut may
lose the last transactions but leaves the file whole. WAL needs a local file system, not a network share.
"""

import contextlib
import os
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from fastrdm._base import file_stamp, one_line, printable, warn_caller
from fastrdm.scoring.records import StoreError
from fastrdm.scoring.store_files import StoreFiles
from fastrdm.scoring.store_schema import (
    MIGRATIONS,
    VIEWS,
    columns_of,
    problem_of_schema,
    statements,
)
from fastrdm.scoring.store_values import RowError

# "fRDM": tells SQLite and `file` which program the database belongs to.
_APPLICATION = 0x6652444D
_PATIENCE_S = 60.0
# Seconds after which what is in the log is put into the database.
_CHECKPOINT_S = 1.0

# By the names of SQLite's codes, since sqlite3 is imported only when a store is opened.
_REASONS = {
    "SQLITE_IOERR_SHM": "cannot be opened because the disk is full; all that was reported done is in it",
    "SQLITE_FULL": "cannot be written because the disk is full; all that was reported done is in it, and the "
    "same command continues from there",
    "SQLITE_IOERR": "cannot be read or written ({error}); all that was reported done is in it",
    "SQLITE_CORRUPT": "is damaged ({error}); restore a copy, or start another store",
    "SQLITE_NOTADB": "is not an SQLite file: it is damaged, or not a store of fastrdm",
    "SQLITE_BUSY": f"was locked by other writers for more than {_PATIENCE_S:g} s",
    "SQLITE_PROTOCOL": "was locked by other programs for too long",
    "SQLITE_READONLY_ROLLBACK": "must be repaired after an interruption; repeat the command that wrote it",
    "SQLITE_READONLY_DIRECTORY": "cannot be opened; its folder must exist and be writable",
    "SQLITE_READONLY": "cannot be written: {read_only}",
    "SQLITE_CANTOPEN": "cannot be opened; its folder must exist and be writable",
    "SQLITE_ERROR": "is damaged ({error})",
}
_NOT_UTF_8 = re.compile("decode to UTF-8 column '(.*?)'")
# Where a reader cannot make the files that it shares with a writer.
_UNSHARED = (
    "SQLITE_CANTOPEN",
    "SQLITE_IOERR_SHM",
    "SQLITE_READONLY_CANTINIT",
    "SQLITE_READONLY_DIRECTORY",
)


class Database:
    """A store's file; parameters and errors as for `Store`."""

    def __init__(self, path: str | Path, *, write: bool = False) -> None:
        self.path = Path(path)
        self._write = write
        self._files = StoreFiles(self.path)
        self._files.check(write)
        self._process = os.getpid()
        # Of a file that is read without locks.
        self._stamp: tuple[int, int] | None = None
        self._checkpointed = time.monotonic()
        with self._errors():
            self._connect()

    def _connect(self) -> None:
        import sqlite3

        # A file that another process removes meanwhile is not created again.
        exists = self._files.file.exists()
        try:
            self._open("rw" if self._write and exists else "rwc" if self._write else "ro")
        except sqlite3.Error as error:
            name = getattr(error, "sqlite_errorname", "")
            if self._write or not name.startswith(_UNSHARED):
                raise
            self._open_unshared(error)

    def _open_unshared(self, error: Exception) -> None:
        """Open a file to read it without locks, because its folder is read-only or the disk is full.

        No other process writes to it if there is no log; `_errors` makes sure.
        """
        if log := self._files.log_to_read():
            is_full = "SHM" in getattr(error, "sqlite_errorname", "")
            raise StoreError(
                f"{self.path} cannot be read because {'the disk is full' if is_full else 'its folder is read-only'} and"
                f" {log.name} has to be put into it first; copy both files to another folder"
            ) from error
        self._stamp = file_stamp(self._files.file)
        self._open("ro&immutable=1")

    def _open(self, mode: str) -> None:
        import sqlite3

        self._db = sqlite3.connect(
            f"{self._files.file.as_uri()}?mode={mode}",
            uri=True,
            timeout=_PATIENCE_S,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            self._check_content()
            if self._write:
                self._prepare()
            elif self._version < len(MIGRATIONS):
                for statement in statements(VIEWS[self._version]):
                    self._db.execute(statement)
        except BaseException:
            self._db.close()
            raise

    def _check_content(self) -> None:
        # In one transaction, because another process may be creating the store.
        with self._transaction("BEGIN"):
            owner, version = self._one("PRAGMA application_id"), self._one("PRAGMA user_version")
            is_new = not self._one("SELECT count(*) FROM sqlite_schema") and not version
            n_bytes = self._one("PRAGMA page_count") * self._one("PRAGMA page_size")
            # While this transaction sees no log, none is written into the database.
            if not self._files.log_to_read() and self._files.file.stat().st_size < n_bytes:
                raise StoreError(f"{self.path} is damaged: its end is missing")
        if is_new:
            self._check_new(n_bytes)
        elif owner != _APPLICATION:
            raise StoreError(
                f"{self.path} is an SQLite file of another program, not a store of fastrdm"
            )
        if version > len(MIGRATIONS):
            raise StoreError(
                f"{self.path} was written by a later fastrdm: its schema has version {version}, and this fastrdm"
                f" supports {len(MIGRATIONS)}"
            )
        self._version = version
        if not is_new:
            self._check_tables()
            self._check_log()
        if not self._write and version < len(MIGRATIONS) and version not in VIEWS:
            raise StoreError(
                f"{self.path} has version {version} of the schema, and this fastrdm reads {len(MIGRATIONS)};"
                " a sweep or a merge into it upgrades it"
            )

    def _check_tables(self) -> None:
        """Refuse a store without the tables of its version, and one with triggers."""
        if problem := problem_of_schema(self._db, self._version):
            raise StoreError(f"{self.path} is damaged: {problem}")

    def _check_log(self) -> None:
        """Warn if the last writer was killed and its log is not there."""
        if "writers" not in columns_of(self._version):
            return
        with self._transaction("BEGIN"):
            is_open = self._one("SELECT max(is_open) FROM writers")
            is_lost = is_open and not self._files.log_to_read()
        if is_lost:
            warn_caller(
                f"{self.path} was not closed, and its log {self._files.log.name} is not beside it: what was reported"
                " done last may be missing, and is scored again by the same sweep"
            )

    def _check_new(self, n_bytes: int) -> None:
        """Refuse to begin a store that has lost its content, and to read one that has none yet."""
        if n_bytes and not self._files.had_log and self._one("PRAGMA journal_mode") == "wal":
            raise StoreError(
                f"{self.path} has no content, because its log {self._files.log.name} was removed: restore the log, or"
                " remove the file to begin a new store"
            )
        if not self._write:
            raise StoreError(
                f"{self.path} has no content yet: a sweep is creating it, or was stopped before it could"
            )

    def _prepare(self) -> None:
        # Before the change to WAL, so that a database without content never has a log.
        if self._version < len(MIGRATIONS):
            with self._transaction():
                for script in MIGRATIONS[self._one("PRAGMA user_version") :]:
                    for statement in statements(script):
                        self._db.execute(statement)
                self._db.execute(f"PRAGMA application_id={_APPLICATION}")
                self._db.execute(f"PRAGMA user_version={len(MIGRATIONS)}")
        self._use_log()
        self._db.execute("PRAGMA synchronous=NORMAL")
        # The first look at the content makes the log.
        self._one("SELECT count(*) FROM sqlite_schema")
        self._files.remember()
        self._mark(1)
        # So that the mark is not in the log alone.
        self._db.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def _mark(self, is_open: int) -> None:
        """Mark the store as open or closed."""
        self._db.execute(
            "UPDATE writers SET is_open = ? WHERE typeof(is_open) != 'integer' OR is_open != ?",
            (is_open, is_open),
        )

    def _use_log(self) -> None:
        import sqlite3

        end = time.monotonic() + _PATIENCE_S
        while True:
            try:
                self._db.execute("PRAGMA journal_mode=WAL")
                return
            # SQLite does not wait while another process changes the mode.
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                    raise
                time.sleep(0.05)

    @property
    def version(self) -> int:
        """Version of the schema when the file was opened."""
        return int(self._version)

    @property
    def is_old(self) -> bool:
        """Whether the file had an older schema when it was opened."""
        return bool(self._version < len(MIGRATIONS))

    @property
    def is_unshared(self) -> bool:
        """Whether the file is read without locks, because its folder cannot be written."""
        return self._stamp is not None

    def copy(self, path: Path) -> None:
        """Write a copy of the file."""
        import sqlite3

        with contextlib.closing(sqlite3.connect(path)) as target:
            self._db.backup(target)

    def close(self) -> None:
        """Close the file."""
        import sqlite3

        # A process that was forked has no locks.
        if self._write and self._process == os.getpid() and self._files.is_in_place():
            with contextlib.suppress(sqlite3.Error):
                try:
                    self._mark(0)
                except sqlite3.Error:
                    # A full disk has room again once the log is in the file.
                    self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                    self._mark(0)
        self._db.close()

    def __del__(self) -> None:
        # Also of a store that was not opened.
        with contextlib.suppress(Exception):
            self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        import sqlite3

        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(f"{self.path} {self._reason(error)}") from error
        # Names in a damaged schema are not UTF-8, nor then the messages with them.
        except (RowError, UnicodeDecodeError) as error:
            raise StoreError(
                f"{self.path} is damaged: {printable(str(error))};"
                f" `fastrdm table {self.path} --check` lists all that is wrong"
            ) from error
        if self._stamp is not None and (
            file_stamp(self._files.file) != self._stamp or self._files.log_to_read()
        ):
            raise StoreError(
                f"{self.path} was changed while it was read from a folder that cannot be written; repeat the command"
            )

    def reading(self) -> contextlib.AbstractContextManager[None]:
        """Put errors of reading, and `RowError`, into sentences that name the store."""
        return self._errors()

    def _reason(self, error: Exception) -> str:
        name = getattr(error, "sqlite_errorname", "")
        if name.startswith("SQLITE_CORRUPT") and self._files.lacks_end():
            return "is damaged: its end is missing"
        if column := _NOT_UTF_8.search(str(error)):
            return f"is damaged: a text in the column {column[1]} is not UTF-8"
        for prefix, reason in _REASONS.items():
            if name.startswith(prefix):
                read_only = "the file or its folder is read-only"
                if not self._write:
                    read_only = "the store was opened without write=True"
                return reason.format(error=printable(one_line(error)), read_only=read_only)
        return f"cannot be used: {printable(one_line(error))}"

    @contextlib.contextmanager
    def _transaction(self, begin: str = "BEGIN IMMEDIATE") -> Iterator[None]:
        self._db.execute(begin)
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            # A full disk ends the transaction.
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    @contextlib.contextmanager
    def _change(self) -> Iterator[None]:
        """A transaction that writes to the store, which must be where it was opened."""
        with self._errors():
            self._check_in_place()
            with self._transaction():
                yield
            self._put_log_into_file()

    def _check_in_place(self) -> None:
        """Refuse to write into files that another program removed."""
        if not self._write:
            return
        if not self._files.is_in_place():
            raise StoreError(
                f"{self.path} was removed or replaced while it was written to: what it held is lost, unless the file is"
                " restored"
            )
        if not self._files.is_log_in_place():
            # With another log at its place, another process may have written pages that are not in this one.
            is_saved = not self._files.log.exists() and self._save_log()
            kept = (
                "all that was reported done was saved; repeat the command"
                if is_saved
                else "what was reported done last may be lost"
            )
            raise StoreError(
                f"{self.path}: its log {self._files.log.name} was removed or replaced while the store was open; {kept}"
            )

    def _save_log(self) -> bool:
        """Put the log into the database, and return whether all of it is there."""
        busy, n_pages, n_saved = self._db.execute("PRAGMA wal_checkpoint(FULL)").fetchone()
        return not busy and n_pages == n_saved

    def _put_log_into_file(self) -> None:
        """Put the log into the database now and then: what is in it would be lost with the log."""
        import sqlite3

        if time.monotonic() - self._checkpointed < _CHECKPOINT_S:
            return
        # If it fails, everything is still in the log.
        with contextlib.suppress(sqlite3.Error):
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)")
        self._checkpointed = time.monotonic()

    def _one(self, statement: str, *values: object) -> Any:
        row = self._db.execute(statement, values).fetchone()
        return None if row is None else row[0]

    def _id(self, table: str, columns: Mapping[str, object]) -> int:
        """Number of the row whose first column matches; inserted in a transaction if there is none."""
        key, marks = next(iter(columns)), ", ".join("?" * len(columns))
        insert = f"INSERT OR IGNORE INTO {table} ({', '.join(columns)}) VALUES ({marks})"
        with self._change():
            self._db.execute(insert, list(columns.values()))
            return int(self._one(f"SELECT id FROM {table} WHERE {key} = ?", columns[key]))

    def query(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Return the rows of a statement."""
        with self._errors():
            return self._db.execute(statement, values).fetchall()

    def each(self, statement: str) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a statement, which need not be in memory together."""
        with self._errors():
            yield from self._db.execute(statement)

    def dicts(self, statement: str, *values: object) -> list[dict[str, Any]]:
        """Return the rows of a statement by the names of its columns."""
        with self._errors():
            found = self._db.execute(statement, values)
            names = [column[0] for column in found.description]
            return [dict(zip(names, row, strict=True)) for row in found]
