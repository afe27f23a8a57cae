"""ONNX files from other programs: their tensors, and graphs whose outputs are the tapped ones."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import __version__, require
from fastrdm.images import Preprocessing
from fastrdm.networks.graph import Graph
from fastrdm.networks.layers import INPUT, Choice
from fastrdm.networks.onnx_files import (
    inputs_of,
    keep_named,
    metadata_of,
    prune,
    read_with_weights,
    replace_all,
    subgraphs,
)
from fastrdm.networks.requested_preprocessing import RequestedPreprocessing

# Types of images, by ONNX's numbers of types.
FLOATS: dict[int, np.dtype[Any]] = {
    1: np.dtype(np.float32),
    10: np.dtype(np.float16),
    11: np.dtype(np.float64),
}
# Since this opset, ReduceMean takes its axes as an input.
_AXES_INPUT = 18
# Operator, further inputs, attributes.
_Step: TypeAlias = tuple[str, list[str], dict[str, Any]]


@dataclass(frozen=True)
class ImageInput:
    """The input of a graph: (batch, 3, height, width), or channels last; None for dimensions of any size."""

    name: str
    dtype: np.dtype[Any]
    channels_last: bool
    batch: int | None
    height: int | None
    width: int | None

    def blank(self, n: int, size: tuple[int, int]) -> NDArray[Any]:
        """Return n black images (zeros) of a size."""
        shape = (n, *size, 3) if self.channels_last else (n, 3, *size)
        return np.zeros(shape, self.dtype)


@dataclass(frozen=True)
class OnnxFile:
    """An ONNX file: its model, weights that it keeps in other files, input and metadata."""

    path: Path
    model: Any
    weights: Mapping[str, NDArray[Any]]
    images: ImageInput
    metadata: Mapping[str, str]

    @classmethod
    def read(cls, path: Path) -> "OnnxFile":
        """Read an ONNX file, and map the weights that it keeps in other files."""
        model, weights = read_with_weights(path)
        return cls(path, model, weights, _image_input(path, model.graph), metadata_of(model))

    def tensors(self) -> dict[str, str]:
        """Return the tensors that depend on the images, in order, and their operators."""
        tensors: dict[str, str] = {}
        for node in self.model.graph.node:
            if any(name == self.images.name or name in tensors for name in inputs_of(node)):
                tensors |= dict.fromkeys(filter(None, node.output), node.op_type)
        return tensors

    def preprocessing(self, wanted: RequestedPreprocessing | None = None) -> Preprocessing:
        """Return the preprocessing that is wanted, else that in the file, else the default at the file's size."""
        fixed = (self.images.height, self.images.width)
        if isinstance(wanted, Preprocessing):
            prepared = wanted
        else:
            if "fastrdm.preprocessing" in self.metadata:
                own = Preprocessing.from_json(self.metadata["fastrdm.preprocessing"])
            else:
                own = Preprocessing()
                height, width = own.size
                own = replace(own, size=(fixed[0] or height, fixed[1] or width))
            if wanted is None:
                return own
            prepared = wanted.of(own, str(self.path))
        if any(a not in {None, b} for a, b in zip(fixed, prepared.size, strict=True)):
            raise ValueError(
                f"{self.path} takes images of {format_size(fixed)} pixels; its preprocessing makes "
                f"{format_size(prepared.size)}"
            )
        return prepared


def _image_input(path: Path, graph: Any) -> ImageInput:
    """The only input that is not a weight."""
    onnx = require("onnx", "run", "to read an ONNX model")
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs)
        raise ValueError(f"{path} takes {len(inputs)} inputs, not one: {names}")
    tensor = inputs[0].type.tensor_type
    if tensor.elem_type not in FLOATS:
        kind = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
        raise ValueError(
            f"{path} takes images in {kind}, not in floating-point numbers; export the network "
            "without its preprocessing"
        )
    # Some exporters write -1 for any size.
    shape = [dim.dim_value if dim.dim_value > 0 else None for dim in tensor.shape.dim]
    if len(shape) != 4 or (3 not in (shape[1], shape[3]) and shape[1] is not None):
        raise ValueError(
            f"{path} takes {inputs[0].name} of shape ({', '.join(str(n or '?') for n in shape)}), "
            "not (batch, 3, height, width) or (batch, height, width, 3)"
        )
    channels_last = shape[1] != 3 and shape[3] == 3
    height, width = shape[1:3] if channels_last else shape[2:]
    dtype = FLOATS[tensor.elem_type]
    return ImageInput(inputs[0].name, dtype, channels_last, shape[0], height, width)


