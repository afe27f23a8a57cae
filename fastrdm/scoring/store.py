"""The file of a sweep's results: one writer, any number of readers, a transaction for each checkpoint.

Results are found by content. A result belongs to the SHA-256 of the weights, to a `Pipeline` (graph, preprocessing,
precision, kernels) and to a `TargetRecord` (stimuli, subjects' RDMs, protocol, ceiling), so a renamed file is not
scored again and a changed one is. The instruction set and the execution provider are recorded but not part of the key:
they change the last bits of a score, and a sweep that moves to another machine must continue.
"""

import datetime
import json
import os
import socket
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastrdm.scoring.jobs import Failed, Known, Scored, Stamp
from fastrdm.scoring.records import Pipeline, StoreError, TargetRecord, digest_of
from fastrdm.scoring.results import COLUMNS
from fastrdm.scoring.store_schema import MERGE
from fastrdm.scoring.store_tables import StoreReader, packed

if TYPE_CHECKING:
    from fastrdm.similarity import Score


class Store(StoreReader):
    """A file of scores.

    Parameters
    ----------
    path : path-like
    write : bool
        Whether to create the file if it does not exist, upgrade its schema, and write to it.

    Raises
    ------
    FileNotFoundError
        If it is opened for reading and does not exist.
    StoreError
        If it is damaged, belongs to another program, or was written by a later fastrdm.
    """

    def add_pipeline(self, pipeline: Pipeline) -> int:
        """Number of a pipeline in the store; added if it is new."""
        return self._id("methods", {"key": pipeline.key} | asdict(pipeline))

    def add_target(self, target: TargetRecord) -> int:
        """Number of a target in the store; added if it is new."""
        return self._id("targets", {"key": target.key} | asdict(target))

    def add_environment(self, facts: Mapping[str, Any]) -> int:
        """Number of a worker's environment in the store; added if it is new."""
        text = json.dumps(facts, sort_keys=True)
        return self._id("environments", {"key": digest_of(facts), "facts": text})

    def begin_run(self, settings: Mapping[str, Any]) -> int:
        """Add a run and return its number."""
        facts = {
            "uuid": uuid.uuid4().hex,
            "started": _now(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "settings": json.dumps(settings),
        }
        return self._id("runs", facts)

    def end_run(self, run: int, outcome: str) -> None:
        """Record how a run ended; a killed run has no end."""
        with self._errors():
            self._db.execute(
                "UPDATE runs SET ended = ?, outcome = ? WHERE id = ?", (_now(), outcome, run)
            )

    def state(self, path: str, stamp: Stamp, pipeline: int, targets: Sequence[int]) -> str:
        """Whether a file is "done", "failed", or "new".

        A file whose path, size and time are known is not read again; any other file is new.
        """
        marks = ", ".join("?" * len(targets))
        key = (path, stamp.size, stamp.mtime_ns)
        with self._errors():
            done, failed = self._db.execute(
                "SELECT (SELECT count(*) FROM files f JOIN checkpoints c ON c.sha256 = f.sha256 AND c.method = ?"
                f" JOIN scored ON checkpoint = c.id AND target IN ({marks})"
                " WHERE f.path = ? AND f.size = ? AND f.mtime_ns = ?),"
                " (SELECT 1 FROM failures WHERE path = ? AND size = ? AND mtime_ns = ? AND method = ?)",
                (pipeline, *targets, *key, *key, pipeline),
            ).fetchone()
        if done == len(targets):
            return "done"
        return "failed" if failed else "new"

    def known(self, pipeline: int, targets: Sequence[int]) -> NDArray[np.bytes_]:
        """SHA-256 of all weights with scores for all targets, sorted; workers recognise renamed files by them."""
        marks = ", ".join("?" * len(targets))
        with self._errors():
            found = self._db.execute(
                "SELECT sha256 FROM checkpoints JOIN scored ON checkpoint = id"
                f" WHERE method = ? AND target IN ({marks}) GROUP BY id HAVING count(*) = ?",
                (pipeline, *targets, len(targets)),
            )
            return np.sort(np.fromiter((bytes.fromhex(sha) for (sha,) in found), "S32"))

    def record(
        self,
        scored: Scored,
        pipeline: int,
        targets: Mapping[tuple[str, str], int],
        run: int,
        environment: int,
    ) -> bool:
        """Add a checkpoint's results in one transaction; return False if all of them were there.

        Numbers are those of `add_pipeline`, `add_target`, `begin_run` and `add_environment`. If the file cannot be
        written, it holds nothing of the checkpoint.
        """
        facts = (run, environment, _now(), scored.seconds, json.dumps(list(scored.warnings)))
        added = False
        with self._errors(), self._transaction():
            checkpoint = self._checkpoint(scored, pipeline)
            for key, score in scored.scores.items():
                new = self._db.execute(
                    "INSERT OR IGNORE INTO scored VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (checkpoint, targets[key], *facts),
                )
                if new.rowcount:
                    added = True
                    self._add_results(checkpoint, targets[key], scored.layers, score)
            for study, rdms in scored.rdms.items():
                target = next(number for key, number in targets.items() if key[0] == study)
                stimuli = self._one("SELECT stimuli FROM targets WHERE id = ?", target)
                rows = [
                    (checkpoint, stimuli, i, layer, packed(rdm))
                    for i, (layer, rdm) in enumerate(zip(scored.layers, rdms, strict=True))
                ]
                self._db.executemany("INSERT OR IGNORE INTO rdms VALUES (?, ?, ?, ?, ?)", rows)
            self._remember(scored, pipeline)
        return added

    def _checkpoint(self, outcome: Scored | Known, pipeline: int) -> int:
        path, labels = outcome.job.path, json.dumps(dict(outcome.job.labels))
        key = (outcome.sha256, pipeline)
        self._db.execute(
            "INSERT OR IGNORE INTO checkpoints (sha256, method, path, labels) VALUES (?, ?, ?, ?)",
            (*key, path, labels),
        )
        number, before = self._db.execute(
            "SELECT id, path FROM checkpoints WHERE sha256 = ? AND method = ?", key
        ).fetchone()
        # A renamed file takes its new name; of several copies, the name that sorts first counts.
        if before != path and (path < before or not Path(before).exists()):
            self._db.execute(
                "UPDATE checkpoints SET path = ?, labels = ? WHERE id = ?", (path, labels, number)
            )
        return int(number)

    def _add_results(
        self, checkpoint: int, target: int, layers: Sequence[str], score: "Score"
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

    def _remember(self, outcome: Scored | Known, pipeline: int) -> None:
        path, stamp = outcome.job.path, outcome.stamp
        self._db.execute(
            "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)",
            (path, stamp.size, stamp.mtime_ns, outcome.sha256),
        )
        self._db.execute("DELETE FROM failures WHERE path = ? AND method = ?", (path, pipeline))

    def recognise(self, known: Known, pipeline: int) -> None:
        """Record that a file holds weights with scores under another name."""
        with self._errors(), self._transaction():
            self._checkpoint(known, pipeline)
            self._remember(known, pipeline)

    def fail(self, failed: Failed, pipeline: int, run: int) -> None:
        """Record why a file could not be scored, in place of an earlier reason."""
        path, key = failed.job.path, (failed.stamp.size, failed.stamp.mtime_ns)
        with self._errors(), self._transaction():
            self._db.execute(
                "INSERT INTO failures VALUES (?, ?, ?, ?, ?, ?, 1, ?, ?) ON CONFLICT DO UPDATE SET"
                " run = excluded.run, size = excluded.size, mtime_ns = excluded.mtime_ns, at = excluded.at,"
                " attempts = attempts + 1, error = excluded.error, traceback = excluded.traceback",
                (path, pipeline, run, *key, _now(), failed.error, failed.traceback),
            )

    def merge(self, other: "str | Path") -> int:
        """Add what another store of the same schema holds, and return the number of checkpoints added.

        Results that both hold stay as they are. Errors as for opening either store; a store does not merge with itself.
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
