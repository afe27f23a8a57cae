"""Graph surgery: an exported network → pixels and weights in, products of all pairs of conditions out.

What comes of a network is an ONNX graph whose weights are inputs, with batch norms folded into the layer before, so
that a checkpoint is swapped by writing memory. To that are added the ends that a way of running needs: products of all
conditions, or rows of some that other small graphs multiply. The ends keep to operators that ONNX Runtime's CUDA
provider has at opset 18 to 20: it lacks ReduceMax, ReduceMin and Pad in some of those.
"""

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastrdm._extras import require
from fastrdm.stimuli import Preprocessing

Array: TypeAlias = NDArray[Any]
Weights: TypeAlias = Mapping[str, Array]
#: Name of a weight, or the value of all its entries.
Operand: TypeAlias = str | float

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


def end(layer: str, what: str) -> str:
    """Name of what a graph gives for a layer: products, means, sums, rows."""
    return f"fastrdm/{layer}/{what}"


class _Norm(NamedTuple):
    """A batch norm that is folded into the layer before it, in the formula of ONNX Runtime's ConvBatchNormalization."""

    scale: Operand
    bias: Operand
    mean: str
    variance: str
    epsilon: float

    def factor(self, weights: Weights) -> Array:
        variance = np.asarray(weights[self.variance], np.float32)
        factor = _value(self.scale, weights) / np.sqrt(variance + np.float32(self.epsilon))
        return np.asarray(factor, np.float32)


class _Copied(NamedTuple):
    """An input that is a weight as it is."""

    source: str

    @property
    def operands(self) -> tuple[Operand, ...]:
        """What it is made of."""
        return (self.source,)

    @property
    def like(self) -> str:
        """The weight that it has the shape of."""
        return self.source

    def fill(self, out: Array, weights: Weights) -> None:
        """Write it."""
        np.copyto(out, weights[self.source])


class _FoldedWeight(NamedTuple):
    """A weight times a batch norm's factor of each output channel."""

    source: str
    norm: _Norm
    axis: int

    @property
    def operands(self) -> tuple[Operand, ...]:
        return (self.source, *self.norm[:4])

    @property
    def like(self) -> str:
        return self.source

    def fill(self, out: Array, weights: Weights) -> None:
        shape = [1] * out.ndim
        shape[self.axis] = -1
        np.multiply(weights[self.source], self.norm.factor(weights).reshape(shape), out=out)


class _FoldedBias(NamedTuple):
    """A bias, or none, put through a batch norm."""

    source: Operand
    norm: _Norm

    @property
    def operands(self) -> tuple[Operand, ...]:
        return (self.source, *self.norm[:4])

    @property
    def like(self) -> str:
        return self.norm.mean

    def fill(self, out: Array, weights: Weights) -> None:
        np.subtract(_value(self.source, weights), weights[self.norm.mean], out=out)
        out *= self.norm.factor(weights)
        out += _value(self.norm.bias, weights)


def _value(operand: Operand, weights: Weights) -> Any:
    return weights[operand] if isinstance(operand, str) else np.float32(operand)


_Recipe: TypeAlias = _Copied | _FoldedWeight | _FoldedBias


