"""Operators that make an image's activations depend on the rest of its batch, or on chance."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastrdm._base import require
from fastrdm.networks.onnx_files import inputs_of, is_external, subgraphs

RANDOM = {
    "Bernoulli",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
}
"""Operators that draw random numbers; Dropout does too, in training mode."""

# Operators that join all positions along their axes, and the attribute that holds the axes.
_AXES = {
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax", "ArgMax", "ArgMin", "TopK"), "axis"),
    **dict.fromkeys(("Concat", "LayerNormalization", "LpNormalization", "CumSum"), "axis"),
    "MeanVarianceNormalization": "axes",
}
_UNCLEAR = {"If", "Loop", "Scan", "Einsum", "LSTM", "GRU", "RNN"}
_KNOWN_DOMAINS = {"", "ai.onnx", "com.microsoft"}
# Operators that pass on a constant in another shape or type, as exporters do with axes.
_SAME_VALUES = {"Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze"}


class BatchDependence:
    """The operators of a graph that join images or draw random numbers, and the layers that they reach."""

    def __init__(self, graph: Any) -> None:
        onnx = require("onnx", "run", "to probe a network")
        self._constants: dict[str, Any] = {}
        for tensor in graph.initializer:
            if not is_external(tensor):
                self._constants[tensor.name] = tensor
        for node in graph.node:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                self._constants[node.output[0]] = node.attribute[0].t
            elif node.op_type in _SAME_VALUES and node.input[0] in self._constants:
                self._constants[node.output[0]] = self._constants[node.input[0]]
        self._array = onnx.numpy_helper.to_array
        self._attribute = onnx.helper.get_attribute_value
        self._ranks = {
            value.name: len(value.type.tensor_type.shape.dim)
            for value in (*graph.value_info, *graph.input, *graph.output)
            if value.type.tensor_type.HasField("shape")
        }
        self._producers = {name: node for node in graph.node for name in node.output if name}
        weights = {tensor.name for tensor in graph.initializer}
        self._of_images = {value.name for value in graph.input} - weights
        self._random: dict[int, str] = {}
        self._joining: dict[int, str] = {}
        for node in graph.node:
            read = [name for name in inputs_of(node) if name in self._of_images]
            # The shape of a batch does not depend on its images.
            if read and node.op_type not in {"Shape", "Size"}:
                self._of_images.update(filter(None, node.output))
            if cause := self._draws(node):
                self._random[id(node)] = cause
            elif read and (cause := self._joins(node, read)):
                self._joining[id(node)] = cause

    @property
    def is_none(self) -> bool:
        """Whether the graph has no such operators."""
        return not (self._random or self._joining)

    def random(self, layer: str) -> str:
        """Return the nearest operator before a layer that draws random numbers, or an empty string."""
        return self._nearest(layer, self._random)

    def joins(self, layer: str) -> str:
        """Return the nearest operator before a layer that can join images, or an empty string."""
        return self._nearest(layer, self._joining)

    def _nearest(self, layer: str, causes: Mapping[int, str]) -> str:
        waiting, seen = [layer], {layer}
        for name in waiting:
            node = self._producers.get(name)
            if node is None:
                continue
            if id(node) in causes:
                return causes[id(node)]
            new = [source for source in inputs_of(node) if source and source not in seen]
            seen.update(new)
            waiting += new
        return ""

    def _draws(self, node: Any) -> str:
        if node.op_type in RANDOM:
            return str(node.op_type)
        if node.op_type == "Dropout" and len(node.input) > 2 and node.input[2]:
            mode = self._constants.get(node.input[2])
            if mode is None or bool(self._array(mode)):
                return "Dropout in training mode"
        inner = (each for graph in subgraphs(node) for each in graph.node)
        return next(filter(None, map(self._draws, inner)), "")

    def _joins(self, node: Any, read: Sequence[str]) -> str:
        """Name of the operator if it can join images, else an empty string."""
        kind = str(node.op_type)
        attributes = {attribute.name: self._attribute(attribute) for attribute in node.attribute}
        if kind == "BatchNormalization" and (
            attributes.get("training_mode") or len(node.output) > 1
        ):
            return "BatchNormalization in training mode"
        joins = (
            kind.startswith("DynamicQuantize")
            or kind in _UNCLEAR
            or node.domain not in _KNOWN_DOMAINS
        )
        if kind == "Transpose":
            joins = attributes.get("perm", [-1])[0] != 0
        if kind == "Gemm":
            joins = bool(attributes.get("transA")) and node.input[0] in read
        if kind.startswith("Reduce"):
            joins = self._has_first(node, read, attributes.get("axes"), 1)
        if kind in _AXES:
            axes = attributes.get(_AXES[kind], -1)
            joins = self._has_first(node, read, axes, 1 if kind == "CumSum" else None)
        return kind if joins else ""

    def _has_first(self, node: Any, read: Sequence[str], axes: Any, index: int | None) -> bool:
        """Whether the axes of an operator, from an attribute or the input at an index, may include the batch."""
        if index is not None and len(node.input) > index and node.input[index]:
            constant = self._constants.get(node.input[index])
            axes = None if constant is None else self._array(constant).ravel().tolist()
        if axes is None:
            return True
        rank = self._ranks.get(read[0])
        # If the rank is unknown, assume that the last axis is not the first.
        return any(
            axis == 0 or axis == (-rank if rank else axis if axis < -1 else 0)
            for axis in np.atleast_1d(axes).tolist()
        )
