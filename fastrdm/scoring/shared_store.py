"""A store in which sweeps claim what they score, so that several of them share the work.

A running sweep is a holder of claims. It counts its heartbeats in the store. A claim ends when its holder ends it, when
the holder's process is known to have ended, or when another sweep has seen no heartbeat for the length of a lease. The
observer measures this time with its monotonic clock, so no clock has to be right. Claims only save work: a checkpoint
that two sweeps score is stored once.

The tables are made when they are needed and are not part of the schema: they hold nothing once all sweeps have ended.
"""

import contextlib
import threading
import time
import uuid
from collections.abc import Sequence
from typing import Any

from fastrdm.scoring.processes import ProcessIdentity
from fastrdm.scoring.records import StoreError
from fastrdm.scoring.store import Store
from fastrdm.scoring.store_files import StoreFiles

# Seconds between two heartbeats, and without one until a claim ends.
_BEAT_S, _LEASE_S = 2.0, 30.0
# Longer gaps between two looks at a heartbeat count as this many seconds: the observer may have been suspended itself.
_LONGEST_LOOK_S = 3.0

# `samples` are the contents that were scored while several sweeps ran.
_TABLES = (
    "CREATE TABLE IF NOT EXISTS holders (id TEXT PRIMARY KEY, host TEXT NOT NULL, machine TEXT NOT NULL,"
    " pid INTEGER NOT NULL, started TEXT NOT NULL, beat INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS claims (method INTEGER NOT NULL, sample TEXT NOT NULL, holder TEXT NOT NULL,"
    " PRIMARY KEY (method, sample)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS samples (sample TEXT NOT NULL, sha256 TEXT NOT NULL,"
    " PRIMARY KEY (sample, sha256)) WITHOUT ROWID",
)
# Also restores the row of a holder that was thought to have ended.
_BEAT = (
    "INSERT INTO holders VALUES (?, ?, ?, ?, ?, 0) ON CONFLICT (id) DO UPDATE SET beat = beat + 1"
)


class Leases:
    """How long heartbeats have stood still, by holder."""

    def __init__(self) -> None:
        # Heartbeat, time of the last look, seconds without a change.
        self._seen: dict[str, tuple[int, float, float]] = {}

    def has_ended(self, holder: str, beat: int) -> bool:
        """Whether a heartbeat has not changed for the length of a lease."""
        now = time.monotonic()
        before, looked, still = self._seen.get(holder, (beat, now, 0.0))
        still = still + min(now - looked, _LONGEST_LOOK_S) if before == beat else 0.0
        self._seen[holder] = beat, now, still
        return still > _LEASE_S


class Heartbeat(threading.Thread):
    """Counts the heartbeats of a holder in a store, until it is stopped."""

    def __init__(self, files: StoreFiles, row: tuple[Any, ...]) -> None:
        super().__init__(name="fastrdm-heartbeat", daemon=True)
        self._files, self._row = files, row
        self._stopped = threading.Event()

    def run(self) -> None:
        """Beat; a store that cannot be written ends at worst the claims."""
        import sqlite3

        while not self._stopped.wait(_BEAT_S):
            # SQLite would make another log in place of one that was removed.
            if not (self._files.is_in_place() and self._files.is_log_in_place()):
                continue
            with contextlib.suppress(sqlite3.Error):
                # Not kept open: a store that was removed or replaced must not be written.
                address = f"{self._files.file.as_uri()}?mode=rw"
                with contextlib.closing(
                    sqlite3.connect(address, uri=True, timeout=_BEAT_S, isolation_level=None)
                ) as database:
                    database.execute(_BEAT, self._row)

    def stop(self) -> None:
        """Stop, and wait for a heartbeat that is being written."""
        self._stopped.set()
        self.join()


