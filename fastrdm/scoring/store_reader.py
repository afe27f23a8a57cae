"""The reading half of a store: rows, tables, RDMs, Gram matrices, failures and runs."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import list_names, natural_key
from fastrdm.scoring import store_values as values
from fastrdm.scoring.database import Database
from fastrdm.scoring.kept_layers import unpacked, unpacked_gram
from fastrdm.scoring.result_table import ResultTable
from fastrdm.scoring.store_rows import RowOptions, RowReader, method_facts, target_facts
from fastrdm.scoring.table_files import frame_of, write_csv, write_table

if TYPE_CHECKING:
    import pandas

    from fastrdm.rdm import Gram
    from fastrdm.scoring.jobs import Stamp


class StoreReader(Database):
    """A store as it is read; parameters and errors as for `Store`."""

    def counts(self) -> dict[str, int]:
        """Number of checkpoints by content, of their results, and of failures."""
        tables = ("checkpoints", "results", "failures")
        with self._errors():
            return {table: self._one(f"SELECT count(*) FROM {table}") for table in tables}

    def n_listed(self) -> int:
        """Number of checkpoints by path: those that have rows."""
        with self._errors():
            return int(self._one("SELECT count(*) FROM entries WHERE is_current"))

    def failures(self) -> list[dict[str, Any]]:
        """Files that could not be scored, with error and traceback."""
        found = self.dicts(
            "SELECT path AS checkpoint, arch, at, attempts, error, traceback FROM failures"
            " JOIN methods ON methods.id = method ORDER BY path, key"
        )
        with self._errors():
            for row in found:
                values.integer(row["attempts"], "attempts of a failure", 1)
                row["checkpoint"] = values.path(row["checkpoint"])
                for name in row.keys() - {"attempts"}:
                    values.text(row[name], f"{name} of a failure")
        return found

    def error(self, path: str, pipeline: int) -> str:
        """Why a file could not be scored; empty if it could."""
        with self._errors():
            query = "SELECT error FROM failures WHERE path = ? AND method = ?"
            return str(self._one(query, values.stored(path), pipeline) or "")

    def scored_targets(
        self, path: str, stamp: "Stamp", pipeline: int, targets: Sequence[int]
    ) -> tuple[str, tuple[int, ...]]:
        """SHA-256 of a file with known path, size and time, and the targets that it has scores for."""
        marks = ", ".join("?" * len(targets))
        found = self.query(
            "SELECT c.sha256, s.target FROM files f JOIN checkpoints c ON c.sha256 = f.sha256 AND c.method = ?"
            f" JOIN scored s ON s.checkpoint = c.id AND s.target IN ({marks})"
            " WHERE f.path = ? AND f.size = ? AND f.mtime_ns = ?",
            *(pipeline, *targets, values.stored(path), stamp.size, stamp.mtime_ns),
        )
        return (found[0][0] if found else ""), tuple(target for _, target in found)

    def runs(self) -> list[dict[str, Any]]:
        """The runs in order of time; `ended` is None for a run that continues or was killed."""
        return self.dicts(
            "SELECT started, ended, outcome, host, pid, settings FROM runs ORDER BY started, id"
        )

    def environments(self) -> list[dict[str, Any]]:
        """Versions, kernels and providers of the workers."""
        found = self.query("SELECT facts FROM environments")
        with self._errors():
            return [values.facts(facts, "facts of an environment") for (facts,) in found]

    def targets(self) -> list[dict[str, Any]]:
        """What layers were scored against: study, region, measure, protocol as in `rows`, hashes, ceilings and times.

        `stimuli` and `subjects` are the SHA-256 of the images in order and of the subjects' data; `ceilings` has the
        noise ceiling of each time point, by time, if these have scores of their own.
        """
        found = self.dicts("SELECT * FROM targets")
        with self._errors():
            targets = []
            for each in sorted(map(target_facts, found), key=lambda target: target["order"]):
                del each["order"], each["id"]
                targets.append(each)
            return targets

    def pipelines(self) -> list[dict[str, Any]]:
        """How results were made: the columns `arch` and `settings` of `rows`, the graph's fingerprint, and settings."""
        found = self.dicts("SELECT * FROM methods ORDER BY key")
        with self._errors():
            return [{k: v for k, v in method_facts(each).items() if k != "id"} for each in found]

    def labels(self) -> list[str]:
        """Names of the columns of labels."""
        return [label.column for label in RowReader(self, RowOptions()).labels]

    def label_names(self) -> list[str]:
        """Names of all labels as they are stored."""
        found = self.query("SELECT DISTINCT j.key FROM labels, json_each(labels) j ORDER BY 1")
        return [name for (name,) in found]

    def paths(self) -> list[str]:
        """All paths that have or had results, in natural order."""
        found = self.query("SELECT DISTINCT path FROM entries")
        with self._errors():
            return sorted((values.path(path) for (path,) in found), key=natural_key)

    def columns(self, *, subjects: bool = False, history: bool = False) -> dict[str, type]:
        """Names and types of the columns of `rows`.

        A label whose values are all numbers is int or float. A label with the name of another column, which older
        versions accepted, has the prefix ``label_``.
        """
        return RowReader(self, RowOptions(subjects, history)).columns

    def rows(
        self,
        *,
        subjects: bool = False,
        history: bool = False,
        pipelines: Collection[int] | None = None,
        targets: Collection[int] | None = None,
    ) -> Iterator[tuple[Any, ...]]:
        """Yield the results of each path, in an order that does not depend on when they were added.

        A path has the results of the content that it held last under a pipeline; copies have the same results.

        Parameters
        ----------
        subjects : bool
            Whether to yield a row for each subject, with its similarity.
        history : bool
            Whether to yield the results of contents too that their paths do not hold any more, with "before" in the
            column `held`.
        pipelines, targets : collection of int, optional
            Only results of these, and only of the weights that each file held last.

        Yields
        ------
        tuple
            Values of `columns`, ordered by checkpoint (numbers in paths compare as numbers), pipeline, study, region
            and position of the layer. Missing labels are empty, None in a column of int, or NaN.
        """
        options = RowOptions(subjects, history, pipelines=pipelines, targets=targets)
        reader = RowReader(self, options)
        for entry in reader.entries():
            yield from reader.rows(entry)

    def table(self, **options: Any) -> ResultTable:
        """Return the results as a table: filtered, with the best layers, sorted, with sign flips; see `ResultTable`."""
        return ResultTable(self, **options)

    def frame(self, **options: Any) -> "pandas.DataFrame":
        """The results as a pandas DataFrame; options as for `table`, without sign flips by default."""
        return frame_of(self.table(**{"sign_flips": False} | options))

    def write_csv(self, file: IO[str], *, raw_cells: bool = False, **options: Any) -> None:
        """Write the results as CSV; numbers keep all bits; options as for `frame`.

        Text that spreadsheets would take for a formula begins with an apostrophe, and control characters are escaped,
        unless `raw_cells`.
        """
        write_csv(self.table(**{"sign_flips": False} | options), file, raw_cells)

    def write_parquet(self, path: str | Path, **options: Any) -> None:
        """Write the results as a Parquet file, which appears only when it is complete; options as for `frame`."""
        write_table(self.table(**{"sign_flips": False} | options), path, "parquet")

    def has_rdms(self) -> bool:
        """Whether RDMs of any checkpoint are kept."""
        return bool(self.query("SELECT 1 FROM rdms LIMIT 1"))

    def rdms(
        self, sha256: str, settings: str | None = None
    ) -> dict[tuple[str, str], NDArray[np.float32]]:
        """The RDMs kept for a checkpoint, by the SHA-256 of its weights: (study, layer) → condensed RDM.

        `settings` is the value of the column of that name, or the start of it; ValueError if there are RDMs of several
        settings and none is chosen.
        """
        found = self._kept("rdms", sha256, settings)
        with self._errors():
            return {place: unpacked(content) for place, content in found.items()}

    def grams(self, sha256: str, settings: str | None = None) -> "dict[tuple[str, str], Gram]":
        """The Gram matrices kept for a checkpoint, by the SHA-256 of its weights: (study, layer) → `Gram`.

        They are those of the sweep to the bit, so that scores by other measures follow from them without the network.
        `settings` is as for `rdms`.
        """
        found = self._kept("grams", sha256, settings)
        with self._errors():
            return {place: unpacked_gram(content) for place, content in found.items()}

    def _kept(self, table: str, sha256: str, settings: str | None) -> dict[tuple[str, str], Any]:
        found = self.query(
            f"SELECT DISTINCT m.key, t.study, d.position, d.layer, d.content FROM {table} d"
            " JOIN checkpoints c ON c.id = d.checkpoint JOIN methods m ON m.id = c.method"
            " JOIN targets t ON t.stimuli = d.stimuli"
            " WHERE c.sha256 = ? AND substr(m.key, 1, ?) = ? ORDER BY t.study, d.position",
            *(sha256, len(settings or ""), settings or ""),
        )
        keys = sorted({key for key, *_ in found})
        if len(keys) > 1:
            raise ValueError(
                f"{self.path} has {table} of {sha256[:8]} under several settings; choose one of"
                f" {list_names((key[:8] for key in keys), 8)}"
            )
        return {(study, layer): content for _, study, _, layer, content in found}
