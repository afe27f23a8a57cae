"""ONNX files that were not written by export_onnx: written here by hand or by torch's exporters."""

import json

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from fastrdm.cli import main
from fastrdm.cli.sample import write_sample
from fastrdm.images import Preprocessing
from fastrdm.networks import export_onnx
from fastrdm.runtimes import OnnxModel, inspect_file
from fastrdm.runtimes.foreign import open_foreign

nn = torch.nn
PLAIN = Preprocessing((8, 8), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
RNG = np.random.default_rng(0)
WEIGHT = RNG.standard_normal((4, 3, 2, 2)).astype(np.float32)
FC = RNG.standard_normal((4, 2)).astype(np.float32)


def nodes(opset=17):
    """Clipped patches; the same as tokens after a first one; their mean and its product; a shape."""
    reduce = {"axes": [2, 3]} if opset < 18 else {}
    return [
        helper.make_node("Conv", ["x/in", "weight"], ["/conv/out.0"], "conv", strides=[2, 2]),
        helper.make_node("Clip", ["/conv/out.0", "low", "high"], ["/clip/out.0"], "clip"),
        helper.make_node("Shape", ["/clip/out.0"], ["shape"], "shape"),
        helper.make_node(
            "ReduceMean",
            ["/clip/out.0", *([] if reduce else ["axes"])],
            ["mean"],
            keepdims=0,
            **reduce,
        ),
        helper.make_node("Reshape", ["/clip/out.0", "tokens_shape"], ["flat"]),
        helper.make_node("Transpose", ["flat"], ["patches"], perm=[0, 2, 1]),
        helper.make_node("ReduceMean", ["patches"], ["first"], keepdims=1, **({"axes": [1]} if reduce else {}))
        if reduce
        else helper.make_node("ReduceMean", ["patches", "axis"], ["first"], keepdims=1),
        helper.make_node("Concat", ["first", "patches"], ["tokens"], axis=1),
        helper.make_node("MatMul", ["mean", "fc"], ["y"]),
    ]  # fmt: skip


def write(
    path, batch=None, size=(8, 8), elem_type=TensorProto.FLOAT, opset=17, channels=3, **metadata
):
    dtype = helper.tensor_dtype_to_np_dtype(elem_type)
    arrays = {
        "weight": WEIGHT.astype(dtype),
        "fc": FC.astype(dtype),
        "low": np.array(0, dtype),
        "high": np.array(1.5, dtype),
        "tokens_shape": np.array([0, 4, -1]),
        # As in the file of a vision transformer; nothing here reads it.
        "net.cls_token": np.zeros((1, 1, 4), dtype),
    }
    if opset >= 18:
        arrays |= {"axes": np.array([2, 3]), "axis": np.array([1])}
    shape = [batch or "n", channels, *(edge or name for edge, name in zip(size, "hw", strict=True))]
    graph = helper.make_graph(
        nodes(opset),
        "any",
        [helper.make_tensor_value_info("x/in", elem_type, shape)],
        [helper.make_tensor_value_info("y", elem_type, [batch or "n", 2])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    helper.set_model_props(model, metadata)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def truth(pictures, preprocessing=PLAIN):
    batch = torch.from_numpy(preprocessing.load(pictures))
    conv = nn.functional.conv2d(batch, torch.from_numpy(WEIGHT), stride=2)
    clip = conv.clip(0, 1.5)
    patches = clip.flatten(2).transpose(1, 2)
    tokens = torch.cat([patches.mean(1, keepdim=True), patches], 1)
    return {
        "conv": conv,
        "clip": clip,
        "tokens": tokens,
        "cls": tokens[:, 0],
        "mean": tokens[:, 1:].mean(1),
        "from9": tokens[:, 9:].mean(1),
        "y": clip.mean((2, 3)) @ torch.from_numpy(FC),
    }


TAPS = {
    "conv": "/conv/out.0",
    "clip": "/clip/out.0",
    "tokens": "tokens",
    "cls": "tokens@cls",
    "mean": "tokens@mean",
    "from9": "tokens@mean[9:]",
    "y": "y",
}


def assert_right(model, pictures, rtol=1e-4, atol=1e-5):
    got, expected = model.activations(pictures), truth(pictures)
    assert list(got) == list(model.layers)
    for layer, values in got.items():
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, expected[layer].numpy(), rtol=rtol, atol=atol)


@pytest.fixture
def pictures():
    return list(np.random.default_rng(0).integers(0, 256, (7, 20, 15, 3), dtype=np.uint8))


@pytest.mark.parametrize("batch", [None, 1, 3, 7, 10])
@pytest.mark.parametrize("opset", [13, 18])
def test_inner_tensors_tokens_and_batches_of_any_size(tmp_path, pictures, batch, opset):
    path = write(tmp_path / "any.onnx", batch, opset=opset)
    model = OnnxModel(path, "cpu", taps=TAPS, preprocessing=PLAIN, batch_size=4)
    assert (model.layers, model.preprocessing) == (tuple(TAPS), PLAIN)
    assert (model.architecture, model.batch_size) == ("any", batch or 4)
    assert model.shapes["mean"] == (4,)
    assert_right(model, pictures)
    rdms = model.rdms(pictures)
    np.testing.assert_allclose(
        rdms["clip"],
        (1 - np.corrcoef(truth(pictures)["clip"].flatten(1)))[np.triu_indices(7, 1)],
        atol=1e-5,
    )
    loaded = PLAIN.load(pictures)
    if batch in {1, 3}:
        with pytest.raises(ValueError, match=f"any runs on {batch} images in one batch, not on 7"):
            model.run(loaded)
    else:
        assert model.run(loaded, ["y"])["y"].shape == (7, 2)


def test_half_floats_become_float32(tmp_path, pictures):
    path = write(tmp_path / "any.onnx", elem_type=TensorProto.FLOAT16)
    model = OnnxModel(path, "cpu", taps=TAPS, preprocessing=PLAIN)
    assert_right(model, pictures, rtol=0, atol=0.03)


def test_channels_last_in_doubles(tmp_path, pictures):
    path = write(tmp_path / "any.onnx")
    model = onnx.load(path)
    (value,) = model.graph.input
    value.CopyFrom(helper.make_tensor_value_info("images", TensorProto.DOUBLE, [1, 8, 8, 3]))
    model.graph.node.insert(0, helper.make_node("Cast", ["images"], ["nhwc"], to=TensorProto.FLOAT))
    model.graph.node.insert(1, helper.make_node("Transpose", ["nhwc"], ["x/in"], perm=[0, 3, 1, 2]))
    onnx.save(model, path)
    assert_right(OnnxModel(path, "cpu", taps=TAPS, preprocessing=PLAIN), pictures)
    network, _ = inspect_file(path)
    assert network.layers["x/in"].shape == (3, 8, 8)


def test_names_that_are_already_used(tmp_path, pictures):
    path = write(tmp_path / "any.onnx")
    taps = {"tokens": "/conv/out.0", "y": "/clip/out.0", "weight": "tokens", "again": "/conv/out.0"}
    model = OnnxModel(path, "cpu", taps=taps, preprocessing=PLAIN)
    expected, got = truth(pictures), model.activations(pictures)
    for layer, name in {"tokens": "conv", "y": "clip", "weight": "tokens", "again": "conv"}.items():
        np.testing.assert_allclose(got[layer], expected[name].numpy(), rtol=1e-4, atol=1e-5)


def test_branches_read_renamed_tensors(tmp_path, pictures):
    """The branches of an If read the tapped tensor and the input from outside."""
    path = write(tmp_path / "any.onnx")
    model = onnx.load(path)
    branches = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node(operator, [source], [f"{name}/inner"])],
            name,
            [],
            [helper.make_tensor_value_info(f"{name}/inner", TensorProto.FLOAT, None)],
        )
        for name, operator, source in (("then", "Neg", "/conv/out.0"), ("else", "Abs", "x/in"))
    }
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    model.graph.node.append(helper.make_node("If", ["yes"], ["branched"], **branches))
    onnx.save(model, path)
    taps = {"conv": "/conv/out.0", "negative": "branched"}
    got = OnnxModel(path, "cpu", taps=taps, preprocessing=PLAIN).activations(pictures)
    np.testing.assert_array_equal(got["negative"], -got["conv"])
    np.testing.assert_allclose(got["conv"], truth(pictures)["conv"], rtol=1e-4, atol=1e-5)


