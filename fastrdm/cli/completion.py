"""`fastrdm completion`: a script that completes commands, options, choices and files in a shell."""

import argparse

from fastrdm._base import require
from fastrdm.cli.json_output import add_json
from fastrdm.cli.printing import echo_json, write

_SHELLS = ("bash", "zsh", "fish", "tcsh", "powershell")
# Beginnings of the metavariables of arguments that are files, and of those that are folders.
_FILES = (
    *(
        "WEIGHTS",
        "FILE",
        "SCORES.db",
        "INTO.db",
        "FROM.db",
        "STORE",
        "STUDY",
        "SUBMISSION",
        "TARGET",
    ),
    *("ARCH", "MODULE:CALLABLE", "SOURCE"),
)
_FOLDERS = ("DIR",)


def add_completion(completion: argparse.ArgumentParser) -> None:
    """Add the arguments of `completion`."""
    completion.description = (
        "Print a script that completes commands, options, their choices, and files in a shell. The shell runs no "
        "Python to complete. Print the script again after an update of fastrdm."
    )
    completion.add_argument("shell", choices=_SHELLS, help="the shell")
    add_json(completion, "a JSON object with the script")
    completion.set_defaults(run=_completion)


def _completion(arguments: argparse.Namespace) -> int:
    from fastrdm.cli.commands import make_parsers
    from fastrdm.runtimes import PROVIDERS

    shtab = require("shtab", "run", "to write a script of completions")
    parser, commands = make_parsers()
    for command in commands.values():
        for action in command._actions:
            metavar = action.metavar if isinstance(action.metavar, str) else ""
            if metavar.startswith(_FILES):
                action.complete = shtab.FILE  # type: ignore[attr-defined]
            elif metavar.startswith(_FOLDERS):
                action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
            elif "--provider" in action.option_strings:
                action.choices = ("auto", "torch", *PROVIDERS)
    script = shtab.complete(parser, shell=arguments.shell)
    if arguments.json:
        echo_json({"shell": arguments.shell, "script": script})
    else:
        write(f"{script}\n")
    return 0
