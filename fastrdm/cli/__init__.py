"""The command line: arguments in, calls out.

In come the user's arguments; out go tables, lines of CSV or JSON, files, and an exit status. Commands only call other
packages and compute nothing; an error is one sentence on stderr.

Read `commands` first: the parser, and the module of each command, which is imported when the command is used. `score`,
`sweeping`, `stores`, `plotting`, `report`, `check`, `evaluate`, `sample`, `completion` and `doctor` have one command
each, `store_changes` and `layers` two; `arguments` has the options that they share, `examples` the examples of each
command's help. `tables` prints results, `store_text` those of a store, `columns` any rows, `json_output` JSON,
`progress` a sweep's estimate and events, `failures` errors; all of them write with `printing`. `machine` describes the
machine and the installation, and `diagnosis` tests each part of it, by the `trials` that it runs in processes of their
own. The sample is a synthetic study with a known answer: `drawings` makes its pictures, `sample_network` its network.
"""

from typing import TYPE_CHECKING

from fastrdm._base import lazy_attributes

if TYPE_CHECKING:
    from fastrdm.cli.commands import main
    from fastrdm.cli.machine import Info, info
else:
    __getattr__ = lazy_attributes(
        __name__, {"fastrdm.cli.commands": ["main"], "fastrdm.cli.machine": ["Info", "info"]}
    )

__all__ = ["Info", "info", "main"]
