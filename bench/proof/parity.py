"""Activations and RDMs of every network of the study, in each precision, against float64 on the CPU."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bench.proof.exact import exact, largest_difference, relative_error
from bench.proof.networks import network
from bench.proof.record import failure
from bench.proof.setting import Setting
from fastrdm import TorchModel
from fastrdm._base import MissingExtraError
from fastrdm.images import Preprocessing
from models.networks import NETWORKS


def parity(setting: Setting) -> Iterator[dict[str, Any]]:
    """One row for each network; one that fails leaves the others."""
    stimuli, size = setting.studies[0].stimuli, setting.amounts.parity_size
    pixels = Preprocessing((size, size)).pixels(stimuli[: setting.amounts.n_parity])
    for name in NETWORKS:
        try:
            yield {"network": name, **_row(name, pixels, setting)}
        except MissingExtraError as error:
            yield {"network": name, "left out": str(error)}
        except Exception as error:
            yield {"network": name, **failure(error)}


def _row(name: str, pixels: NDArray[np.uint8], setting: Setting) -> dict[str, Any]:
    module = network(name, pixels, setting.device)
    truth = exact(module, pixels, torch.device("cpu"), activations=True)
    row: dict[str, Any] = {}
    for precision in setting.precisions:
        model = TorchModel(module, device=str(setting.device), precision=precision)
        found = model.activations(pixels)
        row[f"activations, {precision}"] = max(
            relative_error(found[layer].reshape(len(pixels), -1), truth.activations[layer])
            for layer in truth.activations
        )
        rdms = model.rdms(pixels, where="device")
        row[f"RDMs, {precision}"] = largest_difference(rdms, truth.rdms)
    return row