def rewrite(
    file: OnnxFile,
    chosen: Mapping[str, Choice],
    types: Mapping[str, np.dtype[Any]],
    preprocessing: Preprocessing,
) -> Graph:
    """Return the graph of a file with input, outputs and metadata as `export_onnx` writes them; changes `file`."""
    onnx = require("onnx", "run", "to read an ONNX model")
    model, images = file.model, file.images
    graph, batch = model.graph, images.batch or "batch"
    opset = max(o.version for o in model.opset_import if o.domain in {"", "ai.onnx"})

    conversions = _input_conversions(images)
    # Tensors are renamed rather than copied: ONNX Runtime's fusions fail on an Identity behind a tapped Clip.
    new = {} if conversions else {images.name: INPUT}
    for layer, choice in chosen.items():
        name = choice.layer.name
        is_plain = choice.tokens.how == "flatten" and not choice.layer.axis
        if is_plain and types[name] == np.float32 and name not in new:
            new[name] = layer
    for name in {INPUT, *chosen} & set(_names(graph)):
        new.setdefault(name, f"{name}/inner")
    _rename(graph, new)

    network_input = new.get(images.name, images.name)
    nodes = [*_chain(conversions, INPUT, network_input, INPUT), *graph.node]
    keep_named(graph.input, {value.name for value in graph.input} - {INPUT, network_input})

    def declare(name: str, shape: Iterable[int]) -> Any:
        return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [batch, *shape])

    graph.input.insert(0, declare(INPUT, (3, *preprocessing.size)))
    outputs = []
    for layer, choice in chosen.items():
        source = new.get(choice.layer.name, choice.layer.name)
        if source != layer:
            nodes += _chain(_tap_steps(choice, layer, graph, opset), source, layer, layer)
        shape = choice.layer.shape
        outputs.append(declare(layer, shape if choice.tokens.how == "flatten" else shape[1:]))
    replace_all(graph.node, nodes)
    set_outputs(graph, outputs)
    onnx.helper.set_model_props(model, _metadata(file, chosen, preprocessing))
    weights = {new.get(name, name): value for name, value in file.weights.items()}
    return Graph.from_model(file.path, model, weights)


def _metadata(
    file: OnnxFile, chosen: Mapping[str, Choice], preprocessing: Preprocessing
) -> dict[str, str]:
    """Metadata of a rewritten file; a layer that `export_onnx` tapped keeps its description."""
    taps = json.loads(file.metadata.get("fastrdm.taps", "{}"))
    return {
        "fastrdm.architecture": file.path.stem,
        **file.metadata,
        "fastrdm.layers": json.dumps(list(chosen)),
        "fastrdm.taps": json.dumps(
            {
                layer: taps.get(choice.layer.name, choice.to_dict())
                if choice.tokens.how == "flatten"
                else choice.to_dict()
                for layer, choice in chosen.items()
            }
        ),
        "fastrdm.preprocessing": preprocessing.to_json(),
        "fastrdm.version": __version__,
    }


def _input_conversions(images: ImageInput) -> list[_Step]:
    """Steps from float32 images (batch, 3, height, width) to the input of a file."""
    steps: list[_Step] = []
    if images.channels_last:
        steps.append(("Transpose", [], {"perm": [0, 2, 3, 1]}))
    if images.dtype != np.float32:
        number = next(number for number, dtype in FLOATS.items() if dtype == images.dtype)
        steps.append(("Cast", [], {"to": number}))
    return steps


def _tap_steps(choice: Choice, layer: str, graph: Any, opset: int) -> list[_Step]:
    """Steps from a tensor to a layer: to float32, the batch first, and from all tokens to the selected ones."""
    onnx = require("onnx", "run", "to read an ONNX model")

    def constant(name: str, values: Any) -> str:
        graph.initializer.append(
            onnx.numpy_helper.from_array(np.array(values, np.int64), f"{layer}/{name}")
        )
        return f"{layer}/{name}"

    steps: list[_Step] = [("Cast", [], {"to": 1})]
    if choice.layer.axis:
        others = range(2, len(choice.layer.shape) + 1)
        steps.append(("Transpose", [], {"perm": [1, 0, *others]}))
    if choice.tokens.how == "cls":
        steps.append(("Gather", [constant("token", 0)], {"axis": 1}))
    if choice.tokens.how == "mean":
        patches = range(choice.tokens.start or 0, choice.layer.shape[0])
        steps.append(("Gather", [constant("patches", patches)], {"axis": 1}))
        if opset < _AXES_INPUT:
            steps.append(("ReduceMean", [], {"keepdims": 0, "axes": [1]}))
        else:
            steps.append(("ReduceMean", [constant("axes", [1])], {"keepdims": 0}))
    return steps


def _chain(steps: Sequence[_Step], source: str, target: str, prefix: str) -> Iterator[Any]:
    """Nodes that run steps one after the other, from one tensor to another."""
    onnx = require("onnx", "run", "to read an ONNX model")
    for i, (operator, inputs, attributes) in enumerate(steps):
        output = target if i == len(steps) - 1 else f"{prefix}/{operator}"
        yield onnx.helper.make_node(operator, [source, *inputs], [output], **attributes)
        source = output


def set_outputs(graph: Any, outputs: Collection[Any]) -> None:
    """Replace the outputs of a graph, prune it, and drop the shapes of inner values."""
    replace_all(graph.output, outputs)
    prune(graph)
    del graph.value_info[:]


def _names(graph: Any) -> Iterator[str]:
    """Names of all tensors, also in branches and loop bodies."""
    for value in (*graph.input, *graph.initializer):
        yield value.name
    for node in graph.node:
        yield from node.output
        for inner in subgraphs(node):
            yield from _names(inner)


def _rename(graph: Any, new: Mapping[str, str]) -> None:
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [new.get(name, name) for name in names]
        for inner in subgraphs(node):
            _rename(inner, new)
    for value in (*graph.input, *graph.output, *graph.initializer):
        value.name = new.get(value.name, value.name)


def format_size(size: Iterable[int | None]) -> str:
    """Return a size as text, such as ``"224 × 224"``."""
    return " × ".join(str(n or "any") for n in size)
