import json
import logging

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torchvision
from onnx import numpy_helper

import fastrdm
from fastrdm.images import Preprocessing
from fastrdm.networks import choose_taps, export_onnx, inspect_module
from fastrdm.rdm import calc_rdm
from models.networks import TAPS, cornet_s, cornet_z, efficientnet_lite0, resnet20

nn = torch.nn


def randomise(network, seed=0):
    """Set batch norms to other values than the identity, as after training."""
    generator = torch.Generator().manual_seed(seed)
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            for values, low, high in (
                (part.running_mean, -0.3, 0.3),
                (part.running_var, 0.5, 2.0),
                (part.weight.data, 0.5, 1.5),
                (part.bias.data, -0.3, 0.3),
            ):
                values.uniform_(low, high, generator=generator)
    return network


def images(n, size, seed=1):
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


def hooked(network, taps, batch):
    """Return what forward hooks hold after the whole forward pass, as in the development kit."""
    outputs = {}
    handles = [
        network.get_submodule(path).register_forward_hook(
            lambda part, args, output, name=name: outputs.__setitem__(name, output)
        )
        for name, path in taps.items()
    ]
    training = network.training
    with torch.no_grad():
        network.eval()(batch)
    network.train(training)
    for handle in handles:
        handle.remove()
    return {name: output.numpy() for name, output in outputs.items()}


def run(path, batch):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"images": batch.numpy()}), strict=True))


def assert_parity(path, network, taps, size, n=5):
    batch = images(n, size)
    expected, got = hooked(network, taps, batch), run(path, batch)
    assert list(got) == list(taps)
    for layer, values in expected.items():
        assert got[layer].shape == values.shape
        assert np.abs(got[layer] - values).max() <= 1e-4 * np.abs(values).max(), layer
        rdms = [calc_rdm(array.reshape(n, -1)) for array in (got[layer], values)]
        np.testing.assert_allclose(rdms[0], rdms[1], rtol=0, atol=1e-5, err_msg=layer)


