"""Whether all weights of a traced network can be replaced."""

import contextlib
import copy
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from fastrdm._base import require
from fastrdm.networks.layout import Layout

if TYPE_CHECKING:
    import torch


@contextlib.contextmanager
def attributes_restored(module: "torch.nn.Module") -> Iterator[None]:
    """Restore what running a network changes in its modules, apart from the values of parameters and buffers.

    Some networks store values computed from their weights in attributes, such as LeViT's position biases. Others, such
    as EEGNet, give weights new memory, as in ``weight.data = torch.renorm(weight.data, 2, 0, 1)``, and would then miss
    weights that are copied to the old one.
    """
    torch = require("torch", "export", "to export a network")
    standard = vars(torch.nn.Module()).keys()
    saved = [(vars(part), dict(vars(part))) for part in module.modules()]
    containers = [
        (value, copy.copy(value))
        for _, before in saved
        for name, value in before.items()
        if name not in standard and isinstance(value, dict | list | set)
    ]
    weights = [
        (value, value.data)
        for value in (*module.parameters(), *module.buffers())
        if type(value) in (torch.Tensor, torch.nn.Parameter) and value.layout is torch.strided
    ]
    try:
        yield
    finally:
        for value, data in weights:
            if _place(value) != _place(data):
                value.data = data
        for attributes, before in saved:
            for name in attributes.keys() - before.keys() - standard:
                del attributes[name]
            attributes |= {name: value for name, value in before.items() if name not in standard}
        for value, content in containers:
            value.clear()
            if isinstance(value, list):
                value.extend(content)
            else:
                value.update(content)


def _place(tensor: "torch.Tensor") -> tuple[Any, ...]:
    return tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype, tensor.device


def why_fixed(module: "torch.nn.Module", traced: Any, model: Any, fresh: bool) -> str:
    """Return why the weights of a graph cannot be replaced, as half a sentence; empty if they can.

    They can if every tensor that may depend on weights is an entry of the state dict, unchanged and under its
    name: then nothing of the old weights remains.
    """
    torch = require("torch", "export", "to export a network")
    state = module.state_dict()
    signature = traced.graph_signature
    placeholders = {node.name: node for node in traced.graph.nodes if node.op == "placeholder"}
    copied = torch.ops.aten.lift_fresh_copy.default
    known = set(signature.non_persistent_buffers)
    for placeholder, name in signature.inputs_to_lifted_tensor_constants.items():
        # Constants in the code of a forward pass, as in torch.tensor([0.5]), are only copied.
        if fresh or all(user.target is copied for user in placeholders[placeholder].users):
            known.add(name)
    kept = {}
    for name, value in model.graph.initializers.items():
        tensor = getattr(value.const_value, "raw", None)
        if name in state:
            if not _is_same(tensor, state[name]):
                return f"it holds {name!r} in another form"
        elif name not in known:
            return (
                f"it holds {name!r}, which is neither parameter nor buffer "
                "and may have been computed from weights"
            )
        else:
            kept[name] = tensor
    tied = {name for group in Layout.of(module).tied for name in group[1:]}
    entries = {name: value for name, value in state.items() if name not in tied}
    for name, other in _overlapping(entries | kept):
        if {name, other} & entries.keys():
            return f"{name!r} and {other!r} share memory"
    return ""


def _is_same(tensor: Any, entry: "torch.Tensor") -> bool:
    torch = require("torch", "export", "to export a network")
    return (
        isinstance(tensor, torch.Tensor)
        and (tensor.dtype, tensor.shape) == (entry.dtype, entry.shape)
        and (tensor.data_ptr() == entry.data_ptr() or torch.equal(tensor, entry))
    )


def _overlapping(tensors: "Mapping[str, torch.Tensor]") -> Iterator[tuple[str, str]]:
    """Pairs of names of tensors that share memory, each with one before it."""
    extents = []
    for name, tensor in tensors.items():
        if tensor.numel():
            last = sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True))
            start = tensor.data_ptr()
            extents.append((start, start + (last + 1) * tensor.element_size(), name))
    furthest, owner = 0, ""
    for start, end, name in sorted(extents):
        if start < furthest:
            yield owner, name
        if end > furthest:
            furthest, owner = end, name
