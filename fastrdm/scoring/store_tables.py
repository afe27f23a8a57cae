"""What a store holds, as rows, tables and RDMs."""

import csv
import json
import math
import zlib
from collections.abc import Collection, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import new_file, require
from fastrdm.scoring.database import Database
from fastrdm.scoring.results import COLUMNS

if TYPE_CHECKING:
    import pandas

_ROWS_AT_ONCE = 50_000


class StoreReader(Database):
    """The reading half of a store; parameters and errors as for `Database`."""

    def counts(self) -> dict[str, int]:
        """Number of checkpoints, results and failures."""
        tables = ("checkpoints", "results", "failures")
        with self._errors():
            return {table: self._one(f"SELECT count(*) FROM {table}") for table in tables}

    def failures(self) -> list[dict[str, Any]]:
        """Files that could not be scored, with error and traceback."""
        return self._dicts(
            "SELECT path AS checkpoint, arch, at, attempts, error, traceback FROM failures"
            " JOIN methods ON methods.id = method ORDER BY path, key"
        )

    def runs(self) -> list[dict[str, Any]]:
        """The runs in order of time; `ended` is None for a run that continues or was killed."""
        return self._dicts(
            "SELECT started, ended, outcome, host, pid, settings FROM runs ORDER BY started, id"
        )

    def environments(self) -> list[dict[str, Any]]:
        """Versions, kernels and providers of the workers."""
        return [json.loads(row["facts"]) for row in self._dicts("SELECT facts FROM environments")]

    def labels(self) -> list[str]:
        """Names of all labels."""
        found = self._dicts(
            "SELECT DISTINCT j.key AS name FROM checkpoints, json_each(labels) AS j ORDER BY 1"
        )
        return [row["name"] for row in found]

    def columns(self, *, subjects: bool = False) -> dict[str, type]:
        """Names and types of the columns of `rows`."""
        texts = ["checkpoint", "arch", *self.labels(), "study", "layer", "region"]
        numbers = [*COLUMNS, "ceiling", "mean_rho"]
        extra: dict[str, type] = {"subject": int, "rho": float} if subjects else {}
        return {
            **dict.fromkeys(texts, str),
            **extra,
            **dict.fromkeys(numbers, float),
            "sha256": str,
        }

    def rows(
        self,
        *,
        subjects: bool = False,
        pipelines: Collection[int] | None = None,
        targets: Collection[int] | None = None,
    ) -> Iterator[tuple[Any, ...]]:
        """Yield the results in an order that does not depend on when they were added.

        Parameters
        ----------
        subjects : bool
            Whether to yield a row for each subject, with its similarity.
        pipelines, targets : collection of int, optional
            Only results of these, and only of the weights that each file held last.

        Yields
        ------
        tuple
            Values of `columns`, ordered by checkpoint, architecture, study, region and position of the layer.
        """
        labels = self.labels()
        condition = ""
        if pipelines is not None and targets is not None:
            condition = (
                "JOIN files f ON f.path = c.path AND f.sha256 = c.sha256"
                f" WHERE m.id IN ({', '.join(map(str, pipelines))})"
                f" AND t.id IN ({', '.join(map(str, targets))})"
            )
        statement = f"""
            SELECT c.path, m.arch, c.labels, t.study, r.layer, t.region, {", ".join(f"r.{c}" for c in COLUMNS)},
                   t.ceiling, c.sha256, r.rho
            FROM checkpoints c JOIN methods m ON m.id = c.method JOIN results r ON r.checkpoint = c.id
                 JOIN targets t ON t.id = r.target {condition}
            ORDER BY c.path, c.sha256, m.key, t.study, t.region, t.key, r.position"""
        with self._errors():
            for path, arch, text, study, layer, region, *numbers, sha256, rho in self._db.execute(
                statement
            ):
                values, similarities = json.loads(text), np.frombuffer(rho, "<f8")
                labelled = (values.get(name, "") for name in labels)
                head = (path, arch, *labelled, study, layer, region)
                # SQLite has no NaN.
                scores = (math.nan if n is None else n for n in numbers)
                tail = (*scores, float(np.add.reduce(similarities) / len(similarities)), sha256)
                if not subjects:
                    yield (*head, *tail)
                    continue
                for i, similarity in enumerate(similarities.tolist()):
                    yield (*head, i, similarity, *tail)

    def frame(self, *, subjects: bool = False) -> "pandas.DataFrame":
        """The results as a pandas DataFrame, with rows as for `rows`."""
        pandas = require("pandas", "table", "to make a DataFrame")
        columns = self.columns(subjects=subjects)
        frame = pandas.DataFrame(self.rows(subjects=subjects), columns=list(columns))
        kinds = {str: "object", int: "int64", float: "float64"}
        return frame.astype({name: kinds[kind] for name, kind in columns.items()})

    def write_csv(self, file: IO[str], *, subjects: bool = False) -> None:
        """Write the results as CSV; numbers keep all bits."""
        writer = csv.writer(file)
        writer.writerow(self.columns(subjects=subjects))
        writer.writerows(self.rows(subjects=subjects))

    def write_parquet(self, path: str | Path, *, subjects: bool = False) -> None:
        """Write the results as a Parquet file, which appears only when it is complete."""
        arrow = require("pyarrow", "table", "to write Parquet")
        parquet = require("pyarrow.parquet", "table", "to write Parquet")
        kinds = {str: arrow.string(), int: arrow.int64(), float: arrow.float64()}
        columns = self.columns(subjects=subjects)
        schema = arrow.schema([(name, kinds[kind]) for name, kind in columns.items()])
        with new_file(Path(path)) as file, parquet.ParquetWriter(file, schema) as writer:
            rows = self.rows(subjects=subjects)
            while block := list(islice(rows, _ROWS_AT_ONCE)):
                values = zip(*block, strict=True)
                arrays = [arrow.array(v, f.type) for v, f in zip(values, schema, strict=True)]
                writer.write_table(arrow.Table.from_arrays(arrays, schema=schema))

    def rdms(self, sha256: str) -> dict[tuple[str, str], NDArray[np.float32]]:
        """The RDMs kept for a checkpoint, by the SHA-256 of its weights: (study, layer) → condensed RDM."""
        with self._errors():
            found = self._db.execute(
                "SELECT DISTINCT t.study, d.position, d.layer, d.content FROM rdms d"
                " JOIN checkpoints c ON c.id = d.checkpoint JOIN targets t ON t.stimuli = d.stimuli"
                " WHERE c.sha256 = ? ORDER BY t.study, d.position",
                (sha256,),
            ).fetchall()
        return {(study, layer): _unpacked(content) for study, _, layer, content in found}


def packed(rdm: NDArray[np.float32]) -> bytes:
    """Compress an RDM with its bytes sorted by significance, to 0.70 of its size; zlib alone reaches 0.82."""
    return zlib.compress(np.ascontiguousarray(rdm, "<f4").view(np.uint8).reshape(-1, 4).T.tobytes())


def _unpacked(content: bytes) -> NDArray[np.float32]:
    values = np.frombuffer(zlib.decompress(content), np.uint8).reshape(4, -1).T
    return np.ascontiguousarray(values).view("<f4").ravel()
