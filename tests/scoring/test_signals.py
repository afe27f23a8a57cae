"""One signal is enough to end a sweep, whatever it does, and its workers end with it."""

import signal
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest
from campaigns.processes import children_of, is_alive
from tiny_sweep import DEADLINE_S, ON_LINUX, sweep, workers_run

from fastrdm.scoring import Store
from fastrdm.scoring.stopping import stop_signals

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


def processes_below(pid):
    """The processes that a process has started, directly or not."""
    found = []
    for child in children_of(pid):
        found += [child, *processes_below(child)]
    return found


def wait_for(condition):
    end = time.monotonic() + DEADLINE_S
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


@pytest.mark.parametrize("number", SIGNALS)
def test_one_signal_stops_a_sweep_that_waits_for_work(tiny, start, number):
    process = start("--watch")
    # One at a time: the sweep is in work, or waits for files.
    next(line for line in process.stdout if '"ready"' in line)
    process.send_signal(number)
    out, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 128 + number, err
    assert '"outcome": "stopped"' in out and f'"signal": {int(number)}' in out


@ON_LINUX
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_ends_an_export(tiny, start, monkeypatch, number):
    monkeypatch.setenv("FASTRDM_EXPORTS", "off")
    monkeypatch.syspath_prepend(tiny)
    monkeypatch.setenv("PYTHONPATH", str(tiny))
    Path("slow_net.py").write_text(
        "import time\nfrom hang_net import build as make\n"
        "def build():\n    open('begun', 'w').close()\n    time.sleep(1000)\n    return make()\n"
    )
    process = start(arch="slow_net:build")
    wait_for(Path("begun").exists)
    process.send_signal(number)
    _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode in (-number, 128 + number), err


def kept_jobs(seconds):
    """A worker program that is ready at once and then takes its time."""
    return (
        "import os, pickle, sys, time\n"
        "from fastrdm.scoring.jobs import Handshake\n"
        "sys.stdout.buffer.write(b'fastrdm worker\\n'); sys.stdout.buffer.flush()\n"
        "pickle.load(sys.stdin.buffer)\n"
        "pickle.dump(Handshake(os.getpid(), 'here', {'provider': 'cpu'}), sys.stdout.buffer)\n"
        f"sys.stdout.buffer.flush(); time.sleep({seconds})\n"
    )


def test_a_checkpoint_that_takes_too_long_is_given_up_after_a_signal(tiny, monkeypatch):
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


def test_a_second_signal_interrupts(tiny, monkeypatch):
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
def test_workers_end_when_their_sweep_is_killed(tiny, start):
    process = start("--watch", "--workers", "2")
    wait_for(lambda: len(processes_below(process.pid)) >= 2)
    workers = processes_below(process.pid)
    process.kill()
    process.communicate(timeout=DEADLINE_S)
    wait_for(lambda: not any(map(is_alive, workers)))


@ON_LINUX
def test_one_signal_ends_a_sweep_that_waits_for_its_store(tiny, start):
    with (
        Store("scores.db", write=True),
        closing(sqlite3.connect("scores.db", isolation_level=None)) as other,
    ):
        other.execute("BEGIN IMMEDIATE")
        process = start()
        wait_for(lambda: "scores.db" in open_files(process.pid))
        process.terminate()
        _, err = process.communicate(timeout=30)
        assert process.returncode == -signal.SIGTERM, err


def open_files(pid):
    found = []
    for link in Path(f"/proc/{pid}/fd").glob("*"):
        with suppress(OSError):
            found.append(link.readlink().name)
    return found
