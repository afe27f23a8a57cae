"""How much memory a network takes to run, from its graph."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fastrdm._base import require

Step = tuple[Sequence[str], Sequence[str]]


def bytes_per_image(source: Path | bytes, tapped: Collection[str]) -> int:
    """Bytes that one image's inner values take where most of them are alive, less those that are tapped.

    Runtimes fuse operators and reuse what their inputs took, so they stay below it; their own blocked layouts and
    scratch are not in it.

    Parameters
    ----------
    source : Path or bytes
        An ONNX file or its contents.
    tapped : collection of str
        Values whose memory the caller provides.
    """
    onnx = require("onnx", "run", "to know how much memory a network takes")
    model = (
        onnx.load_model_from_string(source)
        if isinstance(source, bytes)
        else onnx.load_model(source, load_external_data=False)
    )
    graph = model.graph
    sizes = _sizes(graph)
    if any(name not in sizes for node in graph.node for name in node.output if name):
        sizes |= _sizes(onnx.shape_inference.infer_shapes(model).graph)
    steps = [(list(node.input), list(node.output)) for node in graph.node]
    return most_alive(steps, {name: n for name, n in sizes.items() if name not in tapped})


def most_alive(steps: Iterable[Step], sizes: Mapping[str, int]) -> int:
    """The largest sum of the sizes of values that are made and not yet used for the last time.

    Parameters
    ----------
    steps : iterable of (inputs, outputs)
        In the order they run.
    sizes : mapping of str to int
        Values that are not in it count nothing.
    """
    steps = list(steps)
    last_use = {name: i for i, (inputs, _) in enumerate(steps) for name in inputs}
    alive: dict[str, int] = {}
    most = 0
    for i, (inputs, outputs) in enumerate(steps):
        alive |= {name: sizes.get(name, 0) for name in outputs}
        most = max(most, sum(alive.values()))
        for name in (*inputs, *outputs):
            if last_use.get(name, i) == i:
                alive.pop(name, None)
    return most


def _sizes(graph: Any) -> dict[str, int]:
    """Bytes of each value of a graph whose shape is known; the batch and other open dimensions count as one."""
    onnx = require("onnx", "run", "to know how much memory a network takes")
    sizes = {}
    for value in (*graph.value_info, *graph.output):
        if not value.type.HasField("tensor_type"):
            continue
        tensor = value.type.tensor_type
        n = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).itemsize
        for dim in tensor.shape.dim:
            n *= dim.dim_value or 1
        sizes[value.name] = n
    return sizes
