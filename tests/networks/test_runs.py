"""Modules that run several times have a layer for each run, and the batch may be the second axis."""

import json

import numpy as np
import onnx
import pytest
import torch

from fastrdm.cli import main
from fastrdm.images import Preprocessing
from fastrdm.networks import choose_taps, export_onnx, inspect_module
from fastrdm.runtimes import Architecture, OnnxModel, inspect_file
from models.networks import cornet_s

nn = torch.nn


class Recurrent(nn.Module):
    """An area that runs three times, an activation that also works elsewhere, and a module whose name has a #."""

    def __init__(self):
        super().__init__()
        self.V1 = nn.Conv2d(3, 4, 3, padding=1)
        self.IT = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())
        self.act = nn.ReLU()
        self.add_module("odd#0", nn.AdaptiveAvgPool2d(2))
        self.fc = nn.Linear(16, 5)

    def forward(self, x):
        x = self.act(self.V1(x))
        for _ in range(3):
            x = self.IT(x)
        return self.act(self.fc(self.get_submodule("odd#0")(x).flatten(1)))


@pytest.fixture(scope="module")
def recurrent():
    torch.manual_seed(0)
    return Recurrent().eval()


def batch(n, size=8):
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(1))


def hooked(network, path, images):
    """What a forward hook sees in each run of a module."""
    seen = []
    handle = network.get_submodule(path).register_forward_hook(
        lambda part, args, output: seen.append(output)
    )
    with torch.no_grad():
        network(images)
    handle.remove()
    return seen


TAPS = ["last=IT#2@flatten", "IT#*", "act#0", "fc"]


@pytest.fixture(scope="module")
def exported(recurrent, tmp_path_factory):
    return export_onnx(recurrent, tmp_path_factory.mktemp("runs") / "a.onnx", TAPS, 8)


def test_each_run_is_a_layer(recurrent, exported):
    model = OnnxModel(exported, provider="cpu")
    assert model.layers == ("last", "IT#0", "IT#1", "act#0", "fc")
    got = model.run(batch(3).numpy())
    runs = hooked(recurrent, "IT", batch(3))
    for layer, expected in {
        "IT#0": runs[0],
        "IT#1": runs[1],
        "last": runs[2],
        "act#0": hooked(recurrent, "act", batch(3))[0],
    }.items():
        np.testing.assert_allclose(got[layer], expected.numpy(), rtol=1e-4, atol=1e-5)


def test_runs_in_the_metadata_of_a_file(recurrent, exported, tmp_path):
    metadata = {entry.key: entry.value for entry in onnx.load(exported).metadata_props}
    assert json.loads(metadata["fastrdm.taps"])["IT#1"] == {
        "of": "IT#1",
        "part": "",
        "tokens": "flatten",
    }
    _, marks = inspect_file(exported)
    assert marks["IT#1"] == "IT#1" and marks["last"] == "IT#2"
    assert OnnxModel(exported, taps=["IT#1"], provider="cpu").layers == ("IT#1",)
    assert OnnxModel(exported, taps=["IT#*"], provider="cpu").layers == ("IT#0", "IT#1")
    # Weights of the same network fit the exported architecture.
    torch.save(recurrent.state_dict(), tmp_path / "w.pth")
    model = Architecture.read(exported).open(tmp_path / "w.pth", provider="cpu")
    assert model.layers == ("last", "IT#0", "IT#1", "act#0", "fc")


@pytest.mark.parametrize(
    ("taps", "layers"),
    [
        (["IT#*"], ["IT#0", "IT#1", "IT#2"]),
        (["I?"], ["IT#0", "IT#1", "IT#2"]),
        (["IT.*"], ["IT.0#0", "IT.1#0", "IT.0#1", "IT.1#1", "IT.0#2", "IT.1#2"]),
        # "#" in a pattern stands for itself.
        (["*#0"], ["act#0", "IT#0", "odd#0"]),
        (["IT#[12]", "odd#0"], ["IT#1", "IT#2", "odd#0"]),
        (None, ["V1", "act#0", "IT#0", "IT#1", "IT#2", "odd#0", "fc", "act#1"]),
    ],
)
def test_which_runs_taps_choose(recurrent, taps, layers):
    network = inspect_module(recurrent, (8, 8))
    assert list(choose_taps(recurrent, network, taps)) == layers


def test_a_module_that_runs_several_times_needs_a_run(recurrent):
    network = inspect_module(recurrent, (8, 8))
    message = r"the module 'IT.0' runs 3 times .* \(IT.0#0, IT.0#1, IT.0#2\) or all, as 'IT.0#\*'"
    with pytest.raises(ValueError, match=message):
        choose_taps(recurrent, network, ["IT.0"])


def test_a_run_that_does_not_exist(recurrent):
    network = inspect_module(recurrent, (8, 8))
    with pytest.raises(ValueError, match=r"has no module 'IT#3'; nearest: IT#"):
        choose_taps(recurrent, network, ["IT#3"])
    with pytest.raises(ValueError, match=r"no module 'fc#0', because 'fc' runs once; nearest: "):
        choose_taps(recurrent, network, ["fc#0"])


