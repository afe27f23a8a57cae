"""Build the wheels of this system, and test each in an empty environment without a compiler on the path.

Usage: python tests/wheels/try_wheels.py PYTHON [PYTHON ...]

With Python 3.11 a wheel of its own is made, with later versions one of the stable ABI, which all of them install.
auditwheel names the oldest Linux that each runs on. In the environment of each interpreter, outside the checkout,
`python -m fastrdm selftest` runs, then the tests of `rdm`, `similarity` and `inference`. The script prints one line for
each step, and ends with status 1 if one failed.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
OUT = ROOT / "build" / "wheels"
ROOMS = ("rdm", "similarity", "inference")


def run(*command, **options):
    start = time.perf_counter()
    ended = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    return ended, time.perf_counter() - start


def report(what, ended, seconds):
    """Print how a step ended, with its last line; of a failed one, all that it printed."""
    lines = (ended.stdout.strip() or ended.stderr.strip()).splitlines()
    print(
        f"{what:<28} {'failed' if ended.returncode else 'passed'}  {seconds:6.1f} s  {lines[-1] if lines else ''}"
    )
    if ended.returncode:
        print(ended.stdout, ended.stderr, sep="\n")
        sys.exit(1)


def version_of(python):
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    return subprocess.run(
        [python, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


def build(python, version):
    """Return the repaired wheel of an interpreter: that of the stable ABI, if it is there already."""
    tag = "cp311-cp311" if version == "3.11" else "cp312-abi3"
    if not (found := list(OUT.glob(f"*-{tag}-manylinux*.whl"))):
        with tempfile.TemporaryDirectory() as folder:
            environment = {**os.environ, "CI": "true"}
            command = (python, "-m", "pip", "wheel", "--no-deps", "-w", folder, str(ROOT))
            report(f"build with Python {version}", *run(*command, env=environment))
            (made,) = Path(folder).glob("*.whl")
            repair = (sys.executable, "-m", "auditwheel", "repair", "-w", str(OUT), str(made))
            path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
            report("auditwheel repair", *run(*repair, env={**os.environ, "PATH": path}))
        found = list(OUT.glob(f"*-{tag}-manylinux*.whl"))
    (wheel,) = found
    print(f"{wheel.name}, {wheel.stat().st_size / 2**20:.1f} MiB")
    return wheel


def try_wheel(python, version, wheel):
    """Install a wheel and what its tests need in an empty environment, and test it there."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        report(f"environment, Python {version}", *run(python, "-m", "venv", str(home / "venv")))
        own = home / "venv" / "bin"
        # Neither a compiler nor the checkout is in reach.
        environment = {"PATH": str(own), "HOME": folder, "LANG": "C.UTF-8"}
        passed_on = ("PIP_", "FASTRDM_DATA")
        environment |= {n: value for n, value in os.environ.items() if n.startswith(passed_on)}

        def inside(what, *arguments):
            command = (str(own / "python"), *arguments)
            report(what, *run(*command, env=environment, cwd=home))

        inside(
            "install the wheel",
            "-m",
            "pip",
            "install",
            "--quiet",
            "--only-binary=:all:",
            str(wheel),
        )
        inside("python -m fastrdm selftest", "-m", "fastrdm", "selftest")
        inside("with numba's kernels", "-m", "fastrdm", "selftest", "--all")
        needed = (
            "hypothesis",
            "pytest",
            "h5py",
            "ml_dtypes",
            "pandas",
            "pyarrow",
            "scikit-learn",
            "xarray",
        )
        inside("install pytest", "-m", "pip", "install", "--quiet", "--only-binary=:all:", *needed)
        shutil.copytree(
            ROOT / "tests", home / "tests", ignore=shutil.ignore_patterns("__pycache__")
        )
        shutil.copy(ROOT / "pyproject.toml", home)
        tests = [f"tests/{room}" for room in ROOMS]
        inside(f"tests of {', '.join(ROOMS)}", "-m", "pytest", "-q", *tests)


def main(pythons):
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    for python in pythons:
        version = version_of(python)
        try_wheel(python, version, build(python, version))


if __name__ == "__main__":
    main(sys.argv[1:] or [sys.executable])
