"""The layers that are tapped by default: stem, blocks or stages, final norm, pooling and head of a torch network."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fastrdm._base import require
from fastrdm.networks.layers import Layer, NetworkLayers

if TYPE_CHECKING:
    import torch


# More weights than the stem of a network with blocks has.
_STEM = 4


def default_layers(module: "torch.nn.Module", network: NetworkLayers) -> list[Layer]:
    """Choose layers of a network for which nobody named any, in the order of the forward pass.

    These are the direct children, in all their runs, and those of a network in a wrapper. Instead of a `ModuleList`, a
    `Sequential` with several weights, or a module that contains a list of blocks, they are its children; instead of a
    stage, its blocks. A stage or encoder itself follows if its output is not that of its last block. In a network with
    blocks, a `Sequential` of a few convolutions is one layer, the stem or head. Modules that return their input
    unchanged are left out if there are others, and so are layers with the values of another one, such as those of a
    pooling layer when they are flattened. Of layers that share memory, the first one that is not overwritten in place
    is kept.
    """
    stem = _STEM if any(map(_has_blocks, module.modules())) else 1
    paths = {path for name, child in _parts(module) for path in _paths(name, child, stem, False)}
    found = [
        layer for layer in network.layers.values() if layer.path in paths and not layer.problem
    ]
    # A network of nothing but identities has no other layers.
    found = [layer for layer in found if not layer.is_trivial] or found
    kept: dict[int | None, Layer] = {}
    for layer in found:
        first = kept.get(layer.tensor)
        if first is None or (first.is_overwritten and not layer.is_overwritten):
            kept[layer.tensor] = layer
    return [layer for layer in found if kept[layer.tensor] is layer]


def _parts(module: Any) -> Iterator[tuple[str, Any]]:
    """The direct children; of a module that only wraps another one, also the children of that one."""
    children = list(module.named_children())
    yield from children
    if len(children) == 1:
        (name, child) = children[0]
        for inner, part in _parts(child):
            yield f"{name}.{inner}", part


def _paths(path: str, module: Any, stem: int, is_element: bool) -> Iterator[str]:
    """Paths to a module's parts, and to itself.

    `stem` is the number of weights up to which a `Sequential` without blocks is one layer; `is_element` is whether the
    module is in a list.
    """
    nn = require("torch.nn", "export", "to run a network")
    is_list = isinstance(module, nn.ModuleList) or _has_blocks(module)
    if isinstance(module, nn.Sequential) and not is_element:
        is_list = is_list or _n_weights(module) > stem
    children = module.named_children()
    if is_list:
        for name, child in children:
            yield from _paths(f"{path}.{name}", child, stem, True)
    elif _contains_blocks(module):
        for name, child in children:
            # Of a stage only the blocks, not what lies between stages.
            if not is_element or _is_list_of_blocks(child) or _contains_blocks(child):
                yield from _paths(f"{path}.{name}", child, stem, False)
    yield path


def _has_blocks(module: Any) -> bool:
    """Whether a module is a list, and some of its elements are blocks."""
    nn = require("torch.nn", "export", "to run a network")
    is_list = isinstance(module, nn.ModuleList | nn.Sequential)
    return is_list and any(map(_is_large, module.children()))


def _contains_blocks(module: Any) -> bool:
    """Whether a module has a list of blocks, directly or in a child."""
    return any(_is_list_of_blocks(child) or _contains_blocks(child) for child in module.children())


def _is_list_of_blocks(module: Any) -> bool:
    nn = require("torch.nn", "export", "to run a network")
    if not isinstance(module, nn.ModuleList | nn.Sequential):
        return False
    children = [child for child in module.children() if any(True for _ in child.parameters())]
    return bool(children) and all(map(_is_large, children))


def _is_large(module: Any) -> bool:
    """Whether a module is a block or a list of them: it has children, and more than one layer with weights."""
    return any(True for _ in module.children()) and _n_weights(module) > 1


def _n_weights(module: Any) -> int:
    """Number of matrices and kernels."""
    return sum(parameter.ndim > 1 for parameter in module.parameters())