class SharedStore(Store):
    """A store that is open for a sweep; parameters and errors as for `Store`."""

    _heartbeat: Heartbeat | None = None
    _holder = ""

    def share(self) -> None:
        """Become a holder of claims until the store is closed."""
        if self._heartbeat is not None:
            return
        process = ProcessIdentity.current()
        self._holder = uuid.uuid4().hex
        self._leases = Leases()
        row = (self._holder, process.host, process.machine, process.pid, process.started)
        with self._errors(), self._transaction():
            for statement in _TABLES:
                self._db.execute(statement)
        for holder, *other in self.query("SELECT id, host, machine, pid, started FROM holders"):
            if ProcessIdentity(*other).is_dead():
                self._remove(holder)
        with self._errors(), self._transaction():
            # A sweep that begins alone finds all contents among the checkpoints.
            self._db.execute("DELETE FROM samples WHERE NOT EXISTS (SELECT 1 FROM holders)")
            self._db.execute(_BEAT, row)
        self._heartbeat = Heartbeat(self._files, row)
        self._heartbeat.start()

    def claim(self, pipeline: int, sample: str, targets: Sequence[int]) -> tuple[str, ...] | None:
        """Claim the contents with a sample under a pipeline; None if another sweep has the claim.

        Returns the SHA-256 of such contents that have scores for all targets.
        """
        marks = ", ".join("?" * len(targets))
        with self._errors():
            if self._one("SELECT 1 FROM claims WHERE method = ? AND sample = ?", pipeline, sample):
                return None
            new = self._db.execute(
                "INSERT OR IGNORE INTO claims VALUES (?, ?, ?)", (pipeline, sample, self._holder)
            )
            if not new.rowcount:
                return None
            found = self._db.execute(
                "SELECT s.sha256 FROM samples s JOIN checkpoints c ON c.sha256 = s.sha256 AND c.method = ?"
                f" JOIN scored ON checkpoint = c.id AND target IN ({marks}) WHERE s.sample = ?"
                " GROUP BY c.id HAVING count(*) = ?",
                (pipeline, *targets, sample, len(targets)),
            )
            return tuple(sha256 for (sha256,) in found)

    def release(self, pipeline: int, sample: str, sha256: str = "") -> None:
        """End a claim; `sha256` is that of the content if it has scores now."""
        with self._errors(), self._transaction():
            if sha256:
                self._db.execute("INSERT OR IGNORE INTO samples VALUES (?, ?)", (sample, sha256))
            self._db.execute(
                "DELETE FROM claims WHERE method = ? AND sample = ? AND holder = ?",
                (pipeline, sample, self._holder),
            )

    def claimed(self) -> dict[tuple[int, str], str]:
        """Claims of other sweeps that run, by pipeline and sample, with descriptions of their holders.

        The claims of sweeps that have ended are removed.
        """
        found = self.query(
            "SELECT c.method, c.sample, h.id, h.beat, h.host, h.machine, h.pid, h.started"
            " FROM claims c JOIN holders h ON h.id = c.holder WHERE h.id != ?",
            self._holder,
        )
        holders = {
            holder: (ProcessIdentity(*process), beat) for _, _, holder, beat, *process in found
        }
        running = {
            holder: str(process)
            for holder, (process, beat) in holders.items()
            if not (process.is_dead() or self._leases.has_ended(holder, beat))
        }
        for holder in holders.keys() - running.keys():
            self._remove(holder, holders[holder][1])
        return {
            (method, sample): running[holder]
            for method, sample, holder, *_ in found
            if holder in running
        }

    def close(self) -> None:
        """End all claims, and close the file."""
        if self._heartbeat is not None:
            self._heartbeat.stop()
            self._heartbeat = None
            # The store may be gone or its disk full; others then recognise that this process has ended.
            with contextlib.suppress(StoreError):
                self._remove(self._holder)
        super().close()

    def _remove(self, holder: str, beat: int | None = None) -> None:
        """End all claims of a holder; if `beat` is given, only if it is still the heartbeat."""
        with self._errors(), self._transaction():
            self._db.execute(
                "DELETE FROM holders WHERE id = ?1 AND beat = coalesce(?2, beat)", (holder, beat)
            )
            self._db.execute("DELETE FROM claims WHERE holder NOT IN (SELECT id FROM holders)")
