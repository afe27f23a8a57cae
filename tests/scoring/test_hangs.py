"""A sweep cannot hang: workers that die or never start, scripts without a guard, start methods."""

import subprocess
import sys
import threading
from multiprocessing import get_all_start_methods
from pathlib import Path

import numpy as np
import pytest
from tiny_sweep import DEADLINE_S, ON_LINUX, n_rows, sweep, workers_run

import fastrdm
from fastrdm.scoring import Store, Sweep
from fastrdm.scoring.jobs import WorkerLostError, WorkerPoolError
from fastrdm.scoring.local_pool import LocalPool


def test_a_script_without_a_guard_needs_none(tiny):
    Path("script.py").write_text(
        'import fastrdm\nfastrdm.sweep("runs", "net.onnx", "study", store="scores.db", workers=2)\n'
    )
    subprocess.run([sys.executable, "script.py"], timeout=DEADLINE_S, check=True)
    assert n_rows() == 4
    with Store("scores.db") as store:
        assert len(store.runs()) == 1


def test_an_object_of_the_main_program_is_refused_with_what_to_do(tiny):
    Path("script.py").write_text(
        "import dataclasses, fastrdm\n"
        "from fastrdm.studies import open_studies, Study\n"
        "class Mine(Study): pass\n"
        "study = Mine(**vars(open_studies('study')[0]))\n"
        'fastrdm.sweep("runs", "net.onnx", study, store="scores.db")\n'
    )
    found = subprocess.run(
        [sys.executable, "script.py"], timeout=DEADLINE_S, capture_output=True, text=True
    )
    assert found.returncode == 1
    assert "needs Mine, which the main program defines; put it into a module" in found.stderr


@pytest.mark.parametrize(
    ("program", "match"),
    [
        ("", "workers die while starting: worker process .* ended with exit status 0"),
        ("raise SystemExit(3)", "exit status 3; its error is on standard error"),
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
            "ended by SIGKILL; memory may be too small",
        ),
        # It closes what it should read while this process writes.
        ("import os, time; os.close(0); os.close(1); time.sleep(1)", "exit status 0"),
    ],
)
def test_workers_that_die_before_they_have_their_work_are_reported(
    tiny, monkeypatch, program, match
):
    workers_run(monkeypatch, program)
    (study,) = fastrdm.open_studies("study")
    # More than a pipe holds.
    big = fastrdm.Target(np.random.default_rng(0).random((3000, 15)), name="it")
    study.targets["it"] = big
    with (
        Sweep(["runs"], ["net.onnx"], study, store="scores.db") as ready,
        pytest.raises(WorkerPoolError, match=match),
    ):
        ready.run()
    assert threading.active_count() < 20


def test_a_worker_that_never_starts_has_a_deadline(tiny, monkeypatch):
    workers_run(monkeypatch, "import time; time.sleep(1000)")
    with pytest.raises(
        WorkerPoolError, match=r"no worker was ready within 1 s \(starting: worker 1\)"
    ) as caught:
        sweep(start_timeout=1)
    assert "--start-timeout" in str(caught.value)
    with pytest.raises(ValueError, match="start_timeout must be positive, not 0"):
        sweep(start_timeout=0)


def test_an_answer_that_ends_in_the_middle_is_a_lost_worker(tiny, monkeypatch):
    """Even if the end of the pipe were still open in another worker, which started meanwhile."""
    workers_run(
        monkeypatch,
        "import os, pickle, sys; data = pickle.dumps(bytes(10**6)); os.write(1, data[:100000]);"
        " os.kill(os.getpid(), 9)",
    )
    with Sweep(["runs"], ["net.onnx"], "study") as ready:
        launchers = list(LocalPool(2).launchers(ready._worker_setup()))
        handles = [launch() for launch in launchers]
        for handle in handles:
            with pytest.raises(WorkerLostError, match="SIGKILL"):
                handle.handshake().result(DEADLINE_S)
            handle.close(now=True)


def test_what_an_interpreter_prints_at_its_start_is_no_answer(tiny, monkeypatch):
    (tiny / "site").mkdir()
    (tiny / "site" / "sitecustomize.py").write_text("print('hello', 'x' * 100000)\n")
    monkeypatch.setenv("PYTHONPATH", str(tiny / "site"))
    assert sweep().scored == 4


START_METHODS = """
import multiprocessing
import sys
import fastrdm
import numpy as np

def score():
    (found,) = fastrdm.score_checkpoints(["runs/epoch00.pth"], ["net.onnx"], "study")
    return found.results[0].r2

def work(method):
    store = f"{method}.db"
    summary = fastrdm.sweep("runs", "net.onnx", "study", store=store)
    return score(), summary.scored

if __name__ == "__main__":
    expected = score()
    # The threads of the kernels exist before the fork.
    fastrdm.calc_rdm(np.random.default_rng(0).random((300, 400)))
    for method in sys.argv[1:]:
        # Daemons, which multiprocessing does not let start processes of its kind.
        with multiprocessing.get_context(method).Pool(1) as pool:
            assert pool.apply_async(work, (method,)).get(100) == (expected, 4), method
"""


def test_sweeps_run_in_processes_of_every_start_method(tiny):
    Path("script.py").write_text(START_METHODS)
    methods = [m for m in ("fork", "spawn", "forkserver") if m in get_all_start_methods()]
    subprocess.run([sys.executable, "script.py", *methods], timeout=3 * DEADLINE_S, check=True)


FORKED_NUMBA = """
import multiprocessing
import numpy as np
import fastrdm

data = np.random.default_rng(0).random((30, 40))
fastrdm.calc_rdm(data)
with multiprocessing.get_context("fork").Pool(1) as pool:
    try:
        pool.apply_async(fastrdm.calc_rdm, (data,)).get(60)
    except RuntimeError as error:
        print(error)
    else:
        print("right")
"""


@ON_LINUX
def test_numba_kernels_say_that_they_do_not_survive_a_fork(tiny, monkeypatch):
    monkeypatch.setenv("FASTRDM_KERNELS", "numba")
    command = [sys.executable, "-c", FORKED_NUMBA]
    done = subprocess.run(command, timeout=DEADLINE_S, capture_output=True, text=True)
    # Some threads of numba do survive.
    assert '"spawn"' in done.stdout or "right" in done.stdout, done.stderr