@dataclass(frozen=True)
class Input:
    """An input of the network that a checkpoint fills."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    recipe: _Recipe


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
    shapes = {layer: _shape(model, layer) for layer in layers}
    for layer, shape in shapes.items():
        _declare(onnx, graph.output, layer, np.dtype(np.float32), ("batch", *shape))
    _prune(graph)
    swapped = {
        name: tuple(initialiser.dims)
        for name, initialiser in initialisers.items()
        if _dtype(onnx, initialiser).kind == "f" and (weights is None or name in weights)
    }
    recipes: dict[str, _Recipe] = _fold(graph, swapped)
    _prune(graph)
    used = set(_uses(graph, graph.node))
    recipes |= {name: _Copied(name) for name in swapped if name in used}
    inputs = {}
    for name, recipe in recipes.items():
        like = initialisers[recipe.like]
        inputs[name] = Input(tuple(like.dims), _dtype(onnx, like), recipe)
    height, width = preprocessing.size
    _declare(onnx, graph.input, PIXELS, np.dtype(np.uint8), ("batch", height, width, 3))
    for name, own in inputs.items():
        _declare(onnx, graph.input, name, own.dtype, own.shape)
    constant = used - set(swapped)
    graph.initializer.extend(i for name, i in initialisers.items() if name in constant)
    nodes = _Nodes(onnx, PIXELS)
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
    nodes = _Nodes(onnx, "fastrdm")
    _products(nodes, "a", "b", "products")
    return _small(nodes, width, (), (), {"products": ("n_a", "n_b")})


def squares(width: Width) -> Any:
    """Rows ``a`` and ``b``, indices ``i``, ``j`` and factors ``f``, ``g`` → ``squares`` of the distances.

    They are of ``f * a[i]`` and ``g * b[j]``, pair by pair.
    """
    onnx = require("onnx", "run", "to make RDMs part of a network")
    nodes = _Nodes(onnx, "fastrdm")
    shape = nodes.ints(-1, 1, 1, 1)
    left, right = (
        nodes("Mul", nodes("Gather", rows, index), nodes("Reshape", factor, shape))
        for rows, index, factor in (("a", "i", "f"), ("b", "j", "g"))
    )
    difference = nodes("Sub", left, right)
    square = nodes("Mul", difference, difference)
    nodes.total(nodes.sum(nodes.sum(square, 3), 1), 1, "squares")
    return _small(nodes, width, ("i", "j"), ("f", "g"), {"squares": ("pairs",)})


class _Nodes:
    """Nodes and constants that are to be added to a graph, under names that nothing else bears."""

    def __init__(self, onnx: Any, prefix: str) -> None:
        self.onnx, self._prefix = onnx, prefix
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def __call__(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        output = output or f"{self._prefix}/{len(self.nodes)}"
        node = self.onnx.helper.make_node(kind, inputs, [output], output, **attributes)
        self.nodes.append(node)
        return output

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        name = f"{self._prefix}/constant{len(self.constants)}"
        self.constants.append(self.onnx.numpy_helper.from_array(np.array(value, dtype), name))
        return name

    def ints(self, *values: int) -> str:
        return self.constant(values, np.int64)

    def mean(self, value: str, axis: int, output: str = "") -> str:
        return self("ReduceMean", value, self.ints(axis), keepdims=0, output=output)

    def sum(self, value: str, axis: int, output: str = "") -> str:
        return self("ReduceSum", value, self.ints(axis), keepdims=0, output=output)

    def total(self, value: str, axis: int, output: str) -> str:
        """A sum in float64."""
        return self.sum(self("Cast", value, to=self.onnx.TensorProto.DOUBLE), axis, output)


def _preprocess(nodes: _Nodes, preprocessing: Preprocessing, images: str) -> None:
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


def _whole_end(nodes: _Nodes, own: _End) -> _Ends:
    flat, means = _flat(nodes, own)
    made, known = _rows(nodes, own, flat, _centre(nodes, own, flat, means), "")
    product = _products(nodes, made, made, end(own.layer, "products"))
    return known | {means: ("batch",), product: ("batch", "batch")}


def _rows_end(nodes: _Nodes, own: _End) -> _Ends:
    flat, means = _flat(nodes, own)
    made, known = _rows(nodes, own, flat, _centre(nodes, own, flat, means), end(own.layer, "rows"))
    return known | {means: ("batch",), made: ("batch", *own.width.shape)}


def _flat(nodes: _Nodes, own: _End) -> tuple[str, str]:
    """A layer as (n, channels), and its means over them."""
    value = own.layer
    # Axis by axis: a sum over all channels at once loses digits where a runtime adds them one by one.
    for axis in range(len(own.shape), 0, -1):
        output = end(own.layer, "means") if axis == 1 else ""
        value = nodes.mean(value, axis, output)
    return nodes("Reshape", own.layer, nodes.ints(-1, own.width.channels)), value


def _centre(nodes: _Nodes, own: _End, flat: str, means: str) -> str:
    """What is taken off each row, or the empty string."""
    if own.centre is Centre.NONE:
        return ""
    mean = nodes("Reshape", means, nodes.ints(-1, 1))
    first = nodes("Slice", flat, nodes.ints(0), nodes.ints(1), nodes.ints(1))
    distance = nodes("Abs", nodes("Sub", first, mean))
    near = nodes("Mul", nodes("Abs", mean), nodes.constant(_NEAR_MEAN))
    return nodes("Where", nodes("LessOrEqual", distance, near), first, mean)


def _rows(nodes: _Nodes, own: _End, flat: str, centre: str, output: str) -> tuple[str, _Ends]:
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


def _products(nodes: _Nodes, a: str, b: str, output: str) -> str:
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
    build: Callable[[_Nodes, _End], _Ends],
) -> Any:
    """The network's model, pruned to some layers, with an end behind each in place of its output."""
    onnx = require("onnx", "run", "to make RDMs part of a network")
    graph = onnx.GraphProto()
    graph.CopyFrom(own.model.graph)
    _keep(graph.output, set(layers))
    _prune(graph)
    del graph.output[:]
    for layer in layers:
        nodes = _Nodes(onnx, end(layer, "inner"))
        ends = build(nodes, _End(layer, own.layers[layer], centre))
        maker = next(k for k, node in enumerate(graph.node) if layer in node.output)
        # Right behind it, so that its memory is soon free.
        _insert(graph, nodes, maker + 1)
        for name, shape in ends.items():
            dtype = np.dtype(np.float64 if name == end(layer, "products") else np.float32)
            _declare(onnx, graph.output, name, dtype, shape)
    return _model(onnx, graph, own.model)


