"""A sweep of four tiny checkpoints, and helpers of tests that disturb it."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image

import fastrdm

# Far beyond what anything here takes: it only tells what ends from what hangs.
DEADLINE_S = 120
ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")

NETWORK = """
import torch
from fastrdm.images import Preprocessing

def build():
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, 2), torch.nn.Flatten())
    network.preprocessing = Preprocessing((16, 16))
    network.taps = {"conv": "0"}
    return network
"""


def make(folder):
    """Write a network, its weights in four versions, and a study of six images."""
    (folder / "hang_net.py").write_text(NETWORK)
    names = {}
    exec(NETWORK, names)
    (folder / "runs").mkdir()
    for i in range(4):
        torch.manual_seed(i)
        torch.save(names["build"]().state_dict(), folder / "runs" / f"epoch{i}.pth")
    fastrdm.export_onnx(names["build"](), folder / "net.onnx")
    rng = np.random.default_rng(0)
    (folder / "study" / "stimuli").mkdir(parents=True)
    for i in range(6):
        pixels = rng.integers(0, 256, (20, 20, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "study" / "stimuli" / f"{i}.png")
    np.save(folder / "study" / "it.npy", rng.random((3, 15)))
    (folder / "study" / "study.toml").write_text(
        'order = "sorted"\n[targets.it]\nfile = "it.npy"\n'
    )


def sweep(**options):
    return fastrdm.sweep("runs", "net.onnx", "study", store="scores.db", **options)


def n_rows():
    with fastrdm.Store("scores.db") as store:
        return len(list(store.rows()))


def workers_run(monkeypatch, program):
    """Let workers be processes of this Python program."""
    command = [sys.executable, "-c", program]
    monkeypatch.setattr("fastrdm.scoring.local_pool.command", lambda: command)
