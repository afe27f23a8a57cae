"""Batch norms folded into the layers before them, with recipes for the weights of every checkpoint."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import require
from fastrdm.runtimes.graph_nodes import attribute_of, uses_of

Array: TypeAlias = NDArray[Any]
Weights: TypeAlias = Mapping[str, Array]
#: Name of a weight, or the value of all its entries.
WeightOperand: TypeAlias = str | float


def output_name(layer: str, what: str) -> str:
    """Name of a graph's output for a layer: products, means, sums or rows."""
    return f"fastrdm/{layer}/{what}"


class _Norm(NamedTuple):
    """A batch norm, folded by the formula of ONNX Runtime's ConvBatchNormalization."""

    scale: WeightOperand
    bias: WeightOperand
    mean: str
    variance: str
    epsilon: float

    def factor(self, weights: Weights) -> Array:
        variance = np.asarray(weights[self.variance], np.float32)
        factor = _value(self.scale, weights) / np.sqrt(variance + np.float32(self.epsilon))
        return np.asarray(factor, np.float32)


class WeightRecipe(NamedTuple):
    """How to compute an input of the graph from a checkpoint's weights.

    `like` is a weight of the same shape and type, `operands` are those that the input depends on, and `fill` writes it.
    """

    like: str
    operands: tuple[WeightOperand, ...]
    fill: Callable[[Array, Weights], None]


def copied(source: str) -> WeightRecipe:
    """An input that equals a weight."""
    return WeightRecipe(source, (source,), lambda out, weights: np.copyto(out, weights[source]))


def _folded_weight(source: str, norm: _Norm, axis: int) -> WeightRecipe:
    """A weight times a batch norm's factor of each output channel."""

    def fill(out: Array, weights: Weights) -> None:
        shape = [1] * out.ndim
        shape[axis] = -1
        np.multiply(weights[source], norm.factor(weights).reshape(shape), out=out)

    return WeightRecipe(source, (source, *norm[:4]), fill)


def _folded_bias(source: WeightOperand, norm: _Norm) -> WeightRecipe:
    """A bias, or zero, after a batch norm."""

    def fill(out: Array, weights: Weights) -> None:
        np.subtract(_value(source, weights), weights[norm.mean], out=out)
        out *= norm.factor(weights)
        out += _value(norm.bias, weights)

    return WeightRecipe(norm.mean, (source, *norm[:4]), fill)


def _value(operand: WeightOperand, weights: Weights) -> Any:
    return weights[operand] if isinstance(operand, str) else np.float32(operand)


def fold(graph: Any, weights: Mapping[str, tuple[int, ...]]) -> dict[str, WeightRecipe]:
    """Remove batch norms after a convolution or linear layer that nothing else reads; return new inputs → recipes."""
    makers = {name: node for node in graph.node for name in node.output}
    # The exporter reads the shape of a norm's input to fill missing scales and biases.
    uses = Counter(uses_of(graph, [node for node in graph.node if node.op_type != "Shape"]))
    renamed: dict[str, str] = {}
    recipes: dict[str, WeightRecipe] = {}
    kept = []
    for node in graph.node:
        norm = _norm(node, makers, weights)
        before = makers.get(node.input[0]) if norm else None
        axis = _output_axis(before) if before and uses[before.output[0]] == 1 else None
        if norm is None or before is None or axis is None or before.input[1] not in weights:
            kept.append(node)
            continue
        bias = _operand(before.input[2], makers, weights) if len(before.input) > 2 else 0.0
        if bias is None or (isinstance(bias, str) and len(weights[bias]) != 1):
            kept.append(node)
            continue
        names = [output_name(before.output[0], f"folded_{what}") for what in ("weight", "bias")]
        recipes[names[0]] = _folded_weight(before.input[1], norm, axis)
        recipes[names[1]] = _folded_bias(bias, norm)
        renamed[before.output[0]] = node.output[0]
        before.input[1:] = names
        before.output[0] = node.output[0]
    for node in kept:
        if node.op_type == "Shape":
            node.input[0] = renamed.get(node.input[0], node.input[0])
    del graph.node[:]
    graph.node.extend(kept)
    return recipes


def _norm(node: Any, makers: Mapping[str, Any], weights: Collection[str]) -> _Norm | None:
    """The batch norm of a node, None if it is not one or not of weights."""
    if node.op_type != "BatchNormalization" or len(node.output) > 1:
        return None
    scale, bias = (_operand(name, makers, weights) for name in node.input[1:3])
    mean, variance = node.input[3:]
    if scale is None or bias is None or not {mean, variance} <= set(weights):
        return None
    return _Norm(scale, bias, mean, variance, attribute_of(node, "epsilon", 1e-5))


def _output_axis(node: Any) -> int | None:
    """Axis of the output channels in a layer's weight; None for other nodes."""
    if node.op_type == "Conv":
        return 0
    plain = attribute_of(node, "alpha", 1.0) == 1 and attribute_of(node, "beta", 1.0) == 1
    if node.op_type == "Gemm" and plain:
        return 0 if attribute_of(node, "transB", 0) else 1
    return None


def _operand(
    name: str, makers: Mapping[str, Any], weights: Collection[str]
) -> WeightOperand | None:
    """A weight's name, or the number that fills a value, which is how the exporter writes missing biases."""
    if name in weights:
        return name
    maker = makers.get(name)
    if maker is None or maker.op_type != "Expand" or maker.input[0] not in makers:
        return None
    filled = makers[maker.input[0]]
    if filled.op_type != "Constant":
        return None
    onnx = require("onnx", "run", "to make RDMs part of a network")
    value = onnx.helper.get_attribute_value(filled.attribute[0])
    number = onnx.numpy_helper.to_array(value) if hasattr(value, "dims") else np.asarray(value)
    return float(number.reshape(())) if number.size == 1 else None
