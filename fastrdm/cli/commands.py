"""The command line's entry point: its commands, each in a module that is imported when the command is used."""

import argparse
import importlib
import signal
import sys
import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NoReturn

from fastrdm._base import __version__, printable
from fastrdm.cli.examples import HelpFormatter, epilog_of, first_steps
from fastrdm.cli.failures import add_debug, report_failure
from fastrdm.cli.printing import (
    CLOSED_PIPE,
    OutputClosedError,
    OutputFailedError,
    complain,
    discard,
    flush,
    open_streams,
    replace_symbols,
    write,
)

# The module of each command, in which `add_COMMAND` adds its arguments to a parser, and its help. Only the module of
# the command in use is imported.
COMMANDS: Mapping[str, tuple[str, str]] = {
    "score": ("score", "score every layer of networks against brain data"),
    "sweep": ("sweeping", "score many checkpoints into a store, each once, resumable"),
    "table": ("stores", "print the results of a store"),
    "plot": ("plotting", "draw the results of a store as a figure"),
    "report": ("report", "write the results of a store as a page to sort, filter and look through"),
    "merge": ("store_changes", "put the results of several stores into one"),
    "label": ("store_changes", "add labels to the checkpoints of a store, without scoring"),
    "check": ("check", "report what was understood of a study, and everything that looks wrong"),
    "evaluate": ("evaluate", "score an Algonauts 2019 submission as the challenge does"),
    "export": ("layers", "write a network with weights as an ONNX file with tapped layers"),
    "layers": ("layers", "list the layers of a network that can be tapped, with shapes and sizes"),
    "fetch": ("fetch", "fetch public data from their owners, after their licence is accepted"),
    "sample": ("sample", "write a synthetic sample study, to try fastrdm without data"),
    "doctor": ("doctor", "show what is installed and what will run, and test each part"),
    "selftest": ("selftest", "compare the kernels with plain NumPy, in seconds"),
    "completion": ("completion", "print a script that completes commands and options in a shell"),
}
# Commands that no longer exist, and those in their place.
_REPLACED = {"info": "doctor", "kernels": "doctor"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return 0, 1 after a failure, or 128 and the number of the signal that stopped it.

    It is 141, for SIGPIPE, if the reader of the output has closed the pipe. argparse exits with 2 for wrong usage.
    """
    open_streams()
    replace_symbols()
    try:
        try:
            return _run(sys.argv[1:] if argv is None else argv)
        finally:
            flush()
    except OutputClosedError:
        discard()
        return CLOSED_PIPE
    except OSError as error:
        discard()
        return report_failure(error, debug=False)


def _run(argv: Sequence[str]) -> int:
    debug = "--debug" in argv
    # Of the first word that is not an option; other commands are not imported.
    chosen = next((argument for argument in argv if not argument.startswith("-")), "")
    if chosen in _REPLACED:
        new = _REPLACED[chosen]
        complain(f"fastrdm: error: use `fastrdm {new}` in place of `fastrdm {chosen}`")
        return 2
    try:
        parser, _ = make_parsers([chosen])
        arguments = parser.parse_args(argv)
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            if not sys.warnoptions:
                # Each time: by default, a warning is shown once for each place in the code.
                warnings.filterwarnings("always", category=RuntimeWarning)
            status: int = arguments.run(arguments)
        return status
    except KeyboardInterrupt as interrupt:
        complain("fastrdm: stopped")
        # Without a number it is Ctrl-C.
        return 128 + (interrupt.args[0] if interrupt.args else signal.SIGINT)
    except (OutputClosedError, OutputFailedError):
        # Reported by `main`, once: what is still in the streams fails again.
        raise
    except Exception as error:
        return report_failure(error, debug)


def _show_warning(message: Warning | str, *details: object, **more: object) -> None:
    complain(f"fastrdm: warning: {message}")


class _Parser(argparse.ArgumentParser):
    """A parser whose errors show arguments harmlessly, and whose help does not hide that a pipe is closed."""

    def error(self, message: str) -> NoReturn:
        """Print the usage and a message, and exit."""
        super().error(printable(message))

    def _print_message(self, message: str, file: Any = None) -> None:
        write(message, sys.stderr if file is None else file)


def make_parsers(
    names: Collection[str] = COMMANDS,
) -> tuple[argparse.ArgumentParser, Mapping[str, argparse.ArgumentParser]]:
    """Return the parser of all commands, and that of each; only commands in `names` have their arguments."""
    parser = _Parser(
        prog="fastrdm",
        description="Compare neural networks with the visual brain.",
        epilog=first_steps(),
        formatter_class=HelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"fastrdm {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, (module, purpose) in COMMANDS.items():
        # Its help begins with the purpose, unless the command has a longer description.
        command = commands.add_parser(
            name,
            help=purpose,
            description=f"{purpose[0].upper()}{purpose[1:]}.",
            epilog=epilog_of(name),
            formatter_class=HelpFormatter,
        )
        if name in names:
            getattr(importlib.import_module(f"fastrdm.cli.{module}"), f"add_{name}")(command)
    add_debug(parser, commands.choices.values())
    return parser, commands.choices
