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
    from PIL import Image
    from safetensors.torch import save_file

    import fastrdm

    names = {}
    exec(NETWORK, names)
    torch.manual_seed(0)
    fastrdm.export_onnx(names["build"](), folder / "net.onnx")
    (folder / "runs").mkdir()
    for i in range(n):
        torch.manual_seed(i)
        save_file(names["build"]().state_dict(), folder / "runs" / f"epoch{i:02d}.safetensors")
    rng = np.random.default_rng(0)
    (folder / "study" / "stimuli").mkdir(parents=True)
    for i in range(6):
        pixels = rng.integers(0, 256, (20, 20, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "study" / "stimuli" / f"{i}.png")
    np.save(folder / "study" / "it.npy", rng.random((3, 15)))
    (folder / "study" / "study.toml").write_text(
        'order = "sorted"\n[targets.it]\nfile = "it.npy"\n'
    )
    return folder
