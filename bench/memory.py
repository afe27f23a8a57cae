"""Extra memory of one call in a separate process: python -m bench.memory CONTENDER ROWS COLUMNS.

Prints the peak of the resident set during the call minus the resident set before it, in bytes. Linux only.
"""

import sys

import numpy as np

from bench.peers import rdm as peers
from bench.resident import resident


def main(prepare: str, n_rows: int, n_columns: int) -> None:
    rows = np.random.default_rng(0).random((n_rows, n_columns), np.float32)
    # A first call imports, compiles and allocates once; the measured call does not pay for that.
    getattr(peers, prepare)(rows[:, :1000].copy())()
    call = getattr(peers, prepare)(rows)
    before = resident("VmRSS")
    call()
    print(resident("VmHWM") - before)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
