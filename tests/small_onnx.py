"""A small ONNX network, with its weights in the file or in others."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

SIZE = 8


def small_model(seed=0, size=SIZE, functions=()):
    """Two convolutions; the tensors "first" and "second" can be tapped."""
    rng = np.random.default_rng(seed)
    weights = {"w1": rng.standard_normal((4, 3, 3, 3)), "w2": rng.standard_normal((4, 4, 3, 3))}
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["images", "w1"], ["first"]),
            helper.make_node("Relu", ["first"], ["rectified"]),
            helper.make_node("Conv", ["rectified", "w2"], ["second"]),
        ],
        "small",
        [value("images", TensorProto.FLOAT, ("n", 3, size, size))],
        [value("second", TensorProto.FLOAT, ("n", 4, size - 4, size - 4))],
        [numpy_helper.from_array(w.astype(np.float32), name) for name, w in weights.items()],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, functions=functions
    )


def move_out(tensor, path, name, offset=0):
    """Append the values of a tensor to the file `name` beside an ONNX file, and refer to them."""
    file = path.parent / name
    file.parent.mkdir(exist_ok=True)
    content = file.read_bytes() if file.exists() else b""
    file.write_bytes(content + tensor.raw_data)
    refer(tensor, name, len(content), len(tensor.raw_data))
    tensor.ClearField("raw_data")


def refer(tensor, name, offset=0, length=None):
    """Let a tensor refer to a file."""
    del tensor.external_data[:]
    tensor.data_location = TensorProto.EXTERNAL
    facts = {"location": name, "offset": offset, "length": length}
    for key, value in facts.items():
        if value is not None:
            tensor.external_data.add(key=key, value=str(value))


def write_small(path, *names, seed=0):
    """Write the network with its first weights in the first named file and the second in the last."""
    model = small_model(seed)
    for name in names:
        (path.parent / name).unlink(missing_ok=True)
    for tensor, name in zip(model.graph.initializer, (names * 2)[:2], strict=False):
        move_out(tensor, path, name)
    path.write_bytes(model.SerializeToString())
    return path
