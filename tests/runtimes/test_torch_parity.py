"""RDMs of every network of the study, run by torch and by ONNX Runtime, in one table.

    python -m pytest tests/runtimes/test_torch_parity.py -m "slow or not slow" -s

prints for each network the largest difference of a dissimilarity over all layers: of correlation and cosine distances
themselves, and of Euclidean distances relative to the largest of the layer.
"""

import gc

import numpy as np
import pytest
import timm
import torch
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from fastrdm import OnnxModel, Preprocessing, TorchModel, export_onnx
from models.networks import NETWORKS, build

METHODS = ("correlation", "cosine", "euclidean", "sqeuclidean")
# An export takes 3 to 35 s; `test_torch_model.py` has a small residual network and a small transformer.
ALWAYS = {"sqnet1_1"}
N = 6


def pictures():
    """Coarse patterns: for a deep network, all images of pure noise look alike."""
    coarse = np.random.default_rng(0).integers(0, 256, (N, 7, 7, 3), dtype=np.uint8)
    return list(coarse.repeat(32, 1).repeat(32, 2))


def network(name):
    """A network, its taps, and batch norms that fit its activations, as after training."""
    torch.manual_seed(0)
    if name == "vit":
        module = timm.create_model("vit_small_patch16_224").eval()
        module.preprocessing = Preprocessing(mean=(0.5,) * 3, std=(0.5,) * 3)
        return module, ["blocks.*@cls", "final=norm@mean"]
    if name.startswith("efficientnet_lite"):
        pytest.importorskip("efficientnet_lite_pytorch")
    module = build(name)
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    for part in norms:
        nn.init.uniform_(part.weight, 0.5, 1.5)
        nn.init.uniform_(part.bias, -0.3, 0.3)
        part.momentum = 1.0
    for part in module.modules():
        # A residual adds a fraction of its input, as after training; rounding grows from block to block otherwise.
        if isinstance(part, BasicBlock | Bottleneck):
            (part.bn3 if isinstance(part, Bottleneck) else part.bn2).weight.data *= 0.3
        if not norms and isinstance(part, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(part.weight)
    if norms:
        with torch.no_grad():
            module.train()(torch.from_numpy(module.preprocessing.load(pictures())))
    return module.eval(), None


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in ALWAYS else pytest.mark.slow)
        for name in [*NETWORKS, "vit"]
    ],
)
def test_rdms_are_those_of_the_exported_network(name, tmp_path):
    module, taps = network(name)
    onnx = OnnxModel(export_onnx(module, tmp_path / "network.onnx", taps), "cpu")
    ours = TorchModel(module, taps)
    assert (ours.layers, ours.shapes) == (onnx.layers, onnx.shapes)
    expected, found = onnx.grams(pictures()), ours.grams(pictures())
    worst = {}
    for method in METHODS:
        differences = []
        for layer in ours.layers:
            one, other = found[layer].rdm(method), expected[layer].rdm(method)
            scale = other.max() if "euclidean" in method else 1
            differences.append(np.abs(one - other).max() / scale)
        worst[method] = max(differences)
    figures = "  ".join(f"{method} {value:.1e}" for method, value in worst.items())
    print(f"\n{name:20} {len(ours.layers):3} layers  {figures}")
    assert max(worst.values()) < 1e-5
    del onnx, ours, module
    gc.collect()
