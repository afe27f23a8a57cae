"""The command line's entry point: its commands, each in a module that is imported when the command is used."""

import argparse
import importlib
import io
import os
import signal
import sys
import warnings
from collections.abc import Mapping, Sequence

from fastrdm._base import __version__
from fastrdm.cli.failures import add_debug, report_failure

# The module of each command, in which `add_COMMAND` adds its arguments to a parser, and its help. Only the module of
# the command in use is imported.
COMMANDS: Mapping[str, tuple[str, str]] = {
    "score": ("score", "score every layer of networks against brain data"),
    "sweep": ("sweeping", "score many checkpoints into a store, each once, resumable"),
    "table": ("stores", "print the results of a store"),
    "merge": ("store_changes", "put the results of several stores into one"),
    "label": ("store_changes", "add labels to the checkpoints of a store, without scoring"),
    "check": ("check", "report what was understood of a study, and everything that looks wrong"),
    "evaluate": ("evaluate", "score an Algonauts 2019 submission as the challenge does"),
    "export": ("layers", "write a network with weights as an ONNX file with tapped layers"),
    "layers": ("layers", "list the layers of a network that can be tapped, with shapes and sizes"),
    "sample": ("sample", "write a synthetic sample study, to try fastrdm without data"),
    "info": ("machine", "describe the machine: processors, memory, kernels, versions, providers"),
    "kernels": ("machine", "print which kernels are in use"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return 0, 1 after a failure, or 128 and the number of the signal that stopped it.

    argparse exits with 2 for wrong usage.
    """
    argv = sys.argv[1:] if argv is None else argv
    debug = "--debug" in argv
    for stream in (sys.stdout, sys.stderr):
        # Tables have symbols that not every terminal and pipe can show.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        arguments = _parser(argv).parse_args(argv)
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            if not sys.warnoptions:
                # Each time: by default, a warning is shown once for each place in the code.
                warnings.filterwarnings("always", category=RuntimeWarning)
            status: int = arguments.run(arguments)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # The reader closed the pipe; the interpreter must not flush into it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt as interrupt:
        print("fastrdm: stopped", file=sys.stderr)
        # Without a number it is Ctrl-C.
        return 128 + (interrupt.args[0] if interrupt.args else signal.SIGINT)
    except Exception as error:
        return report_failure(error, debug)


def _show_warning(message: Warning | str, *details: object, **more: object) -> None:
    print(f"fastrdm: warning: {message}", file=sys.stderr)


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    """The parser with all commands, and the arguments of the one in `argv`."""
    parser = argparse.ArgumentParser(
        prog="fastrdm", description="Compare neural networks with the visual brain."
    )
    parser.add_argument("--version", action="version", version=f"fastrdm {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    chosen = next((argument for argument in argv if not argument.startswith("-")), None)
    for name, (module, purpose) in COMMANDS.items():
        command = commands.add_parser(name, help=purpose)
        if name == chosen:
            getattr(importlib.import_module(f"fastrdm.cli.{module}"), f"add_{name}")(command)
    add_debug(parser, commands.choices.values())
    return parser
