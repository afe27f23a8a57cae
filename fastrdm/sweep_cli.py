"""The commands of sweeps and their stores: arguments in, calls out."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastrdm.store import Store

_SHOWN = ("checkpoint", "arch", "set", "region", "layer", "percent_nc", "std", "p")


def add_commands(commands: Any) -> None:
    """Add `table` and `merge` to the subparsers of the command line."""
    table = commands.add_parser(
        "table",
        help="print what a sweep's store holds",
        description="Print the results of a store, also while a sweep writes it.",
    )
    table.add_argument("store", metavar="SCORES.db")
    table.add_argument(
        "--format",
        choices=("text", "csv", "parquet"),
        help="(default: by the ending of --output, else text)",
    )
    table.add_argument("--output", metavar="FILE", help="where to (default: standard output)")
    table.add_argument("--subjects", action="store_true", help="a row a subject, with its rho")
    table.add_argument(
        "--failures", action="store_true", help="the checkpoints without a score, and why"
    )
    table.set_defaults(run=_table)

    merge = commands.add_parser(
        "merge",
        help="put the results of several stores into one",
        description="Take over into the first store, made where it is not there, what the others have beyond it.",
    )
    merge.add_argument("store", metavar="INTO.db")
    merge.add_argument("others", nargs="+", metavar="FROM.db")
    merge.set_defaults(run=_merge)


def _table(arguments: argparse.Namespace) -> int:
    form = arguments.format or {".csv": "csv", ".parquet": "parquet"}.get(
        Path(arguments.output or "").suffix, "text"
    )
    if form == "parquet" and not arguments.output:
        raise ValueError("Parquet is not for a terminal; name a file with --output FILE.parquet")
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
    widths = [max(map(len, column)) for column in zip(*_cells(store, subjects), strict=True)]
    # Asked for twice, so that the rows of a million checkpoints need not be held.
    for cells in _cells(store, subjects):
        padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=False))
        print("  ".join(padded).rstrip(), file=file)
    counts = store.counts()
    print(f"{counts['checkpoints']} checkpoints, {counts['failures']} failed", file=file)


def _cells(store: Store, subjects: bool) -> Iterator[tuple[str, ...]]:
    columns = list(store.columns(subjects=subjects))
    shown = [*_SHOWN[:2], *store.labels(), *_SHOWN[2:5]]
    shown += ["subject", "rho"] if subjects else _SHOWN[5:]
    places = [columns.index(name) for name in shown]
    yield tuple(shown)
    for row in store.rows(subjects=subjects):
        yield tuple(f"{row[i]:.4g}" if isinstance(row[i], float) else str(row[i]) for i in places)


def _print_failures(store: Store) -> None:
    for failure in store.failures():
        times = f" ({failure['attempts']} times)" if failure["attempts"] > 1 else ""
        print(f"{failure['checkpoint']}{times}: {failure['error']}")
        for line in failure["traceback"].rstrip().splitlines():
            print(f"    {line}")


def _merge(arguments: argparse.Namespace) -> int:
    with Store(arguments.store, write=True) as store:
        for other in arguments.others:
            print(f"{other}: {store.merge(other)} checkpoints more")
        print(f"{arguments.store}: {store.counts()['checkpoints']} checkpoints")
    return 0
