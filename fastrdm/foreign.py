"""ONNX files of any origin: what can be tapped in them, and graphs that answer with what is."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from warnings import warn

import numpy as np
from numpy.typing import NDArray

from fastrdm._extras import require
from fastrdm.graph import Graph
from fastrdm.layers import (
    INNER_SHAPES,
    INPUT,
    Choice,
    Layer,
    Network,
    Taps,
    find,
    shape_problem,
)
from fastrdm.providers import open_session
from fastrdm.stimuli import Preprocessing

# What images can be fed as, by ONNX's numbers of types.
_FLOATS: dict[int, np.dtype[Any]] = {
    1: np.dtype(np.float32),
    10: np.dtype(np.float16),
    11: np.dtype(np.float64),
}
# From this opset on ReduceMean takes its axes as an input.
_AXES_INPUT = 18


@dataclass(frozen=True)
class _Images:
    """The input of a graph: (batch, 3, height, width), or channels last; None for what is free."""

    name: str
    dtype: np.dtype[Any]
    channels_last: bool
    batch: int | None
    height: int | None
    width: int | None

    def blank(self, n: int, size: tuple[int, int]) -> NDArray[Any]:
        shape = (n, *size, 3) if self.channels_last else (n, 3, *size)
        return np.zeros(shape, self.dtype)


@dataclass(frozen=True)
class _File:
    """An ONNX file: its graph, the weights that lie beside it, its images, its metadata."""

    path: Path
    model: Any
    weights: Mapping[str, NDArray[Any]]
    images: _Images
    metadata: Mapping[str, str]

    def known(self) -> dict[str, str]:
        """Tensors that depend on the images → the operator that gives them, in order."""
        known: dict[str, str] = {}
        for node in self.model.graph.node:
            if any(name == self.images.name or name in known for name in read_by(node)):
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
                f"{self.path} takes images of {_by(fixed)} pixels, not {_by(given.size)} as its "
                "preprocessing makes them"
            )
        return given


def open_foreign(
    path: str | Path,
    taps: Taps | None = None,
    preprocessing: Preprocessing | None = None,
    *,
    batch_size: int | None = None,
) -> Graph:
    """Make an ONNX file of any origin into a graph as `export_onnx` writes them.

    Its tapped tensors become its outputs, float32 and named as layers; what they do not depend on
    is taken out. The tensors are what the graph computes: unlike torch's hooks, a tensor before a
    ReLU is never rectified. The file may take images channels last, and in float16 or float64.

    Parameters
    ----------
    path : path
        Weights may lie in files beside it; they are mapped, not read.
    taps : mapping of layer name to tensor, or sequence of tensors, optional
        By the rules of `fastrdm.layers.find`. None takes the layers of a file from `export_onnx`.
    preprocessing : Preprocessing, optional
        None takes what the file says, or else warns and takes the development kit's at the file's
        size.
    batch_size : int, optional
        How many images it is to run on at once. A file whose inner shapes want one image is an error unless it is 1
        or left out.

    Returns
    -------
    Graph
        Its batch is fixed where the file's is, and at one image where its inner shapes want that.

    Raises
    ------
    FileNotFoundError
        If there is no such file, or none of the weights that it refers to.
    ValueError
        If the file is no ONNX model, has not one input of images with three channels in
        floating-point numbers, or of another size than the preprocessing's, or does not run; if
        there are no taps, or wrong ones as for `find` and `Network.choose`.
    MissingExtraError
        If onnx or ONNX Runtime is not installed.
    """
    file = _read(Path(path))
    if taps is None:
        if "fastrdm.layers" not in file.metadata:
            raise ValueError(
                f"{path} does not say which of its tensors are layers; name them with taps "
                f"(fastrdm layers {path} lists them)"
            )
        taps = json.loads(file.metadata["fastrdm.layers"])
    prepared = file.preprocessing(preprocessing)
    known = file.known()
    requests = find(taps, known, str(path), "tensor")
    matches = {name for request in requests for name in request.matches}
    names = [name for name in known if name in matches]
    file, network, types = _measure(file, names, prepared.size, batch_size)
    chosen = network.choose(requests)
    if preprocessing is None and "fastrdm.preprocessing" not in file.metadata:
        warn(
            f"{path} does not say how its images are prepared; they are resized to "
            f"{_by(prepared.size)} ({prepared.resize}), {prepared.channel_order}, with mean "
            f"{prepared.mean} and std {prepared.std}",
            stacklevel=3,
        )
    return _rewritten(file, chosen, types, prepared)


def inspect_file(path: str | Path) -> tuple[Network, dict[str, str]]:
    """Run an ONNX file once, on black images.

    Parameters
    ----------
    path : path

    Returns
    -------
    network : Network
        A layer for each tensor that depends on the images, in the order of the graph.
    marks : dict of str to str
        Tensors that are outputs → "output", or what they are of where `export_onnx` tapped them.

    Raises
    ------
    FileNotFoundError, ValueError, MissingExtraError
        As for `open_foreign`.
    """
    file = _read(Path(path))
    _, network, _ = _measure(file, list(file.known()), file.preprocessing().size)
    taps = json.loads(file.metadata.get("fastrdm.taps", "{}"))
    marks = {
        output.name: Choice.describe(taps[output.name]) if output.name in taps else "output"
        for output in file.model.graph.output
    }
    return network, marks


def _read(path: Path) -> _File:
    onnx = require("onnx", "onnx", "to read an ONNX file")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such ONNX file")
    try:
        model = onnx.load(path, format="protobuf", load_external_data=False)
    # protobuf's errors have no base class of their own.
    except Exception as error:
        raise ValueError(
            f"{path} cannot be read as an ONNX model (truncated, or another kind of file): "
            f"{' '.join(str(error).split())}"
        ) from error
    if not model.graph.node:
        raise ValueError(f"{path} holds no ONNX graph (truncated, or another kind of file)")
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    return _File(path, model, _weights(path, model.graph), _images(path, model.graph), metadata)


def _weights(path: Path, graph: Any) -> dict[str, NDArray[Any]]:
    """Map the initialisers that lie in other files."""
    onnx = require("onnx", "onnx", "to read an ONNX file")
    folder = path.parent.resolve()
    weights = {}
    for tensor in graph.initializer:
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        file = (folder / entries.get("location", "")).resolve()
        if not file.is_relative_to(folder):
            raise ValueError(f"{path} refers to weights outside its folder: {file}")
        if not file.is_file():
            raise FileNotFoundError(f"{file}: no such file, but {path} has its weights there")
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        shape, offset = tuple(tensor.dims), int(entries.get("offset", 0))
        if offset + math.prod(shape) * dtype.itemsize > file.stat().st_size:
            raise ValueError(f"{file} is too short for the weights of {path}: truncated")
        # NumPy maps no empty array.
        weights[tensor.name] = (
            np.memmap(file, dtype, "r", offset, shape)
            if math.prod(shape)
            else np.empty(shape, dtype)
        )
    return weights


def _images(path: Path, graph: Any) -> _Images:
    """The one input that is no weight."""
    onnx = require("onnx", "onnx", "to read an ONNX file")
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs)
        raise ValueError(f"{path} takes {len(inputs)} inputs, not one of images: {names}")
    tensor = inputs[0].type.tensor_type
    if tensor.elem_type not in _FLOATS:
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
    dtype = _FLOATS[tensor.elem_type]
    return _Images(inputs[0].name, dtype, channels_last, shape[0], height, width)


def _measure(
    file: _File, names: list[str], size: tuple[int, int], batch_size: int | None = None
) -> tuple[_File, Network, dict[str, np.dtype[Any]]]:
    """Run the file with these tensors as its outputs; layers, and the types they have.

    The file comes back, with its batch fixed at one image where it does not run on two and may run on one.
    """
    if file.images.batch is not None:
        return file, *_run(file, names, size, file.images.batch)
    single = replace(file, images=replace(file.images, batch=1))
    try:
        # Two, so that a batch is told from a single image.
        network, types = _run(file, names, size, 2)
    except ValueError as error:
        if batch_size not in {None, 1}:
            raise ValueError(f"{error}; its {INNER_SHAPES}") from error
        return single, *_run(single, names, size, 1)
    if batch_size == 1 and any(layer.problem for layer in network.layers.values()):
        return single, *_run(single, names, size, 1)
    return file, network, types


def _run(
    file: _File, names: list[str], size: tuple[int, int], n: int
) -> tuple[Network, dict[str, np.dtype[Any]]]:
    """Run a file on n black images; layers, and the types they have."""
    onnx = require("onnx", "onnx", "to read an ONNX file")
    known = file.known()
    probe = onnx.ModelProto()
    probe.CopyFrom(file.model)
    # Without a type, which ONNX Runtime infers; onnx does not know its fused operators.
    _answer_with(probe.graph, [onnx.ValueInfoProto(name=name) for name in names])
    session = open_session(_graph(file.path, probe, file.weights), "cpu").session
    images = file.images.blank(n, size)
    try:
        values = session.run(names, {file.images.name: images})
    # The binding's exceptions have no base class of their own.
    except Exception as error:
        raise ValueError(
            f"{file.path} does not run on images of shape {images.shape}, which its probe makes: "
            f"{' '.join(str(error).split())}"
        ) from error
    layers, types = {}, {}
    for name, value in zip(names, values, strict=True):
        if isinstance(value, np.ndarray) and value.dtype in _FLOATS.values():
            problem = shape_problem(value.shape, n)
            types[name] = value.dtype
        else:
            problem = f"gives {getattr(value, 'dtype', 'no array')}, no floating-point numbers"
        layers[name] = Layer(name, known[name], () if problem else value.shape[1:], problem=problem)
    weights = {tensor.name: tuple(tensor.dims) for tensor in file.model.graph.initializer}
    return Network(str(file.path), "tensor", layers, size, weights), types


def _rewritten(
    file: _File,
    chosen: Mapping[str, Choice],
    types: Mapping[str, np.dtype[Any]],
    preprocessing: Preprocessing,
) -> Graph:
    """The file's graph with its input and its taps as `export_onnx` would have them."""
    from fastrdm.environment import __version__

    onnx = require("onnx", "onnx", "to read an ONNX file")
    float32 = onnx.TensorProto.FLOAT
    model, images = file.model, file.images
    graph, batch = model.graph, images.batch or "batch"
    opset = max(o.version for o in model.opset_import if o.domain in {"", "ai.onnx"})

    feed: list[tuple[str, dict[str, Any]]] = []
    if images.channels_last:
        feed.append(("Transpose", {"perm": [0, 2, 3, 1]}))
    if images.dtype != np.float32:
        number = next(number for number, dtype in _FLOATS.items() if dtype == images.dtype)
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
    _answer_with(graph, outputs)
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
    return _graph(file.path, model, weights)


