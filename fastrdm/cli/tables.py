"""Results as tables and as JSON."""

import dataclasses
import math
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from fastrdm._base import printable
from fastrdm.cli.json_output import without_nan
from fastrdm.cli.printing import complain, console
from fastrdm.cli.time_tables import lines_over_time
from fastrdm.scoring import (
    MEASURES,
    RSA,
    MeasureRow,
    Result,
    best_layers,
    layer_scores,
    protocol_of,
    score_names,
    sign_remarks,
)
from fastrdm.studies import Study, synthetic_notice

_SIGNIFICANT = 0.05
# In place of NaN.
_NONE = "–"
# Width to which the column of layers may shrink on a narrow terminal.
_LAYER_WIDTH = 10


def plain(result: Result) -> dict[str, Any]:
    """A result for JSON, which has no NaN."""
    facts = dataclasses.asdict(result)
    return {
        key: list(map(without_nan, value)) if isinstance(value, tuple) else without_nan(value)
        for key, value in facts.items()
    }


def _cell(result: Result, shown: str) -> str:
    """A value as a table shows it, with the field `shown` beside it."""
    if math.isnan(result.percent_nc):
        return f"{_NONE}{'  ' * bool(shown)}"
    number = f" {getattr(result, shown):+.3f}" if shown else ""
    sign = f"{number}{'‡' if result.mean_rho < 0 else ' '}" if shown else ""
    if math.isnan(result.low):
        return f"{result.percent_nc:.2f} ± {_share(result.std, result.ceiling):.2f}{sign}"
    is_tested = MEASURES[result.measure].below_zero
    mark = "†" if is_tested and result.p_corrected < _SIGNIFICANT else " "
    return f"{result.percent_nc:.2f} [{result.low:.1f}, {result.high:.1f}]{mark}{sign}"


def _share(value: float, ceiling: float) -> float:
    """Percent of the noise ceiling; NaN for a ceiling of 0."""
    return 100 * value / ceiling if ceiling else math.nan


def _percent(score: float) -> str:
    return _NONE if math.isnan(score) else f"{score:.2f}"


def print_results(
    results: Sequence[Result], studies: Sequence[Study], seed: int, said: set[str]
) -> None:
    """Print a table for each measure; for regions with results of time points, one for each. `seed` is for clusters.

    In a pipe, remarks on the tables are on standard error, each once: `said` has those of earlier calls.
    """
    measures = list(dict.fromkeys(r.measure for r in results))
    # A pipe or a file has no width: no line is wrapped.
    with console(width=1000) as out:
        remark = partial(_remark, out, said)
        # Paths are not wrapped, so that they can be copied.
        out.print(printable(results[0].checkpoint), soft_wrap=True, style="bold")
        for measure in measures:
            of_measure = [r for r in results if r.measure == measure]
            if measures != [RSA]:
                out.print(f"{measure}: {MEASURES[measure].title}", style="bold")
            if averaged := [r for r in of_measure if r.time is None]:
                _print_measure(out, averaged, studies, MEASURES[measure], remark)
            places = dict.fromkeys((r.study, r.region) for r in of_measure if r.time is not None)
            for study, region in places:
                out.print(printable(f"{study} {region.upper()}"), style="bold")
                own = [r for r in of_measure if (r.study, r.region) == (study, region)]
                meaning, *lines = lines_over_time(own, MEASURES[measure].symbol, seed)
                remark(meaning)
                for line in lines:
                    out.print(printable(line), soft_wrap=True)
                if notice := synthetic_notice(s for s in studies if s.name == study):
                    remark(notice)


def _remark(out: Any, said: set[str], text: str) -> None:
    if sys.stdout.isatty():
        out.print(printable(text), style="italic")
    elif text not in said:
        complain(text)
        said.add(text)


