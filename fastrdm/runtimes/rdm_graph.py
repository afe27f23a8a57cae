"""Graph surgery: an exported network → pixels and weights in, products of all pairs of conditions out.

What comes of a network is an ONNX graph whose weights are inputs, with batch norms folded into the layer before, so
that a checkpoint is swapped by writing memory. To that are added the ends that a way of running needs: products of all
conditions, or rows of some that other small graphs multiply. The ends keep to operators that ONNX Runtime's CUDA
provider has at opset 18 to 20: it lacks ReduceMax, ReduceMin and Pad in some of those.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from fastrdm._base import require
from fastrdm.images import Preprocessing
from fastrdm.networks import keep_named, prune
from fastrdm.runtimes.graph_folding import Copied, Recipe, end, fold
from fastrdm.runtimes.graph_nodes import Nodes, declare, dtype_of, shape_of, uses_of

PIXELS = "fastrdm/pixels"
# Channels whose products are added up at once in float32, and how many such sums are before float64 takes over. Where
# all 802,816 channels of centred ReLUs are added one by one, as a GPU may, correlations are wrong by 3e-3, in chunks of
# 12,544 by 4e-5; the CPU provider's of ResNet-20 were wrong by 5e-6 in chunks of 512, and by 5e-7 in these.
_CHUNK, _CHUNKS = 64, 8
# ONNX Runtime from 1.18 on reads this, and the reductions' axes are inputs from this opset on.
_IR_VERSION, _OPSET = 8, 18
# A condition's first channel stands for its mean if it is this near: exact where the condition is constant, which the
# mean in float32 is not.
_NEAR_MEAN = 1e-4


class Centre(Enum):
    """What is taken off a condition's activations before they are multiplied."""

    NONE = "none"
    #: Their mean over channels.
    OWN = "own"


class Width(NamedTuple):
    """Channels of a layer as (chunks, groups, channels of a chunk), with zeros after the last."""

    channels: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Chunks that are added up in float32, groups of such sums, channels of a chunk.

        A group's chunks lie apart, so that sums over them are over a first axis, which GPUs do fastest.
        """
        chunk = min(self.channels, _CHUNK)
        chunks = min(-(-self.channels // chunk), _CHUNKS)
        return chunks, -(-self.channels // (chunk * chunks)), chunk

    @property
    def zeros(self) -> int:
        """Zeros after the last channel."""
        return math.prod(self.shape) - self.channels


@dataclass(frozen=True)
class Input:
    """An input of the network that a checkpoint fills."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    recipe: Recipe


@dataclass(frozen=True)
class Network:
    """A network that takes pixels and weights.

    Attributes
    ----------
    model : onnx.ModelProto
        Gives the tapped layers.
    layers : mapping of str to tuple of int
        Shapes of their activations, without the batch.
    inputs : mapping of str to Input
        Its inputs but the pixels.
    weights : mapping of str to tuple of int
        Shapes of the weights that fill them, by their names in a checkpoint.
    """

    model: Any
    layers: Mapping[str, tuple[int, ...]]
    inputs: Mapping[str, Input]
    weights: Mapping[str, tuple[int, ...]]

    def width(self, layer: str) -> Width:
        """Channels of a layer."""
        return Width(math.prod(self.layers[layer]))


def network(
    model: Any,
    layers: Sequence[str],
    preprocessing: Preprocessing,
    weights: Collection[str] | None = None,
) -> Network:
    """Make an exported network one that takes uint8 pixels and weights.

    Parameters
    ----------
    model : onnx.ModelProto
        As `export_onnx` writes it; left as it is. The values of its weights are not read.
    layers : sequence of str
        Outputs to keep.
    preprocessing : Preprocessing
        What becomes of pixels (n, height, width, 3) in RGB; its resizing is not part of the graph.
    weights : collection of str, optional
        Initialisers that checkpoints bring, as the names of a `state_dict`; others stay constants, and so do integers.
        None for all.

    Raises
    ------
    ValueError
        If the graph's opset is below 18, it takes more than the images, or a layer is no output of the graph in
        float32 with a known number of channels.
    """
    onnx = require("onnx", "run", "to make RDMs part of a network")
    opset = next(o.version for o in model.opset_import if o.domain in {"", "ai.onnx"})
    if opset < _OPSET:
        raise ValueError(
            f"the graph has opset {opset}; RDMs become part of graphs of opset {_OPSET} or later"
        )
    initialisers = {i.name: i for i in model.graph.initializer}
    given = [i.name for i in model.graph.input if i.name not in initialisers]
    if len(given) != 1:
        raise ValueError(f"the graph takes {given}; one input, the images, is expected")
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
    recipes: dict[str, Recipe] = fold(graph, swapped)
    prune(graph)
    used = set(uses_of(graph, graph.node))
    recipes |= {name: Copied(name) for name in swapped if name in used}
    inputs = {}
    for name, recipe in recipes.items():
        like = initialisers[recipe.like]
        inputs[name] = Input(tuple(like.dims), dtype_of(onnx, like), recipe)
    height, width = preprocessing.size
    declare(onnx, graph.input, PIXELS, np.dtype(np.uint8), ("batch", height, width, 3))
    for name, own in inputs.items():
        declare(onnx, graph.input, name, own.dtype, own.shape)
    constant = used - set(swapped)
    graph.initializer.extend(i for name, i in initialisers.items() if name in constant)
    nodes = Nodes(onnx, PIXELS)
    _preprocess(nodes, preprocessing, given[0])
    _insert(graph, nodes, 0)
    needed = {operand for own in inputs.values() for operand in own.recipe.operands}
    return Network(
        _model(onnx, graph, model),
        shapes,
        inputs,
        {name: shape for name, shape in swapped.items() if name in needed},
    )


