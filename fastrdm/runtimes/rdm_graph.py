"""Graphs that compute products of all pairs of conditions from pixels and weights, made of exported networks.

In the graph of a network, weights are inputs and batch norms are folded into the layer before, so that writing to
memory replaces a checkpoint. Outputs are added to each layer: products of all conditions, or rows of some conditions,
which other small graphs multiply. They use only operators that ONNX Runtime's CUDA provider has at opset 18 to 20: it
lacks ReduceMax, ReduceMin and Pad in some of them.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from fastrdm._base import require
from fastrdm.images import Preprocessing
from fastrdm.networks import keep_named, prune
from fastrdm.runtimes.graph_folding import WeightRecipe, copied, fold, output_name
from fastrdm.runtimes.graph_nodes import Nodes, declare, dtype_of, shape_of, uses_of

PIXELS = "fastrdm/pixels"
# Channels per chunk, whose products are summed in float32, and chunks whose sums are summed in float64. Summing all
# 802,816 channels of centred ReLUs one by one, as a GPU may, gives errors of 3e-3 in correlations, chunks of 12,544
# give 4e-5; on the CPU provider, ResNet-20 had errors of 5e-6 with chunks of 512, and 5e-7 with these.
_CHUNK, _CHUNKS = 64, 8
# The versions that ONNX Runtime 1.18 reads; from this opset, the axes of reductions are inputs.
_IR_VERSION, _OPSET = 8, 18
# A condition's first channel replaces its mean if it differs by less than this share: for constant conditions it is
# exact, the mean in float32 is not.
_NEAR_MEAN = 1e-4


class Width(NamedTuple):
    """Channels of a layer, arranged as (chunks, groups, channels of a chunk) and padded with zeros."""

    channels: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Chunks whose sums are added in float32, groups of such sums, channels of a chunk.

        The chunks of a group are not adjacent, so that sums over them are over a first axis, the fastest on GPUs.
        """
        chunk = min(self.channels, _CHUNK)
        chunks = min(-(-self.channels // chunk), _CHUNKS)
        return chunks, -(-self.channels // (chunk * chunks)), chunk

    @property
    def zeros(self) -> int:
        """Number of zeros after the last channel."""
        return math.prod(self.shape) - self.channels


@dataclass(frozen=True)
class WeightInput:
    """An input of the graph that a checkpoint fills."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    recipe: WeightRecipe

    @property
    def n_bytes(self) -> int:
        """Size of its values."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True, eq=False)
class PixelNetwork:
    """A network whose inputs are pixels and weights.

    The outputs of `model`, in ONNX, are the tapped layers; `layers` has the shapes of their activations, without the
    batch. `inputs` are those except the pixels, `weights` the shapes of the weights that fill them, by their names in a
    checkpoint.
    """

    model: Any
    layers: Mapping[str, tuple[int, ...]]
    inputs: Mapping[str, WeightInput]
    weights: Mapping[str, tuple[int, ...]]

    def width(self, layer: str) -> Width:
        """Channels of a layer."""
        return Width(math.prod(self.layers[layer]))


def from_pixels(
    model: Any,
    layers: Sequence[str],
    preprocessing: Preprocessing,
    weights: Collection[str] | None = None,
) -> PixelNetwork:
    """Give an exported network uint8 pixels (n, height, width, 3) in RGB and weights as inputs.

    Resizing is not part of the graph. `model` is not changed, and the values of its weights are not read. `weights`
    names the initialisers that checkpoints replace, by default all; others remain constants, and so do integers.
    """
    onnx = require("onnx", "run", "to make RDMs part of a network")
    opset = next(o.version for o in model.opset_import if o.domain in {"", "ai.onnx"})
    if opset < _OPSET:
        raise ValueError(f"the graph has opset {opset}; RDMs on a device need {_OPSET} or later")
    initialisers = {i.name: i for i in model.graph.initializer}
    images = [i.name for i in model.graph.input if i.name not in initialisers]
    if len(images) != 1:
        raise ValueError(f"the graph has the inputs {images}; it must have one, the images")
    graph = onnx.GraphProto(name=model.graph.name)
    graph.node.extend(model.graph.node)
    graph.value_info.extend(model.graph.value_info)
    shapes = {layer: shape_of(model, layer) for layer in layers}
    for layer, shape in shapes.items():
        declare(onnx, graph.output, layer, np.dtype(np.float32), ("batch", *shape))
    prune(graph)
    swapped = {
        name: tuple(initialiser.dims)
        for name, initialiser in initialisers.items()
        if dtype_of(onnx, initialiser).kind == "f" and (weights is None or name in weights)
    }
    recipes = fold(graph, swapped)
    prune(graph)
    used = set(uses_of(graph, graph.node))
    recipes |= {name: copied(name) for name in swapped if name in used}
    declare(onnx, graph.input, PIXELS, np.dtype(np.uint8), ("batch", *preprocessing.size, 3))
    inputs = {}
    for name, recipe in recipes.items():
        like = initialisers[recipe.like]
        inputs[name] = WeightInput(tuple(like.dims), dtype_of(onnx, like), recipe)
        declare(onnx, graph.input, name, inputs[name].dtype, inputs[name].shape)
    constant = used - set(swapped)
    graph.initializer.extend(i for name, i in initialisers.items() if name in constant)
    nodes = Nodes(PIXELS)
    _preprocess(nodes, preprocessing, images[0])
    _insert(graph, nodes, 0)
    needed = {operand for each in inputs.values() for operand in each.recipe.operands}
    return PixelNetwork(
        _model(onnx, graph, model),
        shapes,
        inputs,
        {name: shape for name, shape in swapped.items() if name in needed},
    )


def whole(network: PixelNetwork, layers: Sequence[str], centre: bool) -> Any:
    """The network in one graph with ``products`` (n, n) of each layer, and what their correction needs.

    This is ``means`` (n,) over channels, finite if all of a condition's activations are, and, if `centre` subtracts the
    means from activations, the ``sums`` (n,) over channels of the results.
    """
    return _with_ends(network, layers, centre, multiply=True)


def rows(network: PixelNetwork, layers: Sequence[str], centre: bool) -> Any:
    """The network with ``rows`` (n, chunks, groups, chunk) of each layer instead of the products."""
    return _with_ends(network, layers, centre, multiply=False)


def products(width: Width) -> Any:
    """Rows ``a`` and ``b`` → ``products`` (n_a, n_b) in float64."""
    nodes = Nodes("fastrdm")
    _products(nodes, "a", "b", "products")
    return _model_of_rows(nodes, width, {}, "products", ("n_a", "n_b"))


def squares(width: Width) -> Any:
    """Rows ``a`` and ``b``, indices ``i``, ``j``, factors ``f``, ``g`` → ``squares`` of distances.

    The distances are between ``f * a[i]`` and ``g * b[j]``.
    """
    nodes = Nodes("fastrdm")
    shape = nodes.ints(-1, 1, 1, 1)
    left, right = (
        nodes("Mul", nodes("Gather", rows, index), nodes("Reshape", factor, shape))
        for rows, index, factor in (("a", "i", "f"), ("b", "j", "g"))
    )
    difference = nodes("Sub", left, right)
    square = nodes("Mul", difference, difference)
    nodes.total(nodes.sum(nodes.sum(square, 3), 1), 1, "squares")
    factors = {"i": np.int64, "j": np.int64, "f": np.float32, "g": np.float32}
    return _model_of_rows(nodes, width, factors, "squares", ("pairs",))


def _preprocess(nodes: Nodes, preprocessing: Preprocessing, images: str) -> None:
    """Nodes from pixels to images: the operations of `Preprocessing.load` in the same order."""
    value = nodes("Cast", PIXELS, to=nodes.onnx.TensorProto.FLOAT)
    value = nodes("Transpose", value, perm=[0, 3, 1, 2])
    order = ["RGB".index(channel) for channel in preprocessing.channel_order]
    if order != [0, 1, 2]:
        value = nodes("Gather", value, nodes.ints(*order), axis=1)
    value = nodes("Div", value, nodes.constant(255))
    mean, std = (np.reshape(v, (3, 1, 1)) for v in (preprocessing.mean, preprocessing.std))
    value = nodes("Sub", value, nodes.constant(mean))
    nodes("Div", value, nodes.constant(std), output=images)


def _add_outputs(
    nodes: Nodes, layer: str, shape: tuple[int, ...], centre: bool, multiply: bool
) -> dict[str, tuple[str | int, ...]]:
    """Add means and, if centred, sums of a layer, and its products or rows; return the shapes of these outputs."""
    width = Width(math.prod(shape))
    means = layer
    # Axis by axis: a sum over all channels loses digits if a runtime adds them one by one.
    for axis in range(len(shape), 0, -1):
        output = output_name(layer, "means") if axis == 1 else ""
        means = nodes("ReduceMean", means, nodes.ints(axis), keepdims=0, output=output)
    value = nodes("Reshape", layer, nodes.ints(-1, width.channels))
    if centre:
        value = nodes("Sub", value, _centre(nodes, value, means))
    if width.zeros:
        some = nodes("Slice", value, nodes.ints(0), nodes.ints(width.zeros), nodes.ints(1))
        value = nodes("Concat", value, nodes("Sub", some, some), axis=1)
    output = "" if multiply else output_name(layer, "rows")
    arranged = nodes("Reshape", value, nodes.ints(-1, *width.shape), output=output)
    shapes: dict[str, tuple[str | int, ...]] = {means: ("batch",)}
    if centre:
        short = nodes.sum(nodes.sum(arranged, 3), 2)
        shapes[nodes.sum(short, 1, output_name(layer, "sums"))] = ("batch",)
    if multiply:
        product = _products(nodes, arranged, arranged, output_name(layer, "products"))
        return shapes | {product: ("batch", "batch")}
    return shapes | {arranged: ("batch", *width.shape)}


def _centre(nodes: Nodes, flat: str, means: str) -> str:
    """Name of the value to subtract from each row."""
    mean = nodes("Reshape", means, nodes.ints(-1, 1))
    first = nodes("Slice", flat, nodes.ints(0), nodes.ints(1), nodes.ints(1))
    distance = nodes("Abs", nodes("Sub", first, mean))
    near = nodes("Mul", nodes("Abs", mean), nodes.constant(_NEAR_MEAN))
    return nodes("Where", nodes("LessOrEqual", distance, near), first, mean)


def _products(nodes: Nodes, a: str, b: str, output: str) -> str:
    """Products of all pairs of rows.

    ONNX Runtime fuses the first three nodes into one batched multiplication without a copy of the rows.
    """
    left = nodes("Transpose", a, perm=[1, 2, 0, 3])
    right = nodes("Transpose", b, perm=[1, 2, 3, 0])
    return nodes.total(nodes.sum(nodes("MatMul", left, right), 0), 0, output)


def _with_ends(network: PixelNetwork, layers: Sequence[str], centre: bool, multiply: bool) -> Any:
    """The network's model, pruned to some layers, with their products or rows as outputs instead of the layers."""
    onnx = require("onnx", "run", "to make RDMs part of a network")
    graph = onnx.GraphProto()
    graph.CopyFrom(network.model.graph)
    keep_named(graph.output, set(layers))
    prune(graph)
    del graph.output[:]
    for layer in layers:
        nodes = Nodes(output_name(layer, "inner"))
        shapes = _add_outputs(nodes, layer, network.layers[layer], centre, multiply)
        maker = next(k for k, node in enumerate(graph.node) if layer in node.output)
        # Immediately after the layer, so that its memory is free soon.
        _insert(graph, nodes, maker + 1)
        for name, shape in shapes.items():
            dtype = np.dtype(np.float64 if name == output_name(layer, "products") else np.float32)
            declare(onnx, graph.output, name, dtype, shape)
    return _model(onnx, graph, network.model)


def _model_of_rows(
    nodes: Nodes, width: Width, pairs: Mapping[str, Any], output: str, shape: tuple[str, ...]
) -> Any:
    """A separate model of rows ``a`` and ``b``; `pairs` has the types of further inputs, one value for each pair."""
    onnx = nodes.onnx
    graph = onnx.GraphProto(name="fastrdm")
    for name in ("a", "b"):
        declare(onnx, graph.input, name, np.dtype(np.float32), (f"n_{name}", *width.shape))
    for name, dtype in pairs.items():
        declare(onnx, graph.input, name, np.dtype(dtype), ("pairs",))
    declare(onnx, graph.output, output, np.dtype(np.float64), shape)
    _insert(graph, nodes, 0)
    opsets = [onnx.helper.make_opsetid("", _OPSET)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)


def _insert(graph: Any, nodes: Nodes, place: int) -> None:
    after = list(graph.node[place:])
    del graph.node[place:]
    graph.node.extend([*nodes.nodes, *after])
    graph.initializer.extend(nodes.constants)


def _model(onnx: Any, graph: Any, like: Any) -> Any:
    made = onnx.ModelProto(ir_version=like.ir_version)
    made.opset_import.extend(like.opset_import)
    made.functions.extend(like.functions)
    made.graph.CopyFrom(graph)
    return made
