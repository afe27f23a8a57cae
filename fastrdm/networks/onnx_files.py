"""ONNX models: read, filled with weights, and pruned to the nodes that their outputs need."""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import one_line, require


def is_onnx(path: str | Path) -> bool:
    """Whether a file name ends in `.onnx`, in any case."""
    return str(path).lower().endswith(".onnx")


def existing_file(path: str | Path) -> Path:
    """Return the path of an ONNX file; raise FileNotFoundError if it does not exist."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such ONNX file")
    return path


def read_model(source: str | Path | bytes, name: str = "") -> Any:
    """Read an ONNX file or its contents, without the weights that it keeps in other files.

    `name` is the model's name in messages, by default the path. Raise FileNotFoundError if the file does not exist, and
    ValueError if it is not an ONNX model.
    """
    onnx = require("onnx", "run", "to read an ONNX model")
    name = name or ("the graph" if isinstance(source, bytes) else str(source))
    file = None if isinstance(source, bytes) else existing_file(source)
    try:
        model = onnx.load_model_from_string(file.read_bytes() if file else source)
    # protobuf's errors have no common base class.
    except Exception as error:
        raise ValueError(
            f"{name} cannot be read as an ONNX model (truncated, or another kind of file): "
            f"{one_line(error)}"
        ) from error
    if not model.graph.node:
        raise ValueError(f"{name} holds no ONNX graph (truncated, or another kind of file)")
    return model


def metadata_of(model: Any) -> dict[str, str]:
    """Metadata of a model, as a dict."""
    return {entry.key: entry.value for entry in model.metadata_props}


def is_external(tensor: Any) -> bool:
    """Whether the values of an initialiser are kept outside the model."""
    return bool(tensor.data_location == tensor.EXTERNAL)


def map_weights(tensors: Iterable[Any], path: Path) -> dict[str, NDArray[Any]]:
    """Map those initialisers of an ONNX file that it keeps in other files, below its folder."""
    onnx = require("onnx", "run", "to read an ONNX model")
    folder = path.parent.resolve()
    weights = {}
    for tensor in filter(is_external, tensors):
        entries = {entry.key: entry.value for entry in tensor.external_data}
        file = (folder / entries.get("location", "")).resolve()
        if not file.is_relative_to(folder):
            raise ValueError(f"{path} refers to weights outside its folder: {file}")
        if not file.is_file():
            raise FileNotFoundError(f"{file}: no such file; {path} keeps its weights there")
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        shape, offset = tuple(tensor.dims), int(entries.get("offset", 0))
        if offset + math.prod(shape) * dtype.itemsize > file.stat().st_size:
            raise ValueError(f"{file} is too short for the weights of {path}: truncated")
        # NumPy cannot map an empty array.
        weights[tensor.name] = (
            np.memmap(file, dtype, "r", offset, shape)
            if math.prod(shape)
            else np.empty(shape, dtype)
        )
    return weights


def put_weights(model: Any, weights: Mapping[str, NDArray[Any]]) -> None:
    """Store weights in the initialisers of their names."""
    onnx = require("onnx", "run", "to read an ONNX model")
    for tensor in model.graph.initializer:
        if tensor.name in weights:
            tensor.CopyFrom(onnx.numpy_helper.from_array(weights[tensor.name], tensor.name))


def prune(graph: Any) -> None:
    """Drop the nodes that no output depends on, and inputs, initialisers and shapes that no node left uses."""
    needed, kept = {output.name for output in graph.output}, []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(inputs_of(node))
            kept.append(node)
    replace_all(graph.node, kept[::-1])
    for values in (graph.initializer, graph.input, graph.value_info):
        keep_named(values, needed)


def keep_named(values: Any, names: Collection[str]) -> None:
    """Remove values from a repeated field unless they have one of these names."""
    replace_all(values, [value for value in values if value.name in names])


def replace_all(field: Any, values: Collection[Any]) -> None:
    """Replace the values of a repeated field."""
    del field[:]
    field.extend(values)


def subgraphs(node: Any) -> Iterator[Any]:
    """Branches and loop bodies of a node."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def inputs_of(node: Any) -> Iterator[str]:
    """Names that a node reads, also in its branches and loop bodies; repeated as often as they are read."""
    yield from node.input
    for graph in subgraphs(node):
        for inner in graph.node:
            yield from inputs_of(inner)
        yield from (output.name for output in graph.output)
