"""The file of a sweep's results: one writer, any number of readers, a transaction for each checkpoint.

Results are found by content. A result belongs to the SHA-256 of the weights, to a `Pipeline` (graph, preprocessing,
precision, kernels) and to a `TargetRecord` (stimuli, subjects' RDMs, protocol, ceiling), so a renamed file is not
scored again and a changed one is. The instruction set and the execution provider are recorded but not part of the key:
they change the last bits of a score, and a sweep that moves to another machine must continue.

Rows belong to paths. A path has the results of the content that it held last under a pipeline, so copies have a row
each, and an overwritten file replaces its row and no other. Earlier contents stay in the store.
"""

import datetime
import json
import os
import socket
import tempfile
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import encodable, suggestion
from fastrdm.scoring.jobs import Failed, Known, Scored, Stamp
from fastrdm.scoring.kept_layers import packed, packed_gram
from fastrdm.scoring.path_labels import check_label_names
from fastrdm.scoring.records import (
    LayerRow,
    Pipeline,
    StoreError,
    TargetRecord,
    checksum_of,
    digest_of,
    layer_rows,
)
from fastrdm.scoring.results import COLUMNS
from fastrdm.scoring.store_check import StoreCheck, check_store
from fastrdm.scoring.store_reader import StoreReader
from fastrdm.scoring.store_schema import MERGE
from fastrdm.scoring.store_values import sha256, stored

