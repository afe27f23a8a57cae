"""ONNX files of any origin: what can be tapped in them, and graphs that answer with what is."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import require
from fastrdm.images import Preprocessing
from fastrdm.networks.graph import Graph
from fastrdm.networks.layers import INPUT, Choice
from fastrdm.networks.onnx_files import (
    inputs_of,
    map_weights,
    metadata_of,
    prune,
    read_model,
    replace_all,
    subgraphs,
)

# What images can be fed as, by ONNX's numbers of types.
FLOATS: dict[int, np.dtype[Any]] = {
    1: np.dtype(np.float32),
    10: np.dtype(np.float16),
    11: np.dtype(np.float64),
}
# From this opset on ReduceMean takes its axes as an input.
_AXES_INPUT = 18


@dataclass(frozen=True)
class ImageInput:
    """The input of a graph: (batch, 3, height, width), or channels last; None for what is free."""

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
    """An ONNX file: its graph, the weights that lie beside it, its images, its metadata."""

    path: Path
    model: Any
    weights: Mapping[str, NDArray[Any]]
    images: ImageInput
    metadata: Mapping[str, str]

    @classmethod
    def read(cls, path: Path) -> "OnnxFile":
        """Read an ONNX file, and map the weights that it keeps in other files."""
        model = read_model(path)
        weights = map_weights(model.graph.initializer, path)
        return cls(path, model, weights, _image_input(path, model.graph), metadata_of(model))

    def known(self) -> dict[str, str]:
        """Tensors that depend on the images → the operator that gives them, in order."""
        known: dict[str, str] = {}
        for node in self.model.graph.node:
            if any(name == self.images.name or name in known for name in inputs_of(node)):
                known |= dict.fromkeys(filter(None, node.output), node.op_type)
        return known

    def preprocessing(self, given: Preprocessing | None = None) -> Preprocessing:
        """What is given, else what the file says, else the defaults at its size."""
        own = self.metadata.get("fastrdm.preprocessing")
        fixed = (self.images.height, self.images.width)
        if given is None:
            if own is not None:
                return Preprocessing.from_json(own)
            default = Preprocessing()
            height, width = default.size
            return replace(default, size=(fixed[0] or height, fixed[1] or width))
        if any(own not in {None, asked} for own, asked in zip(fixed, given.size, strict=True)):
            raise ValueError(
                f"{self.path} takes images of {format_size(fixed)} pixels, not {format_size(given.size)} as its "
                "preprocessing makes them"
            )
        return given


def _image_input(path: Path, graph: Any) -> ImageInput:
    """The one input that is no weight."""
    onnx = require("onnx", "run", "to read an ONNX file")
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs)
        raise ValueError(f"{path} takes {len(inputs)} inputs, not one of images: {names}")
    tensor = inputs[0].type.tensor_type
    if tensor.elem_type not in FLOATS:
        found = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
        raise ValueError(
            f"{path} takes images in {found}, not in floating-point numbers; export the network "
            "without what it does to pixels"
        )
    # Some exporters write -1 for what is free.
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
    """The file's graph with its input and its taps as `export_onnx` would have them."""
    from fastrdm._base import __version__

    onnx = require("onnx", "run", "to read an ONNX file")
    float32 = onnx.TensorProto.FLOAT
    model, images = file.model, file.images
    graph, batch = model.graph, images.batch or "batch"
    opset = max(o.version for o in model.opset_import if o.domain in {"", "ai.onnx"})

    feed: list[tuple[str, dict[str, Any]]] = []
    if images.channels_last:
        feed.append(("Transpose", {"perm": [0, 2, 3, 1]}))
    if images.dtype != np.float32:
        number = next(number for number, dtype in FLOATS.items() if dtype == images.dtype)
        feed.append(("Cast", {"to": number}))
    # A tensor is renamed rather than copied: ONNX Runtime's fusions break on an Identity behind a
    # tapped Clip.
    new = {} if feed else {images.name: INPUT}
    for layer, choice in chosen.items():
        name = choice.layer.name
        if choice.tokens.how == "flatten" and types[name] == np.float32 and name not in new:
            new[name] = layer
    for name in {INPUT, *chosen} & set(_names(graph)):
        new.setdefault(name, f"{name}/inner")
    _rename(graph, new)

    source = INPUT
    for i, (operator, attributes) in enumerate(feed):
        last = i == len(feed) - 1
        target = new.get(images.name, images.name) if last else f"{INPUT}/{operator}"
        graph.node.insert(i, onnx.helper.make_node(operator, [source], [target], **attributes))
        source = target
    for value in list(graph.input):
        if value.name in {INPUT, new.get(images.name, images.name)}:
            graph.input.remove(value)
    shape = [batch, 3, *preprocessing.size]
    graph.input.insert(0, onnx.helper.make_tensor_value_info(INPUT, float32, shape))

    outputs = []
    for layer, choice in chosen.items():
        source = new.get(choice.layer.name, choice.layer.name)
        if source != layer:
            graph.node.extend(_taken(choice, source, layer, graph, opset))
        shape = list(
            choice.layer.shape if choice.tokens.how == "flatten" else choice.layer.shape[1:]
        )
        outputs.append(onnx.helper.make_tensor_value_info(layer, float32, [batch, *shape]))
    set_outputs(graph, outputs)
    was = json.loads(file.metadata.get("fastrdm.taps", "{}"))
    taps = {
        layer: was.get(choice.layer.name, choice.to_dict())
        if choice.tokens.how == "flatten"
        else choice.to_dict()
        for layer, choice in chosen.items()
    }
    onnx.helper.set_model_props(
        model,
        {
            "fastrdm.architecture": file.path.stem,
            **file.metadata,
            "fastrdm.layers": json.dumps(list(chosen)),
            "fastrdm.taps": json.dumps(taps),
            "fastrdm.preprocessing": preprocessing.to_json(),
            "fastrdm.version": __version__,
        },
    )
    weights = {new.get(name, name): value for name, value in file.weights.items()}
    return Graph.from_model(file.path, model, weights)


