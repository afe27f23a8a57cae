"""Errors on one line, and with `--debug` their traceback."""

import argparse
from collections.abc import Iterable

from fastrdm._base import error_text, is_expected
from fastrdm.cli.printing import complain, complain_lines

_HELP = "print the traceback of errors"


def add_debug(parser: argparse.ArgumentParser, commands: Iterable[argparse.ArgumentParser]) -> None:
    """Add `--debug` to the parser and to those of its commands."""
    parser.add_argument("--debug", action="store_true", help=_HELP)
    for command in commands:
        # Without a default, so that the value before the command stays.
        command.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=_HELP)


def report_failure(error: Exception, debug: bool) -> int:
    """Print an error on one line of standard error, after its traceback if `debug`; return the exit status."""
    if debug:
        import traceback

        complain_lines("".join(traceback.format_exception(error)))
    complain(f"fastrdm: error: {error_text(error)}{_hint(error, debug)}")
    return 1


def _hint(error: Exception, debug: bool) -> str:
    return "" if debug or is_expected(error) else "; --debug shows the traceback"
