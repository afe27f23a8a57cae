"""ONNX files of any origin, run once: what their tensors are, and the graph that gives those that are tapped."""

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
    Taps,
    find_taps,
    format_size,
    rewrite,
    set_outputs,
    shape_problem,
)
from fastrdm.runtimes.providers import open_session


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
        By the rules of `fastrdm.networks.find_taps`. None takes the layers of a file from `export_onnx`.
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
        there are no taps, or wrong ones as for `find_taps` and `NetworkLayers.choose`.
    MissingExtraError
        If onnx or ONNX Runtime is not installed.
    """
    file = OnnxFile.read(Path(path))
    if taps is None:
        if "fastrdm.layers" not in file.metadata:
            raise ValueError(
                f"{path} does not say which of its tensors are layers; name them with taps "
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
    if preprocessing is None and "fastrdm.preprocessing" not in file.metadata:
        warn(
            f"{path} does not say how its images are prepared; they are resized to "
            f"{format_size(prepared.size)} ({prepared.resize}), {prepared.channel_order}, with mean "
            f"{prepared.mean} and std {prepared.std}",
            stacklevel=3,
        )
    return rewrite(file, chosen, types, prepared)


def inspect_file(path: str | Path) -> tuple[NetworkLayers, dict[str, str]]:
    """Run an ONNX file once, on black images.

    Parameters
    ----------
    path : path

    Returns
    -------
    network : NetworkLayers
        A layer for each tensor that depends on the images, in the order of the graph.
    marks : dict of str to str
        Tensors that are outputs → "output", or what they are of where `export_onnx` tapped them.

    Raises
    ------
    FileNotFoundError, ValueError, MissingExtraError
        As for `open_foreign`.
    """
    file = OnnxFile.read(Path(path))
    _, network, _ = _measure(file, list(file.tensors()), file.preprocessing().size)
    taps = json.loads(file.metadata.get("fastrdm.taps", "{}"))
    marks = {
        output.name: Choice.describe(taps[output.name]) if output.name in taps else "output"
        for output in file.model.graph.output
    }
    return network, marks


def _measure(
    file: OnnxFile, names: list[str], size: tuple[int, int], batch_size: int | None = None
) -> tuple[OnnxFile, NetworkLayers, dict[str, np.dtype[Any]]]:
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
    file: OnnxFile, names: list[str], size: tuple[int, int], n: int
) -> tuple[NetworkLayers, dict[str, np.dtype[Any]]]:
    """Run a file on n black images; layers, and the types they have."""
    onnx = require("onnx", "onnx", "to read an ONNX file")
    known = file.tensors()
    probe = onnx.ModelProto()
    probe.CopyFrom(file.model)
    # Without a type, which ONNX Runtime infers; onnx does not know its fused operators.
    set_outputs(probe.graph, [onnx.ValueInfoProto(name=name) for name in names])
    session = open_session(Graph.from_model(file.path, probe, file.weights), "cpu").session
    images = file.images.blank(n, size)
    try:
        values = session.run(names, {file.images.name: images})
    # The binding's exceptions have no base class of their own.
    except Exception as error:
        raise ValueError(
            f"{file.path} does not run on images of shape {images.shape}, which its probe makes: "
            f"{one_line(error)}"
        ) from error
    layers, types = {}, {}
    for name, value in zip(names, values, strict=True):
        if isinstance(value, np.ndarray) and value.dtype in FLOATS.values():
            problem = shape_problem(value.shape, n)
            types[name] = value.dtype
        else:
            problem = f"returns {getattr(value, 'dtype', 'no array')}, not floating-point numbers"
        layers[name] = Layer(name, known[name], () if problem else value.shape[1:], problem=problem)
    weights = {tensor.name: tuple(tensor.dims) for tensor in file.model.graph.initializer}
    return NetworkLayers(str(file.path), "tensor", layers, size, weights), types
