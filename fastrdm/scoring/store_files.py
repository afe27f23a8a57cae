"""The files of a store: the database, and the log beside it that SQLite writes first (WAL).

SQLite takes an empty database for a new one and deletes the log beside it, and writes on into files that were removed.
So both files are looked at before the database is opened, and before each transaction. The database is never opened
here while SQLite has it: closing a file releases all locks that the process has on it.
"""

import contextlib
import os
import shutil
import stat
import tempfile
from pathlib import Path

from fastrdm.scoring.records import StoreError

_HEADER = b"SQLite format 3\0"
_LOG_MAGIC = (0x377F0682, 0x377F0683)


class StoreFiles:
    """A database and its log.

    Parameters
    ----------
    path : Path
        Of the database, as given.

    Raises
    ------
    StoreError
        If the path cannot be followed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            # SQLite names the log after the file that a link leads to.
            self.file = path.resolve()
        except (OSError, RuntimeError) as error:
            raise StoreError(
                f"{path} cannot be opened: {getattr(error, 'strerror', '') or error}"
            ) from error
        self.log = self.file.with_name(f"{self.file.name}-wal")
        # What SQLite writes while a store is created.
        self._journal = self.file.with_name(f"{self.file.name}-journal")
        self.had_log = False
        self._opened: dict[Path, tuple[int, int] | None] = {}

    def check(self, write: bool) -> None:
        """Refuse what cannot be a store, and what is left of one; an empty file with a log gets its first page back."""
        found = self._stat(self.file)
        log = self._stat(self.log)
        self.had_log = log is not None
        if log is not None and not stat.S_ISREG(log.st_mode):
            raise StoreError(
                f"{self.path} cannot be opened: {self.log.name} beside it, which would be its log, is not a file"
            )
        if found is None:
            self._check_missing(write)
        elif stat.S_ISDIR(found.st_mode):
            raise StoreError(f"{self.path} is a folder, not a store")
        elif not stat.S_ISREG(found.st_mode):
            raise StoreError(f"{self.path} is not a file, so it is not a store")
        elif not found.st_size and self._size(self.log) > 0:
            self._add_first_page()

    def _check_missing(self, write: bool) -> None:
        if self._size(self.log) > 0:
            raise StoreError(
                f"{self.path} was removed, but not its log {self.log.name}: restore the file, or remove the log too,"
                " with which a new store can be created"
            )
        if not write:
            raise FileNotFoundError(f"{self.path}: no such store")
        if not self.path.absolute().parent.is_dir():
            raise StoreError(f"{self.path}: its folder does not exist")

    def _stat(self, path: Path) -> os.stat_result | None:
        try:
            return path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"{self.path} cannot be opened: {error.strerror}") from error

    def _size(self, path: Path) -> int:
        """Size of a file in bytes; −1 if there is none."""
        found = self._stat(path)
        return -1 if found is None else found.st_size

    def log_to_read(self) -> Path | None:
        """The file beside the database without which its content is not complete; None if there is none."""
        return next((path for path in (self.log, self._journal) if self._size(path) > 0), None)

    def _add_first_page(self) -> None:
        """Make an empty database as long as a page, so that SQLite reads its log in place of deleting it."""
        page = self._page_of_log()
        if not page or not self._is_whole_log(page):
            raise StoreError(
                f"{self.path} is damaged: it is empty, and its log {self.log.name} does not hold all of its content;"
                " restore a copy, or remove both files to begin a new store"
            )
        try:
            # Appended, because another process may do the same.
            with self.file.open("ab") as file:
                file.write(page)
        except OSError as error:
            raise StoreError(
                f"{self.path} cannot be read: it is empty, and its log {self.log.name} cannot be put into it"
                f" ({error.strerror})"
            ) from error

    def _page_of_log(self) -> bytes:
        """A page of zeros of the log's page size; empty if the file is not a log."""
        with self.log.open("rb") as log:
            head = log.read(12)
        magic, size = int.from_bytes(head[:4], "big"), int.from_bytes(head[8:], "big")
        return bytes(size if magic in _LOG_MAGIC and 512 <= size <= 1 << 16 else 0)

    def _is_whole_log(self, page: bytes) -> bool:
        """Whether the log holds every page of a database; tried with a copy."""
        import sqlite3

        with tempfile.TemporaryDirectory(prefix="fastrdm-") as folder:
            copy = Path(folder, "store.db")
            copy.write_bytes(page)
            shutil.copy(self.log, f"{copy}-wal")
            with contextlib.closing(sqlite3.connect(copy)) as database:
                try:
                    is_empty = not database.execute(
                        "SELECT count(*) FROM sqlite_schema"
                    ).fetchone()[0]
                    return not is_empty and database.execute(
                        "PRAGMA quick_check(1)"
                    ).fetchone() == ("ok",)
                except sqlite3.DatabaseError:
                    return False

    def lacks_end(self) -> bool:
        """Whether a database that SQLite calls damaged is shorter than its header says, without a log."""
        if self.log_to_read():
            return False
        with self.file.open("rb") as file:
            head = file.read(100)
            size = file.seek(0, os.SEEK_END)
        # 1 stands for 65536.
        page, pages = int.from_bytes(head[16:18], "big"), int.from_bytes(head[28:32], "big")
        return head.startswith(_HEADER) and size < pages * (65536 if page == 1 else page)

    def remember(self) -> None:
        """Remember which files are open."""
        self._opened = {path: self._identity(path) for path in (self.file, self.log)}

    def is_in_place(self) -> bool:
        """Whether the path still leads to the database that was opened."""
        return self._identity(self.file) == self._opened[self.file]

    def is_log_in_place(self) -> bool:
        """Whether the log that was opened is still beside the database."""
        return self._identity(self.log) == self._opened[self.log]

    @staticmethod
    def _identity(path: Path) -> tuple[int, int] | None:
        # os.stat takes a fifth of pathlib's time.
        try:
            found = os.stat(path)  # noqa: PTH116
        except OSError:
            return None
        return found.st_dev, found.st_ino
