"""Errors on one line, and with `--debug` their traceback."""

import argparse
import sys
from collections.abc import Iterable

from fastrdm._base import one_line

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

        traceback.print_exception(error)
    print(f"fastrdm: error: {_text(error)}{_hint(error, debug)}", file=sys.stderr)
    return 1


def _text(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and len(error.args) > 1:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if _is_expected(error):
        return one_line(error)
    kind, text = type(error).__name__, " ".join(str(error).split())
    return f"unexpected {kind}{': ' if text else ''}{text}"


def _is_expected(error: Exception) -> bool:
    """Whether the message is for users: the errors that fastrdm raises itself."""
    return isinstance(error, ValueError | OSError | ImportError)


def _hint(error: Exception, debug: bool) -> str:
    return "" if debug or _is_expected(error) else "; --debug shows the traceback"
