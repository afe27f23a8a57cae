"""Runs a script of tests in two processes, ranks 0 and 1."""

import json
import os
import subprocess
import sys


def results_of_ranks(script, folder, *words, timeout):
    """Run `script RANK *words` for both ranks, and return what they wrote to `rank0.json` and `rank1.json`."""
    logs, processes = [folder / f"rank{rank}.log" for rank in range(2)], []
    for rank, log in enumerate(logs):
        with log.open("w") as file:
            command = [sys.executable, str(script), str(rank), *map(str, words)]
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            processes.append(subprocess.Popen(command, stdout=file, stderr=file, env=environment))
    try:
        for process in processes:
            process.wait(timeout)
    finally:
        for process in processes:
            process.kill()
    for process, log in zip(processes, logs, strict=True):
        assert process.returncode == 0, log.read_text()
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(2)]
