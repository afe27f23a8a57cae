"""RDMs of many conditions, in blocks that fit the device's memory."""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import fastrdm
from bench.proof.networks import network
from bench.proof.setting import Setting, pictures
from fastrdm import TorchModel
from fastrdm._base import one_line

# Conditions whose RDM is made again by themselves.
_CHECKED = 20


def conditions(setting: Setting) -> Iterator[dict[str, Any]]:
    """A row for each number of conditions and precision, the fastest first."""
    device = setting.device
    few = pictures(_CHECKED, setting.amounts.size)
    module = network("resnet20", few, device)
    for n in setting.amounts.conditions:
        pixels = pictures(n, setting.amounts.size)
        for precision in reversed(setting.precisions):
            row = {"conditions": n, "precision": precision}
            try:
                model = TorchModel(
                    module, device=str(device), precision=precision, channels_last=True
                )
                # Loads libraries and chooses algorithms.
                model.rdms(few, where="device")
                yield row | _row(model, pixels, setting)
            except (ValueError, RuntimeError, MemoryError) as error:
                yield row | {"error": one_line(error)}


def _row(model: TorchModel, pixels: NDArray[np.uint8], setting: Setting) -> dict[str, Any]:
    device, limit = setting.device, None
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        # For a rehearsal, so little that layers run one after the other.
        limit = 200 << 20
    start = time.perf_counter()
    rdms = model.rdms(pixels, where="device", max_memory=limit)
    row: dict[str, Any] = {"s": time.perf_counter() - start, "layers": len(rdms)}
    if device.type == "cuda":
        row["GPU memory, GiB"] = torch.cuda.max_memory_allocated(device) / 2**30
    alone = model.rdms(pixels[:_CHECKED], where="device")
    corner = np.ix_(range(_CHECKED), range(_CHECKED))
    row["difference from few"] = max(
        float(np.abs(fastrdm.square(rdms[layer])[corner] - fastrdm.square(alone[layer])).max())
        for layer in rdms
    )
    return row
