"""The machine's limits: float32 multiply-add peak and read bandwidth, for given numbers of threads.

As a script: python bench/experiments/peak.py [THREADS ...]
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("peak.cpp")
# Older Clang for ARM accepts only -mcpu=native.
NATIVE = ("-march=native", "-mcpu=native")


@dataclass(frozen=True)
class Peak:
    """Limits with `n_threads` threads: float32 multiply-adds in GFLOP/s (two operations each), reads in GB/s."""

    n_threads: int
    gflops: float
    gbytes: float


class NoCompilerError(OSError):
    """No C++ compiler can build the probe."""


def measure(n_threads: Iterable[int]) -> list[Peak]:
    """Build the probe for this processor in a temporary folder and run it."""
    compiler = next(
        filter(None, map(shutil.which, [os.environ.get("CXX", ""), "c++", "g++", "clang++"])), None
    )
    if compiler is None:
        raise NoCompilerError(
            "no C++ compiler (c++, g++, clang++ or $CXX) to build the probe of the machine's peak"
        )
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "peak"
        options = ["-std=c++17", "-O3", "-ffp-contract=fast", "-pthread", SOURCE, "-o", program]
        for native in NATIVE:
            built = subprocess.run([compiler, native, *options], capture_output=True, text=True)
            if built.returncode == 0:
                break
        else:
            raise NoCompilerError(f"{compiler} cannot build {SOURCE.name}: {built.stderr.strip()}")
        output = subprocess.run(
            [program, *map(str, n_threads)], capture_output=True, text=True, check=True
        ).stdout
    return [
        Peak(int(n), float(gflops), float(gbytes))
        for n, gflops, gbytes in map(str.split, output.splitlines())
    ]


if __name__ == "__main__":
    try:
        for peak in measure([int(n) for n in sys.argv[1:]] or sorted({1, os.cpu_count() or 1})):
            print(
                f"{peak.n_threads} thread(s): {peak.gflops:.1f} GFLOP/s float32 multiply-adds,"
                f" {peak.gbytes:.1f} GB/s read"
            )
    except NoCompilerError as error:
        sys.exit(str(error))
