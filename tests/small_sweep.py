"""A small network, checkpoints of it and a study, for sweeps that take milliseconds a checkpoint."""

import numpy as np

NETWORK = """
import torch
from fastrdm.images import Preprocessing

def build():
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, 2), torch.nn.Flatten())
    network.preprocessing = Preprocessing((16, 16))
    network.taps = {"conv": "0"}
    return network
"""
ARGUMENTS = ("--arch", "net.onnx", "--data", "study")


def make(folder, n=12):
    """Write net.onnx, study/ and runs/epoch00.safetensors, ... into a folder."""
    import torch

    import fastrdm

    names = {}
    exec(NETWORK, names)
    torch.manual_seed(0)
    fastrdm.export_onnx(names["build"](), folder / "net.onnx")
    write_checkpoints(folder / "runs", names["build"], n)
    write_study(folder / "study")
    return folder


def write_checkpoints(runs, build, n):
    """Write n checkpoints of a network, epoch00.safetensors, ..., into a new folder."""
    import torch
    from safetensors.torch import save_file

    runs.mkdir()
    for i in range(n):
        torch.manual_seed(i)
        save_file(build().state_dict(), runs / f"epoch{i:02d}.safetensors")


def write_study(folder, n_images=6, n_subjects=3, regions=("it",)):
    """Write a study of random images and RDMs into a new folder."""
    from PIL import Image

    rng = np.random.default_rng(0)
    (folder / "stimuli").mkdir(parents=True)
    for i in range(n_images):
        pixels = rng.integers(0, 256, (20, 20, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "stimuli" / f"{i:02d}.png")
    for region in regions:
        np.save(folder / f"{region}.npy", rng.random((n_subjects, n_images * (n_images - 1) // 2)))
    targets = "".join(f'[targets.{region}]\nfile = "{region}.npy"\n' for region in regions)
    (folder / "study.toml").write_text(f'order = "sorted"\n{targets}')
