"""The networks that the project trains or scores, each with its `taps` and `preprocessing`."""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import torch
import torchvision
from torchvision.models import inception as inception_v3
from torchvision.models.googlenet import BasicConv2d, Inception, InceptionAux
from torchvision.models.resnet import BasicBlock, ResNet

from fastrdm._base import nearest
from fastrdm.images import Preprocessing
from models.networks.cornet import cornet_s, cornet_z
from models.networks.efficientnet_lite import (
    efficientnet_lite0,
    efficientnet_lite1,
    efficientnet_lite2,
)
from models.networks.taps import RESNET20_STAGES, TAPS

Builder = Callable[..., torch.nn.Module]

TORCHVISION: Mapping[str, str] = MappingProxyType(
    {
        **{name: name for name in ("alexnet", "vgg11", "vgg13", "vgg16", "vgg19")},
        **{f"resnet{depth}": f"resnet{depth}" for depth in (18, 34, 50, 101, 152)},
        **{f"densenet{depth}": f"densenet{depth}" for depth in (121, 161, 169, 201)},
        "googlenet": "googlenet",
        "inception": "inception_v3",
        "sqnet1_0": "squeezenet1_0",
        "sqnet1_1": "squeezenet1_1",
    }
)
"""Networks of the published table → their names in torchvision."""


def build(name: str, num_classes: int = 1000) -> torch.nn.Module:
    """Build one of `NETWORKS` with random weights: a float tensor (batch, 3, height, width) → logits.

    It has the attributes `taps` and `preprocessing`. Raise ValueError if there is no such network, and
    MissingExtraError if the package of EfficientNet-Lite is not installed.
    """
    check_names([name])
    return NETWORKS[name](num_classes)


def check_names(names: Iterable[str]) -> None:
    """Raise ValueError, with the nearest names, for the first name that is not in `NETWORKS`."""
    for name in names:
        if name not in NETWORKS:
            raise ValueError(f"there is no network {name!r}; nearest: {nearest(name, NETWORKS)}")


def resnet20(num_classes: int = 1000) -> torch.nn.Module:
    """Build the ResNet-20: ResNet-18 with basic blocks [3, 2, 2, 2] instead of [2, 2, 2, 2]; as for `build`.

    With 1000 classes it has 11 763 496 parameters.

    References
    ----------
    A. R. J. Meijer, *A shallow residual neural network to predict the visual cortex response*,
    Universiteit van Amsterdam, 2019.
    """
    return _ready(ResNet(BasicBlock, list(RESNET20_STAGES), num_classes=num_classes), "resnet20")


def _of_torchvision(name: str, **options: Any) -> Builder:
    def network(num_classes: int = 1000) -> torch.nn.Module:
        builder = getattr(torchvision.models, TORCHVISION[name])
        return _ready(builder(num_classes=num_classes, **options), name)

    return _named(network, name, f"Build torchvision's {TORCHVISION[name]}; as for `build`.")


def _named(network: Builder, name: str, doc: str) -> Builder:
    network.__module__, network.__name__, network.__qualname__ = "models.networks", name, name
    network.__doc__ = doc
    return network


def _ready(network: torch.nn.Module, name: str) -> Any:
    network.taps = TAPS[name]
    network.preprocessing = Preprocessing()
    return network


class _GoogLeNetHead(InceptionAux):  # type: ignore[misc]
    """An auxiliary head that never runs, for its parameters, which published files contain."""

    def forward(self, x: torch.Tensor) -> None:
        """Return None."""


class _InceptionHead(inception_v3.InceptionAux):  # type: ignore[misc]
    """The auxiliary head of Inception-v3, which could not run on 224×224 pixels."""

    def forward(self, x: torch.Tensor) -> None:
        """Return None."""


def _inception(name: str, **options: Any) -> Builder:
    """Return a builder of GoogLeNet or Inception-v3 that fits published weights and returns logits.

    The weights come from TensorFlow and expect inputs in [−1, 1]. `transform_input`, which torchvision sets with these
    weights, converts inputs normalised by ImageNet's mean and standard deviation.
    """
    base = _of_torchvision(name, transform_input=True, init_weights=True, **options)

    def network(num_classes: int = 1000) -> torch.nn.Module:
        module = base(num_classes)
        # Otherwise a network in training returns a tuple.
        module.aux_logits = False
        for part in module.modules():
            if isinstance(part, _GoogLeNetHead | _InceptionHead):
                part.requires_grad_(False)
        return module

    return _named(
        network,
        name,
        f"{base.__doc__} Auxiliary heads have weights but do not run; inputs are those of the other networks.",
    )


_INCEPTION_BLOCKS = ("BasicConv2d", *(f"Inception{letter}" for letter in "ABCDE"))
_SPECIAL = {
    "googlenet": _inception("googlenet", blocks=[BasicConv2d, Inception, _GoogLeNetHead]),
    "inception": _inception(
        "inception",
        inception_blocks=[*(getattr(inception_v3, n) for n in _INCEPTION_BLOCKS), _InceptionHead],
    ),
}

NETWORKS: Mapping[str, Builder] = MappingProxyType(
    {
        **{name: _SPECIAL.get(name) or _of_torchvision(name) for name in TORCHVISION},
        **{f.__name__: f for f in (cornet_s, cornet_z, resnet20)},
        **{f.__name__: f for f in (efficientnet_lite0, efficientnet_lite1, efficientnet_lite2)},
    }
)
"""Name → builder of the network, in the order of the published table."""