def _print_measure(
    out: Any,
    results: Sequence[Result],
    studies: Sequence[Study],
    measure: MeasureRow,
    remark: Callable[[str], None],
) -> None:
    """Print a row for each layer, a column for each region of a study, and the score that chooses the best layer."""
    from rich.box import HEAVY_HEAD
    from rich.table import Table

    columns = list(dict.fromkeys((r.study, r.region) for r in results))
    cells = {(r.layer, r.study, r.region): r for r in results}
    scores, best = layer_scores(results), best_layers(results)
    ceilings = {(r.study, r.region): r.ceiling for r in results}
    shown = {column: "value" if measure.protocol else "" for column in columns}
    if measure.protocol is None:
        by_name = {study.name: study for study in studies}
        for study, region in columns:
            if protocol_of(results[0].measure, by_name[study], region).squared:
                shown[study, region] = "mean_rho"
    is_terminal = sys.stdout.isatty()
    table = Table(show_footer=True, box=HEAVY_HEAD if is_terminal else None, pad_edge=is_terminal)
    table.add_column("layer", footer="ceiling", overflow="fold")
    add_numbers = partial(table.add_column, justify="right", no_wrap=True)
    for study, region in columns:
        add_numbers(
            f"{printable(study)}\n{printable(region.upper())}",
            footer=f"{ceilings[study, region]:.4f}",
        )
    names = score_names(results, studies)
    heads = list(names.values())
    if is_terminal:
        # The names are long; they are printed above the table.
        heads = [f"score{_of(modality, names)}" for modality in names]
    for head in heads:
        add_numbers(printable(head))
    for layer in dict.fromkeys(r.layer for r in results):
        table.add_row(
            printable(layer),
            *(_cell(cells[layer, *column], shown[column]) for column in columns),
            *(
                f"{_percent(scores[m][layer])}{' *' if best.get(m) == layer else '  '}"
                for m in scores
            ),
            style="bold" if layer in best.values() else None,
        )
    remark(_title(results, measure, any(shown.values())))
    for line in _conventions(results[0].measure, columns, studies):
        remark(line)
    for head, name in zip(heads, names.values(), strict=True):
        if head != name:
            remark(f"{head}: {name}")
    if notice := synthetic_notice(studies):
        remark(notice)
    if is_terminal:
        _fit(out, table)
    out.print(table)
    for line in _conclusions(results, studies, scores, best):
        out.print(printable(line))


def _fit(out: Any, table: Any) -> None:
    """Fold the names of layers where the table is wider than the terminal; numbers are never cut."""
    from rich.measure import Measurement

    def width() -> int:
        return int(Measurement.get(out, out.options.update(max_width=10_000), table).maximum)

    if (excess := width() - out.width) > 0:
        layers = table.columns[0]
        longest = max(len(str(cell)) for cell in (*layers.cells, "ceiling"))
        layers.max_width = max(_LAYER_WIDTH, longest - excess)
    out.width = max(out.width, width())


def _conventions(
    measure: str, columns: Sequence[tuple[str, str]], studies: Sequence[Study]
) -> Iterator[str]:
    """Conventions by which regressions are scored, other than the median over units of r."""
    if measure not in ("ridge", "pls"):
        return
    from fastrdm.encoding import ENCODING_PROTOCOLS

    by_name = {study.name: study for study in studies}
    for study, region in columns:
        if name := by_name[study].conventions.get(region):
            formula = ENCODING_PROTOCOLS[name].formula
            yield f"{region.upper()} of {study} by the protocol {name}: {formula}"


def _title(results: Sequence[Result], measure: MeasureRow, shows_signs: bool) -> str:
    """What the numbers of a table are."""
    name, opposite = measure.symbol, measure.below_zero
    mean = f", mean {name}" if shows_signs else ""
    sign = f"; ‡ mean {name} below 0, {opposite}" if shows_signs and opposite else ""
    if all(math.isnan(r.low) for r in results):
        return f"percent of noise ceiling ± SD over subjects{mean}{sign}"
    test = f"; † {name} above 0, p < 0.05 corrected" if opposite else ""
    return f"percent of noise ceiling [95 % interval over subjects]{mean}{test}{sign}"


def _of(modality: str, scores: Collection[str]) -> str:
    """Which of several scores is meant."""
    return f" ({modality or 'other studies'})" if len(scores) > 1 else ""


def _conclusions(
    results: Sequence[Result],
    studies: Sequence[Study],
    scores: dict[str, dict[str, float]],
    best: dict[str, str],
) -> Iterator[str]:
    for modality, layer in best.items():
        yield f"* best layer{_of(modality, scores)}: {layer}, {scores[modality][layer]:.2f} % of the noise ceiling"
    for modality in scores:
        if modality not in best:
            yield f"no layer has a score{_of(modality, scores)}"
    if results[0].measure == RSA:
        for remark in sign_remarks(results):
            yield f"‡ {remark}"
    for study in studies:
        for region, layer in study.truth.items():
            rows = [r for r in results if (r.study, r.region) == (study.name, region)]
            if rows and Path(rows[0].checkpoint).name == study.truth_network:
                top = max(rows, key=lambda r: -math.inf if math.isnan(r.value) else r.value).layer
                verdict = "found" if top == layer else f"NOT found: {top} is best"
                yield f"  known answer: {region.upper()} was simulated from {layer}: {verdict}"
