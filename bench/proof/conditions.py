"""RDMs of many conditions, in blocks that fit the device's memory."""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bench.proof.networks import network
from bench.proof.record import failure
from bench.proof.setting import Setting, pictures
from fastrdm import TorchModel

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
            except Exception as error:
                yield row | failure(error)


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
    # Places of the first conditions' pairs among all pairs.
    i, j = np.triu_indices(_CHECKED, 1)
    places = len(pixels) * i - i * (i + 1) // 2 + j - i - 1
    row["difference from few"] = max(
        float(np.abs(rdms[layer][places] - alone[layer]).max()) for layer in rdms
    )
    return row
