"""ONNX models: read, filled with weights, and pruned to the nodes that their outputs need."""

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import check_expansion, one_line, require
from fastrdm.networks.external_data import external_file, external_files
from fastrdm.networks.onnx_checks import check_model

# The limit of protobuf.
_MAX_BYTES = 2**31


def is_onnx(path: str | Path) -> bool:
    """Whether a file name ends in `.onnx`, in any case."""
    return str(path).lower().endswith(".onnx")


def existing_file(path: str | Path) -> Path:
    """Return the path of an ONNX file; raise FileNotFoundError if it does not exist."""
    path = Path(path)
    if not path.is_file():
        problem = "is not a file" if path.exists() else "no such ONNX file"
        raise FileNotFoundError(f"{path}: {problem}")
    return path


def read_model(source: str | Path | bytes, name: str = "") -> Any:
    """Read an ONNX file or its contents, without the weights that it keeps in other files.

    `name` is the model's name in messages, by default the path. Raise FileNotFoundError if the file does not exist, and
    ValueError if it is not an ONNX model.
    """
    onnx = require("onnx", "run", "to read an ONNX model")
    name = name or ("the graph" if isinstance(source, bytes) else str(source))
    file = None if isinstance(source, bytes) else existing_file(source)
    if file and file.stat().st_size >= _MAX_BYTES:
        raise ValueError(
            f"{name} cannot be read as an ONNX model: the format allows less than 2 GiB"
        )
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
    check_model(model, name)
    return model


def metadata_of(model: Any) -> dict[str, str]:
    """Metadata of a model, as a dict."""
    return {entry.key: entry.value for entry in model.metadata_props}


def is_external(tensor: Any) -> bool:
    """Whether the values of an initialiser are kept outside the model."""
    return bool(tensor.data_location == tensor.EXTERNAL)


def map_weights(tensors: Iterable[Any], path: Path) -> dict[str, NDArray[Any]]:
    """Map those initialisers of an ONNX file that it keeps in other files, below its folder.

    Tensors of types that NumPy lacks are stored in the model instead. Raise FileNotFoundError if a file does not exist,
    and ValueError if it is too short or as `external_file` does.
    """
    onnx = require("onnx", "run", "to read an ONNX model")
    weights: dict[str, NDArray[Any]] = {}
    for tensor, place in _places(filter(is_external, tensors), path):
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        # 1 marks the types of NumPy itself.
        if dtype.isbuiltin != 1:
            place.store(tensor)
        # NumPy cannot map an empty array.
        elif place.n_bytes:
            weights[tensor.name] = np.memmap(
                place.file, dtype, "r", place.offset, tuple(tensor.dims)
            )
        else:
            weights[tensor.name] = np.empty(tuple(tensor.dims), dtype)
    return weights


def read_with_weights(path: Path) -> tuple[Any, dict[str, NDArray[Any]]]:
    """Read an ONNX file, and map the initialisers that it keeps in other files.

    Other tensors in these files, such as those of branches and attributes, are stored in the model. Errors are those of
    `read_model` and `map_weights`.
    """
    model = read_model(path)
    weights = map_weights(model.graph.initializer, path)
    if external_files(path):
        store_inner(model, path, set(weights))
    return model, weights


def store_inner(model: Any, path: Path, kept: Collection[str]) -> None:
    """Store the tensors of a model that are in other files in the model, but for the initialisers `kept`."""
    # A list, because protobuf makes new objects for messages that nobody holds.
    left = [tensor for tensor in model.graph.initializer if tensor.name in kept]
    ids = set(map(id, left))
    moved = [each for each in _tensors(model) if is_external(each) and id(each) not in ids]
    for tensor, place in _places(moved, path):
        place.store(tensor)


def _places(tensors: Iterable[Any], path: Path) -> "list[tuple[Any, _ExternalPlace]]":
    """Tensors with the places to which they refer, checked; ValueError if they repeat the files' bytes too often."""
    found = [(tensor, _ExternalPlace.of(tensor, path)) for tensor in tensors]
    announced = sum(place.n_bytes for _, place in found)
    held = sum(file.stat().st_size for file in {place.file for _, place in found})
    if announced > held:
        advice = "its tensors share the same bytes of their files"
        check_expansion(announced, held, f"{path}: the weights in other files", advice)
    return found


@dataclass(frozen=True)
class _ExternalPlace:
    """Where a file holds a tensor."""

    file: Path
    offset: int
    n_bytes: int

    @classmethod
    def of(cls, tensor: Any, path: Path) -> "_ExternalPlace":
        """The place to which a tensor of an ONNX file refers, checked."""
        entries = {entry.key: entry.value for entry in tensor.external_data}
        file = external_file(path, entries.get("location", ""))
        if not file.is_file():
            raise FileNotFoundError(f"{file}: no such file; {path} keeps its weights there")
        n_bytes = _n_bytes(tensor, path)
        try:
            offset = int(entries.get("offset", 0))
            length = int(entries.get("length", n_bytes))
        except ValueError:
            offset = length = -1
        if offset < 0 or length != n_bytes:
            raise ValueError(
                f"{path}: the place of {tensor.name!r} in {file} is not an offset and a length of {n_bytes} bytes"
            )
        if offset + n_bytes > file.stat().st_size:
            raise ValueError(f"{file} is too short for the weights of {path}: truncated")
        return cls(file, offset, n_bytes)

    def store(self, tensor: Any) -> None:
        """Store the values in the tensor."""
        with self.file.open("rb") as file:
            file.seek(self.offset)
            tensor.raw_data = file.read(self.n_bytes)
        del tensor.external_data[:]
        tensor.data_location = tensor.DEFAULT


def _n_bytes(tensor: Any, path: Path) -> int:
    """Size of a tensor's values in bytes."""
    onnx = require("onnx", "run", "to read an ONNX model")
    try:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    except (KeyError, ValueError):
        dtype = np.dtype(object)
    name = onnx.TensorProto.DataType.Name(tensor.data_type) if not dtype.hasobject else ""
    if not name or min(tensor.dims, default=0) < 0:
        raise ValueError(
            f"{path}: the tensor {tensor.name!r} of type {tensor.data_type} and shape {tuple(tensor.dims)} cannot be"
            " in another file"
        )
    # Types of fewer than eight bits are packed; NumPy's have a byte.
    packed = re.search(r"(?:INT|FLOAT)([124])(?!\d)", name)
    bits = int(packed[1]) if packed else 8 * dtype.itemsize
    return int(-(-math.prod(tensor.dims) * bits // 8))


def _tensors(message: Any) -> Iterator[Any]:
    """All tensors in a message, at any depth."""
    waiting = [message]
    while waiting:
        for field, value in waiting.pop().ListFields():
            if field.message_type is None:
                continue
            for each in value if isinstance(value, Iterable) else [value]:
                if field.message_type.name == "TensorProto":
                    yield each
                else:
                    waiting.append(each)


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
