"""Networks with random weights, as far as possible like trained ones, and checkpoints of them."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.models.resnet import BasicBlock, Bottleneck

from models.networks import build

State = dict[str, torch.Tensor]
# Stimuli of which batch norms get their statistics.
_N_CALIBRATION = 16


def network(name: str, pixels: NDArray[np.uint8], device: torch.device) -> torch.nn.Module:
    """Build a network for stimuli of this size, whose batch norms have statistics of them, as after training.

    It is on the CPU, in evaluation mode; the device computes the statistics.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = build(name).eval()
        norms = [part for part in module.modules() if isinstance(part, torch.nn.BatchNorm2d)]
        for part in norms:
            part.weight.data.uniform_(0.25, 0.75)
            part.bias.data.uniform_(-0.15, 0.15)
            part.momentum = 1.0
            part.train()
        for part in module.modules():
            # Trained blocks change their input little; others make deep networks chaotic.
            if isinstance(part, BasicBlock | Bottleneck):
                (part.bn3 if isinstance(part, Bottleneck) else part.bn2).weight.data *= 0.3
    module.preprocessing = replace(module.preprocessing, size=pixels.shape[1:3])
    if norms:
        images = torch.from_numpy(module.preprocessing.normalise(pixels[:_N_CALIBRATION]))
        with torch.no_grad():
            module.to(device)(images.to(device))
    return module.cpu().eval()


def states(module: torch.nn.Module, n: int) -> list[State]:
    """Return state dicts that differ from the module's by a tenth of each weight."""
    found = []
    for k in range(n):
        generator = torch.Generator().manual_seed(k)
        found.append(
            {
                name: value * (1 + 0.1 * torch.randn(value.shape, generator=generator))
                if value.is_floating_point() and "running" not in name
                else value.clone()
                for name, value in module.state_dict().items()
            }
        )
    return found


@contextlib.contextmanager
def hooked(module: torch.nn.Module, taps: dict[str, str]) -> Iterator[State]:
    """Yield the tapped layers of each forward pass, as they are when it ends."""
    held: State = {}

    def hook(name: str) -> torch.utils.hooks.RemovableHandle:
        part = module.get_submodule(taps[name])
        return part.register_forward_hook(
            # The tensor, not a copy: in-place operations after the layer change it.
            lambda part, args, output: held.__setitem__(name, output)
        )

    handles = [hook(name) for name in taps]
    try:
        yield held
    finally:
        for handle in handles:
            handle.remove()