def _graph(path: Path, model: Any, weights: Mapping[str, NDArray[Any]]) -> Graph:
    """A model in memory with those of the weights that are left in it."""
    left = {tensor.name for tensor in model.graph.initializer}
    kept = {name: value for name, value in weights.items() if name in left}
    return Graph(str(path), model.SerializeToString(), kept)


def _taken(choice: Choice, source: str, layer: str, graph: Any, opset: int) -> Iterator[Any]:
    """Nodes from a tensor to a layer of another name, in float32 and without the tokens that are not wanted."""
    onnx = require("onnx", "onnx", "to read an ONNX file")

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


def _answer_with(graph: Any, outputs: Iterable[Any]) -> None:
    """Give a graph other outputs, and take out what they do not depend on."""
    outputs = list(outputs)
    needed, kept = {output.name for output in outputs}, []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(read_by(node))
            kept.append(node)
    weights = [tensor for tensor in graph.initializer if tensor.name in needed]
    for field, values in (
        (graph.node, kept[::-1]),
        (graph.initializer, weights),
        (graph.output, outputs),
        (graph.value_info, []),
    ):
        del field[:]
        field.extend(values)


def subgraphs(node: Any) -> Iterator[Any]:
    """The branches and loops of a node."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def read_by(node: Any) -> set[str]:
    """Tensors that a node reads, those read in its branches and loops among them."""
    names = set(node.input)
    for graph in subgraphs(node):
        names.update(*map(read_by, graph.node))
    return names


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


def _by(size: Iterable[int | None]) -> str:
    return " × ".join(str(n or "any") for n in size)
