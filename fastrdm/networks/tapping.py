"""Tapped layers of a torch module while it runs, with hooks that exporting and running share."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from fastrdm.networks.layers import Choice, Layer
from fastrdm.networks.module_calls import output_tensor

if TYPE_CHECKING:
    import torch

# Selections from a tensor (batch, tokens, channels).
_TOKENS = {
    "flatten": lambda tensor, start: tensor,
    "cls": lambda tensor, start: tensor[:, 0],
    "mean": lambda tensor, start: tensor[:, start:].mean(1),
}


@contextlib.contextmanager
def tapped(
    module: "torch.nn.Module", taps: Mapping[str, Choice]
) -> Iterator[Callable[[], dict[str, "torch.Tensor"]]]:
    """Keep the outputs of tapped modules; yields the function that returns the layers of the last forward pass.

    It is called after the pass, so that a later in-place operation shows in a layer. Layers have the batch as the first
    axis, may share memory, and can be read once. A module that did not run in the pass is a KeyError with its path.
    """
    # The outputs of each tapped module, in the order of its runs.
    held: dict[str, list[Any]] = {}
    parts = {name: module.get_submodule(choice.layer.path) for name, choice in taps.items()}
    # One of the names of each module.
    names = {part: name for name, part in parts.items()}
    keys = {name: names[part] for name, part in parts.items()}

    def read() -> dict[str, "torch.Tensor"]:
        layers = {}
        for name, choice in taps.items():
            outputs = held.get(keys[name], [])
            if len(outputs) <= (choice.layer.run or 0):
                raise KeyError(choice.layer.name)
            tensor = _batch_first(outputs, choice.layer)
            layers[name] = _TOKENS[choice.tokens.how](tensor, choice.tokens.start)
        # Activations are not kept until the next pass.
        held.clear()
        return layers

    with contextlib.ExitStack() as stack:
        for part, key in names.items():
            # The exporter may run copies of modules, with the same hooks.
            handle = part.register_forward_hook(
                lambda part, args, output, key=key: held.setdefault(key, []).append(
                    output_tensor(output)[1]
                )
            )
            stack.callback(handle.remove)
        stack.callback(module.register_forward_pre_hook(lambda part, args: held.clear()).remove)
        stack.callback(held.clear)
        yield read


def _batch_first(outputs: "list[torch.Tensor]", layer: Layer) -> "torch.Tensor":
    """A layer's activations among the outputs of its module, with the batch as the first axis."""
    tensor = outputs[-1 if layer.run is None else layer.run]
    # Moving the first axis to where it is would change the names in the graph, and with them its fingerprint.
    return tensor.movedim(layer.axis, 0) if layer.axis else tensor
