"""Probe whether a network's activations for an image depend on its batch, or differ from run to run.

Images are run in batches, and scores must not depend on how they are batched. They do with dynamic quantisation, whose
step size follows from the whole batch; with batch norm in training mode; with operators that draw random numbers; and
with inner shapes that are fixed for one batch size. A network is therefore probed with generated images when it is
opened: the same image alone, alone once more, and between two others.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import counted, one_line, require
from fastrdm.images import Preprocessing
from fastrdm.networks.batch_dependence import BatchDependence
from fastrdm.networks.graph import Graph
from fastrdm.networks.layers import INNER_SHAPES
from fastrdm.networks.onnx_files import is_external

Floats = NDArray[np.float32]
Activations: TypeAlias = Mapping[str, NDArray[Any]]

# The largest difference that counts as rounding, relative to the spread of the layer. On the CPU, ResNet-20,
# ResNet-152, DenseNet-201 and ViT-B/16 show none; accelerators may choose other algorithms for other batches. Dynamic
# quantisation to 8 bits makes 1e-2 and more.
_CPU = 1e-4
_ROUNDING = {"fp32": 1e-3, "tf32": 2e-2, "fp16": 2e-2, "bf16": 1e-1}
# Added to it: float32 steps at the largest value of the layer, for layers with almost no spread.
_STEPS = 16 * float(np.finfo(np.float32).eps)
# ONNX's numbers of types.
_HALF = {10: "fp16", 16: "bf16"}
_FLOATING = {1, 10, 11, 16}


class InconsistentError(ValueError):
    """A network's activations for an image are not unique; the message names the layer and the difference."""


@dataclass(frozen=True)
class Difference:
    """A difference between a layer's activations for one image in two runs, or in a batch and alone."""

    layer: str
    how: str
    """Either "run" or "batch"."""
    share: float
    """The largest difference of values, relative to their standard deviation over the probe's images."""


@dataclass
class Probes:
    """Graphs that passed a probe, for networks that are opened one after the other.

    Checkpoints of one graph are probed once. Exceptions are graphs with operators that can join images or draw random
    numbers, because it depends on the weights whether that shows, and checkpoints with a layer that is constant
    or not finite; these are always probed.
    """

    passed: set[str] = field(default_factory=set)


class Causes(Protocol):
    """What may make the activations of a layer differ, as text; empty if nothing is known to."""

    def random(self, layer: str) -> str:
        """Operators that draw random numbers."""
        ...

    def joins(self, layer: str) -> str:
        """Operators that join images."""
        ...


class _UnknownCauses:
    def random(self, layer: str) -> str:
        return ""

    def joins(self, layer: str) -> str:
        return ""


@dataclass(frozen=True)
class Verdict:
    """The result of a probe: whether images must be run one at a time, and a problem in one sentence, or none."""

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
    run: Callable[[Floats], Activations],
    preprocessing: Preprocessing,
    *,
    batch_size: int,
    fixed: bool,
    settings: Sequence[object] = (),
    provider: str = "cpu",
    precision: str = "fp32",
    probes: Probes | None = None,
) -> Verdict:
    """Run a network on an image alone, once more, and between two others, and compare the activations.

    This costs five images for each graph. The spread of a layer is the standard deviation of all its values over
    the three images. Differences up to 1e-4 of it count as rounding on the CPU in fp32, 1e-3 on other providers, 2e-2
    in tf32 and fp16, 1e-1 in bf16; a graph that contains float16 or bfloat16 is judged as those.

    Layers are judged in their order. `run` takes a batch of normalised images (n, 3, height, width) and returns the
    activations of each layer; `fixed` is whether the file accepts no other batch size; `settings` are others that the
    activations depend on. A graph that passes is added to `probes`. Raise ValueError if the network does not run.
    """
    model = graph.read()
    dependence = BatchDependence(model.graph)
    known = Probes() if probes is None else probes
    key = _key(model, graph, layers, preprocessing.size, batch_size, provider, precision, *settings)
    if key in known.passed:
        return Verdict()
    images = pictures(preprocessing)
    first = _run(graph.name, run, images[:1])
    again = _run(graph.name, run, images[:1])
    among: Activations = {}
    if not (fixed and batch_size == 1):
        try:
            among = _run(graph.name, run, images[[1, 0, 2] if batch_size > 2 else [1, 0]])
        except ValueError as error:
            if batch_size == 1:
                return Verdict(alone=True)
            raise ValueError(f"{error}; its {INNER_SHAPES}") from None
    tolerance = _tolerance(model, provider, precision)
    difference = _worst(layers, dependence, first, again, among, tolerance)
    if difference is not None:
        if difference.how == "batch" and batch_size == 1:
            return Verdict(alone=True)
        return Verdict(problem=_problem(graph.name, difference, dependence, tolerance))
    values = among or first
    if dependence.is_none and all(np.isfinite(v).all() and np.ptp(v) > 0 for v in values.values()):
        known.passed.add(key)
    return Verdict()