NETWORKS = {
    "resnet20": (resnet20, 64),
    "resnet18": (torchvision.models.resnet18, 64),
    "alexnet": (torchvision.models.alexnet, 224),
    "sqnet1_1": (torchvision.models.squeezenet1_1, 64),
    "efficientnet_lite0": (efficientnet_lite0, 224),
    "cornet_s": (cornet_s, 64),
    "cornet_z": (cornet_z, 64),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_activations_and_rdms_equal_torch(name, tmp_path):
    if name == "efficientnet_lite0":
        pytest.importorskip("efficientnet_lite_pytorch")
    build, size = NETWORKS[name]
    torch.manual_seed(0)
    network = randomise(build())
    taps = TAPS[name]
    path = export_onnx(network, tmp_path / f"{name}.onnx", taps, size)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert_parity(path, network, taps, size)
    if name == "efficientnet_lite0":
        assert run(path, images(1, size))["head"].max() <= 6


class Small(nn.Module):
    """Two stages, in-place ReLUs, a dropout, a module that runs twice, and one that never runs."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(4, 6, 3)
        self.relu6 = nn.ReLU6()
        self.dropout = nn.Dropout()
        self.twice = nn.Identity()
        self.unused = nn.Linear(2, 2)
        self.pair = Pair()
        self.transpose = Transpose()
        self.fc = nn.Linear(6, 5)

    def forward(self, x):
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.dropout(self.relu6(self.conv2(x)))
        x = self.twice(self.twice(x)).mean((2, 3))
        self.transpose(x)
        return self.fc(self.pair(x)[0])


class Pair(nn.Module):
    def forward(self, x):
        return x, x


class Transpose(nn.Module):
    def forward(self, x):
        return x.T.contiguous()


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return randomise(Small())


def test_an_in_place_relu_shows_in_the_tap_before_it(small, tmp_path):
    taps = {"before": "bn1", "relu": "relu"}
    path = export_onnx(small, tmp_path / "a.onnx", taps, 8)
    assert_parity(path, small, taps, 8)
    got = run(path, images(2, 8))
    assert got["before"].min() == 0
    np.testing.assert_array_equal(got["before"], got["relu"])


def test_one_tensor_under_two_names(small, tmp_path):
    taps = {"a": "relu6", "b": "dropout", "c": "fc"}
    assert_parity(export_onnx(small, tmp_path / "a.onnx", taps, 8), small, taps, 8)


def test_an_identity_of_the_input_can_be_tapped(tmp_path):
    network = nn.Sequential(nn.Identity(), nn.Conv2d(3, 2, 3))
    path = export_onnx(network, tmp_path / "a.onnx", ["0", "1"], 8)
    assert_parity(path, network, {"0": "0", "1": "1"}, 8)


def test_names_that_the_exporter_uses_internally(small, tmp_path):
    taps = {"conv2d": "fc", "relu": "conv2", "x": "conv1", "clone": "bn1", "linear": "relu6"}
    path = export_onnx(small, tmp_path / "a.onnx", taps, 8)
    onnx.checker.check_model(str(path))
    assert_parity(path, small, taps, 8)


@pytest.mark.parametrize("n", [1, 3])
def test_the_batch_is_dynamic(small, tmp_path, n):
    path = export_onnx(small, tmp_path / "a.onnx", ["conv1", "fc"], 8)
    assert_parity(path, small, {"conv1": "conv1", "fc": "fc"}, 8, n=3)
    assert [len(values) for values in run(path, images(n, 8)).values()] == [n, n]
    graph = onnx.load(path).graph
    for value in (*graph.input, *graph.output):
        assert value.type.tensor_type.shape.dim[0].dim_param == "batch"


def test_taps_are_the_modules_attribute_or_its_children(small, tmp_path):
    path = tmp_path / "a.onnx"
    # bn1 is relu, which overwrites it; dropout, twice and pair return their input.
    children = ["conv1", "relu", "conv2", "relu6", "fc"]
    assert list(run(export_onnx(small, path, input_size=8), images(1, 8))) == children
    network = Small()
    network.taps = {"last": "fc"}
    assert list(run(export_onnx(network, path, input_size=8), images(1, 8))) == ["last"]


def test_metadata(small, tmp_path):
    preprocessing = Preprocessing((9, 9), "pil-bicubic", (0, 0, 0), (1, 1, 1), "BGR")
    path = export_onnx(
        small, tmp_path / "a.onnx", {"z": "fc", "a": "conv1"}, (8, 10), preprocessing=preprocessing
    )
    model = onnx.load(path)
    found = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(found["fastrdm.layers"]) == ["z", "a"]
    assert Preprocessing.from_json(found["fastrdm.preprocessing"]) == Preprocessing(
        (8, 10), "pil-bicubic", (0, 0, 0), (1, 1, 1), "BGR"
    )
    assert found["fastrdm.architecture"] == "Small"
    assert found["fastrdm.version"] == fastrdm.__version__
    assert json.loads(found["fastrdm.taps"]) == {
        "z": {"of": "fc", "part": "", "tokens": "flatten"},
        "a": {"of": "conv1", "part": "", "tokens": "flatten"},
    }
    (graph_input,) = model.graph.input
    assert graph_input.name == "images"
    dims = [dim.dim_value for dim in graph_input.type.tensor_type.shape.dim]
    assert dims[1:] == [3, 8, 10]


def test_preprocessing_is_the_modules_attribute(tmp_path):
    network = nn.Sequential(nn.Conv2d(3, 2, 3))
    network.preprocessing = Preprocessing((8, 8), mean=(0.5, 0.5, 0.5))
    path = export_onnx(network, tmp_path / "a.onnx", architecture="mine")
    found = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert Preprocessing.from_json(found["fastrdm.preprocessing"]) == network.preprocessing
    assert found["fastrdm.architecture"] == "mine"


def test_weights_keep_the_names_and_values_of_the_state_dict(small, tmp_path):
    graph = onnx.load(export_onnx(small, tmp_path / "a.onnx", ["relu", "fc"], 8)).graph
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    used = {name for name in small.state_dict() if name.split(".")[0] in {"conv1", "bn1", "fc"}}
    assert used - {"bn1.num_batches_tracked"} <= set(stored)
    for name in stored:
        np.testing.assert_array_equal(stored[name], small.state_dict()[name].numpy())


def test_the_module_is_left_unchanged(small, tmp_path):
    small.train()
    small.bn1.eval()
    before = {name: value.clone() for name, value in small.state_dict().items()}
    for taps in (["fc"], ["twice"]):
        try:
            export_onnx(small, tmp_path / "a.onnx", taps, 8)
        except ValueError:
            assert taps == ["twice"]
        assert small.training
        assert not small.bn1.training
        assert small.conv1.training
        assert not any(part._forward_hooks for part in small.modules())
    for name, value in small.state_dict().items():
        assert torch.equal(value, before[name])


def test_nothing_is_printed(small, tmp_path, capfd, caplog, recwarn):
    with caplog.at_level(logging.WARNING):
        export_onnx(small, tmp_path / "a.onnx", ["fc"], 8)
    assert capfd.readouterr() == ("", "")
    assert not recwarn


@pytest.mark.parametrize(
    ("taps", "match"),
    [
        ({"x": "conv3"}, r"tap 'x': Small has no module 'conv3'; nearest: conv2, conv1"),
        ({"x": "nothing.like.it"}, "no module 'nothing.like.it'; nearest: "),
        ({"x": ""}, "no module ''"),
        ({"x": "unused"}, "'unused' does not run"),
        ({"x": "twice"}, "'twice' runs 2 times"),
        ({"x": "transpose"}, r"'transpose' returns shape \(6, 2\)"),
        (["fc", "fc"], "'fc' twice"),
        ([], "taps is empty"),
        ({"images": "fc"}, "cannot be named 'images'"),
        ({"": "fc"}, "cannot be named ''"),
    ],
)
def test_bad_taps(small, tmp_path, taps, match):
    with pytest.raises(ValueError, match=match):
        export_onnx(small, tmp_path / "a.onnx", taps, 8)
    assert not list(tmp_path.iterdir())


def test_other_errors(small, tmp_path):
    path = tmp_path / "a.onnx"
    with pytest.raises(TypeError, match="not the string 'fc'"):
        export_onnx(small, path, "fc", 8)
    with pytest.raises(TypeError, match=r"torch\.nn\.Module, not function"):
        export_onnx(randomise, path)
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        export_onnx(small, tmp_path / "nowhere" / "a.onnx")
    with pytest.raises(ValueError, match=r"does not run on images of shape \(2, 3, 2, 2\)"):
        export_onnx(small, path, input_size=2)
    with pytest.raises(ValueError, match="size must be"):
        export_onnx(small, path, input_size=(8, 8, 8))
    with pytest.raises(ValueError, match="no child that can be tapped"):
        export_onnx(nn.Identity(), path, input_size=8)
    assert not list(tmp_path.iterdir())


class Block(nn.Module):
    """A residual block whose ReLU runs twice."""

    def __init__(self, n):
        super().__init__()
        self.conv = nn.Conv2d(n, n, 3, padding=1)
        self.relu = nn.ReLU()

    def forward(self, x):
        return self.relu(x + self.conv(self.relu(x)))


class Stages(nn.Module):
    """Defined from the last stage to the first, run from the first to the last."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 2)
        self.layer2 = nn.Sequential(Block(3))
        self.layer1 = nn.Sequential(Block(3), Block(3))

    def forward(self, x):
        return self.fc(self.layer2(self.layer1(x)).mean((2, 3)))


@pytest.mark.parametrize(
    ("taps", "layers"),
    [
        (["layer*.?", "fc"], ["layer1.0", "layer1.1", "layer2.0", "fc"]),
        (["fc", "layer1.*"], ["fc", "layer1.0", "layer1.1"]),
        (["**.conv"], ["layer1.0.conv", "layer1.1.conv", "layer2.0.conv"]),
        (["first=layer1.0", "layer?"], ["first", "layer1", "layer2"]),
        (["fc", "??"], ["fc"]),
        ({"out": "fc", "in": "layer1.0.conv"}, ["out", "in"]),
    ],
)
def test_patterns_in_the_order_of_the_forward_pass(taps, layers, recwarn):
    network = Stages()
    assert list(choose_taps(network, inspect_module(network, (8, 8)), taps)) == layers
    assert not recwarn


def test_layers_of_a_pattern_equal_torch(tmp_path):
    torch.manual_seed(0)
    network = Stages()
    path = export_onnx(network, tmp_path / "a.onnx", ["head=fc", "layer*.?"], 8)
    taps = {"head": "fc"} | {name: name for name in ("layer1.0", "layer1.1", "layer2.0")}
    assert_parity(path, network, taps, 8)


def test_layers_that_cannot_be_tapped_are_skipped_with_one_warning(tmp_path):
    network, path = Stages(), tmp_path / "a.onnx"
    for part in (network.layer1[0], network.layer1[1], network.layer2[0]):
        part.unused = nn.Linear(2, 2)
    with pytest.warns(UserWarning, match="skipped") as caught:
        export_onnx(network, path, ["layer?.?.[cu]*"], 8)
    assert list(run(path, images(1, 8))) == ["layer1.0.conv", "layer1.1.conv", "layer2.0.conv"]
    (warning,) = caught
    assert warning.filename == __file__
    unused = "layer2.0.unused, layer1.0.unused, layer1.1.unused: does not run"
    assert unused in str(warning.message)
    with pytest.raises(
        ValueError, match=r"none of .* that match '\*\*.unused' can be tapped: layer2\.0"
    ):
        export_onnx(network, path, ["**.unused"], 8)


class Transformer(nn.Module):
    """A vision transformer with a class token and two registers, with the names of transformers."""

    class Encoder(nn.Module):
        def __init__(self, dim):
            super().__init__()
            self.layers = nn.ModuleList(
                nn.TransformerEncoderLayer(dim, 2, 2 * dim, batch_first=True) for _ in range(2)
            )

        def forward(self, x):
            pooled = x[:, 0]
            for layer in self.layers:
                x = layer(x)
            return {"pooled": pooled, "last_hidden_state": x}

    def __init__(self, dim=8):
        super().__init__()
        self.patches = nn.Conv2d(3, dim, 4, stride=4)
        self.cls_token = nn.Parameter(torch.randn(1, 1, dim))
        self.register_tokens = nn.Parameter(torch.randn(1, 2, dim))
        self.positions = nn.Parameter(torch.randn(1, 7, dim))
        self.register_buffer("scale", torch.tensor([0.5]), persistent=False)
        self.encoder = self.Encoder(dim)
        self.attention = nn.MultiheadAttention(dim, 2, batch_first=True)
        self.head = nn.Linear(dim, 3)

    def forward(self, ids=None, pixel_values=None):
        x = self.patches(pixel_values).flatten(2).transpose(1, 2)
        prefix = [t.expand(x.shape[0], -1, -1) for t in (self.cls_token, self.register_tokens)]
        x = torch.cat([*prefix, x], 1) + self.positions * self.scale
        x = self.encoder(x)["last_hidden_state"]
        x = self.attention(x, x, x)[0]
        return {"logits": self.head(x[:, 0])}


@pytest.fixture(scope="module")
def transformer():
    torch.manual_seed(0)
    return Transformer()


def test_flattened_tokens_the_first_one_and_the_mean_of_the_patches(transformer, tmp_path):
    taps = {
        "all": "encoder.layers.0",
        "written": "encoder.layers.0@flatten",
        "cls": "encoder.layers.0@cls",
        "mean": "encoder.layers.0@mean",
        "from5": "encoder.layers.0@mean[5:]",
        "encoder": "encoder@mean",
        "attention": "attention",
        "head": "head",
    }
    path = export_onnx(transformer, tmp_path / "a.onnx", taps, 8)
    batch, held = images(5, 8), {}
    handles = [
        transformer.get_submodule(name).register_forward_hook(
            lambda part, args, output, name=name: held.__setitem__(name, output)
        )
        for name in ("encoder.layers.0", "encoder", "attention", "head")
    ]
    with torch.no_grad():
        transformer.eval()(pixel_values=batch)
    for handle in handles:
        handle.remove()
    first = held["encoder.layers.0"]
    expected = {
        "all": first,
        "written": first,
        "cls": first[:, 0],
        "mean": first[:, 3:].mean(1),
        "from5": first[:, 5:].mean(1),
        "encoder": held["encoder"]["last_hidden_state"][:, 3:].mean(1),
        "attention": held["attention"][0],
        "head": held["head"],
    }
    got = run(path, batch)
    assert list(got) == list(taps)
    for layer, values in expected.items():
        assert got[layer].shape == values.shape
        np.testing.assert_allclose(got[layer], values.numpy(), rtol=1e-4, atol=1e-5)

    model = onnx.load(path)
    found = {entry.key: entry.value for entry in model.metadata_props}
    told = json.loads(found["fastrdm.taps"])
    assert told["mean"] == {"of": "encoder.layers.0", "part": "", "tokens": "mean[3:]"}
    assert told["encoder"] == {"of": "encoder", "part": "last_hidden_state", "tokens": "mean[3:]"}
    assert told["attention"] == {"of": "attention", "part": "0", "tokens": "flatten"}
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert set(stored) <= {"scale", *transformer.state_dict()}
    assert stored["scale"] == 0.5


def test_tokens_of_a_pattern_are_in_the_names(transformer):
    network = inspect_module(transformer, (8, 8))
    chosen = choose_taps(transformer, network, ["encoder.*.?@cls", "encoder.*.?@mean"])
    assert {layer: str(choice.tokens) for layer, choice in chosen.items()} == {
        "encoder.layers.0@cls": "cls",
        "encoder.layers.1@cls": "cls",
        "encoder.layers.0@mean": "mean[3:]",
        "encoder.layers.1@mean": "mean[3:]",
    }


@pytest.mark.parametrize(
    ("tap", "match"),
    [
        (
            "head@cls",
            r"'head@cls': the module 'head' returns \(3,\) for an image; @cls needs \(tokens, channels\)",
        ),
        ("patches@mean", r"returns \(8, 2, 2\) for an image"),
        ("encoder@max", "@ must be followed by flatten, cls, mean or mean.N:., not 'max'"),
        ("encoder@cls[1:]", "not 'cls.1:.'"),
        ("encoder@mean[7:]", "'encoder' has 7 tokens, so none from token 7"),
        ("encode@mean", "no module 'encode'; nearest: encoder"),
        ("x=encoder.*", "'x': 'encoder.*' is a pattern, which cannot have a name"),
        ("layer*.?", r"no module that matches 'layer\*\.\?'; nearest: encoder.layers"),
        ("[b-a]", "'.b-a.' is not a pattern"),
        ("=head", "cannot be named ''"),
    ],
)
def test_bad_tokens_and_patterns(transformer, tmp_path, tap, match):
    with pytest.raises(ValueError, match=match):
        export_onnx(transformer, tmp_path / "a.onnx", [tap], 8)
    assert not list(tmp_path.iterdir())


def test_a_mean_needs_the_number_of_the_first_patch(tmp_path):
    class Tokens(nn.Module):
        def forward(self, x):
            return x.flatten(2).transpose(1, 2)

    network, path = nn.Sequential(Tokens()), tmp_path / "a.onnx"
    with pytest.raises(
        ValueError, match=r"no parameter is named a class or register token.*@mean\[N:"
    ):
        export_onnx(network, path, ["0@mean"], 8)
    network.cls_token = nn.Parameter(torch.zeros(1, 1, 3))
    with pytest.raises(
        ValueError, match="has 64 tokens, and without 1 .* they are not a grid of patches"
    ):
        export_onnx(network, path, ["0@mean"], 8)
    got = run(export_onnx(network, path, ["0@mean[0:]"], 8), images(2, 8))
    np.testing.assert_allclose(got["0@mean[0:]"], images(2, 8).mean((2, 3)).numpy(), atol=1e-6)


def test_no_random_numbers(tmp_path):
    class Noise(nn.Module):
        def forward(self, x):
            return x + torch.rand_like(x)

    with pytest.raises(ValueError, match="Sequential draws random numbers even in evaluation"):
        export_onnx(nn.Sequential(Noise()), tmp_path / "a.onnx", input_size=8)
    assert not list(tmp_path.iterdir())


class FixedBatch(nn.Module):
    def __init__(self):
        super().__init__()
        self.flatten = nn.Flatten()

    def forward(self, x):
        return self.flatten(x.reshape(2, 3, 8, 8))


def test_a_fixed_batch_is_an_error_and_an_old_file_stays(tmp_path):
    path = tmp_path / "a.onnx"
    path.write_text("old")
    with pytest.raises(ValueError, match="FixedBatch cannot be exported to ONNX"):
        export_onnx(FixedBatch(), path, input_size=8)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
