"""CORnet-S and CORnet-Z: a decoder on four areas that are named after those of the ventral stream.

Written from the papers. Parameters have the names of the published checkpoints, so those load unchanged.

References
----------
Kubilius et al. (2018), CORnet: Modeling the neural mechanisms of core object recognition, bioRxiv
408385 (both networks).
Kubilius et al. (2019), Brain-like object recognition with high-performing shallow recurrent ANNs,
NeurIPS 32 (CORnet-S).
"""

from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional

from fastrdm.images import Preprocessing
from models.networks.taps import TAPS

# Ratio of the channels inside a recurrent area's bottleneck to those outside.
_SCALE = 4


def cornet_s(num_classes: int = 1000) -> nn.Module:
    """Build CORnet-S, whose areas V2, V4 and IT run a bottleneck block 2, 4 and 2 times; as for `build`.

    With 1000 classes it has 53 416 616 parameters. The taps V2, V4 and IT are the outputs of the last pass.
    """
    return _CorNet(
        "cornet_s",
        V1=_entrance(),
        V2=_Recurrent(64, 128, times=2),
        V4=_Recurrent(128, 256, times=4),
        IT=_Recurrent(256, 512, times=2),
        decoder=_decoder(num_classes),
    )


def cornet_z(num_classes: int = 1000) -> nn.Module:
    """Build CORnet-Z, whose areas are each a convolution, a ReLU and a pool; as for `build`.

    With 1000 classes it has 2 071 656 parameters.
    """
    return _CorNet(
        "cornet_z",
        V1=_feedforward(3, 64, size=7, stride=2),
        V2=_feedforward(64, 128),
        V4=_feedforward(128, 256),
        IT=_feedforward(256, 512),
        decoder=_decoder(num_classes),
    )


def _sequence(**modules: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(modules))


def _entrance() -> nn.Sequential:
    """V1 of CORnet-S, which includes retina and LGN."""
    return _sequence(
        conv1=nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False),
        norm1=nn.BatchNorm2d(64),
        nonlin1=nn.ReLU(),
        pool=nn.MaxPool2d(3, stride=2, padding=1),
        conv2=nn.Conv2d(64, 64, 3, padding=1, bias=False),
        norm2=nn.BatchNorm2d(64),
        nonlin2=nn.ReLU(),
    )


def _feedforward(in_channels: int, out_channels: int, size: int = 3, stride: int = 1) -> nn.Module:
    """An area of CORnet-Z."""
    return _sequence(
        conv=nn.Conv2d(in_channels, out_channels, size, stride, padding=size // 2),
        nonlin=nn.ReLU(),
        pool=nn.MaxPool2d(3, stride=2, padding=1),
    )


def _decoder(num_classes: int) -> nn.Sequential:
    return _sequence(
        avgpool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), linear=nn.Linear(512, num_classes)
    )


class _Recurrent(nn.Module):  # type: ignore[misc]
    """An area of CORnet-S: a bottleneck block that runs `times` times, each time on its previous output.

    The passes share convolutions, but not batch norms. The first pass halves height and width. Each pass ends with the
    module `output`, so that the taps `IT.output#0` and `IT.output#1` are those of IT.
    """

    def __init__(self, in_channels: int, out_channels: int, times: int) -> None:
        super().__init__()
        self.times = times
        inner = _SCALE * out_channels
        self.conv_input = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.skip = nn.Conv2d(out_channels, out_channels, 1, stride=2, bias=False)
        self.norm_skip = nn.BatchNorm2d(out_channels)
        self.conv1 = nn.Conv2d(out_channels, inner, 1, bias=False)
        self.conv2 = nn.Conv2d(inner, inner, 3, padding=1, bias=False)
        self.conv3 = nn.Conv2d(inner, out_channels, 1, bias=False)
        self.output = nn.Identity()
        for time in range(times):
            for i, channels in enumerate((inner, inner, out_channels), 1):
                self.add_module(f"norm{i}_{time}", nn.BatchNorm2d(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the output of the last pass."""
        x = self.conv_input(x)
        for time in range(self.times):
            norm1, norm2, norm3 = (self.get_submodule(f"norm{i}_{time}") for i in (1, 2, 3))
            skip = x if time else self.norm_skip(self.skip(x))
            x = functional.relu(norm1(self.conv1(x)))
            x = functional.conv2d(x, self.conv2.weight, stride=1 if time else 2, padding=1)
            x = functional.relu(norm2(x))
            x = self.output(functional.relu(norm3(self.conv3(x)) + skip))
        return x


class _CorNet(nn.Sequential):  # type: ignore[misc]
    """A sequence of areas, each of which runs once and can be tapped."""

    def __init__(self, name: str, **areas: nn.Module) -> None:
        super().__init__(OrderedDict(areas))
        self.taps = TAPS[name]
        self.preprocessing = Preprocessing()