def test_patterns_take_tensors_in_order_and_skip_others(tmp_path):
    path = write(tmp_path / "any.onnx")
    with pytest.warns(
        UserWarning, match="skipped of the tensors .*any.onnx .*shape: returns int64"
    ):
        model = OnnxModel(path, "cpu", taps=["y", "/c*/*.?", "[sf]*"], preprocessing=PLAIN)
    assert model.layers == ("y", "/conv/out.0", "/clip/out.0", "flat", "first")


def test_nodes_that_no_layer_needs_are_left_out(tmp_path):
    graph = onnx.load_model_from_string(
        open_foreign(write(tmp_path / "any.onnx"), {"c": "/conv/out.0"}, PLAIN).source
    ).graph
    assert [node.op_type for node in graph.node] == ["Conv"]
    assert [tensor.name for tensor in graph.initializer] == ["weight"]
    np.testing.assert_array_equal(numpy_helper.to_array(graph.initializer[0]), WEIGHT)
    assert [value.name for value in (*graph.input, *graph.output)] == ["images", "c"]


@pytest.fixture(scope="module")
def plain():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU6(), nn.Flatten(), nn.Linear(144, 5)
    ).eval()


@pytest.mark.parametrize("batch", [1, 2])
def test_torch_exports_with_weights_in_another_file(plain, tmp_path, pictures, batch):
    path = tmp_path / "torch.onnx"
    torch.onnx.export(plain, (torch.zeros(batch, 3, 8, 8),), path, dynamo=True, external_data=True)
    assert (tmp_path / "torch.onnx.data").is_file()
    network, marks = inspect_file(path)
    layers = [layer for layer in network.layers.values() if not layer.problem]
    assert layers[-1].shape == (5,)
    assert marks == {layers[-1].name: "output"}
    # Without the weights after it.
    first = OnnxModel(path, "cpu", taps={"first": layers[0].name}, preprocessing=PLAIN)
    assert first.shapes == {"first": (4, 6, 6)}
    model = OnnxModel(path, "cpu", taps={"out": layers[-1].name}, preprocessing=PLAIN)
    with torch.no_grad():
        expected = plain(torch.from_numpy(PLAIN.load(pictures)))
    np.testing.assert_allclose(
        model.activations(pictures)["out"], expected.numpy(), rtol=1e-4, atol=1e-5
    )


