"""Small torch networks and images for tests of `TorchModel`."""

import numpy as np
import torch
from torch import nn

from fastrdm import Preprocessing, TorchModel

SIZE = 32
PREPARED = Preprocessing((SIZE, SIZE), channel_order="BGR")
METHODS = ["correlation", "cosine", "euclidean", "sqeuclidean"]
IMAGES = [np.random.default_rng(k).integers(0, 256, (40, 40, 3), dtype=np.uint8) for k in range(9)]


def randomised(module):
    """The module with batch norms as after training."""
    generator = torch.Generator().manual_seed(0)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.uniform_(-0.3, 0.3, generator=generator)
            part.running_var.uniform_(0.5, 2.0, generator=generator)
    return module


def small(**changes):
    """A network of two convolutions, the first followed by a ReLU in place."""
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.Conv2d(6, 8, 3, stride=2),
        nn.Flatten(),
    )
    for place, part in changes.items():
        layers[int(place[1:])] = part
    return randomised(layers)


def model_of(module, taps=("0", "1", "3"), **options):
    return TorchModel(module, list(taps), preprocessing=PREPARED, **options)


def worst(one, other, sizes=None):
    """The largest difference, relative to `sizes` where they are above 1, by default the largest dissimilarities."""
    assert list(one) == list(other)
    sizes = sizes or {x: np.abs(rdm).max() for x, rdm in other.items()}
    return max(np.abs(one[x] - other[x]).max() / max(1, sizes[x]) for x in one)


def product_sizes(activations, method):
    """Layer → the size of what a distance is a difference of: the longest activations, or their square.

    Distances between long vectors that lie close together are rounded as their products are.
    """
    power = {"euclidean": 1, "sqeuclidean": 2}.get(method, 0)
    flat = {layer: x.reshape(len(x), -1).astype(np.float64) for layer, x in activations.items()}
    return {layer: np.linalg.norm(x, axis=1).max() ** power for layer, x in flat.items()}
