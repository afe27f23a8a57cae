"""mne-rsa's own tests, without and with fastrdm's functions in its places.

``python -m bench.peers.run_mne_rsa_tests CHECKOUT`` runs the tests of a checkout of mne-rsa on the checkout's code
(with ``--installed``, on the installed mne-rsa), prints both counts and the tests that differ, and exits with 1 if
there are any. ``git clone --branch main https://github.com/wmvanvliet/mne-rsa`` makes a checkout.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

_PLUGIN = """
from fastrdm.interop.mne_rsa import accelerate

accelerate()
"""


def outcomes(
    checkout: Path, installed: bool, accelerated: bool, tests: list[str]
) -> dict[str, str]:
    """Run the tests; return test → passed, failed, error or skipped."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        Path(folder, "fastrdm_in_mne_rsa.py").write_text(_PLUGIN)
        path = [folder, str(Path(__file__).resolve().parents[2])]
        if not installed:
            path.append(str(checkout))
        arguments = ["-q", "-p", "no:cacheprovider", "-o", "addopts=", "--import-mode=importlib"]
        if accelerated:
            arguments += ["-p", "fastrdm_in_mne_rsa"]
        chosen = [str(checkout / name) for name in tests]
        done = subprocess.run(
            [sys.executable, "-P", "-m", "pytest", *arguments, f"--junit-xml={report}", *chosen],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
            capture_output=True,
            text=True,
            check=False,
        )
        if not report.is_file():
            sys.exit(f"pytest did not run:\n{done.stdout}{done.stderr}")
        return {
            f"{case.get('classname')}::{case.get('name')}": _outcome(case)
            for case in ElementTree.parse(report).iter("testcase")
        }


def _outcome(case: ElementTree.Element) -> str:
    for tag, outcome in {"failure": "failed", "error": "error", "skipped": "skipped"}.items():
        if case.find(tag) is not None:
            return outcome
    return "passed"


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
    without, within = (
        outcomes(checkout, options.installed, accelerated, options.tests)
        for accelerated in (False, True)
    )
    for label, found in {"mne-rsa": without, "accelerated": within}.items():
        counts = ", ".join(
            f"{n} {outcome}" for outcome, n in sorted(Counter(found.values()).items())
        )
        print(f"{label}: {counts or 'no tests'}")
    different = [
        name for name in sorted({*without, *within}) if without.get(name) != within.get(name)
    ]
    for name in different:
        print(f"{name}: {without.get(name)} without, {within.get(name)} with")
    return int(bool(different) or not without)


if __name__ == "__main__":
    sys.exit(main())