def whole(own: Network, layers: Sequence[str], centre: Centre) -> Any:
    """The network with everything in one graph: for each layer `products` (n, n) and what they lack.

    That is ``means`` (n,) over channels, finite where all of a condition's activations are, and for ``Centre.OWN``
    ``sums`` (n,) over channels of what is left of them, by which products are still to be corrected.
    """
    return _with_ends(own, layers, centre, _whole_end)


def rows(own: Network, layers: Sequence[str], centre: Centre) -> Any:
    """The network with ``rows`` (n, chunks, groups, chunk) of each layer in place of the products."""
    return _with_ends(own, layers, centre, _rows_end)


def products(width: Width) -> Any:
    """Rows ``a`` and ``b`` → ``products`` (n_a, n_b) in float64."""
    onnx = require("onnx", "run", "to make RDMs part of a network")
    nodes = Nodes(onnx, "fastrdm")
    _products(nodes, "a", "b", "products")
    return _small(nodes, width, (), (), {"products": ("n_a", "n_b")})


def squares(width: Width) -> Any:
    """Rows ``a`` and ``b``, indices ``i``, ``j`` and factors ``f``, ``g`` → ``squares`` of the distances.

    They are of ``f * a[i]`` and ``g * b[j]``, pair by pair.
    """
    onnx = require("onnx", "run", "to make RDMs part of a network")
    nodes = Nodes(onnx, "fastrdm")
    shape = nodes.ints(-1, 1, 1, 1)
    left, right = (
        nodes("Mul", nodes("Gather", rows, index), nodes("Reshape", factor, shape))
        for rows, index, factor in (("a", "i", "f"), ("b", "j", "g"))
    )
    difference = nodes("Sub", left, right)
    square = nodes("Mul", difference, difference)
    nodes.total(nodes.sum(nodes.sum(square, 3), 1), 1, "squares")
    return _small(nodes, width, ("i", "j"), ("f", "g"), {"squares": ("pairs",)})


def _preprocess(nodes: Nodes, preprocessing: Preprocessing, images: str) -> None:
    """Nodes from pixels to images, the operations of `Preprocessing.load` in their order."""
    value = nodes("Cast", PIXELS, to=nodes.onnx.TensorProto.FLOAT)
    value = nodes("Transpose", value, perm=[0, 3, 1, 2])
    order = ["RGB".index(channel) for channel in preprocessing.channel_order]
    if order != [0, 1, 2]:
        value = nodes("Gather", value, nodes.ints(*order), axis=1)
    value = nodes("Div", value, nodes.constant(255))
    mean, std = (np.reshape(v, (3, 1, 1)) for v in (preprocessing.mean, preprocessing.std))
    value = nodes("Sub", value, nodes.constant(mean))
    nodes("Div", value, nodes.constant(std), output=images)


class _End(NamedTuple):
    """What is put behind a layer."""

    layer: str
    shape: tuple[int, ...]
    centre: Centre

    @property
    def width(self) -> Width:
        """Channels of the layer."""
        return Width(math.prod(self.shape))


#: Outputs and their shapes.
_Ends: TypeAlias = dict[str, tuple[str | int, ...]]


def _whole_end(nodes: Nodes, own: _End) -> _Ends:
    flat, means = _flat(nodes, own)
    made, known = _rows(nodes, own, flat, _centre(nodes, own, flat, means), "")
    product = _products(nodes, made, made, end(own.layer, "products"))
    return known | {means: ("batch",), product: ("batch", "batch")}


