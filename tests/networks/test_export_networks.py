"""Every network of the study at its full depth and 224×224 pixels: ONNX Runtime agrees with torch."""

import numpy as np
import pytest
import torch
from torchvision.models.resnet import BasicBlock, Bottleneck

from fastrdm.networks import Graph
from fastrdm.rdm import calc_rdm
from fastrdm.runtimes import Architecture, OnnxModel
from models.networks import NETWORKS, TAPS, build

nn = torch.nn

# An export takes 3 to 35 s, mostly in torch. At least one network of each family is always tested: these, and in
# `tests/networks/test_export.py` AlexNet, ResNet-18 and -20, SqueezeNet 1.1, the CORnets and EfficientNet-Lite0.
ALWAYS = {"vgg11", "densenet121", "googlenet", "inception"}
N = 6
# Rounding in 21 blocks, relative to the largest activation: torch's float32 differs from its float64 by 1.1e-4 in Lite1
# and 1.6e-4 in Lite2, ONNX Runtime's by 1.0e-4 and 1.5e-4, and the two from each other by 1.5e-4 and 2.4e-4.
TOLERANCES = {"efficientnet_lite1": 2e-4, "efficientnet_lite2": 3e-4}


def trained(name, batch):
    """Return the network with weights for which activations neither vanish nor become equal, as after training."""
    torch.manual_seed(0)
    network = build(name)
    norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]
    for part in norms:
        nn.init.uniform_(part.weight, 0.5, 1.5)
        nn.init.uniform_(part.bias, -0.3, 0.3)
        part.momentum = 1.0
    # A residual adds a fraction of its input, as after training. If it were as large as the input, rounding would grow
    # from block to block: at block4 of ResNet-101, torch's float32 then differs from its float64 by 2.3e-4, ONNX
    # Runtime's by 1.7e-4.
    for part in network.modules():
        if isinstance(part, BasicBlock | Bottleneck):
            (part.bn3 if isinstance(part, Bottleneck) else part.bn2).weight.data *= 0.3
    if norms:
        # Means and variances of the input.
        with torch.no_grad():
            network.train()(batch)
    else:
        for part in network.modules():
            if isinstance(part, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(part.weight)
    return network.eval()


def images(size):
    """Coarse patterns: for a deep network, all images of pure noise look alike."""
    coarse = torch.randn(N, 3, 7, 7, generator=torch.Generator().manual_seed(1))
    return nn.functional.interpolate(coarse, size=size, mode="bilinear")


def hooked(network, taps, batch):
    """Return what forward hooks hold after the whole forward pass, including in-place operations."""
    held = {}
    for name, path in taps.items():
        network.get_submodule(path).register_forward_hook(
            lambda part, args, output, name=name: held.__setitem__(name, output)
        )
    with torch.no_grad():
        network(batch)
    return {name: output.numpy() for name, output in held.items()}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in ALWAYS else [pytest.mark.slow]) for name in NETWORKS],
)
def test_activations_and_rdms_equal_torch(name):
    if name.startswith("efficientnet_lite"):
        pytest.importorskip("efficientnet_lite_pytorch")
    batch = images(build(name).preprocessing.size)
    network = trained(name, batch)
    architecture = Architecture.export(network)
    state = network.state_dict()
    weights = {entry: state[entry].numpy() for entry in architecture.initialisers}
    model = OnnxModel(Graph(name, architecture.graph, weights), provider="cpu")
    assert model.layers == tuple(TAPS[name])
    got, expected = model.run(batch.numpy()), hooked(network, TAPS[name], batch)
    for layer, values in expected.items():
        # Relative to the largest activation of the layer.
        scale = np.abs(values).max()
        assert scale > 0, layer
        assert np.abs(got[layer] - values).max() <= TOLERANCES.get(name, 1e-4) * scale, layer
        rdms = [calc_rdm(each.reshape(N, -1)) for each in (got[layer], values)]
        assert rdms[1].max() > 1e-3, f"{layer}: images that are all alike prove little"
        np.testing.assert_allclose(*rdms, rtol=0, atol=1e-5, err_msg=layer)
