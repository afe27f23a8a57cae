"""An estimate of the memory that a network needs to run, from its graph."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from fastrdm._base import require

Step = tuple[Sequence[str], Sequence[str]]


def bytes_per_image(model: Any, tapped: Collection[str]) -> int:
    """Return the peak memory of the inner values of one image, without those that are tapped.

    Runtimes fuse operators and reuse the memory of inputs, so they need less; their blocked layouts and
    scratch memory are not counted.
    The caller provides the memory of tapped values.
    """
    onnx = require("onnx", "run", "to estimate the memory of a network")
    graph = model.graph
    sizes = _sizes(graph)
    if any(name not in sizes for node in graph.node for name in node.output if name):
        sizes |= _sizes(onnx.shape_inference.infer_shapes(model).graph)
    steps = [(list(node.input), list(node.output)) for node in graph.node]
    return most_alive(steps, {name: n for name, n in sizes.items() if name not in tapped})


def most_alive(steps: Iterable[Step], sizes: Mapping[str, int]) -> int:
    """Return the largest sum of sizes of values that are alive together, from their computation to their last use.

    The steps (inputs, outputs) are in execution order; values without a size count as 0.
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
    """Bytes of each value of a graph with a known shape; the batch and other open dimensions count as 1."""
    onnx = require("onnx", "run", "to estimate the memory of a network")
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
