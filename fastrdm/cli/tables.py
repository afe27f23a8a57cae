"""Results as tables, rows of CSV and JSON."""

import contextlib
import csv
import dataclasses
import math
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from fastrdm.scoring import CheckpointScores, Result, best_layers, layer_scores, sign_remarks
from fastrdm.studies import Study, synthetic_notice

_SIGNIFICANT = 0.05


def plain(result: Result) -> dict[str, Any]:
    """A result for JSON, which has no NaN."""
    return {
        key: None if isinstance(value, float) and math.isnan(value) else value
        for key, value in dataclasses.asdict(result).items()
    }


@contextlib.contextmanager
def csv_writer(path: str | None, labels: str) -> Iterator[Callable[[CheckpointScores], None]]:
    """A function that writes results as CSV, with a column for each named group of `labels`."""
    if path is None:
        yield lambda scored: None
        return
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        names = [field.name for field in dataclasses.fields(Result)]
        writer = csv.DictWriter(file, [*names, *re.compile(labels).groupindex])
        writer.writeheader()

        def write(scored: CheckpointScores) -> None:
            for result in scored.results:
                writer.writerow(dataclasses.asdict(result) | dict(scored.labels))
            file.flush()

        yield write


def _cell(result: Result, squared: bool) -> str:
    """A value as a table shows it."""
    sign = f" {result.mean_rho:+.3f}{'‡' if result.mean_rho < 0 else ' '}" if squared else ""
    if math.isnan(result.low):
        return f"{result.percent_nc:.2f} ± {100 * result.std / result.ceiling:.2f}{sign}"
    mark = "†" if result.p_corrected < _SIGNIFICANT else " "
    return f"{result.percent_nc:.2f} [{result.low:.1f}, {result.high:.1f}]{mark}{sign}"


def print_results(results: Sequence[Result], studies: Sequence[Study]) -> None:
    """Print a row for each layer, a column for each region of a study, and the score that chooses the best layer."""
    from rich.console import Console
    from rich.table import Table

    columns = list(dict.fromkeys((r.study, r.region) for r in results))
    cells = {(r.layer, r.study, r.region): r for r in results}
    scores, best = layer_scores(results), best_layers(results)
    ceilings = {(r.study, r.region): r.ceiling for r in results}
    squared = {
        (study.name, region)
        for study in studies
        for region, target in study.targets.items()
        if target.protocol.squared
    }
    mean, sign = (", mean ρ", "; ‡ mean ρ below 0, opposite to the brain") if squared else ("", "")
    title = f"percent of noise ceiling ± SD over subjects{mean}{sign}"
    if not all(math.isnan(r.low) for r in results):
        title = (
            f"percent of noise ceiling [95 % interval over subjects]{mean};"
            f" † ρ above 0, p < 0.05 corrected{sign}"
        )
    notice = synthetic_notice(studies) or None
    table = Table(title=title, caption=notice, show_footer=True, title_justify="left")
    table.add_column("layer", footer="ceiling")
    add_numbers = partial(table.add_column, justify="right", no_wrap=True)
    for study, region in columns:
        add_numbers(f"{study}\n{region.upper()}", footer=f"{ceilings[study, region]:.4f}")
    for modality in scores:
        add_numbers(f"score{f', {modality}' if len(scores) > 1 else ''}\nmean of sets")
    for layer in dict.fromkeys(r.layer for r in results):
        table.add_row(
            layer,
            *(_cell(cells[layer, *column], column in squared) for column in columns),
            *(f"{scores[m][layer]:.2f}{' *' if best.get(m) == layer else '  '}" for m in scores),
            style="bold" if layer in best.values() else None,
        )
    # A pipe or a file has no width.
    console = Console(width=None if sys.stdout.isatty() else 300)
    # Paths are not wrapped, so that they can be copied.
    console.print(results[0].checkpoint, highlight=False, soft_wrap=True, style="bold")
    console.print(table)
    for line in _conclusions(results, studies, scores, best):
        console.print(line, highlight=False)


def _conclusions(
    results: Sequence[Result],
    studies: Sequence[Study],
    scores: dict[str, dict[str, float]],
    best: dict[str, str],
) -> Iterator[str]:
    for modality, layer in best.items():
        name = f" ({modality})" if len(scores) > 1 else ""
        yield f"* best layer{name}: {layer}, {scores[modality][layer]:.2f} % of the noise ceiling"
    for remark in sign_remarks(results):
        yield f"‡ {remark}"
    for study in studies:
        for region, layer in study.truth.items():
            rows = [r for r in results if (r.study, r.region) == (study.name, region)]
            if rows and Path(rows[0].checkpoint).name == study.truth_network:
                top = max(rows, key=lambda r: -math.inf if math.isnan(r.value) else r.value).layer
                verdict = "found" if top == layer else f"NOT found: {top} is best"
                yield f"  known answer: {region.upper()} was simulated from {layer}: {verdict}"
