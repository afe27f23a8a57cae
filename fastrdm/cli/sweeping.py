"""The commands of sweeps and their stores: arguments in, calls out."""

import argparse
import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastrdm._base import format_bytes, format_seconds
from fastrdm.cli import arguments as _arguments
from fastrdm.cli import progress
from fastrdm.scoring import ENGINES, Estimate, Store, Sweep
from fastrdm.studies import find_data

_SHOWN = ("checkpoint", "arch", "set", "region", "layer", "percent_nc", "mean_rho", "std", "p")
# Marks a layer whose mean similarity is below 0.
_OPPOSITE = "‡"


def add_commands(commands: Any) -> None:
    """Add `sweep`, `table` and `merge` to the subparsers of the command line."""
    _add_sweep(commands)
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


def _add_sweep(commands: Any) -> None:
    sweep = commands.add_parser(
        "sweep",
        help="score many checkpoints into a store, each once, resumable",
        description="Score every layer of every checkpoint against every region of each study, into a store. "
        "The same command goes on where a run was stopped or killed.",
    )
    sweep.add_argument(
        "weights",
        nargs="+",
        metavar="WEIGHTS",
        help="checkpoints, folders, globs, .txt files of paths, or .toml manifests of several networks",
    )
    sweep.add_argument(
        "--arch",
        action="append",
        default=[],
        metavar="ARCH",
        help="MODULE:CALLABLE or FILE.onnx; once for all WEIGHTS, or once for each",
    )
    sweep.add_argument("--data", nargs="+", metavar="DIR", help="challenge data or studies")
    sweep.add_argument("--store", required=True, metavar="SCORES.db", help="where results are kept")
    _arguments.add_studies(sweep)
    _arguments.add_taps(sweep)
    sweep.add_argument(
        "--labels",
        default="",
        metavar="REGEX",
        help=r"searched in each path; its named groups are labels, e.g. 'epoch(?P<epoch>\d+)'",
    )
    sweep.add_argument(
        "--watch", action="store_true", help="score checkpoints as they appear, until a signal"
    )
    sweep.add_argument(
        "--patience", type=float, metavar="S", help="end watching after so long without a new one"
    )
    sweep.add_argument(
        "--dry-run", action="store_true", help="say what there is to do, and what it would take"
    )
    sweep.add_argument(
        "--retry-failed", action="store_true", help="try again what failed and did not change"
    )
    sweep.add_argument("--keep-rdms", action="store_true", help="store RDMs too, in float32")
    sweep.add_argument("--engine", choices=tuple(ENGINES), default="local", help="(default: local)")
    sweep.add_argument(
        "--workers", type=int, metavar="N", help="(default: one for each accelerator, else one)"
    )
    sweep.add_argument(
        "--address", metavar="HOST:PORT", help="of the Ray cluster (default: $RAY_ADDRESS)"
    )
    sweep.add_argument("--num-cpus", type=float, metavar="N", help="of each Ray actor (default: 1)")
    sweep.add_argument(
        "--num-gpus", type=float, metavar="N", help="of each Ray actor (default: 1 where there are)"
    )
    _arguments.add_running(sweep)
    shown = sweep.add_mutually_exclusive_group()
    shown.add_argument(
        "--quiet", action="store_true", help="print left out files, failures and the end alone"
    )
    shown.add_argument("--json", action="store_true", help="print events as JSON lines")
    sweep.set_defaults(run=_sweep)


def _engine(arguments: argparse.Namespace) -> Any:
    names = ("address", "num_cpus", "num_gpus")
    own = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    if own and arguments.engine != "ray":
        raise ValueError(f"--{next(iter(own)).replace('_', '-')} is for --engine ray")
    make = ENGINES[arguments.engine]
    return make(workers=arguments.workers, provider=arguments.provider, **own)


def _sweep(arguments: argparse.Namespace) -> int:
    data = arguments.data or [find_data()]
    if data == [None]:
        raise ValueError(
            "no data: pass --data DIR or set FASTRDM_DATA; `fastrdm sample DIR` writes a study to try"
        )
    names = [
        *("store", "sets", "modality", "taps", "labels", "provider", "precision", "batch_size"),
        *("allow_inconsistent", "keep_rdms", "retry_failed"),
    ]
    options = {name: getattr(arguments, name) for name in names}
    options["provider_options"] = dict(arguments.provider_option)
    sweep = Sweep(arguments.weights, arguments.arch, data, engine=_engine(arguments), **options)
    with sweep:
        if arguments.dry_run:
            estimate = sweep.estimate()
            _print_estimate(estimate, arguments.json)
            return 1 if estimate.plan.missing else 0
        with progress.shown(arguments.json, arguments.quiet) as show:
            summary = sweep.run(watch=arguments.watch, patience=arguments.patience, on_event=show)
    if summary.outcome == "stopped":
        return 130
    return 1 if summary.failed else 0


def _print_estimate(estimate: Estimate, as_json: bool) -> None:
    plan = estimate.plan
    if as_json:
        progress.print_line({"event": "estimate", **dataclasses.asdict(estimate)})
        return
    for note in plan.left_out:
        print(f"fastrdm: warning: {note.message}", file=sys.stderr)
    for missing in plan.missing:
        print(f"fastrdm: error: {missing}", file=sys.stderr)
    print(
        f"{plan.new} to score, {format_bytes(plan.n_bytes)}; {plan.done} done, {plan.failed} failed"
    )
    if plan.new:
        print(
            f"about {format_seconds(estimate.seconds)} with {estimate.workers} workers, each of up to"
            f" {format_bytes(estimate.memory)}: measured on the first ones, of which nothing is stored"
        )


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
    is_opposite = False
    # Asked for twice, so that the rows of a million checkpoints need not be held.
    for cells in _cells(store, subjects):
        padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=False))
        print("  ".join(padded).rstrip(), file=file)
        is_opposite |= any(cell.endswith(_OPPOSITE) for cell in cells)
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
        yield tuple(
            f"{row[i]:.4g}{f' {_OPPOSITE}' if i == signed and row[i] < 0 else ''}"
            if isinstance(row[i], float)
            else str(row[i])
            for i in places
        )


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
