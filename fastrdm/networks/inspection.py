"""A torch module → the layers that it has, found by running it."""

import contextlib
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fastrdm.networks.default_taps import default_layers
from fastrdm.networks.layers import (
    Choice,
    Layer,
    NetworkLayers,
    Taps,
    Tokens,
    find_taps,
    needs_second_run,
)
from fastrdm.networks.module_calls import ModuleCall, blank_images, call_modules

if TYPE_CHECKING:
    import torch

# Numbers of images in the first run, and in the second one, which shows which axis is the batch.
_FIRST, _SECOND = 2, 3


def inspect_module(module: "torch.nn.Module", size: tuple[int, int]) -> NetworkLayers:
    """Run a network on black images of a size (height, width), and leave it unchanged.

    Return a layer for each run of each module, by each path to it, in the order in which they finish; modules that do
    not run come last. The network runs once, and once more on another number of images if it is not clear which axis of
    an output is the batch. Raise ValueError if the network does not run on this input size.
    """
    calls = call_modules(module, blank_images(module, size, _FIRST))
    writes: dict[Any, int] = {}
    for call in calls:
        writes[call.memory] = max(writes.get(call.memory, 0), call.writes)
    numbers = {memory: number for number, memory in enumerate(writes) if memory is not None}
    paths: dict[Any, list[str]] = {}
    for path, part in module.named_modules(remove_duplicate=False):
        if path:
            paths.setdefault(part, []).append(path)
    totals, counts = Counter(call.module for call in calls), Counter[Any]()
    layers = {}
    for call, shapes in zip(calls, _shapes(module, calls, size), strict=True):
        layer = Layer(
            "",
            type(call.module).__name__,
            part=call.part,
            problem=call.problem,
            run=counts[call.module] if totals[call.module] > 1 else None,
            tensor=numbers.get(call.memory),
            is_trivial=call.is_trivial,
            is_overwritten=call.writes < writes[call.memory],
        )
        counts[call.module] += 1
        if not layer.problem:
            layer = layer.measured(*shapes)
        for path in paths[call.module]:
            name = path if layer.run is None else f"{path}#{layer.run}"
            layers[name] = replace(layer, name=name)
    for part, names in paths.items():
        if part not in totals:
            problem = "does not run in the forward pass"
            layers |= {name: Layer(name, type(part).__name__, problem=problem) for name in names}
    # The extra state of a module may be anything.
    state = ((name, getattr(value, "shape", None)) for name, value in module.state_dict().items())
    weights = {name: tuple(shape) for name, shape in state if shape is not None}
    return NetworkLayers(type(module).__name__, "module", layers, size, weights)


def choose_taps(
    module: "torch.nn.Module", network: NetworkLayers, taps: Taps | None = None
) -> dict[str, Choice]:
    """Choose the taps of a module by the rules of `export_onnx`, given its layers; may be empty."""
    if taps is None:
        taps = getattr(module, "taps", None)
    if taps is not None:
        requests = find_taps(taps, network.layers, network.name, network.kind)
        return network.choose(requests, stacklevel=4)
    return {layer.name: Choice(layer, Tokens()) for layer in default_layers(module, network)}


def _shapes(
    module: "torch.nn.Module", calls: list[ModuleCall], size: tuple[int, int]
) -> list[list[tuple[tuple[int, ...], int]]]:
    """The shapes that each call returns, each with the number of images; those of one run if it shows the batch."""
    shapes = [[(call.shape, _FIRST)] for call in calls]
    if any(needs_second_run(call.shape, _FIRST) for call in calls):
        # Some networks run on batches of one size only.
        with contextlib.suppress(ValueError):
            others = call_modules(module, blank_images(module, size, _SECOND))
            if [call.module for call in others] == [call.module for call in calls]:
                for each, other in zip(shapes, others, strict=True):
                    each.append((other.shape, _SECOND))
    return shapes
