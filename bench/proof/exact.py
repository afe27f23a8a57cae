"""The answers in float64, from torch's own operators with hooks."""

import copy
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from bench.proof.networks import hooked
from fastrdm.images import Preprocessing

Floats = NDArray[np.float64]
_BATCH = 32


class Exact(NamedTuple):
    """Activations (conditions, channels), and condensed RDMs (1 − Pearson's r) of each layer."""

    activations: dict[str, Floats]
    rdms: dict[str, Floats]


def exact(
    module: torch.nn.Module,
    pixels: NDArray[np.uint8],
    device: torch.device,
    *,
    activations: bool = False,
) -> Exact:
    """Run a network in float64 on a device; activations only if asked for, as they take much memory."""
    double = copy.deepcopy(module).double().to(device).eval()
    images = _images(pixels, module.preprocessing).to(device)
    rows: dict[str, list[torch.Tensor]] = {name: [] for name in module.taps}
    with torch.no_grad(), hooked(double, module.taps) as held:
        for start in range(0, len(images), _BATCH):
            double(images[start : start + _BATCH])
            for name in rows:
                rows[name].append(held[name].flatten(1).clone())
    upper = np.triu_indices(len(pixels), 1)
    found: dict[str, Floats] = {}
    rdms: dict[str, Floats] = {}
    for name in list(rows):
        layer = torch.cat(rows.pop(name))
        rdms[name] = 1 - torch.corrcoef(layer).cpu().numpy()[upper]
        if activations:
            found[name] = layer.cpu().numpy()
    return Exact(found, rdms)


def _images(pixels: NDArray[np.uint8], preprocessing: Preprocessing) -> torch.Tensor:
    mean, std = (
        torch.tensor(v, dtype=torch.float64) for v in (preprocessing.mean, preprocessing.std)
    )
    return ((torch.from_numpy(pixels).double() / 255 - mean) / std).permute(0, 3, 1, 2).contiguous()


def largest_difference(ours: dict[str, Floats], truth: dict[str, Floats]) -> float:
    """Over all layers and pairs; NaN if one is NaN."""
    return float(max(np.abs(ours[name] - truth[name]).max() for name in truth))


def relative_error(ours: Floats, truth: Floats) -> float:
    """Length of the difference of activations, relative to their length."""
    return float(np.linalg.norm(ours - truth) / np.linalg.norm(truth))
