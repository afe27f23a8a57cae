"""Whether a network gives an image one answer: alone, in a batch with others, and twice.

Images come in batches, and a score must not depend on which of them share one. What breaks that is dynamic
quantisation, whose step follows from the whole batch; batch norm in training mode; operators that draw random numbers;
and inner shapes that were written down for one batch size. A network is therefore shown a few made-up images when it
is opened: the same image alone, alone once more, and between two others.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import one_line, require
from fastrdm.images import Preprocessing
from fastrdm.networks.graph import Graph
from fastrdm.networks.layers import INNER_SHAPES
from fastrdm.networks.onnx_files import inputs_of, is_external, subgraphs

Floats = NDArray[np.float32]

RANDOM = {
    "Bernoulli",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
}
"""Operators that draw random numbers; Dropout does too, in training mode."""

# The largest difference, as a share of the layer's spread, that is rounding. On the CPU there is none at all in
# ResNet-20, ResNet-152, DenseNet-201 and ViT-B/16; accelerators may choose other algorithms for other batches. Dynamic
# quantisation to 8 bits makes 1e-2 and more.
_CPU = 1e-4
_ROUNDING = {"fp32": 1e-3, "tf32": 2e-2, "fp16": 2e-2, "bf16": 1e-1}
# Beside that, steps of float32 at the layer's largest value: layers that hardly vary have no spread to speak of.
_STEPS = 16 * float(np.finfo(np.float32).eps)
# ONNX's numbers of types.
_HALF = {10: "fp16", 16: "bf16"}
_FLOATING = {1, 10, 11, 16}
# Operators that join all positions along their axes, by the attribute or the input that names those.
_AXES = {
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax", "ArgMax", "ArgMin", "TopK"), "axis"),
    **dict.fromkeys(("Concat", "LayerNormalization", "LpNormalization", "CumSum"), "axis"),
    "MeanVarianceNormalization": "axes",
}
_UNCLEAR = {"If", "Loop", "Scan", "Einsum", "LSTM", "GRU", "RNN"}
_KNOWN_DOMAINS = {"", "ai.onnx", "com.microsoft"}
# What gives a constant on in another shape or type, as exporters do with axes.
_SAME_VALUES = {"Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze"}


class InconsistentError(ValueError):
    """A network gives one image several answers; one sentence that names the layer and the size of the difference."""


@dataclass(frozen=True)
class Difference:
    """How a layer's answer to one image differs.

    Attributes
    ----------
    layer : str
    how : {"run", "batch"}
        From one run to the next, or in a batch with others.
    share : float
        The largest difference of the layer's values, relative to their standard deviation over the probe's images.
    """

    layer: str
    how: str
    share: float


@dataclass
class Probes:
    """Which graphs gave one answer, for networks that are opened one after the other.

    Checkpoints of one graph are probed once. Those whose graph has operators that can join images or draw random
    numbers are each probed, since it is up to their weights whether that shows; so are those of which a layer is
    constant or not finite.
    """

    passed: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Verdict:
    """What a probe found.

    Attributes
    ----------
    alone : bool
        Whether only one image at a time gives one answer, or runs at all.
    problem : str
        One sentence; empty where there is nothing to tell.
    """

    alone: bool = False
    problem: str = ""

    @property
    def advice(self) -> str:
        """How to avoid or accept the problem, as the end of its sentence."""
        accept = "allow_inconsistent=True (--allow-inconsistent) accepts it"
        if "in a batch" in self.problem:
            return f"batch_size=1 (--batch-size 1) runs each image alone, {accept}"
        return accept


def probe(
    graph: Graph,
    layers: Sequence[str],
    answer: Callable[[Floats], Mapping[str, NDArray[Any]]],
    preprocessing: Preprocessing,
    *,
    batch_size: int,
    fixed: bool,
    settings: Sequence[object] = (),
    provider: str = "cpu",
    precision: str = "fp32",
    probes: Probes | None = None,
) -> Verdict:
    """Show a network one image alone, twice, and between others.

    It costs five images' runs for each graph. The spread of a layer is the standard deviation of all its values over
    the three images. Differences up to 1e-4 of it count as rounding on the CPU in fp32, 1e-3 on other providers, 2e-2
    in tf32 and fp16, 1e-1 in bf16; a graph that holds float16 or bfloat16 itself is judged as those.

    Parameters
    ----------
    graph : Graph
    layers : sequence of str
        Its outputs, in the order in which they are judged.
    answer : callable
        Runs a batch of normalised images (n, 3, height, width) and gives each layer's values.
    preprocessing : Preprocessing
    batch_size : int
        Images of the network's batches.
    fixed : bool
        Whether the file takes no other number.
    settings : sequence
        What else the answer depends on beside the graph.
    provider, precision : str
        Those in use.
    probes : Probes, optional
        What is known already; a graph that passes is entered.

    Returns
    -------
    Verdict

    Raises
    ------
    ValueError
        If the network does not run.
    """
    model = graph.read()
    flow = _Flow(model.graph)
    known = Probes() if probes is None else probes
    key = _key(model, graph, layers, preprocessing.size, batch_size, provider, precision, *settings)
    if key in known.passed:
        return Verdict()
    images = pictures(preprocessing)
    first = _answer(graph.name, answer, images[:1])
    again = _answer(graph.name, answer, images[:1])
    few = images[[1, 0, 2]] if batch_size > 2 else images[[1, 0]]
    among: Mapping[str, NDArray[Any]] = {}
    if not (fixed and batch_size == 1):
        try:
            among = _answer(graph.name, answer, few)
        except ValueError as error:
            if batch_size == 1:
                return Verdict(alone=True)
            raise ValueError(f"{error}; its {INNER_SHAPES}") from None
    tolerance = _tolerance(model, provider, precision)
    differences = list(_differences(layers, first, again, among, tolerance))
    drawn = next(((layer, cause) for layer in layers if (cause := flow.random(layer))), (None, ""))
    runs = next((d for d in differences if d.how == "run"), None)
    batches = next((d for d in differences if d.how == "batch"), None)
    if runs is None and drawn[0] is not None:
        runs = Difference(drawn[0], "run", _share(drawn[0], first, again, among))
    if runs is not None:
        cause = flow.random(runs.layer) or flow.joins(runs.layer)
        return Verdict(
            problem=f"layer {runs.layer!r} of {graph.name} gives one image another answer in each run"
            f"{cause and f' ({cause})'}: {_size(runs, tolerance)}"
        )
    if batches is not None:
        if batch_size == 1:
            return Verdict(alone=True)
        cause = flow.joins(batches.layer)
        return Verdict(
            problem=f"layer {batches.layer!r} of {graph.name} gives one image another answer in a batch with others"
            f" than alone{cause and f' ({cause})'}: {_size(batches, tolerance)}"
        )
    values = among or first
    if flow.is_plain and all(np.isfinite(v).all() and np.ptp(v) > 0 for v in values.values()):
        known.passed.add(key)
    return Verdict()


def pictures(preprocessing: Preprocessing) -> Floats:
    """Three made-up images, normalised: one of middling contrast, one of the greatest, and a smooth one."""
    height, width = preprocessing.size
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[0:height, 0:width]
    noise = rng.integers(80, 176, (height, width, 3))
    extremes = 255 * rng.integers(0, 2, (height, width, 3))
    waves = [
        128 + 90 * np.sin(2 * np.pi * (a * rows / height + b * columns / width))
        for a, b in ((1, 2), (3, 1), (2, 5))
    ]
    pixels = np.stack([noise, extremes, np.stack(waves, axis=2)]).astype(np.uint8)
    return preprocessing.normalise(pixels)


def _answer(
    name: str, answer: Callable[[Floats], Mapping[str, NDArray[Any]]], images: Floats
) -> Mapping[str, NDArray[Any]]:
    n = len(images)
    try:
        values = answer(images)
    # The bindings' exceptions have no base class of their own.
    except Exception as error:
        raise ValueError(
            f"{name} does not run on a probe of {_number(n)}: {one_line(error)}"
        ) from error
    for layer, value in values.items():
        if not value.shape or len(value) != n:
            raise ValueError(
                f"layer {layer!r} of {name} gives shape {value.shape} for a probe of {_number(n)}"
            )
    return values


def _number(n: int) -> str:
    return "one image" if n == 1 else f"{n} images"


def _tolerance(model: Any, provider: str, precision: str) -> float:
    rounding = _CPU if (provider, precision) == ("cpu", "fp32") else _ROUNDING[precision]
    kinds = {tensor.data_type for tensor in model.graph.initializer}
    kinds |= {a.i for n in model.graph.node if n.op_type == "Cast" for a in n.attribute}
    return max(rounding, *(_ROUNDING[word] for kind, word in _HALF.items() if kind in kinds), 0.0)


def _differences(
    layers: Sequence[str],
    first: Mapping[str, NDArray[Any]],
    again: Mapping[str, NDArray[Any]],
    among: Mapping[str, NDArray[Any]],
    tolerance: float,
) -> Iterator[Difference]:
    for layer in layers:
        values = np.asarray(among.get(layer, first[layer]), np.float64)
        finite = values[np.isfinite(values)]
        spread = float(finite.std()) if finite.size else 0.0
        step = _STEPS * float(np.abs(finite).max()) if finite.size else 0.0
        alone = np.asarray(first[layer][0], np.float64)
        others = {"run": again[layer][0], "batch": among[layer][1] if layer in among else alone}
        for how, other in others.items():
            largest = _largest(alone, np.asarray(other, np.float64))
            if largest > tolerance * spread + step:
                yield Difference(layer, how, largest / spread if spread else np.inf)


def _share(
    layer: str,
    first: Mapping[str, NDArray[Any]],
    again: Mapping[str, NDArray[Any]],
    among: Mapping[str, NDArray[Any]],
) -> float:
    spread = float(np.std(among.get(layer, first[layer])))
    return _largest(first[layer][0], again[layer][0]) / spread if spread else 0.0


def _largest(a: NDArray[Any], b: NDArray[Any]) -> float:
    """The largest difference; that of values of which only one is finite has no end, that of NaN and NaN is none."""
    with np.errstate(invalid="ignore"):
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        differences = np.where(same, 0, np.abs(a - b))
    return float(np.nan_to_num(differences, nan=np.inf).max(initial=0))


def _size(difference: Difference, tolerance: float) -> str:
    percent = 100 * difference.share
    size = f"{percent:.2g}" if percent < 100 else f"{percent:.0f}"
    return (
        f"the difference is {size} % of the layer's spread, of which rounding explains"
        f" {100 * tolerance:.2g} %"
    )


def _key(model: Any, graph: Graph, *facts: object) -> str:
    """SHA-256 of all of a graph but its floating-point weights, which are what checkpoints differ in."""
    onnx = require("onnx", "run", "to probe a network")
    digest = hashlib.sha256(repr(facts).encode())
    for node in model.graph.node:
        digest.update(node.SerializeToString(deterministic=True))
    for value in (*model.graph.input, *model.opset_import):
        digest.update(value.SerializeToString(deterministic=True))
    for tensor in model.graph.initializer:
        digest.update(f"{tensor.name} {tensor.data_type} {list(tensor.dims)}".encode())
        if tensor.data_type in _FLOATING:
            continue
        if tensor.name in graph.initialisers:
            digest.update(np.ascontiguousarray(graph.initialisers[tensor.name]).tobytes())
        elif not is_external(tensor):
            digest.update(onnx.numpy_helper.to_array(tensor).tobytes())
    return digest.hexdigest()


class _Flow:
    """What in a graph can make answers differ, and which layers it reaches."""

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
        self._makers = {name: node for node in graph.node for name in node.output if name}
        weights = {tensor.name for tensor in graph.initializer}
        self._of_images = {value.name for value in graph.input} - weights
        self._random: dict[int, str] = {}
        self._joining: dict[int, str] = {}
        for node in graph.node:
            read = [name for name in inputs_of(node) if name in self._of_images]
            # The shape of a batch is not its images.
            if read and node.op_type not in {"Shape", "Size"}:
                self._of_images.update(filter(None, node.output))
            if cause := self._draws(node):
                self._random[id(node)] = cause
            elif read and (cause := self._joins(node, read)):
                self._joining[id(node)] = cause

    @property
    def is_plain(self) -> bool:
        """Whether nothing in the graph can make answers differ, whatever its weights are."""
        return not (self._random or self._joining)

    def random(self, layer: str) -> str:
        """The operator nearest to a layer, of those before it, that draws random numbers."""
        return self._nearest(layer, self._random)

    def joins(self, layer: str) -> str:
        """The operator nearest to a layer, of those before it, that can join images."""
        return self._nearest(layer, self._joining)

    def _nearest(self, layer: str, causes: Mapping[int, str]) -> str:
        waiting, seen = [layer], {layer}
        for name in waiting:
            node = self._makers.get(name)
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
        """What of an operator can join images; empty where nothing can."""
        kind = str(node.op_type)
        given = {attribute.name: self._attribute(attribute) for attribute in node.attribute}
        if kind == "BatchNormalization" and (given.get("training_mode") or len(node.output) > 1):
            return "BatchNormalization in training mode"
        joins = (
            kind.startswith("DynamicQuantize")
            or kind in _UNCLEAR
            or node.domain not in _KNOWN_DOMAINS
        )
        if kind == "Transpose":
            joins = given.get("perm", [-1])[0] != 0
        if kind == "Gemm":
            joins = bool(given.get("transA")) and node.input[0] in read
        if kind.startswith("Reduce"):
            joins = self._has_first(node, read, given.get("axes"), 1)
        if kind in _AXES:
            axes = given.get(_AXES[kind], -1)
            joins = self._has_first(node, read, axes, 1 if kind == "CumSum" else None)
        return kind if joins else ""

    def _has_first(self, node: Any, read: Sequence[str], axes: Any, place: int | None) -> bool:
        """Whether an operator's axes, of an attribute or the input at a place, may have the batch among them."""
        if place is not None and len(node.input) > place and node.input[place]:
            constant = self._constants.get(node.input[place])
            axes = None if constant is None else self._array(constant).ravel().tolist()
        if axes is None:
            return True
        rank = self._ranks.get(read[0])
        # Of a tensor whose rank is not known, the last axis is not the first.
        return any(
            axis == 0 or axis == (-rank if rank else axis if axis < -1 else 0)
            for axis in np.atleast_1d(axes).tolist()
        )
