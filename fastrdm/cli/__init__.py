"""Arguments in, calls out: the command line.

In come the words that a user types; out go a table, lines of CSV or JSON, files, and a status. Everything that computes
is called, never written, here; an error is one sentence on stderr.

Read `commands` first: the commands and their options. `score` scores checkpoints and submissions, `tables` prints.
`sweeping` has those of sweeps and stores, `arguments` the
options that several share. `doctor` says what this machine and installation have to offer; `sample` writes a synthetic
study with a known answer, with pictures from `drawings`.
"""

from typing import TYPE_CHECKING

from fastrdm._base import lazy_attributes

if TYPE_CHECKING:
    from fastrdm.cli.commands import main
    from fastrdm.cli.doctor import Info, info
else:
    __getattr__ = lazy_attributes(
        __name__, {"fastrdm.cli.commands": ["main"], "fastrdm.cli.doctor": ["Info", "info"]}
    )

__all__ = ["Info", "info", "main"]
