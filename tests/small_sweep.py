"""A small network, checkpoints of it and a study, for sweeps that take milliseconds a checkpoint."""

from small_study import write_study

NETWORK = """
import torch
from fastrdm.images import Preprocessing

def build():
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, 2), torch.nn.Flatten())
    network.preprocessing = Preprocessing((16, 16))
    network.taps = {"conv": "0"}
    return network
"""


def make(folder, n=12, ending="safetensors"):
    """Write net.onnx, study/ and runs/epoch00.safetensors, ... into a folder."""
    import torch

    import fastrdm

    names = {}
    exec(NETWORK, names)
    torch.manual_seed(0)
    fastrdm.export_onnx(names["build"](), folder / "net.onnx")
    write_checkpoints(folder / "runs", names["build"], n, ending)
    write_study(folder / "study", size=(20, 20))
    return folder


def write_checkpoints(runs, build, n, ending="safetensors"):
    """Write n checkpoints of a network, epoch00.safetensors or .pth, ..., into a new folder."""
    import torch
    from safetensors.torch import save_file

    save = torch.save if ending == "pth" else save_file
    runs.mkdir()
    for i in range(n):
        torch.manual_seed(i)
        save(build().state_dict(), runs / f"epoch{i:02d}.{ending}")
