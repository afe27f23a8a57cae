"""Scores of a run's checkpoints as a table: a row for each epoch, with the scores of its best layer."""

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from fastrdm.scoring import (
    COLUMNS,
    Result,
    best_layers,
    layer_scores,
    modalities,
    score_names,
    sign_remarks,
)
from fastrdm.studies import Study

_NONE = "–"


def results_by_epoch(rows: Iterable[Mapping[str, Any]]) -> dict[int, list[Result]]:
    """Turn the rows of a store into results by epoch, in order."""
    found: dict[int, list[Result]] = {}
    for row in rows:
        texts = (row[name] for name in ("checkpoint", "study", "layer", "region"))
        numbers = {name: row[name] for name in (*COLUMNS, "ceiling", "mean_rho")}
        found.setdefault(int(row["epoch"]), []).append(Result(*texts, **numbers))
    return dict(sorted(found.items()))


class ScoreTable:
    """The best layer of each epoch with its scores in percent: by region, by study, and over the studies.

    The best layer has the highest score over the studies; with several modalities there is one for each.
    """

    def __init__(self, epochs: Mapping[int, Sequence[Result]], studies: Sequence[Study]) -> None:
        self._epochs = epochs
        self.names = score_names((r for each in epochs.values() for r in each), studies)
        self._rows = {epoch: self._row(results) for epoch, results in epochs.items()}

    def _row(self, results: Sequence[Result]) -> dict[str, str | float]:
        scores, best, of = layer_scores(results), best_layers(results), modalities(results)
        row: dict[str, str | float] = {}
        for modality, name in self.names.items():
            layer = best.get(modality, "")
            tag = f" ({modality or 'other studies'})" if len(self.names) > 1 else ""
            word = name.partition(":")[0]
            chosen = [r for r in results if of[r.study, r.region] == modality]
            studies = list(dict.fromkeys(r.study for r in chosen))
            row[f"best layer{tag}"] = layer
            for study in studies:
                own = [r for r in chosen if r.study == study]
                for r in own:
                    column = f"{study} {r.region.upper()}"
                    row.setdefault(column, math.nan)
                    if r.layer == layer:
                        row[column] = r.percent_nc
                by_layer = next(iter(layer_scores(own).values()))
                row[f"{study} {word}{tag}"] = by_layer.get(layer, math.nan)
            if len(studies) > 1:
                row[f"mean {word}{tag}"] = scores[modality].get(layer, math.nan)
        return row

    def sentence(self, epoch: int) -> str:
        """Return an epoch's row as a sentence."""
        results = self._epochs[epoch]
        if not best_layers(results):
            return "no layer has a score, their RDMs are constant"
        cells = (
            f"{column} {value}" if isinstance(value, str) else f"{column} {value:.2f} %"
            for column, value in self._rows[epoch].items()
        )
        return "; ".join([", ".join(cells), *sign_remarks(results)])

    def lines(self) -> Iterator[str]:
        """Yield what the scores are, and the table as lines with aligned columns."""
        for modality, name in self.names.items():
            yield f"{modality + ', ' if len(self.names) > 1 and modality else ''}{name}"
        header, *rows = self._cells()
        widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
        for cells in (header, *rows):
            yield "  ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))

    def csv(self) -> str:
        """Return the table as CSV, with all digits."""
        text = io.StringIO()
        writer = csv.DictWriter(text, ["epoch", *self._columns()], lineterminator="\n")
        writer.writeheader()
        writer.writerows({"epoch": epoch, **row} for epoch, row in self._rows.items())
        return text.getvalue()

    def _columns(self) -> list[str]:
        return list(dict.fromkeys(column for row in self._rows.values() for column in row))

    def _cells(self) -> Iterator[list[str]]:
        columns = self._columns()
        yield ["epoch", *columns]
        for epoch, row in self._rows.items():
            yield [str(epoch), *(_text(row.get(column, math.nan)) for column in columns)]


def _text(value: str | float) -> str:
    if isinstance(value, str):
        return value or _NONE
    return _NONE if math.isnan(value) else f"{value:.2f}"