def _taken(choice: Choice, source: str, layer: str, graph: Any, opset: int) -> Iterator[Any]:
    """Nodes from a tensor to a layer of another name, in float32 and without the tokens that are not wanted."""
    onnx = require("onnx", "run", "to read an ONNX file")

    def constant(name: str, values: Any) -> str:
        graph.initializer.append(
            onnx.numpy_helper.from_array(np.array(values, np.int64), f"{layer}/{name}")
        )
        return f"{layer}/{name}"

    steps: list[tuple[str, list[str], dict[str, Any]]] = [("Cast", [], {"to": 1})]
    if choice.tokens.how == "cls":
        steps.append(("Gather", [constant("token", 0)], {"axis": 1}))
    if choice.tokens.how == "mean":
        patches = range(choice.tokens.start or 0, choice.layer.shape[0])
        steps.append(("Gather", [constant("patches", patches)], {"axis": 1}))
        axes = opset < _AXES_INPUT
        steps.append(
            (
                "ReduceMean",
                [] if axes else [constant("axes", [1])],
                {"keepdims": 0} | ({"axes": [1]} if axes else {}),
            )
        )
    for i, (operator, inputs, attributes) in enumerate(steps):
        target = layer if i == len(steps) - 1 else f"{layer}/{operator}"
        yield onnx.helper.make_node(operator, [source, *inputs], [target], **attributes)
        source = target


def set_outputs(graph: Any, outputs: Collection[Any]) -> None:
    """Give a graph other outputs, and drop what they do not depend on and the shapes of inner values."""
    replace_all(graph.output, outputs)
    prune(graph)
    del graph.value_info[:]


def _names(graph: Any) -> Iterator[str]:
    """All names of tensors."""
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
    """Height × width, as messages write it."""
    return " × ".join(str(n or "any") for n in size)
