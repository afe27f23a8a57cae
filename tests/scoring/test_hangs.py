"""A sweep cannot hang: workers that die or never start, scripts without a guard, signals, start methods."""

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import fastrdm
from fastrdm.scoring import Store, Sweep
from fastrdm.scoring.jobs import WorkerPoolError
from fastrdm.scoring.local_pool import LocalPool, WorkerLostError

# Far beyond what anything here takes: it only tells what ends from what hangs.
DEADLINE_S = 120
NETWORK = """
import torch
from fastrdm.images import Preprocessing

def build():
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, 2), torch.nn.Flatten())
    network.preprocessing = Preprocessing((16, 16))
    network.taps = {"conv": "0"}
    return network
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a network, its weights in four versions, and a study of six images."""
    made = tmp_path_factory.mktemp("made")
    (made / "hang_net.py").write_text(NETWORK)
    names = {}
    exec(NETWORK, names)
    (made / "runs").mkdir()
    for i in range(4):
        torch.manual_seed(i)
        torch.save(names["build"]().state_dict(), made / "runs" / f"epoch{i}.pth")
    fastrdm.export_onnx(names["build"](), made / "net.onnx")
    rng = np.random.default_rng(0)
    (made / "study" / "stimuli").mkdir(parents=True)
    for i in range(6):
        pixels = rng.integers(0, 256, (20, 20, 3), np.uint8)
        Image.fromarray(pixels).save(made / "study" / "stimuli" / f"{i}.png")
    np.save(made / "study" / "it.npy", rng.random((3, 15)))
    (made / "study" / "study.toml").write_text('order = "sorted"\n[targets.it]\nfile = "it.npy"\n')
    return made


@pytest.fixture
def here(made, tmp_path, monkeypatch):
    """A new current folder with links to what was made."""
    for path in made.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sweep(**options):
    return fastrdm.sweep("runs", "net.onnx", "study", store="scores.db", **options)


def n_rows():
    with Store("scores.db") as store:
        return len(list(store.rows()))


def workers_run(monkeypatch, program):
    """Let workers be processes of this Python program."""
    command = [sys.executable, "-c", program]
    monkeypatch.setattr("fastrdm.scoring.local_pool.command", lambda: command)


def test_a_script_without_a_guard_needs_none(here):
    Path("script.py").write_text(
        'import fastrdm\nfastrdm.sweep("runs", "net.onnx", "study", store="scores.db", workers=2)\n'
    )
    subprocess.run([sys.executable, "script.py"], timeout=DEADLINE_S, check=True)
    assert n_rows() == 4
    with Store("scores.db") as store:
        assert len(store.runs()) == 1


def test_an_object_of_the_main_program_is_refused_with_what_to_do(here):
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
    here, monkeypatch, program, match
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


def test_a_worker_that_never_starts_has_a_deadline(here, monkeypatch):
    workers_run(monkeypatch, "import time; time.sleep(1000)")
    with pytest.raises(
        WorkerPoolError, match=r"no worker was ready within 1 s \(starting: worker 1\)"
    ) as caught:
        sweep(start_timeout=1)
    assert "--start-timeout" in str(caught.value)
    with pytest.raises(ValueError, match="start_timeout must be positive, not 0"):
        sweep(start_timeout=0)


def test_an_answer_that_ends_in_the_middle_is_a_lost_worker(here, monkeypatch):
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


def test_what_an_interpreter_prints_at_its_start_is_no_answer(here, monkeypatch):
    (here / "site").mkdir()
    (here / "site" / "sitecustomize.py").write_text("print('hello', 'x' * 100000)\n")
    monkeypatch.setenv("PYTHONPATH", str(here / "site"))
    assert sweep().scored == 4


def processes_below(pid):
    """The processes that a process has started, directly or not."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found += [child, *processes_below(child)]
    return found


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for(condition):
    end = time.monotonic() + DEADLINE_S
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
COMMAND = [sys.executable, "-m", "fastrdm", "sweep", "runs", "--data", "study", "--store", "s.db"]


def start(*arguments, **options):
    return subprocess.Popen(
        [*COMMAND, "--json", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.mark.parametrize("number", SIGNALS)
def test_one_signal_stops_a_sweep_that_waits_for_work(here, number):
    process = start("--arch", "net.onnx", "--watch")
    # One at a time: the sweep is in work, or waits for files.
    next(line for line in process.stdout if '"ready"' in line)
    process.send_signal(number)
    out, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 128 + number, err
    assert '"outcome": "stopped"' in out and f'"signal": {int(number)}' in out


@ON_LINUX
@pytest.mark.parametrize("number", SIGNALS)
def test_one_signal_ends_an_export(here, monkeypatch, number):
    monkeypatch.setenv("FASTRDM_EXPORTS", "off")
    monkeypatch.syspath_prepend(here)
    monkeypatch.setenv("PYTHONPATH", str(here))
    Path("slow_net.py").write_text(
        "import time\nfrom hang_net import build as make\n"
        "def build():\n    open('begun', 'w').close()\n    time.sleep(1000)\n    return make()\n"
    )
    process = start("--arch", "slow_net:build")
    wait_for(Path("begun").exists)
    process.send_signal(number)
    _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode in (-number, 128 + number), err
