import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from fastrdm.networks import is_onnx, metadata_of, prune, put_weights, read_model


@pytest.fixture
def model():
    """Two branches, y = x + a and z = v + b, of which only y is an output."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "a"], ["y"]), helper.make_node("Add", ["v", "b"], ["z"])],
        "two",
        [value(name, TensorProto.FLOAT, (1,)) for name in "xv"],
        [value("y", TensorProto.FLOAT, (1,))],
        [numpy_helper.from_array(np.float32([number]), name) for number, name in enumerate("ab")],
        value_info=[value("z", TensorProto.FLOAT, (1,))],
    )
    return helper.make_model(graph)


def test_pruning_leaves_only_values_that_outputs_need(model):
    prune(model.graph)
    left = model.graph
    assert [node.output[0] for node in left.node] == ["y"]
    assert [value.name for value in (*left.input, *left.initializer)] == ["x", "a"]
    assert not left.value_info


def test_weights_metadata_and_names(model):
    put_weights(model, {"b": np.float32([7]), "other": np.float32([8])})
    helper.set_model_props(model, {"key": "value"})
    again = read_model(model.SerializeToString())
    assert [numpy_helper.to_array(t)[0] for t in again.graph.initializer] == [0, 7]
    assert metadata_of(again) == {"key": "value"}
    assert [is_onnx(name) for name in ("a.onnx", "A.ONNX", "a.onnx.data")] == [True, True, False]


@pytest.mark.parametrize(
    ("content", "match"), [(b"text", "net cannot be read as an ONNX"), (b"", "net holds no ONNX")]
)
def test_bytes_that_are_not_a_model_are_named(content, match):
    with pytest.raises(ValueError, match=match):
        read_model(content, "net")


def test_names_that_are_not_text(model):
    content = model.SerializeToString()
    with pytest.raises(
        ValueError, match="net cannot be read as an ONNX model: its .* is not UTF-8"
    ):
        read_model(content.replace(b"Add", b"A\xff\xff"), "net")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("layers", "[1]"),
        ("layers", "{}"),
        ("layers", "["),
        ("taps", "[]"),
        ("taps", '{"a": 1}'),
        ("taps", '{"a": {"of": "b"}}'),
        ("taps", "[" * 100_000),
    ],
)
def test_metadata_of_another_form(model, key, value):
    helper.set_model_props(model, {f"fastrdm.{key}": value})
    with pytest.raises(ValueError, match=f"the metadata fastrdm.{key} of net are not a"):
        read_model(model.SerializeToString(), "net")


def test_files_that_the_format_does_not_allow(tmp_path):
    path = tmp_path / "a.onnx"
    with path.open("wb") as file:
        file.truncate(2**36)
    with pytest.raises(
        ValueError, match="a.onnx cannot be read as an ONNX model: the format allows"
    ):
        read_model(path)