def test_missing_weights_in_another_file(plain, tmp_path):
    path, data = tmp_path / "a.onnx", tmp_path / "a.onnx.data"
    torch.onnx.export(plain, (torch.zeros(1, 3, 8, 8),), path, dynamo=True, external_data=True)
    data.write_bytes(data.read_bytes()[:100])
    with pytest.raises(
        ValueError, match=r"a\.onnx\.data is too short for the weights of .*a\.onnx"
    ):
        inspect_file(path)
    data.unlink()
    with pytest.raises(
        FileNotFoundError, match=r"a\.onnx\.data: no such file; .* keeps its weights there"
    ):
        OnnxModel(path, taps=["**"], preprocessing=PLAIN)
    model = onnx.load(path, load_external_data=False)
    tensor = next(t for t in model.graph.initializer if t.external_data)
    next(entry for entry in tensor.external_data if entry.key == "location").value = "../b"
    onnx.save(model, path)
    with pytest.raises(ValueError, match="refers to weights outside its folder"):
        inspect_file(path)


def test_other_layers_of_an_exported_file(plain, tmp_path, pictures):
    path = export_onnx(plain, tmp_path / "a.onnx", {"relu": "2", "fc": "4"}, preprocessing=PLAIN)
    whole = OnnxModel(path, "cpu").activations(pictures)
    bright = Preprocessing((8, 8), mean=(0, 0, 0))
    for taps, layers in ((["fc"], ("fc",)), ({"r": "relu", "fc": "fc"}, ("r", "fc"))):
        model = OnnxModel(path, "cpu", taps=taps)
        assert (model.layers, model.preprocessing) == (layers, PLAIN)
        np.testing.assert_allclose(model.activations(pictures)["fc"], whole["fc"], rtol=1e-5)
    told = json.loads(
        {
            entry.key: entry.value
            for entry in onnx.load_model_from_string(model._graph.source).metadata_props
        }["fastrdm.taps"]
    )
    assert told["r"] == {"of": "2", "part": "", "tokens": "flatten"}
    model = OnnxModel(path, "cpu", preprocessing=bright)
    assert (model.layers, model.preprocessing) == (("relu", "fc"), bright)
    assert (model.activations(pictures)["fc"] != whole["fc"]).any()


def test_the_assumed_preprocessing_is_reported(tmp_path):
    for size, taken in (((8, 8), (8, 8)), ((None, None), (224, 224)), ((9, None), (9, 224))):
        path = write(tmp_path / "any.onnx", size=size)
        if size == (8, 8):
            with pytest.warns(
                UserWarning, match=r"any.onnx do not describe its preprocessing.* 8 × 8 \(pil-bil"
            ) as caught:
                model = OnnxModel(path, "cpu", taps=["y"])
            assert [warning.filename for warning in caught] == [__file__]
            assert model.preprocessing == Preprocessing((8, 8))
        assert inspect_file(path)[0].size == taken


def test_a_file_that_does_not_name_its_layers(tmp_path):
    path = write(tmp_path / "any.onnx")
    with pytest.raises(
        ValueError, match=r"name its layers with taps \(fastrdm layers .*any.onnx lists"
    ):
        OnnxModel(path)
    with pytest.raises(ValueError, match="any.onnx do not name its layers"):
        OnnxModel(path, preprocessing=PLAIN)


