"""A sweep of four tiny checkpoints, and helpers of tests that disturb it."""

import sys

import pytest
import small_sweep

import fastrdm

# Far beyond what anything here takes: it only tells what ends from what hangs.
DEADLINE_S = 120
ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")


def make(folder):
    """Write hang_net.py, net.onnx, study/ and runs/epoch00.pth to epoch03.pth into a folder."""
    (folder / "hang_net.py").write_text(small_sweep.NETWORK)
    small_sweep.make(folder, 4, "pth")


def sweep(**options):
    return fastrdm.sweep("runs", "net.onnx", "study", store="scores.db", **options)


def n_rows():
    with fastrdm.Store("scores.db") as store:
        return len(list(store.rows()))


def workers_run(monkeypatch, program):
    """Let workers be processes of this Python program."""
    command = [sys.executable, "-c", program]
    monkeypatch.setattr("fastrdm.scoring.local_pool.command", lambda: command)
