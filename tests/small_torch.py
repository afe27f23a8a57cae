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


def worst(one, other):
    """The largest difference, relative to the largest dissimilarity where it is above 1."""
    assert list(one) == list(other)
    return max(np.abs(one[x] - other[x]).max() / max(1, np.abs(other[x]).max()) for x in one)