def test_the_passes_of_cornet_s():
    network = cornet_s(10)
    found = inspect_module(network, (32, 32))
    layers = found.layers
    for area, times in (("V2", 2), ("V4", 4), ("IT", 2)):
        runs = [name for name in layers if name.startswith(f"{area}.output#")]
        assert runs == [f"{area}.output#{time}" for time in range(times)]
        assert layers[runs[-1]].tensor == layers[area].tensor
    message = r"'IT' runs once; in it run several times: IT.conv1#\*, IT.conv3#\*, IT.output#\*"
    with pytest.raises(ValueError, match=message):
        choose_taps(network, found, ["IT#0"])


def test_the_command_line_lists_runs(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "test_runs_network.py").write_text(
        "import torch\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.IT = torch.nn.Conv2d(3, 3, 3, padding=1)\n"
        "    def forward(self, x):\n"
        "        return self.IT(self.IT(x))\n"
    )
    assert main(["layers", "--arch", "test_runs_network:Net"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [row[:2] for row in rows[1:3]] == [["*", "IT#0"], ["*", "IT#1"]]
    assert main(["layers", "--arch", "test_runs_network:Net", "--match", "IT", "--json"]) == 0
    found = [row["name"] for row in json.loads(capsys.readouterr().out)]
    assert found == ["IT#0", "IT#1"]


class TokensFirst(nn.Module):
    """Attention with (tokens, batch, channels), as in torch and open_clip."""

    def __init__(self, edge=4):
        super().__init__()
        self.patches = nn.Conv2d(3, 8, edge, edge)
        self.class_token = nn.Parameter(torch.randn(8))
        self.first = nn.TransformerEncoderLayer(8, 2, 16)
        self.attention = nn.MultiheadAttention(8, 2)
        self.swap = Swap()
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = self.patches(x).flatten(2).permute(2, 0, 1)
        token = self.class_token.expand(1, x.shape[1], -1)
        x = self.first(torch.cat([token, x]))
        x, _ = self.attention(x, x, x, need_weights=False)
        return self.head(self.swap(x)[:, 0])


class Swap(nn.Module):
    def forward(self, x):
        return x.transpose(0, 1)


@pytest.mark.parametrize("size", [8, 4], ids=["5 tokens", "2 tokens"])
def test_the_axis_of_the_batch(size):
    """With two tokens, a probe of two images alone could not show which axis is the batch."""
    layers = inspect_module(TokensFirst(), (size, size)).layers
    assert layers["attention"].shape == layers["swap"].shape == (1 + (size // 4) ** 2, 8)
    assert [layers[name].axis for name in ("attention", "first", "swap", "patches")] == [1, 1, 0, 0]


def test_the_batch_on_the_second_axis(tmp_path):
    torch.manual_seed(0)
    network = TokensFirst().eval()
    taps = ["first", "attention", "cls=first@cls", "mean=attention@mean", "swap", "head"]
    model = OnnxModel(export_onnx(network, tmp_path / "a.onnx", taps, 8), provider="cpu")
    images = batch(7)
    got = model.run(images.numpy())
    expected = {name: hooked(network, name, images)[0] for name in ("first", "attention", "swap")}
    first, attention = expected["first"], expected["attention"][0]
    for name, values in {
        "first": first.transpose(0, 1),
        "attention": attention.transpose(0, 1),
        "swap": expected["swap"],
        "cls": first[0],
        "mean": attention[1:].mean(0),
    }.items():
        assert got[name].shape == values.shape
        np.testing.assert_allclose(got[name], values.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fixed", [False, True], ids=["any batch", "fixed batch"])
def test_the_batch_on_the_second_axis_of_a_file(fixed, tmp_path):
    torch.manual_seed(0)
    network, path, images = TokensFirst().eval(), tmp_path / "a.onnx", batch(3)
    n = torch.export.Dim("n")
    shapes = None if fixed else ({0: n},)
    program = torch.onnx.export(
        network, (images,), dynamo=True, verbose=False, input_names=["x"], dynamic_shapes=shapes
    )
    program.save(path)
    graph = onnx.load(path).graph
    (attention,) = hooked(network, "attention", images)
    # The tensor that the module returns is the input of the last transposition.
    swap = next(node for node in reversed(graph.node) if node.op_type == "Transpose")
    tap = swap.input[0]
    taps, plain = {"all": tap, "cls": f"{tap}@cls"}, Preprocessing((8, 8))
    model = OnnxModel(path, taps=taps, preprocessing=plain, provider="cpu", batch_size=3)
    got = model.run(images.numpy())
    np.testing.assert_allclose(got["all"], attention[0].transpose(0, 1), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(got["cls"], attention[0][0], rtol=1e-4, atol=1e-5)


def test_two_rows_that_are_no_batch_are_refused():
    class Table(nn.Module):
        def __init__(self):
            super().__init__()
            self.rows = nn.Embedding(2, 2)
            self.pool = nn.AdaptiveAvgPool2d(1)

        def forward(self, x):
            rows = self.rows(torch.arange(4, device=x.device).reshape(2, 2) % 2)
            return self.pool(x).flatten(1) + rows.sum()

    problem = inspect_module(Table(), (8, 8)).layers["rows"].problem
    assert problem.startswith("returns shape (2, 2, 2), not (batch, channels...), for a probe of 3")