@pytest.mark.parametrize(
    ("taps", "match"),
    [
        (["/conv/out"], r"any.onnx has no tensor '/conv/out'; nearest: /conv/out.0"),
        (["/relu*/**"], r"no tensor that matches '/relu\*/\*\*'; nearest: /"),
        (["shape"], "tensor 'shape' returns int64, not floating-point numbers"),
        (["s*"], "none of the tensors .* that match 's.' can be tapped: shape: returns int64"),
        (["weight"], "no tensor 'weight'"),
        (
            ["flat@cls", "y@cls"],
            r"'y@cls': the tensor 'y' returns \(2,\) for an image; @cls needs \(tokens",
        ),
        (
            ["patches@mean"],
            "has 16 tokens, and without 1 for class and registers they are not a grid",
        ),
        ({"images": "y"}, "cannot be named 'images'"),
        ([], "taps is empty"),
    ],
)
def test_bad_taps(tmp_path, taps, match):
    with pytest.raises(ValueError, match=match):
        OnnxModel(write(tmp_path / "any.onnx"), taps=taps, preprocessing=PLAIN)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"elem_type": TensorProto.UINT8}, "takes images in uint8, not in floating-point numbers"),
        ({"shape": [1, 1, 8, 8]}, r"takes x/in of shape \(1, 1, 8, 8\), not \(batch, 3, height"),
        ({"shape": ["n", 3]}, r"of shape \(\?, 3\)"),
        ({"second": True}, "takes 2 inputs, not one: x/in, ids"),
        ({"shape": [1, 3, 1, 1]}, r"does not run on images of shape \(1, 3, 1, 1\)"),
    ],
)
def test_files_with_other_inputs(tmp_path, changes, match):
    path = write(tmp_path / "any.onnx")
    model = onnx.load(path)
    (value,) = model.graph.input
    tensor_type = value.type.tensor_type
    if "shape" in changes:
        new = helper.make_tensor_value_info("x/in", TensorProto.FLOAT, changes["shape"])
        value.CopyFrom(new)
    tensor_type.elem_type = changes.get("elem_type", TensorProto.FLOAT)
    if "second" in changes:
        model.graph.input.append(helper.make_tensor_value_info("ids", TensorProto.INT64, [1]))
    onnx.save(model, path)
    for call in (lambda: inspect_file(path), lambda: OnnxModel(path, taps=["tokens"])):
        with pytest.raises(ValueError, match=match) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_a_size_that_differs_from_the_preprocessing(tmp_path):
    path = write(tmp_path / "any.onnx", size=(8, None))
    with pytest.raises(
        ValueError, match="takes images of 8 × any pixels; its preprocessing makes 224 × 224"
    ):
        OnnxModel(path, taps=["y"], preprocessing=Preprocessing())


@pytest.mark.parametrize("content", [b"", b"not a network at all", "torn"])
def test_damaged_files(tmp_path, capsys, content):
    path = write(tmp_path / "any.onnx")
    path.write_bytes(path.read_bytes()[:300] if content == "torn" else content)
    for call in (inspect_file, lambda path: OnnxModel(path, taps=["y"])):
        with pytest.raises(ValueError, match=r"any\.onnx .*\(truncated, or another kind of file\)"):
            call(path)
    assert main(["layers", str(path)]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("fastrdm: error: ") and err.count("\n") == 1


def test_missing_file(tmp_path):
    for call in (inspect_file, lambda path: OnnxModel(path, taps=["y"])):
        with pytest.raises(FileNotFoundError, match=r"none\.onnx: no such ONNX file"):
            call(tmp_path / "none.onnx")


def test_layers_and_scores_on_the_command_line(tmp_path, capsys):
    path = write(tmp_path / "any.onnx", size=(None, None))
    assert main(["layers", str(path), "--match", "/**"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[1:3]] == [
        ["/conv/out.0", "Conv"],
        ["/clip/out.0", "Clip"],
    ]
    assert "4 × 112 × 112" in lines[1]
    sample = write_sample(tmp_path / "study")
    capsys.readouterr()
    arguments = ["score", str(path), "--data", str(sample), "--json", "--taps", "out=y,/c*/*"]
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    assert list(dict.fromkeys(row["layer"] for row in json.loads(out)["results"])) == [
        "out",
        "/conv/out.0",
        "/clip/out.0",
    ]
    assert (
        "fastrdm: warning: " in err and "resized to 224 × 224 (pil-bilinear), RGB, with mean" in err
    )
    assert main(["score", str(path), "--data", str(sample), "--json"]) == 1
    assert "fastrdm layers" in capsys.readouterr().err
