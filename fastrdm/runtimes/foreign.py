"""ONNX files from any exporter: running one once to find its tensors, and taking those that are tapped."""

import contextlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from warnings import warn

import numpy as np

from fastrdm._base import one_line, require
from fastrdm.images import Preprocessing
from fastrdm.networks import (
    FLOATS,
    INNER_SHAPES,
    Choice,
    Graph,
    Layer,
    NetworkLayers,
    OnnxFile,
    RequestedPreprocessing,
    Taps,
    find_taps,
    format_size,
    needs_second_run,
    rewrite,
    set_outputs,
)
from fastrdm.runtimes.providers import open_session


def open_foreign(
    path: str | Path,
    taps: Taps | None = None,
    preprocessing: RequestedPreprocessing | None = None,
    *,
    batch_size: int | None = None,
) -> Graph:
    """Convert an ONNX file from any exporter to a graph such as `export_onnx` writes.

    Tapped tensors become its float32 outputs, named after the layers; nodes that they do not depend on are removed.
    Unlike with torch's hooks, a tensor before a ReLU is never rectified. The file's input may have channels last, and
    be float16 or float64. Weights in other files are mapped, not read.

    By default, `taps` are the layers of a file from `export_onnx`, and `preprocessing` is the file's; if it has none,
    the development kit's at the file's size, with a warning. If the inner shapes need one image, the graph's batch is
    fixed to one, which is an error unless `batch_size` is 1 or omitted. ValueError if the file's input is not one batch
    of floating-point images with three channels and the size of the preprocessing, or the file does not run.
    """
    file = OnnxFile.read(Path(path))
    if taps is None:
        if "fastrdm.layers" not in file.metadata:
            raise ValueError(
                f"the metadata of {path} do not name its layers; name them with taps "
                f"(fastrdm layers {path} lists them)"
            )
        taps = json.loads(file.metadata["fastrdm.layers"])
    prepared = file.preprocessing(preprocessing)
    known = file.tensors()
    requests = find_taps(taps, known, str(path), "tensor")
    matches = {name for request in requests for name in request.matches}
    names = [name for name in known if name in matches]
    file, network, types = _measure(file, names, prepared.size, batch_size)
    chosen = network.choose(requests)
    is_whole = isinstance(preprocessing, Preprocessing)
    if not is_whole and "fastrdm.preprocessing" not in file.metadata:
        warn(
            f"the metadata of {path} do not describe its preprocessing; images are resized to "
            f"{format_size(prepared.size)} ({prepared.resize}), {prepared.channel_order}, with mean "
            f"{prepared.mean} and std {prepared.std}",
            stacklevel=3,
        )
    return rewrite(file, chosen, types, prepared)


def inspect_file(
    path: str | Path, preprocessing: RequestedPreprocessing | None = None
) -> tuple[NetworkLayers, dict[str, str]]:
    """Run an ONNX file once, on black images, to find its tensors.

    Returns a layer for each tensor that depends on the images, in the order of the graph, and a mark for each output:
    "output", or the tap of `export_onnx`.
    """
    file = OnnxFile.read(Path(path))
    _, network, _ = _measure(file, list(file.tensors()), file.preprocessing(preprocessing).size)
    taps = json.loads(file.metadata.get("fastrdm.taps", "{}"))
    marks = {
        output.name: Choice.describe(taps[output.name]) if output.name in taps else "output"
        for output in file.model.graph.output
    }
    return network, marks


def _measure(
    file: OnnxFile, names: list[str], size: tuple[int, int], batch_size: int | None = None
) -> tuple[OnnxFile, NetworkLayers, dict[str, np.dtype[Any]]]:
    """Run the file with these tensors as its outputs; return the file, layers and their types.

    The returned file has a fixed batch of one image if it runs on one but not on two.
    """
    if file.images.batch is not None:
        return file, *_run(file, names, size, file.images.batch)
    single = replace(file, images=replace(file.images, batch=1))
    try:
        # Two, to distinguish batches from single images; three where it is unclear which axis is the batch.
        network, types = _run(file, names, size, 2, 3)
    except ValueError as error:
        if batch_size not in {None, 1}:
            raise ValueError(f"{error}; its {INNER_SHAPES}") from error
        return single, *_run(single, names, size, 1)
    if batch_size == 1 and any(layer.problem for layer in network.layers.values()):
        return single, *_run(single, names, size, 1)
    return file, network, types


def _run(
    file: OnnxFile, names: list[str], size: tuple[int, int], n: int, second: int | None = None
) -> tuple[NetworkLayers, dict[str, np.dtype[Any]]]:
    """Run a file on n black images, and on a second number if that has to show the batch; return layers and types."""
    onnx = require("onnx", "onnx", "to read an ONNX file")
    known = file.tensors()
    probe = onnx.ModelProto()
    probe.CopyFrom(file.model)
    # ONNX Runtime infers the types; onnx does not know its fused operators.
    set_outputs(probe.graph, [onnx.ValueInfoProto(name=name) for name in names])
    session = open_session(Graph.from_model(file.path, probe, file.weights), "cpu").session
    values = _answer(file, session, names, size, n)
    runs = [(values, n)]
    if second is not None and any(needs_second_run(np.shape(value), n) for value in values):
        with contextlib.suppress(ValueError):
            runs.append((_answer(file, session, names, size, second), second))
    layers, types = {}, {}
    for name, value, *others in zip(names, *(values for values, _ in runs), strict=True):
        layers[name] = Layer(name, known[name])
        if isinstance(value, np.ndarray) and value.dtype in FLOATS.values():
            types[name] = value.dtype
            shapes = [(each.shape, n) for each, (_, n) in zip((value, *others), runs, strict=True)]
            layers[name] = layers[name].measured(*shapes)
        else:
            problem = f"returns {getattr(value, 'dtype', 'no array')}, not floating-point numbers"
            layers[name] = replace(layers[name], problem=problem)
    weights = {tensor.name: tuple(tensor.dims) for tensor in file.model.graph.initializer}
    return NetworkLayers(str(file.path), "tensor", layers, size, weights), types


def _answer(file: OnnxFile, session: Any, names: list[str], size: tuple[int, int], n: int) -> Any:
    images = file.images.blank(n, size)
    try:
        return session.run(names, {file.images.name: images})
    # The binding's exceptions have no common base class.
    except Exception as error:
        raise ValueError(
            f"{file.path} does not run on images of shape {images.shape}, which probe it: "
            f"{one_line(error)}"
        ) from error
