"""mne-rsa's own tests, without and with fastrdm's functions in its places.

``python -m bench.peers.run_mne_rsa_tests CHECKOUT`` runs the tests of a checkout of mne-rsa on the checkout's code
(with ``--installed``, on the installed mne-rsa), prints both counts and the tests that differ, and exits with 1 if
there are any. ``git clone --branch 1.0 https://github.com/mne-tools/mne-rsa`` makes a checkout. 37 of its 102 tests
need MNE-Python's sample data (1.6 GB), which it downloads, or finds in the folder ``MNE_DATASETS_SAMPLE_PATH``.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from bench.peers.own_tests import compare_runs

_SWITCH = "from fastrdm.interop.mne_rsa import accelerate\naccelerate()\n"


def main(arguments: list[str] | None = None) -> int:
    """Compare both runs; 1 if a test differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("checkout", type=Path)
    parser.add_argument(
        "tests", nargs="*", default=["tests"], help="folders or files of the checkout"
    )
    parser.add_argument("--installed", action="store_true", help="test the installed mne-rsa")
    options = parser.parse_args(arguments)
    checkout = options.checkout.resolve()
    if not (checkout / "mne_rsa" / "rsa.py").is_file():
        parser.error(f"{checkout} is not a checkout of mne-rsa: it has no mne_rsa/rsa.py")
    tests = [checkout / name for name in options.tests]
    path = [] if options.installed else [checkout]
    with tempfile.TemporaryDirectory() as folder:
        _, status = compare_runs("mne-rsa", tests, Path(folder), path, _SWITCH)
    return status


if __name__ == "__main__":
    sys.exit(main())
