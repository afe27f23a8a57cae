"""The layers to score of each network: the published table's names → torchvision's module paths.

Layers are read after their activation function, like in the development kit, which reads them at the end of the forward
pass, after in-place ReLUs. If the ReLU is a separate module, that module is listed.
"""

from collections.abc import Iterable
from itertools import accumulate

# ResNet-20 is ResNet-18 with another block in the first stage (Meijer 2019).
RESNET20_STAGES = (3, 2, 2, 2)

_VGG_STAGES = {
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}


def _numbered(name: str, paths: Iterable[str]) -> dict[str, str]:
    return {f"{name}{i}": path for i, path in enumerate(paths, 1)}


def _children(of: str, **indices: int) -> dict[str, str]:
    return {name: f"{of}.{index}" for name, index in indices.items()}


def _vgg(stages: Iterable[int]) -> dict[str, str]:
    # A stage is n pairs of convolution and ReLU, and a pool.
    pools = (f"features.{end - 1}" for end in accumulate(2 * n + 1 for n in stages))
    return _numbered("maxpool", pools) | _children("classifier", fc6=1, fc7=4, fc8=6)


def _resnet20() -> dict[str, str]:
    taps = {"stem": "relu"}
    for stage, n_blocks in enumerate(RESNET20_STAGES, 1):
        for block in range(n_blocks):
            last = block == n_blocks - 1
            name = f"block{stage}" if last else f"block{stage}_{block + 1}"
            taps[name] = f"layer{stage}.{block}"
    return taps | {"fc": "fc"}


def _efficientnet_lite(n_blocks: int) -> dict[str, str]:
    return {
        "stem": "_stem_activation",
        **_numbered("block", (f"_blocks.{i}" for i in range(n_blocks))),
        "head": "_head_activation",
        "fc": "_fc",
    }


_RESNET = _numbered("block", (f"layer{i}" for i in range(1, 5))) | {"fc": "fc"}
_DENSENET = {
    **{f"denseblock{i}": f"features.denseblock{i}" for i in range(1, 5)},
    "fc": "classifier",
}

# The published table does not define inception1 … inception7. They are taken to be the first seven of torchvision's
# eleven Mixed blocks, in order of the forward pass.
_MIXED = ("5b", "5c", "5d", "6a", "6b", "6c", "6d")
_GOOGLENET = ("conv3", "inception3b", "maxpool3", "inception4c", "inception4e", "inception5b")

_SQUEEZENETS = {
    "sqnet1_0": _children("features", maxpool1=2, maxpool4=6, fire8=10, maxpool8=11, fire9=12),
    "sqnet1_1": _children("features", maxpool1=2, maxpool3=5, maxpool5=8, fire7=10, fire9=12),
}

_CORNET = {area: area for area in ("V1", "V2", "V4", "IT", "decoder")}

TAPS: dict[str, dict[str, str]] = {
    "alexnet": _children("features", conv1=1, conv2=4, conv3=7, conv4=9, conv5=11)
    | _children("classifier", fc6=2, fc7=5, fc8=6),
    **{name: _vgg(stages) for name, stages in _VGG_STAGES.items()},
    **{f"resnet{depth}": _RESNET for depth in (18, 34, 50, 101, 152)},
    **{f"densenet{depth}": _DENSENET for depth in (121, 161, 169, 201)},
    "googlenet": {name: name for name in _GOOGLENET},
    "inception": _numbered("inception", (f"Mixed_{block}" for block in _MIXED)) | {"fc": "fc"},
    # conv11 continues the features' numbering in the classifier (dropout 10, convolution 11); its ReLU is a module.
    **{name: taps | {"conv11": "classifier.2"} for name, taps in _SQUEEZENETS.items()},
    **{name: _CORNET for name in ("cornet_s", "cornet_z")},
    "resnet20": _resnet20(),
    "efficientnet_lite0": _efficientnet_lite(16),
    **{name: _efficientnet_lite(21) for name in ("efficientnet_lite1", "efficientnet_lite2")},
}
"""Network → layer name → module path."""
