"""`fastrdm table` and `fastrdm merge`: what a store holds."""

import argparse
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from fastrdm.cli.columns import aligned
from fastrdm.scoring import Store

_SHOWN = ("checkpoint", "arch", "study", "region", "layer", "percent_nc", "mean_rho", "std", "p")
# Marks a layer with a negative mean similarity.
_OPPOSITE = "‡"


def add_table(table: argparse.ArgumentParser) -> None:
    """Add the arguments of `table`."""
    table.description = "Print the results of a store, even while a sweep writes to it."
    add = table.add_argument
    add("store", metavar="SCORES.db")
    form = "(default: from the ending of --output, else text)"
    add("--format", choices=("text", "csv", "parquet"), help=form)
    add("--output", metavar="FILE", help="output file (default: standard output)")
    add("--subjects", action="store_true", help="print a row for each subject, with its rho")
    add("--failures", action="store_true", help="print the checkpoints without a score, and why")
    table.set_defaults(run=_table)


def add_merge(merge: argparse.ArgumentParser) -> None:
    """Add the arguments of `merge`."""
    merge.description = (
        "Add to the first store, which is created if necessary, what the others hold beyond it."
    )
    merge.add_argument("store", metavar="INTO.db")
    merge.add_argument("others", nargs="+", metavar="FROM.db")
    merge.set_defaults(run=_merge)


def _table(arguments: argparse.Namespace) -> int:
    form = arguments.format or {".csv": "csv", ".parquet": "parquet"}.get(
        Path(arguments.output or "").suffix, "text"
    )
    if form == "parquet" and not arguments.output:
        raise ValueError("Parquet needs a file; name it with --output FILE.parquet")
    with Store(arguments.store) as store:
        if arguments.failures:
            _print_failures(store)
        elif form == "parquet":
            store.write_parquet(arguments.output, subjects=arguments.subjects)
        elif arguments.output:
            with Path(arguments.output).open("w", newline="", encoding="utf-8") as file:
                _write(store, form, file, arguments.subjects)
        else:
            _write(store, form, sys.stdout, arguments.subjects)
    if arguments.output and not arguments.failures:
        print(f"wrote {arguments.output}", file=sys.stderr)
    return 0


def _write(store: Store, form: str, file: Any, subjects: bool) -> None:
    if form == "csv":
        store.write_csv(file, subjects=subjects)
        return
    is_opposite = False
    for line in aligned(partial(_cells, store, subjects)):
        print(line, file=file)
        is_opposite |= _OPPOSITE in line
    if is_opposite:
        print(f"{_OPPOSITE} mean rho below 0: the layer is opposite to the brain", file=file)
    counts = store.counts()
    print(f"{counts['checkpoints']} checkpoints, {counts['failures']} failed", file=file)


def _cells(store: Store, subjects: bool) -> Iterator[tuple[str, ...]]:
    columns = list(store.columns(subjects=subjects))
    shown = [*_SHOWN[:2], *store.labels(), *_SHOWN[2:5]]
    shown += ["subject", "rho"] if subjects else _SHOWN[5:]
    places = [columns.index(name) for name in shown]
    yield tuple(shown)
    signed = columns.index("mean_rho")
    for row in store.rows(subjects=subjects):
        cells = [f"{row[i]:.4g}" if isinstance(row[i], float) else str(row[i]) for i in places]
        if row[signed] < 0 and "mean_rho" in shown:
            cells[shown.index("mean_rho")] += f" {_OPPOSITE}"
        yield tuple(cells)


def _print_failures(store: Store) -> None:
    for failure in store.failures():
        times = f" ({failure['attempts']} times)" if failure["attempts"] > 1 else ""
        print(f"{failure['checkpoint']}{times}: {failure['error']}")
        for line in failure["traceback"].rstrip().splitlines():
            print(f"    {line}")


def _merge(arguments: argparse.Namespace) -> int:
    with Store(arguments.store, write=True) as store:
        for other in arguments.others:
            print(f"{other}: {store.merge(other)} checkpoints added")
        print(f"{arguments.store}: {store.counts()['checkpoints']} checkpoints")
    return 0
