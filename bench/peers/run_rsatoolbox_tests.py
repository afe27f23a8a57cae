"""rsatoolbox's own tests, without and with fastrdm's functions in its places.

``python -m bench.peers.run_rsatoolbox_tests CHECKOUT`` runs the tests of a checkout of rsatoolbox on the installed
rsatoolbox, which has compiled code, prints both counts and the tests that differ, and exits with 1 if there are any.
``git clone --branch v0.3.2 https://github.com/rsagroup/rsatoolbox`` makes a checkout; its tests need the package
parameterized.
"""

import argparse
import sys
from importlib.metadata import version
from pathlib import Path

from bench.peers.own_tests import compare_runs

_SWITCH = "import fastrdm.interop.rsatoolbox.auto\n"


def main(arguments: list[str] | None = None) -> int:
    """Compare both runs; 1 if a test differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("checkout", type=Path)
    parser.add_argument(
        "tests", nargs="*", default=["tests"], help="folders or files of the checkout"
    )
    options = parser.parse_args(arguments)
    checkout = options.checkout.resolve()
    if not (checkout / "tests" / "test_calc_rdm.py").is_file():
        parser.error(
            f"{checkout} is not a checkout of rsatoolbox: it has no tests/test_calc_rdm.py"
        )
    print(f"tests of {checkout} on rsatoolbox {version('rsatoolbox')}")
    tests = [checkout / name for name in options.tests]
    _, status = compare_runs("rsatoolbox", tests, checkout, [], _SWITCH)
    return status


if __name__ == "__main__":
    sys.exit(main())
