"""`fastrdm table`: what a store holds."""

import argparse
import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastrdm._base import check_writable_file, counted, encodable, existing_name, new_text_file
from fastrdm.cli.printing import RAW_CELLS, complain, echo, echo_json, noticing_closed_pipes
from fastrdm.scoring import TABLE_FORMATS

if TYPE_CHECKING:
    from fastrdm.scoring import Store

_ENDINGS = {".txt": "text", **{f".{form}": form for form in TABLE_FORMATS}}
# Options for results, which failures do not have.
_OF_RESULTS = (
    *("regions", "sets", "measures", "layers", "where", "best", "sort", "subjects", "history"),
)


def add_table(table: argparse.ArgumentParser) -> None:
    """Add the arguments of `table`."""
    table.description = "Print the results of a store, even while a sweep writes to it."
    add = table.add_argument
    add("store", type=existing_name, metavar="SCORES.db")
    add("--regions", type=_names, metavar="A,B", help="only these regions")
    add("--sets", type=_names, metavar="A,B", help="only these studies")
    measures = "only these measures, such as rsa,ridge"
    add("--measures", "--measure", type=_names, metavar="A,B", help=measures)
    add("--layers", type=_names, metavar="A,B", help="only layers that match these patterns")
    where = (
        "only rows whose column meets a condition COLUMN OP VALUE, e.g. 'epoch >= 10' or 'checkpoint ~ seed1'; OP is "
        "= != < <= > >= or ~ (regular expression); may be repeated, and all must be met"
    )
    add("--where", action="append", default=[], metavar="EXPR", help=where)
    best = "only the best layer of each checkpoint by each measure, among the layers, regions and studies chosen"
    add("--best", action="store_true", help=best)
    add("--sort", metavar="COLUMN", help="(default: by checkpoint; numbers compare as numbers)")
    add("--descending", action="store_true", help="sort from high to low")
    by_time = (
        "print a column for each time point, of a number (default: percent_nc), or with --best of the layer; only "
        "results of time points"
    )
    add("--by-time", nargs="?", const="percent_nc", metavar="COLUMN", help=by_time)
    add("--subjects", action="store_true", help="print a row for each subject, with its rho")
    history = "print results of contents too that their paths do not hold any more"
    add("--history", action="store_true", help=history)
    flips = "leave out the sign-flip tests, which take milliseconds for each checkpoint"
    add("--no-sign-flips", action="store_true", help=flips)
    failures = "print the checkpoints without a score, and why; with --debug and tracebacks"
    add("--failures", action="store_true", help=failures)
    check = (
        "check the store instead: SQLite's integrity, the checksum of every result, rows without those that they refer "
        "to, and values that cannot be; the exit status is 1 if anything is wrong"
    )
    add("--check", action="store_true", help=check)
    form = "(default: from the ending of --output, else text)"
    add("--format", choices=tuple(_ENDINGS.values()), help=form)
    add(
        "--json",
        dest="format",
        action="store_const",
        const="json",
        help="as --format json: a JSON array with an object for each row",
    )
    endings = f"output file ({', '.join(_ENDINGS)}; default: standard output)"
    add("--output", metavar="FILE", help=endings)
    add("--raw-cells", action="store_true", help=RAW_CELLS)
    table.set_defaults(run=_table)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _table(arguments: argparse.Namespace) -> int:
    from fastrdm.scoring import Store, TimePivot, write_table_text

    if arguments.check:
        return _check(arguments)
    form = _format(arguments.format, arguments.output)
    if arguments.descending and not arguments.sort:
        raise ValueError("--descending needs --sort COLUMN")
    options = {name: getattr(arguments, name) for name in _OF_RESULTS}
    if arguments.by_time and arguments.failures:
        raise ValueError("--by-time is for results, and not for --failures")
    with Store(arguments.store) as store:
        if arguments.failures:
            if given := [name for name, value in options.items() if value]:
                raise ValueError(f"--{given[0]} is for results, and not for --failures")
            table: Any = _Failures(store, arguments.debug)
        else:
            flips = not arguments.no_sign_flips
            table = store.table(**options, descending=arguments.descending, sign_flips=flips)
            if arguments.by_time:
                table = TimePivot(table, arguments.by_time)
        if arguments.output:
            _write_file(store, table, form, Path(arguments.output), arguments.raw_cells)
        elif form == "text":
            _print(store, table, sys.stdout)
        else:
            with noticing_closed_pipes():
                write_table_text(table, sys.stdout, form, raw_cells=arguments.raw_cells)
    return 0


