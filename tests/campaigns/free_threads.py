"""Scores many RDMs on one target from 64 threads without the global interpreter lock.

    python tests/campaigns/free_threads.py --scores 100000

Installs fastrdm into a virtual environment of a free-threaded Python (3.13t or later) and runs many_scores.py there,
with PYTHON_GIL=0. Exit status 1 means a wrong score, memory or open files that grow, or a crash; 3 means that there is
no such Python, or that a package that fastrdm needs has no version for it.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
FOLDER = ROOT / "build" / "free-threaded"
MISSING = 3
IS_FREE = "import sys; raise SystemExit(getattr(sys, '_is_gil_enabled', lambda: True)())"


def interpreter(name):
    """The path of a free-threaded Python; None if there is none."""
    for each in (name,) if name else ("python3.14t", "python3.13t"):
        path = shutil.which(each)
        command = [path, "-c", IS_FREE]
        if path and not subprocess.run(command, env=environment(), capture_output=True).returncode:
            return path
    return None


def environment():
    return {**os.environ, "PYTHON_GIL": "0", "CI": "1"}


def install(path):
    """Install fastrdm into an environment; return its Python, or the last line of pip's error."""
    subprocess.run([path, "-m", "venv", "--clear", FOLDER], check=True)
    python = FOLDER / "bin" / "python"
    command = [python, "-m", "pip", "install", "--quiet", "--only-binary", "numba,llvmlite,scipy"]
    done = subprocess.run(
        [*command, ROOT], capture_output=True, text=True, env=environment(), check=False
    )
    lines = done.stderr.strip().splitlines() or [""]
    return python, lines[-1] if done.returncode else ""


def main():
    """Run the campaign; the exit status is that of many_scores.py."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scores", type=int, default=100_000)
    parser.add_argument("--python", help="name or path of a free-threaded Python")
    chosen = parser.parse_args()
    path = interpreter(chosen.python)
    if path is None:
        print(
            f"skipped: {chosen.python or 'python3.13t'} is not installed or not free-threaded:"
            " uv python install 3.13t, or CPython configured with --disable-gil"
        )
        return MISSING
    python, error = install(path)
    if error:
        print(f"skipped: fastrdm cannot be installed for {path}: {error}")
        return MISSING
    command = [python, HERE / "many_scores.py", "--scores", str(chosen.scores)]
    return int(subprocess.run(command, env=environment()).returncode != 0)


if __name__ == "__main__":
    sys.exit(main())
