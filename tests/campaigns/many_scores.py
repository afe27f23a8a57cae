"""Score many RDMs on one target: `python tests/campaigns/many_scores.py [--scores 1000000] [--threads 64]`.

Threads share one `Target`. Each score is compared with the one computed before the threads started; the process's
memory and open files must stay as they are after the first tenth. Exit status 1 means that one of these does not hold.
"""

import argparse
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path

import numpy as np

import fastrdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from campaigns.common import tally_line

N_CONDITIONS = 20


def resident():
    """Return the resident memory in MiB, or None where it cannot be read."""
    try:
        with open("/proc/self/statm") as file:  # noqa: PTH123
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except OSError:
        return None


def open_files():
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0  # noqa: PTH112, PTH208


def score_many(n_scores, n_threads, n_rdms=50):
    """Return wrong scores, growth of memory in MiB, and growth of open files."""
    rng = np.random.default_rng(0)
    n_pairs = N_CONDITIONS * (N_CONDITIONS - 1) // 2
    target = fastrdm.Target(rng.random((5, n_pairs)))
    rdms = rng.random((n_rdms, n_pairs))
    expected = [target.score(rdm).rho for rdm in rdms]

    def score(count):
        wrong = 0
        for k in range(count):
            wrong += not np.array_equal(target.score(rdms[k % n_rdms]).rho, expected[k % n_rdms])
        return wrong

    def run(count):
        return sum(pool.map(score, repeat(-(-count // n_threads), n_threads)))

    with ThreadPoolExecutor(n_threads) as pool:
        wrong = run(n_scores // 10)
        memory, files = resident(), open_files()
        wrong += run(n_scores - n_scores // 10)
        growth = 0.0 if memory is None else resident() - memory
        return wrong, growth, open_files() - files


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scores", type=int, default=1_000_000)
    parser.add_argument("--threads", type=int, default=64)
    options = parser.parse_args()
    wrong, growth, files = score_many(options.scores, options.threads)
    print(
        f"{options.scores} scores, {wrong} wrong, memory {growth:+.1f} MiB, {files:+d} open files"
    )
    problems = {"changed": wrong, "memory": int(growth > 20), "files": max(0, files)}
    print(tally_line({"scores": options.scores}, problems))
    sys.exit(1 if any(problems.values()) else 0)


if __name__ == "__main__":
    main()
