"""Runs of a peer's own tests, without and with fastrdm's functions in its places."""

import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from time import perf_counter
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[2]
_PLUGIN = "fastrdm_in_its_places"
_OUTCOMES = {"failure": "failed", "error": "error", "skipped": "skipped"}


def outcomes(tests: list[Path], folder: Path, path: list[Path], switch: str = "") -> dict[str, str]:
    """Run tests in a folder, with `path` on the module path; return test → passed, failed, error or skipped.

    `switch` is code that puts other functions in the peer's places before the tests are imported.
    """
    with tempfile.TemporaryDirectory() as aside:
        report = Path(aside, "report.xml")
        Path(aside, f"{_PLUGIN}.py").write_text(switch)
        arguments = ["-q", "-p", "no:cacheprovider", "-p", _PLUGIN, "-o", "addopts="]
        arguments += ["--import-mode=importlib", f"--junit-xml={report}"]
        # A file that cannot be imported, such as for want of a package, does not keep the others from running.
        arguments.append("--continue-on-collection-errors")
        given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        places = os.pathsep.join(str(each) for each in [aside, ROOT, *path, *given] if each)
        done = subprocess.run(
            [sys.executable, "-P", "-m", "pytest", *arguments, *map(str, tests)],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": places},
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
    found = (name for tag, name in _OUTCOMES.items() if case.find(tag) is not None)
    return next(found, "passed")


def compare_runs(
    peer: str, tests: list[Path], folder: Path, path: list[Path], switch: str
) -> tuple[dict[str, str], int]:
    """Run tests both ways, print counts, errors and differences; return the outcomes and 1 if any differ."""
    runs = []
    for label, code in ((peer, ""), ("accelerated", switch)):
        begin = perf_counter()
        runs.append(outcomes(tests, folder, path, code))
        counts = sorted(Counter(runs[-1].values()).items())
        text = ", ".join(f"{n} {outcome}" for outcome, n in counts)
        print(f"{label}: {text or 'no tests'}, in {perf_counter() - begin:.0f} s", flush=True)
    without, within = runs
    different = [
        name for name in sorted({*without, *within}) if without.get(name) != within.get(name)
    ]
    for name in sorted({*without} - {*different}):
        if without[name] == "error":
            print(f"{name}: error in both runs, which hides what it tests")
    for name in different:
        print(f"{name}: {without.get(name)} without, {within.get(name)} with")
    return without, int(bool(different) or not without)