def _check(arguments: argparse.Namespace) -> int:
    """Print what is wrong in a store, or that nothing is."""
    from fastrdm.scoring import Store

    others = (
        *_OF_RESULTS,
        "by_time",
        "descending",
        "no_sign_flips",
        "failures",
        "format",
        "output",
        "raw_cells",
    )
    as_json = arguments.format == "json"
    if given := [
        name for name in others if getattr(arguments, name) and not (name == "format" and as_json)
    ]:
        option = given[0].replace("_", "-")
        raise ValueError(f"--check is for the whole store; leave out --{option}")
    with Store(arguments.store) as store:
        found = store.check()
    if as_json:
        echo_json(dataclasses.asdict(found))
    for problem in () if as_json else found.problems:
        echo(problem)
    if found.problems:
        n = counted(len(found.problems), "problem")
        complain(f"fastrdm: error: {arguments.store} is damaged: {n}")
        return 1
    if as_json:
        return 0
    echo(
        f"nothing is wrong with {counted(found.n_results, 'result')} of {counted(found.n_checkpoints, 'checkpoint')}"
    )
    if found.n_without_checksum:
        n = counted(found.n_without_checksum, "result")
        echo(f"{n} without a checksum, from an older version of fastrdm, could not be compared")
    return 0


def _format(form: str | None, output: str | None) -> str:
    """The format, from its name or the ending of a file that can be written."""
    if output is None:
        if form in ("parquet", "xlsx"):
            raise ValueError(f"--format {form} needs a file; name it with --output FILE.{form}")
        return form or "text"
    ending = Path(output).suffix.lower()
    if ending not in _ENDINGS:
        raise ValueError(
            f"--output {output}: its ending must be one of {', '.join(_ENDINGS)}, which name the format"
        )
    if form not in (None, _ENDINGS[ending]):
        raise ValueError(f"--output {output}: its ending contradicts --format {form}")
    check_writable_file(output, "--output")
    return _ENDINGS[ending]


def _write_file(store: "Store", table: Any, form: str, path: Path, raw_cells: bool) -> None:
    from fastrdm.scoring import write_table

    if form == "text":
        with new_text_file(path) as file:
            _print(store, table, file)
    else:
        write_table(table, path, form, raw_cells=raw_cells)
    complain(f"wrote {path}")


def _print(store: "Store", table: Any, file: Any) -> None:
    from fastrdm.cli.store_text import print_by_time, print_table
    from fastrdm.scoring import TimePivot

    if isinstance(table, TimePivot):
        print_by_time(table, file)
    elif isinstance(table, _Failures):
        for line in table.lines():
            echo(line, file)
    else:
        print_table(store, table, file)


class _Failures:
    """The failures of a store as a table; with tracebacks on request."""

    def __init__(self, store: "Store", tracebacks: bool) -> None:
        self.columns: dict[str, type] = {
            "checkpoint": str,
            "arch": str,
            "at": str,
            "attempts": int,
            "error": str,
        }
        if tracebacks:
            self.columns["traceback"] = str
        self._found = store.failures()

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """Yield a row for each failure."""
        for failure in self._found:
            yield tuple(failure[name] for name in self.columns)

    def lines(self) -> Iterator[str]:
        """Yield a line for each failure, and its traceback."""
        for failure in self._found:
            times = f" ({failure['attempts']} times)" if failure["attempts"] > 1 else ""
            # Many errors begin with the path.
            name = encodable(failure["checkpoint"])
            error = failure["error"].removeprefix(f"{name}: ").removeprefix(f"{name} ")
            yield f"{failure['checkpoint']}{times}: {' '.join(error.split())}"
            if "traceback" in self.columns:
                yield from (f"    {line}" for line in failure["traceback"].rstrip().splitlines())
