"""The memory that `--dry-run` announces."""

import subprocess
import sys
import textwrap

import pytest


@pytest.mark.skipif(sys.platform != "linux", reason="other systems count from the process's start")
def test_the_peak_of_a_worker_is_not_that_of_the_process_that_started_it():
    code = """
        import subprocess, sys
        large = bytearray(b"x") * (600 << 20)
        worker = "from fastrdm.scoring.worker import peak_memory; print(peak_memory())"
        print(subprocess.run([sys.executable, "-c", worker], capture_output=True, text=True).stdout)
    """
    run = [sys.executable, "-c", textwrap.dedent(code)]
    peak = int(subprocess.run(run, capture_output=True, text=True, check=True).stdout)
    assert 10 << 20 < peak < 500 << 20
