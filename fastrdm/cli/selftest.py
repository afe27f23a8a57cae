"""`fastrdm selftest`: the kernels of every instruction set against plain NumPy."""

import argparse
import dataclasses
import time

from fastrdm._base import counted, list_names
from fastrdm.cli.json_output import add_json
from fastrdm.cli.printing import echo, echo_json


def add_selftest(selftest: argparse.ArgumentParser) -> None:
    """Add the arguments of `selftest`."""
    selftest.description = (
        "Compare the kernels of every instruction set that this processor has with plain NumPy: products, ranks, "
        "RDMs of every method, similarities and noise ceilings. It needs no extra and no data. The exit status is 1 "
        "if a result is wrong or a kernel set that is installed does not run."
    )
    selftest.add_argument(
        "--all",
        action="store_true",
        help="also test numba's kernels where they are not in use; they are compiled first, for up to half a minute",
    )
    add_json(selftest)
    selftest.set_defaults(run=_selftest)


def _selftest(arguments: argparse.Namespace) -> int:
    from fastrdm.cli.columns import print_rows
    from fastrdm.cli.diagnosis import FAILS, test_kernels, uses_numba

    start = time.perf_counter()
    numba = arguments.all or uses_numba()
    found = test_kernels(numba)
    seconds = time.perf_counter() - start
    failing = [each.name for each in found if each.state == FAILS]
    if arguments.json:
        tests = [
            {name: value for name, value in dataclasses.asdict(each).items() if name != "facts"}
            for each in found
        ]
        echo_json({"works": not failing, "seconds": round(seconds, 3), "tests": tests})
        return bool(failing)
    print_rows(
        ["kernels", "state", ""],
        [
            (each.name, each.state, "; install: ".join(filter(None, (each.detail, each.install))))
            for each in found
        ],
    )
    echo()
    if failing:
        echo(f"{counted(len(failing), 'test')} failed: {list_names(failing)}")
    else:
        whose = "all kernels" if numba else "all compiled kernels"
        echo(f"{whose} agree with NumPy ({seconds:.1f} s)")
        if not numba:
            echo("numba's, which are not in use, are tested by: fastrdm selftest --all")
    return bool(failing)