def _small(
    nodes: _Nodes,
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
        _declare(onnx, graph.input, name, np.dtype(np.float32), shape)
    for names, dtype in ((indices, np.int64), (factors, np.float32)):
        for name in names:
            _declare(onnx, graph.input, name, np.dtype(dtype), ("pairs",))
    for name, shape in out.items():
        _declare(onnx, graph.output, name, np.dtype(np.float64), shape)
    _insert(graph, nodes, 0)
    opsets = [onnx.helper.make_opsetid("", _OPSET)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)


def _fold(graph: Any, weights: Mapping[str, tuple[int, ...]]) -> dict[str, _Recipe]:
    """Take out the batch norms behind a convolution or linear layer that nothing else reads; new inputs → recipes."""
    makers = {name: node for node in graph.node for name in node.output}
    # The exporter asks for the shape of a norm's input where it fills absent scales and biases.
    uses = Counter(_uses(graph, [node for node in graph.node if node.op_type != "Shape"]))
    renamed: dict[str, str] = {}
    recipes: dict[str, _Recipe] = {}
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
        names = [end(before.output[0], f"folded_{what}") for what in ("weight", "bias")]
        recipes[names[0]] = _FoldedWeight(before.input[1], norm, axis)
        recipes[names[1]] = _FoldedBias(bias, norm)
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
    """A node as a batch norm of weights, if it is one."""
    if node.op_type != "BatchNormalization" or len(node.output) > 1:
        return None
    scale, bias = (_operand(name, makers, weights) for name in node.input[1:3])
    mean, variance = node.input[3:]
    if scale is None or bias is None or not {mean, variance} <= set(weights):
        return None
    return _Norm(scale, bias, mean, variance, _attribute(node, "epsilon", 1e-5))


def _output_axis(node: Any) -> int | None:
    """The axis of a layer's weight that its output channels are on; None for what is no such layer."""
    if node.op_type == "Conv":
        return 0
    plain = _attribute(node, "alpha", 1.0) == 1 and _attribute(node, "beta", 1.0) == 1
    if node.op_type == "Gemm" and plain:
        return 0 if _attribute(node, "transB", 0) else 1
    return None


def _operand(name: str, makers: Mapping[str, Any], weights: Collection[str]) -> Operand | None:
    """A weight's name, or the number that a value is filled with; the exporter writes absent biases so."""
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


def _attribute(node: Any, name: str, default: Any) -> Any:
    onnx = require("onnx", "run", "to make RDMs part of a network")
    found = (a for a in node.attribute if a.name == name)
    return next((onnx.helper.get_attribute_value(a) for a in found), default)


def _uses(graph: Any, nodes: Iterable[Any]) -> Iterator[str]:
    """Names of the values that nodes read or the graph gives, as often as they do."""
    for node in nodes:
        yield from _read(node)
    yield from (output.name for output in graph.output)


def _prune(graph: Any) -> None:
    """Drop nodes, and what is known of values, that no output depends on."""
    needed = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(_read(node))
    del graph.node[:]
    graph.node.extend(reversed(kept))
    for values in (graph.initializer, graph.input, graph.value_info):
        _keep(values, needed)


def _read(node: Any) -> Iterator[str]:
    """Names that a node reads, in its branches and loops too."""
    yield from node.input
    for attribute in node.attribute:
        for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else ())):
            for inside in inner.node:
                yield from _read(inside)
            yield from (output.name for output in inner.output)


def _keep(values: Any, names: Collection[str]) -> None:
    """Only values of these names."""
    kept = [value for value in values if value.name in names]
    del values[:]
    values.extend(kept)


def _insert(graph: Any, nodes: _Nodes, place: int) -> None:
    after = list(graph.node[place:])
    del graph.node[place:]
    graph.node.extend([*nodes.nodes, *after])
    graph.initializer.extend(nodes.constants)


def _declare(
    onnx: Any, values: Any, name: str, dtype: np.dtype[Any], shape: Sequence[str | int]
) -> None:
    kind = onnx.helper.np_dtype_to_tensor_dtype(dtype)
    values.append(onnx.helper.make_tensor_value_info(name, kind, shape))


def _dtype(onnx: Any, initialiser: Any) -> np.dtype[Any]:
    dtype: np.dtype[Any] = onnx.helper.tensor_dtype_to_np_dtype(initialiser.data_type)
    return dtype


def _shape(model: Any, layer: str) -> tuple[int, ...]:
    """Shape of a layer's activations, without the batch."""
    onnx = require("onnx", "run", "to make RDMs part of a network")
    known = [output.name for output in model.graph.output]
    if layer not in known:
        raise ValueError(f"layer {layer!r} is no output of the graph; it has: {', '.join(known)}")
    tensor = model.graph.output[known.index(layer)].type.tensor_type
    dims = [dim.dim_value for dim in tensor.shape.dim]
    if tensor.elem_type != onnx.TensorProto.FLOAT or len(dims) < 2 or not all(dims[1:]):
        raise ValueError(
            f"layer {layer!r} is not declared as float32 (batch, channels...) with a known number of channels"
        )
    return tuple(dims[1:])


def _model(onnx: Any, graph: Any, like: Any) -> Any:
    made = onnx.ModelProto(ir_version=like.ir_version)
    made.opset_import.extend(like.opset_import)
    made.functions.extend(like.functions)
    made.graph.CopyFrom(graph)
    return made