def probe_module(
    name: str,
    layers: Sequence[str],
    run: Callable[[Floats], Activations],
    preprocessing: Preprocessing,
    *,
    batch_size: int,
    precision: str,
    on_cpu: bool,
) -> Verdict:
    """Probe a torch module as `probe` does a graph; the causes of a difference are unknown."""
    images = pictures(preprocessing)
    first, again = (_run(name, run, images[:1]) for _ in range(2))
    among = _run(name, run, images[[1, 0, 2] if batch_size > 2 else [1, 0]])
    tolerance = _CPU if on_cpu and precision == "fp32" else _ROUNDING[precision]
    unknown = _UnknownCauses()
    difference = _worst(layers, unknown, first, again, among, tolerance)
    if difference is None:
        return Verdict()
    if difference.how == "batch" and batch_size == 1:
        return Verdict(alone=True)
    return Verdict(problem=_problem(name, difference, unknown, tolerance))


def pictures(preprocessing: Preprocessing) -> Floats:
    """Return three generated images, normalised: one of medium contrast, one of the highest, and a smooth one."""
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


def _run(name: str, run: Callable[[Floats], Activations], images: Floats) -> Activations:
    probed = f"a probe of {counted(len(images), 'image')}"
    try:
        values = run(images)
    # The exceptions of the bindings have no common base class.
    except Exception as error:
        raise ValueError(f"{name} does not run on {probed}: {one_line(error)}") from error
    for layer, value in values.items():
        if not value.shape or len(value) != len(images):
            raise ValueError(f"layer {layer!r} of {name} returns shape {value.shape} for {probed}")
    return values


def _tolerance(model: Any, provider: str, precision: str) -> float:
    rounding = _CPU if (provider, precision) == ("cpu", "fp32") else _ROUNDING[precision]
    kinds = {tensor.data_type for tensor in model.graph.initializer}
    kinds |= {a.i for n in model.graph.node if n.op_type == "Cast" for a in n.attribute}
    return max(rounding, *(_ROUNDING[word] for kind, word in _HALF.items() if kind in kinds), 0.0)


def _worst(
    layers: Sequence[str],
    dependence: Causes,
    first: Activations,
    again: Activations,
    among: Activations,
    tolerance: float,
) -> Difference | None:
    """The first difference between runs, else the first random layer, else the first difference of a batch."""
    random = batch = None
    for layer in layers:
        values = np.asarray(among.get(layer, first[layer]), np.float64)
        finite = values[np.isfinite(values)]
        spread = float(finite.std()) if finite.size else 0.0
        step = _STEPS * float(np.abs(finite).max()) if finite.size else 0.0
        alone = np.asarray(first[layer][0], np.float64)
        others = {"run": again[layer][0], "batch": among[layer][1] if layer in among else alone}
        for how, other in others.items():
            largest = _largest(alone, np.asarray(other, np.float64))
            is_excess = largest > tolerance * spread + step
            share = largest / spread if spread else np.inf if is_excess else 0.0
            difference = Difference(layer, how, share)
            if how == "batch":
                batch = batch or (difference if is_excess else None)
            elif is_excess:
                return difference
            elif random is None and dependence.random(layer):
                random = difference
    return random or batch


def _largest(a: NDArray[Any], b: NDArray[Any]) -> float:
    """The largest difference; infinite if only one of two values is finite, 0 between two NaN."""
    with np.errstate(invalid="ignore"):
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        differences = np.where(same, 0, np.abs(a - b))
    return float(np.nan_to_num(differences, nan=np.inf).max(initial=0))


def _problem(name: str, difference: Difference, dependence: Causes, tolerance: float) -> str:
    joins = dependence.joins(difference.layer)
    how, cause = {
        "run": ("from run to run", dependence.random(difference.layer) or joins),
        "batch": ("in a batch from those alone", joins),
    }[difference.how]
    percent = 100 * difference.share
    size = f"{percent:.2g}" if percent < 100 else f"{percent:.0f}"
    return (
        f"activations of layer {difference.layer!r} of {name} for one image differ {how}"
        f"{cause and f' ({cause})'}: the difference is {size} % of the layer's spread, of which rounding explains"
        f" {100 * tolerance:.2g} %"
    )


def _key(model: Any, graph: Graph, *facts: object) -> str:
    """SHA-256 of a graph without its floating-point weights, in which checkpoints differ."""
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
