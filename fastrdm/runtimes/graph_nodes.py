"""Nodes and tensors of ONNX graphs: making them and looking them up."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from fastrdm._base import require
from fastrdm.networks import inputs_of


class Nodes:
    """Nodes and constants to add to a graph, with unique names."""

    def __init__(self, prefix: str) -> None:
        self.onnx = require("onnx", "run", "to make RDMs part of a network")
        self._prefix = prefix
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def __call__(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Add a node; return the name of its output."""
        output = output or f"{self._prefix}/{len(self.nodes)}"
        node = self.onnx.helper.make_node(kind, inputs, [output], output, **attributes)
        self.nodes.append(node)
        return output

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        """Add a constant; return its name."""
        name = f"{self._prefix}/constant{len(self.constants)}"
        self.constants.append(self.onnx.numpy_helper.from_array(np.array(value, dtype), name))
        return name

    def ints(self, *values: int) -> str:
        """Add a constant of integers; return its name."""
        return self.constant(values, np.int64)

    def sum(self, value: str, axis: int, output: str = "") -> str:
        """Add a sum over an axis; return its name."""
        return self("ReduceSum", value, self.ints(axis), keepdims=0, output=output)

    def total(self, value: str, axis: int, output: str) -> str:
        """Add a sum in float64; return its name."""
        return self.sum(self("Cast", value, to=self.onnx.TensorProto.DOUBLE), axis, output)


def attribute_of(node: Any, name: str, default: Any) -> Any:
    """A node's attribute, or the default if it is not set."""
    onnx = require("onnx", "run", "to make RDMs part of a network")
    found = (a for a in node.attribute if a.name == name)
    return next((onnx.helper.get_attribute_value(a) for a in found), default)


def uses_of(graph: Any, nodes: Iterable[Any]) -> Iterator[str]:
    """Names of the values that nodes read and of the graph's outputs, repeated as often as they are used."""
    for node in nodes:
        yield from inputs_of(node)
    yield from (output.name for output in graph.output)


def declare(
    onnx: Any, values: Any, name: str, dtype: np.dtype[Any], shape: Sequence[str | int]
) -> None:
    """Add a tensor to a graph's inputs or outputs."""
    kind = onnx.helper.np_dtype_to_tensor_dtype(dtype)
    values.append(onnx.helper.make_tensor_value_info(name, kind, shape))


def dtype_of(onnx: Any, initialiser: Any) -> np.dtype[Any]:
    """A tensor's NumPy type."""
    dtype: np.dtype[Any] = onnx.helper.tensor_dtype_to_np_dtype(initialiser.data_type)
    return dtype


def shape_of(model: Any, layer: str) -> tuple[int, ...]:
    """Shape of a layer's activations, without the batch."""
    onnx = require("onnx", "run", "to make RDMs part of a network")
    known = [output.name for output in model.graph.output]
    if layer not in known:
        raise ValueError(
            f"layer {layer!r} is not an output of the graph, which has: {', '.join(known)}"
        )
    tensor = model.graph.output[known.index(layer)].type.tensor_type
    dims = [dim.dim_value for dim in tensor.shape.dim]
    if tensor.elem_type != onnx.TensorProto.FLOAT or len(dims) < 2 or not all(dims[1:]):
        raise ValueError(
            f"layer {layer!r} is not declared as float32 (batch, channels...) with a known number of channels"
        )
    return tuple(dims[1:])
