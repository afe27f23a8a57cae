"""A sweep cannot hang: workers that die or never start, scripts without a guard, signals, start methods."""

import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from multiprocessing import get_all_start_methods
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import fastrdm
from fastrdm.scoring import ENGINES, Store, Sweep
from fastrdm.scoring.jobs import WorkerPoolError
from fastrdm.scoring.local_pool import LocalPool, WorkerLostError
from fastrdm.scoring.stopping import stop_signals

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


START_METHODS = """
import multiprocessing
import sys
import fastrdm
import numpy as np

def score():
    (found,) = fastrdm.score_checkpoints(["runs/epoch0.pth"], ["net.onnx"], "study")
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


def test_sweeps_run_in_processes_of_every_start_method(here):
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
def test_numba_kernels_say_that_they_do_not_survive_a_fork(here, monkeypatch):
    monkeypatch.setenv("FASTRDM_KERNELS", "numba")
    command = [sys.executable, "-c", FORKED_NUMBA]
    done = subprocess.run(command, timeout=DEADLINE_S, capture_output=True, text=True)
    # Some threads of numba do survive.
    assert '"spawn"' in done.stdout or "right" in done.stdout, done.stderr


def kept_jobs(seconds):
    """A worker program that is ready at once and then takes its time."""
    return (
        "import os, pickle, sys, time\n"
        "from fastrdm.scoring.jobs import Handshake\n"
        "sys.stdout.buffer.write(b'fastrdm worker\\n'); sys.stdout.buffer.flush()\n"
        "pickle.load(sys.stdin.buffer)\n"
        "pickle.dump(Handshake(os.getpid(), 'here', {}), sys.stdout.buffer)\n"
        f"sys.stdout.buffer.flush(); time.sleep({seconds})\n"
    )


def test_a_checkpoint_that_takes_too_long_is_given_up_after_a_signal(here, monkeypatch):
    workers_run(monkeypatch, kept_jobs(1000))
    monkeypatch.setattr("fastrdm.scoring.scheduler._GRACE_S", 0.5)

    def on_event(event):
        events.append(event)
        if event["event"] == "given":
            signal.raise_signal(signal.SIGTERM)

    events = []
    summary = sweep(on_event=on_event)
    assert (summary.outcome, summary.signal, summary.scored) == ("stopped", signal.SIGTERM, 0)
    assert not is_alive(next(e["pid"] for e in events if e["event"] == "ready"))


def test_a_second_signal_interrupts(here, monkeypatch):
    monkeypatch.setattr("fastrdm.scoring.local_pool._END_S", 0.1)
    workers_run(monkeypatch, kept_jobs(1000))

    def on_event(event):
        if event["event"] == "given":
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        sweep(on_event=on_event)


def test_hangups_stay_ignored_under_nohup():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_signals() as is_stopped:
            signal.raise_signal(signal.SIGHUP)
            assert not is_stopped()
            signal.raise_signal(signal.SIGINT)
            assert is_stopped() and is_stopped.number == signal.SIGINT
    finally:
        signal.signal(signal.SIGHUP, before)


@ON_LINUX
def test_workers_end_when_their_sweep_is_killed(here):
    process = start("--arch", "net.onnx", "--watch", "--workers", "2")
    wait_for(lambda: len(processes_below(process.pid)) >= 2)
    workers = processes_below(process.pid)
    process.kill()
    process.communicate(timeout=DEADLINE_S)
    wait_for(lambda: not any(map(is_alive, workers)))


@pytest.fixture
def ray():
    """Ray, disconnected afterwards."""
    ray = pytest.importorskip("ray")
    yield ray
    ray.shutdown()


@pytest.mark.parametrize(
    ("reply", "match"),
    [(None, "did not answer within 0.5 s"), (b"HTTP/1.1 404", "another program's port")],
)
def test_a_port_that_is_no_cluster_is_refused(ray, monkeypatch, reply, match):
    monkeypatch.setattr("fastrdm.scoring.ray_cluster._PROBE_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"

        def serve():
            connection, _ = server.accept()
            with connection:
                if reply:
                    connection.sendall(reply)
                connection.recv(100)
                time.sleep(1)

        threading.Thread(target=serve, daemon=True).start()
        with pytest.raises(WorkerPoolError, match=match):
            ENGINES["ray"](address=address)
    with pytest.raises(WorkerPoolError, match=f"{address} cannot be reached: .*refused"):
        ENGINES["ray"](address=address)
    with pytest.raises(WorkerPoolError, match="nowhere.invalid:1 cannot be reached"):
        ENGINES["ray"](address="nowhere.invalid:1")


def test_connecting_to_a_cluster_has_a_deadline(here, ray, monkeypatch):
    monkeypatch.setattr(ray, "init", lambda *_, **options: time.sleep(1000))
    with pytest.raises(WorkerPoolError, match="did not answer within 0.5 s.*start_timeout"):
        Sweep(["runs"], ["net.onnx"], "study", engine="ray", start_timeout=0.5)
    monkeypatch.setattr(ray, "init", lambda *_, **options: [][0])
    with pytest.raises(WorkerPoolError, match="cannot be reached: list index out of range"):
        Sweep(["runs"], ["net.onnx"], "study", engine="ray")


def test_a_cluster_without_room_and_workers_that_die_at_their_start_are_reported(
    here, ray, monkeypatch
):
    monkeypatch.setattr("fastrdm.scoring.scheduler._MAX_DEATHS", 1)
    environment = {"env_vars": {"FASTRDM_KERNELS": "none"}}
    ray.init(
        "local", num_cpus=1, log_to_driver=False, logging_level="ERROR", runtime_env=environment
    )
    engine = ENGINES["ray"](num_cpus=64)
    with pytest.raises(
        WorkerPoolError,
        match=r"no node .* has room for a worker, which needs 64 CPU \(nodes: 1 CPU, 0 GPU\)",
    ):
        sweep(engine=engine, start_timeout=0.5)
    match = (
        "^workers die while starting: ImportError: FASTRDM_KERNELS=none is not one of: cpp, numba$"
    )
    with pytest.raises(WorkerPoolError, match=match):
        sweep(engine="ray")
    with pytest.raises(WorkerPoolError, match="cannot have 0 CPUs and 0.* GPUs"):
        ENGINES["ray"](num_cpus=0, num_gpus=0)


@ON_LINUX
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_one_signal_ends_a_sweep_that_waits_for_its_store(here, number):
    with Store("s.db", write=True), closing(sqlite3.connect("s.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        process = start("--arch", "net.onnx")
        wait_for(lambda: "s.db" in open_files(process.pid))
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
        assert process.returncode in (-number, 128 + number), err


def open_files(pid):
    found = []
    for link in Path(f"/proc/{pid}/fd").glob("*"):
        with suppress(OSError):
            found.append(link.readlink().name)
    return found
