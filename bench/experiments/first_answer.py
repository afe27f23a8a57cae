"""Seconds from the prompt to the first answer: whole processes of the command line, imports included.

    python bench/experiments/first_answer.py [--data DIR] [--rounds 5]

A small network (64 × 64 pixels, 0.1 million weights) on the challenge's 92 images, with decoded images and exports in
an empty cache first and in a warm one after that. A shared machine changes wall-clock time but hardly the processor
time, so both are printed: the fastest and the median round, and the peak memory.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fastrdm.studies import find_data

NETWORK = """
import torch
from fastrdm.images import Preprocessing

def build():
    conv = lambda n, m: (torch.nn.Conv2d(n, m, 3, 2, 1), torch.nn.BatchNorm2d(m), torch.nn.ReLU())
    net = torch.nn.Sequential(*conv(3, 32), *conv(32, 64), *conv(64, 128), torch.nn.Flatten())
    net.preprocessing = Preprocessing((64, 64))
    net.taps = {"conv1": "2", "conv2": "5", "conv3": "8"}
    return net
"""
WEIGHTS = """
import fastrdm, torch, small_net
from safetensors.torch import save_file
net = small_net.build()
torch.save(net.state_dict(), "w.pth")
save_file(net.state_dict(), "w.safetensors")
fastrdm.export_onnx(net, "net.onnx")
"""


def measure(arguments, folder):
    """Seconds, seconds of the processors, and peak bytes of `python -m fastrdm` with these arguments."""
    environment = os.environ | {"FASTRDM_CACHE": str(folder / "cache")}
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "fastrdm", *arguments], cwd=folder, env=environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status:
        raise RuntimeError(errors.decode())
    return seconds, usage.ru_utime + usage.ru_stime, 1024 * usage.ru_maxrss


def show(name, rounds):
    walls, processor, memory = zip(*rounds, strict=True)
    cells = [min(walls), statistics.median(walls), min(processor), statistics.median(processor)]
    numbers = " | ".join(f"{cell:.2f} s" for cell in cells)
    print(f"| {name} | {numbers} | {max(memory) / 1e6:.0f} MB |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=find_data())
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    study = ("--data", str(arguments.data.resolve()), "--sets", "92")
    arch = ("--arch", "small_net:build")
    store = ("--store", "scores.db", "--engine", "in-process")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "small_net.py").write_text(NETWORK)
        subprocess.run(
            [sys.executable, "-c", WEIGHTS], cwd=folder, check=True, stdout=subprocess.DEVNULL
        )
        print("| command | wall, fastest | median | processor, fastest | median | peak memory |")
        print("| --- | ---: | ---: | ---: | ---: | ---: |")
        show("`score w.pth`, empty cache", [measure(("score", "w.pth", *arch, *study), folder)])
        measure(("sweep", "w.pth", *arch, *study, *store), folder)
        measure(("score", "net.onnx", *study), folder)
        for title, command in {
            "`--help`": ("--help",),
            "`score --help`": ("score", "--help"),
            "`table scores.db`": ("table", "scores.db"),
            "`score net.onnx`": ("score", "net.onnx", *study),
            "`score w.safetensors --arch`": ("score", "w.safetensors", *arch, *study),
            "`score w.pth --arch`": ("score", "w.pth", *arch, *study),
            "`sweep w.pth --arch`, all done": ("sweep", "w.pth", *arch, *study, *store),
        }.items():
            show(title, [measure(command, folder) for _ in range(arguments.rounds)])


if __name__ == "__main__":
    main()