def _rows_end(nodes: Nodes, own: _End) -> _Ends:
    flat, means = _flat(nodes, own)
    made, known = _rows(nodes, own, flat, _centre(nodes, own, flat, means), end(own.layer, "rows"))
    return known | {means: ("batch",), made: ("batch", *own.width.shape)}


def _flat(nodes: Nodes, own: _End) -> tuple[str, str]:
    """A layer as (n, channels), and its means over them."""
    value = own.layer
    # Axis by axis: a sum over all channels at once loses digits where a runtime adds them one by one.
    for axis in range(len(own.shape), 0, -1):
        output = end(own.layer, "means") if axis == 1 else ""
        value = nodes.mean(value, axis, output)
    return nodes("Reshape", own.layer, nodes.ints(-1, own.width.channels)), value


def _centre(nodes: Nodes, own: _End, flat: str, means: str) -> str:
    """What is taken off each row, or the empty string."""
    if own.centre is Centre.NONE:
        return ""
    mean = nodes("Reshape", means, nodes.ints(-1, 1))
    first = nodes("Slice", flat, nodes.ints(0), nodes.ints(1), nodes.ints(1))
    distance = nodes("Abs", nodes("Sub", first, mean))
    near = nodes("Mul", nodes("Abs", mean), nodes.constant(_NEAR_MEAN))
    return nodes("Where", nodes("LessOrEqual", distance, near), first, mean)


def _rows(nodes: Nodes, own: _End, flat: str, centre: str, output: str) -> tuple[str, _Ends]:
    """Rows less their centre (n, chunks, groups, chunk), and what else is to be known of them."""
    value = nodes("Sub", flat, centre) if centre else flat
    if own.width.zeros:
        some = nodes("Slice", value, nodes.ints(0), nodes.ints(own.width.zeros), nodes.ints(1))
        value = nodes("Concat", value, nodes("Sub", some, some), axis=1)
    made = nodes("Reshape", value, nodes.ints(-1, *own.width.shape), output=output)
    if own.centre is not Centre.OWN:
        return made, {}
    short = nodes.sum(nodes.sum(made, 3), 2)
    return made, {nodes.sum(short, 1, end(own.layer, "sums")): ("batch",)}


def _products(nodes: Nodes, a: str, b: str, output: str) -> str:
    """Products of all pairs of rows.

    ONNX Runtime makes one batched multiplication of the first three nodes, which reads the rows where they lie.
    """
    left = nodes("Transpose", a, perm=[1, 2, 0, 3])
    right = nodes("Transpose", b, perm=[1, 2, 3, 0])
    return nodes.total(nodes.sum(nodes("MatMul", left, right), 0), 0, output)


def _with_ends(
    own: Network,
    layers: Sequence[str],
    centre: Centre,
    build: Callable[[Nodes, _End], _Ends],
) -> Any:
    """The network's model, pruned to some layers, with an end behind each in place of its output."""
    onnx = require("onnx", "run", "to make RDMs part of a network")
    graph = onnx.GraphProto()
    graph.CopyFrom(own.model.graph)
    keep_named(graph.output, set(layers))
    prune(graph)
    del graph.output[:]
    for layer in layers:
        nodes = Nodes(onnx, end(layer, "inner"))
        ends = build(nodes, _End(layer, own.layers[layer], centre))
        maker = next(k for k, node in enumerate(graph.node) if layer in node.output)
        # Right behind it, so that its memory is soon free.
        _insert(graph, nodes, maker + 1)
        for name, shape in ends.items():
            dtype = np.dtype(np.float64 if name == end(layer, "products") else np.float32)
            declare(onnx, graph.output, name, dtype, shape)
    return _model(onnx, graph, own.model)


def _small(
    nodes: Nodes,
    width: Width,
    indices: Sequence[str],
    factors: Sequence[str],
    out: Mapping[str, Any],
) -> Any:
    """A model of its own for rows of a width, and an index and a factor of each for pairs of them."""
    onnx = nodes.onnx
    graph = onnx.GraphProto(name="fastrdm")
    for name in ("a", "b"):
        shape = (f"n_{name}", *width.shape)
        declare(onnx, graph.input, name, np.dtype(np.float32), shape)
    for names, dtype in ((indices, np.int64), (factors, np.float32)):
        for name in names:
            declare(onnx, graph.input, name, np.dtype(dtype), ("pairs",))
    for name, shape in out.items():
        declare(onnx, graph.output, name, np.dtype(np.float64), shape)
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
