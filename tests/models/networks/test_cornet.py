import csv
import json
import math

import numpy as np
import pytest
import torch

from fastrdm.images import Preprocessing
from fastrdm.networks import load_weights
from models.networks import TAPS, cornet_s, cornet_z

NETWORKS = {"cornet_s": cornet_s, "cornet_z": cornet_z}
AREAS = ["V1", "V2", "V4", "IT"]
networks = pytest.mark.parametrize("name", NETWORKS)


def official(name, data_root):
    """Keys and shapes of the published checkpoint, in its order."""
    with (data_root / "published/cornet_state_dicts.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["network"] == name]
    return {
        row["key"]: [int(n) for n in row["shape"].split("x")] if row["shape"] != "scalar" else []
        for row in rows
    }


def golden_fill(index, key, shape):
    """The values that replace a trained entry in the golden results."""
    a = torch.cos(0.37 * torch.arange(math.prod(shape), dtype=torch.float64) + index).reshape(shape)
    if len(shape) == 4:
        return 1.5 * a / math.sqrt(math.prod(shape[1:]))
    if len(shape) == 2:
        return a / math.sqrt(shape[1])
    if key.endswith("running_var"):
        return 1 + 0.5 * a.abs()
    if "norm" in key and key.endswith("weight"):
        return 1 + 0.1 * a
    return 0.1 * a


@networks
def test_golden_values_of_a_checkpoint_in_the_published_format(name, data_root, tmp_path):
    golden = json.loads((data_root / "published/cornet_golden.json").read_text())[name]
    weights = {
        key: golden_fill(index, key, shape) if shape else torch.tensor(0)
        for index, (key, shape) in enumerate(official(name, data_root).items())
    }
    torch.save({"state_dict": weights, "epoch": 43}, tmp_path / f"{name}.pth")
    network = NETWORKS[name]().double().eval()
    load_weights(network, tmp_path / f"{name}.pth")
    assert [f"module.{key}" for key in network.state_dict()] == list(weights)
    assert sum(p.numel() for p in network.parameters()) == golden["parameters"]

    seen = {}
    for area in AREAS:
        path = network.taps[area]
        network.get_submodule(path).register_forward_hook(
            lambda part, args, output, area=area: seen.__setitem__(area, output)
        )
    pixels = torch.sin(0.011 * torch.arange(2 * 3 * 224 * 224, dtype=torch.float64))
    with torch.no_grad():
        logits = network(pixels.reshape(2, 3, 224, 224))
    np.testing.assert_allclose(logits[:, :8], golden["logits_first8"], rtol=0, atol=1e-6)
    assert list(golden["layers"]) == AREAS
    for area, facts in golden["layers"].items():
        assert list(seen[area].shape) == [2, *facts["shape"]]
        assert seen[area].mean().item() == pytest.approx(facts["mean"], abs=1e-6)
        assert seen[area].std().item() == pytest.approx(facts["std"], abs=1e-6)


@pytest.mark.parametrize("name, count", [("cornet_s", 53_416_616), ("cornet_z", 2_071_656)])
def test_parameters(name, count):
    with torch.device("meta"):
        assert sum(p.numel() for p in NETWORKS[name]().parameters()) == count
        assert NETWORKS[name](10).decoder.linear.out_features == 10


@networks
def test_taps_are_the_areas_and_the_decoder(name):
    with torch.device("meta"):
        network = NETWORKS[name]()
    assert network.taps == TAPS[name]
    assert list(network.taps) == [*AREAS, "decoder"]
    assert list(network.taps.values()) == [path for path, _ in network.named_children()]
    assert network.preprocessing == Preprocessing()


@pytest.mark.parametrize("area, times", [("V2", 2), ("V4", 4), ("IT", 2)])
def test_cornet_s_repeats_an_area_on_its_own_output(area, times):
    network = cornet_s().get_submodule(area).eval()
    runs = []
    network.conv3.register_forward_hook(lambda *args: runs.append(args))
    size = network.conv_input.in_channels
    with torch.no_grad():
        network(torch.zeros(1, size, 4, 4))
    assert len(runs) == times
    assert sum(key.startswith("norm1_") for key in dict(network.named_children())) == times
