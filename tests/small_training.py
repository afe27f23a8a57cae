"""A training whose bits depend on all that a score could disturb: dropout, batch norm, augmentation and shuffling."""

import random

import numpy as np
import torch

from fastrdm.images import Preprocessing

N_IMAGES, BATCH, EPOCHS = 8, 4, 2
STEPS = EPOCHS * N_IMAGES // BATCH


def make_network():
    """A network with two named layers, batch norm and dropout."""
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, 2, bias=False),
        torch.nn.BatchNorm2d(4),
        torch.nn.ReLU(),
        torch.nn.Dropout(0.3),
        torch.nn.AdaptiveAvgPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(16, 3),
    )
    network.taps = {"conv": "0", "fc": "6"}
    network.preprocessing = Preprocessing(size=(16, 16))
    return network


class AugmentedImages(torch.utils.data.Dataset):
    """Images of noise, augmented by the global random states of torch, NumPy and Python."""

    def __init__(self):
        generator = torch.Generator().manual_seed(0)
        self.images = torch.rand(N_IMAGES, 3, 16, 16, generator=generator)

    def __len__(self):
        return N_IMAGES

    def __getitem__(self, i):
        image = self.images[i] * random.uniform(0.8, 1.2) + np.random.uniform(-0.1, 0.1)  # noqa: NPY002
        image = image + 0.05 * torch.randn(3, 16, 16)
        return image.float(), i % 3


def loader():
    return torch.utils.data.DataLoader(AugmentedImages(), BATCH, shuffle=True)


def seed():
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002
    random.seed(3)


def bits(module, optimizer):
    """Everything that determines what a training does next, as comparable values."""
    numbers = np.random.get_state()  # noqa: NPY002
    return {
        "weights": {name: value.numpy().tobytes() for name, value in module.state_dict().items()},
        "gradients": [None if p.grad is None else p.grad.numpy().tobytes() for p in module.parameters()],
        "momentum": [
            value.numpy().tobytes() if torch.is_tensor(value) else value
            for state in optimizer.state_dict()["state"].values()
            for value in state.values()
        ],
        "modes": [each.training for each in module.modules()],
        "hooks": [len(each._forward_hooks) + len(each._forward_pre_hooks) for each in module.modules()],
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy": (numbers[1].tobytes(), numbers[2:]),
        "python": random.getstate(),
    }  # fmt: skip
