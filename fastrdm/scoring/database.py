"""The SQLite file of a store: opened, checked, upgraded, and its errors in plain words.

The file is in WAL mode with ``synchronous=NORMAL``: a killed process loses nothing that was committed; a power cut may
lose the last transactions but leaves the file whole. WAL needs a local file system, not a network share.
"""

import contextlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from fastrdm.scoring.records import StoreError
from fastrdm.scoring.store_schema import MIGRATIONS, VIEWS, statements

# "fRDM": tells SQLite and `file` which program the database belongs to.
_APPLICATION = 0x6652444D
_HEADER = b"SQLite format 3\0"
_PATIENCE_S = 60.0

# By the names of SQLite's codes, since sqlite3 is imported only when a store is opened.
_REASONS = {
    "SQLITE_FULL": "cannot be written because the disk is full; all that was reported done is in it, and the "
    "same command continues from there",
    "SQLITE_IOERR": "cannot be read or written ({error}); all that was reported done is in it",
    "SQLITE_CORRUPT": "is damaged ({error}); restore a copy, or start another store",
    "SQLITE_NOTADB": "is damaged or not a store of fastrdm: it is not an SQLite database",
    "SQLITE_BUSY": f"was locked by other writers for more than {_PATIENCE_S:g} s",
    "SQLITE_READONLY": "cannot be written: the file or its folder is read-only, or the store was opened without "
    "write=True",
    "SQLITE_CANTOPEN": "cannot be opened; its folder must exist and be writable",
}


class Database:
    """A store's file; parameters and errors as for `Store`."""

    def __init__(self, path: str | Path, *, write: bool = False) -> None:
        import sqlite3

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
                elif self._version < len(MIGRATIONS):
                    for statement in statements(VIEWS[self._version]):
                        self._db.execute(statement)
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
                raise StoreError(f"{self.path}: its folder does not exist")
            return
        with self.path.open("rb") as file:
            head = file.read(100)
        if head and not head.startswith(_HEADER):
            raise StoreError(f"{self.path} is not a store of fastrdm, nor any SQLite file")
        if head:
            page, pages = int.from_bytes(head[16:18], "big"), int.from_bytes(head[28:32], "big")
            # 1 stands for 65536. The header does not count pages that are still in the WAL.
            if self.path.stat().st_size < pages * (65536 if page == 1 else page):
                raise StoreError(f"{self.path} is damaged: its end is missing")

    def _check_owner(self, write: bool) -> None:
        # In one transaction, because another process may be creating the store.
        with self._transaction("BEGIN"):
            owner, version = self._one("PRAGMA application_id"), self._one("PRAGMA user_version")
            is_new = not self._one("SELECT count(*) FROM sqlite_schema") and not version
        if owner != _APPLICATION and not (write and is_new):
            raise StoreError(
                f"{self.path} is an SQLite file of another program, not a store of fastrdm"
            )
        if version > len(MIGRATIONS):
            raise StoreError(
                f"{self.path} was written by a later fastrdm: its schema has version {version}, and this fastrdm"
                f" supports {len(MIGRATIONS)}"
            )
        self._version = version
        if not write and version < len(MIGRATIONS) and version not in VIEWS:
            raise StoreError(
                f"{self.path} has version {version} of the schema, and this fastrdm reads {len(MIGRATIONS)};"
                " a sweep or a merge into it upgrades it"
            )

    def _prepare(self) -> None:
        import sqlite3

        end = time.monotonic() + _PATIENCE_S
        while True:
            try:
                self._db.execute("PRAGMA journal_mode=WAL")
                break
            # SQLite does not wait while another process changes the mode.
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                    raise
                time.sleep(0.05)
        self._db.execute("PRAGMA synchronous=NORMAL")
        with self._transaction():
            for script in MIGRATIONS[self._one("PRAGMA user_version") :]:
                for statement in statements(script):
                    self._db.execute(statement)
            self._db.execute(f"PRAGMA application_id={_APPLICATION}")
            self._db.execute(f"PRAGMA user_version={len(MIGRATIONS)}")

    @property
    def is_old(self) -> bool:
        """Whether the file had an older schema when it was opened."""
        return bool(self._version < len(MIGRATIONS))

    def copy(self, path: Path) -> None:
        """Write a copy of the file."""
        import sqlite3

        with contextlib.closing(sqlite3.connect(path)) as target:
            self._db.backup(target)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

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
            # The lower byte is the kind of error, the rest its details.
            kind = getattr(error, "sqlite_errorcode", 0) & 0xFF
            for name, reason in _REASONS.items():
                if kind == getattr(sqlite3, name):
                    raise StoreError(f"{self.path} {reason.format(error=error)}") from error
            raise

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

    def _one(self, statement: str, *values: object) -> Any:
        row = self._db.execute(statement, values).fetchone()
        return None if row is None else row[0]

    def _id(self, table: str, columns: Mapping[str, object]) -> int:
        """Number of the row whose first column matches; inserted in a transaction if there is none."""
        key, marks = next(iter(columns)), ", ".join("?" * len(columns))
        insert = f"INSERT OR IGNORE INTO {table} ({', '.join(columns)}) VALUES ({marks})"
        with self._errors(), self._transaction():
            self._db.execute(insert, list(columns.values()))
            return int(self._one(f"SELECT id FROM {table} WHERE {key} = ?", columns[key]))

    def query(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Return the rows of a statement."""
        with self._errors():
            return self._db.execute(statement, values).fetchall()

    def dicts(self, statement: str, *values: object) -> list[dict[str, Any]]:
        """Return the rows of a statement by the names of its columns."""
        with self._errors():
            found = self._db.execute(statement, values)
            names = [column[0] for column in found.description]
            return [dict(zip(names, row, strict=True)) for row in found]