_LABELS_AT_ONCE = 10_000


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
        number = self._id("methods", {"key": pipeline.key} | asdict(pipeline))
        # Version 1 did not keep the taps.
        with self._change():
            self._db.execute(
                "UPDATE methods SET taps = ? WHERE id = ? AND taps = ''", (pipeline.taps, number)
            )
        return number

    def add_target(self, target: TargetRecord) -> int:
        """Number of a target in the store; added if it is new."""
        return self._id("targets", {"key": target.key} | target.facts())

    def add_targets(self, targets: Iterable[TargetRecord]) -> dict[tuple[str, str, str], int]:
        """Numbers of targets in the store, by study, region and measure."""
        return {(each.study, each.region, each.measure): self.add_target(each) for each in targets}

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
        with self._change():
            self._db.execute(
                "UPDATE runs SET ended = ?, outcome = ? WHERE id = ?", (_now(), outcome, run)
            )

    def state(self, path: str, stamp: Stamp, pipeline: int, targets: Sequence[int]) -> str:
        """Whether a file is "done", "failed", or "new".

        A file with known path, size and time is not read again. Any other file is new, as is a copy without a row under
        this pipeline.
        """
        marks = ", ".join("?" * len(targets))
        key = (stored(path), stamp.size, stamp.mtime_ns)
        with self._errors():
            done, failed = self._db.execute(
                "SELECT (SELECT count(*) FROM files f JOIN checkpoints c ON c.sha256 = f.sha256 AND c.method = ?"
                " JOIN entries e ON e.path = f.path AND e.method = c.method AND e.checkpoint = c.id AND e.is_current"
                f" JOIN scored s ON s.checkpoint = c.id AND s.target IN ({marks})"
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
            digests = (bytes.fromhex(sha256(each, "sha256 of a checkpoint")) for (each,) in found)
            return np.sort(np.fromiter(digests, "S32"))

    def record(
        self,
        scored: Scored,
        pipeline: int,
        targets: Mapping[tuple[str, str, str], int],
        run: int,
        environment: int,
        rows: Mapping[tuple[str, str, str], Sequence[LayerRow]] | None = None,
    ) -> bool:
        """Add a checkpoint's results in one transaction; return False if all of them were there.

        Numbers are those of `add_pipeline`, `add_target`, `begin_run` and `add_environment`; `rows` by study, region
        and measure replace the scores. If the file cannot be written, it holds nothing of the checkpoint.
        """
        if rows is None:
            rows = {key: layer_rows(scored.layers, score) for key, score in scored.scores.items()}
        facts = (run, environment, _now(), scored.seconds, json.dumps(list(scored.warnings)))
        added = False
        with self._change():
            checkpoint = self._checkpoint(scored, pipeline)
            keys = scored.sha256, self._one("SELECT key FROM methods WHERE id = ?", pipeline)
            for key, layers in rows.items():
                of_target = self._one("SELECT key FROM targets WHERE id = ?", targets[key])
                checksum = checksum_of(*keys, of_target, layers)
                new = self._db.execute(
                    "INSERT OR IGNORE INTO scored VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (checkpoint, targets[key], *facts, checksum),
                )
                if new.rowcount:
                    added = True
                    self._add_results(checkpoint, targets[key], layers)
            self._keep(scored, checkpoint, targets)
            self._enter(scored, pipeline, checkpoint)
        return added

    def _keep(
        self, scored: Scored, checkpoint: int, targets: Mapping[tuple[str, str, str], int]
    ) -> None:
        """Add the RDMs and Gram matrices of a checkpoint."""
        for study in scored.rdms.keys() | scored.grams.keys():
            target = next(number for key, number in targets.items() if key[0] == study)
            stimuli = self._one("SELECT stimuli FROM targets WHERE id = ?", target)
            places = [(checkpoint, stimuli, i, layer) for i, layer in enumerate(scored.layers)]
            self._db.executemany(
                "INSERT OR IGNORE INTO rdms VALUES (?, ?, ?, ?, ?)",
                [
                    (*place, packed(rdm))
                    for place, rdm in zip(places, scored.rdms.get(study, ()), strict=False)
                ],
            )
            self._db.executemany(
                "INSERT OR IGNORE INTO grams VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (*place, *packed_gram(gram))
                    for place, gram in zip(places, scored.grams.get(study, ()), strict=False)
                ],
            )

    def _checkpoint(self, outcome: Scored | Known, pipeline: int) -> int:
        """Number of the content; added if it is new."""
        key = (outcome.sha256, pipeline)
        taken = dict(outcome.taken) if isinstance(outcome, Scored) else {}
        self._db.execute(
            "INSERT INTO checkpoints (sha256, method, path, labels, taken) VALUES (?, ?, ?, '{}', ?)"
            " ON CONFLICT (sha256, method) DO UPDATE SET taken = excluded.taken"
            " WHERE taken = '{}' AND excluded.taken != '{}'",
            (*key, stored(outcome.job.path), json.dumps(taken, sort_keys=True)),
        )
        return int(self._one("SELECT id FROM checkpoints WHERE sha256 = ? AND method = ?", *key))

    def _enter(
        self,
        outcome: Scored | Known,
        pipeline: int,
        checkpoint: int,
        names: dict[str, str | bytes] | None = None,
    ) -> None:
        """Give the path of an outcome its row, in place of that of its earlier content or of an earlier name.

        `names` are those of the content, as `_names` returns them.
        """
        path, stamp, now = stored(outcome.job.path), outcome.stamp, _now()
        names = self._names(checkpoint, {path}) if names is None else names
        # Two spellings of a path have one row.
        place = os.path.abspath(outcome.job.path)  # noqa: PTH100
        if names.setdefault(place, path) != path:
            self._lose(checkpoint, names[place])
            names[place] = path
        self._retire(path, pipeline, checkpoint)
        self._db.execute(
            "INSERT INTO entries VALUES (?, ?, ?, ?, 1) ON CONFLICT DO UPDATE SET is_current = 1, at = excluded.at"
            " WHERE NOT is_current",
            (path, pipeline, checkpoint, now),
        )
        self._add_labels([(outcome.job.path, outcome.job.labels)])
        self._db.execute(
            "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)",
            (path, stamp.size, stamp.mtime_ns, outcome.sha256),
        )
        self._db.execute("DELETE FROM failures WHERE path = ? AND method = ?", (path, pipeline))

    def _names(self, checkpoint: int, paths: Collection[str | bytes]) -> dict[str, str | bytes]:
        """Current names of a content by absolute path; those that are gone, except `paths`, lose their rows.

        A renamed file takes its new name; copies keep theirs.
        """
        found = self._db.execute(
            "SELECT path FROM entries WHERE checkpoint = ? AND is_current", (checkpoint,)
        ).fetchall()
        names: dict[str, str | bytes] = {}
        for (name,) in found:
            if name in paths or os.path.exists(name):  # noqa: PTH110
                names[os.path.abspath(os.fsdecode(name))] = name  # noqa: PTH100
            else:
                self._lose(checkpoint, name)
        return names

    def _lose(self, checkpoint: int, name: str | bytes) -> None:
        self._db.execute(
            "UPDATE entries SET is_current = 0, at = ? WHERE path = ? AND checkpoint = ?",
            (_now(), name, checkpoint),
        )

    def _retire(self, path: str | bytes, pipeline: int, content: int) -> None:
        """Take its row from what a path held before `content`."""
        self._db.execute(
            "UPDATE entries SET is_current = 0, at = ?"
            " WHERE path = ? AND method = ? AND is_current AND checkpoint != ?",
            (_now(), path, pipeline, content),
        )

    def _add_results(self, checkpoint: int, target: int, layers: Iterable[LayerRow]) -> None:
        self._db.executemany(
            f"INSERT INTO results VALUES ({', '.join('?' * (6 + len(COLUMNS)))})",
            [
                (checkpoint, target, position, layer, *numbers, rho, time)
                for position, layer, numbers, rho, time in layers
            ],
        )

    def recognise(self, known: Sequence[Known], pipeline: int) -> None:
        """Record that files, all with the same content, hold weights with scores under another name."""
        with self._change():
            checkpoint = self._checkpoint(known[0], pipeline)
            names = self._names(checkpoint, {stored(each.job.path) for each in known})
            for each in known:
                self._enter(each, pipeline, checkpoint, names)

    def fail(self, failed: Failed, pipeline: int, run: int) -> None:
        """Record why a file could not be scored, in place of an earlier reason.

        A file that changed since it was scored has no row any more.
        """
        path, key = stored(failed.job.path), (failed.stamp.size, failed.stamp.mtime_ns)
        texts = encodable(failed.error), encodable(failed.traceback)
        with self._change():
            before = self._db.execute("SELECT size, mtime_ns FROM files WHERE path = ?", (path,))
            if key[0] >= 0 and before.fetchone() not in (None, key):
                self._retire(path, pipeline, -1)
            self._db.execute(
                "INSERT INTO failures VALUES (?, ?, ?, ?, ?, ?, 1, ?, ?) ON CONFLICT DO UPDATE SET"
                " run = excluded.run, size = excluded.size, mtime_ns = excluded.mtime_ns, at = excluded.at,"
                " attempts = attempts + 1, error = excluded.error, traceback = excluded.traceback",
                (path, pipeline, run, *key, _now(), *texts),
            )

    def set_labels(self, labels: Mapping[str, Mapping[str, object]]) -> None:
        """Add labels to paths, in place of labels of the same names; nothing is scored.

        Parameters
        ----------
        labels : mapping
            Path as in `rows` → name → value; None removes a label.

        Raises
        ------
        ValueError
            If a path has no row, or a label has the name of a column.
        """
        known = set(self.paths())
        for path, values in labels.items():
            if path not in known:
                raise ValueError(f"{self.path} has no checkpoint {path}{suggestion(path, known)}")
            check_label_names(values)
        self.add_labels(labels.items())

    def add_labels(self, labels: Iterable[tuple[str, Mapping[str, object]]]) -> None:
        """As `set_labels`, in many transactions, also for paths that have no row yet."""
        pairs = iter(labels)
        while block := list(islice(pairs, _LABELS_AT_ONCE)):
            with self._change():
                self._add_labels(block)

    def _add_labels(self, labels: Iterable[tuple[str, Mapping[str, object]]]) -> None:
        self._db.executemany(
            # A value of null removes a label.
            "INSERT INTO labels VALUES (?1, json_patch('{}', ?2))"
            " ON CONFLICT DO UPDATE SET labels = json_patch(labels, ?2)"
            " WHERE labels != json_patch(labels, ?2)",
            [
                (
                    stored(path),
                    json.dumps({k: None if v is None else str(v) for k, v in values.items()}),
                )
                for path, values in labels
                if values
            ],
        )

    def remove_labels(self, names: Collection[str]) -> None:
        """Remove labels from all paths; ValueError for a name that no path has."""
        known = self.label_names()
        for name in names:
            if name not in known:
                raise ValueError(f"{self.path} has no label {name}{suggestion(name, known)}")
        patch = json.dumps(dict.fromkeys(names))
        with self._change():
            self._db.execute("UPDATE labels SET labels = json_patch(labels, ?)", (patch,))

    def check(self) -> StoreCheck:
        """Check what the store holds: SQLite's integrity, checksums, keys, values and relations of rows.

        Results of versions that wrote no checksums are counted, and are no problem.
        """
        return check_store(self)

    def merge(self, other: "str | Path") -> int:
        """Add what another store holds, and return the number of checkpoints added.

        Results that both hold stay as they are. Of a path's contents, the one that was scored last has the row. Errors
        as for opening either store; a store does not merge with itself.
        """
        if Path(other).resolve() == self.path.resolve():
            raise StoreError(f"{other} cannot be merged into itself")
        with (
            self._errors(),
            Store(other) as source,
            tempfile.TemporaryDirectory(prefix="fastrdm-") as folder,
        ):
            path = source.path.resolve()
            if source.is_old or source.is_unshared:
                # The other store is not changed, so a copy is upgraded.
                path = Path(folder, "store.db")
                source.copy(path)
                Store(path, write=True).close()
            before = self.counts()["checkpoints"]
            self._db.execute("ATTACH ? AS o", (f"{path.as_uri()}?mode=ro",))
            try:
                with self._change():
                    for statement in MERGE:
                        self._db.execute(statement)
            except StoreError as error:
                raise StoreError(f"{other} cannot be merged: {error}") from error
            finally:
                self._db.execute("DETACH o")
            return self.counts()["checkpoints"] - before


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
