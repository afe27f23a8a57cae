"""Extra memory of one call, measured in a process of its own: python -m bench.memory CONTENDER ROWS COLUMNS.

Prints the peak of the resident set during the call less what was resident before it, in bytes. Linux only: the peak
is read from /proc/self/status, since that of getrusage is inherited from the process that started this one.
"""

import sys
from pathlib import Path

import numpy as np

from bench import peers


def resident(field: str) -> int:
    """VmRSS (now) or VmHWM (peak) of this process in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}")


def main(prepare: str, n_rows: int, n_columns: int) -> None:
    rows = np.random.default_rng(0).random((n_rows, n_columns), np.float32)
    # What a first call imports, compiles and allocates once is no cost of the call measured.
    getattr(peers, prepare)(rows[:, :1000].copy())()
    call = getattr(peers, prepare)(rows)
    before = resident("VmRSS")
    call()
    print(resident("VmHWM") - before)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
