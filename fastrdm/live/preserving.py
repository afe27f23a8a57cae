"""A module and the states of random numbers, as they were before it was scored."""

import contextlib
import copy
import pickle
import random
import threading
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from fastrdm._base import list_names
from fastrdm.tensors import torch_package

if TYPE_CHECKING:
    import torch

# Random states and the standard output belong to the process: threads would restore those of each other.
_ONE_AT_A_TIME = threading.RLock()


@contextlib.contextmanager
def preserved(module: "torch.nn.Module", *, copies_weights: bool = False) -> Iterator[None]:
    """Restore a module and the states of random numbers at the end of a block, whatever it does or raises.

    Of the module: modes, hooks, attributes, gradients, which tensors it has, and the values of its buffers; those of
    its parameters with `copies_weights`, which takes memory of the host. Raise ValueError for buffers and parameters
    that the block has changed; without `copies_weights`, changes of parameters through ``data`` are not found. The
    block is also `undisturbed`.
    """
    with (
        undisturbed(module),
        _tensors_preserved(module, copies_weights),
        _attributes_preserved(module),
    ):
        yield


@contextlib.contextmanager
def undisturbed(module: "torch.nn.Module") -> Iterator[None]:
    """Restore the states of random numbers, and leave autocast and inference mode of the surrounding code.

    Nothing waits for the module's device. Other threads wait for the end of the block.
    """
    torch = torch_package()
    devices = {value.device.type for value in (*module.parameters(), *module.buffers())}
    with contextlib.ExitStack() as stack:
        stack.enter_context(_ONE_AT_A_TIME)
        stack.enter_context(torch.inference_mode(False))
        for kind in sorted({"cpu", *devices} - {"meta"}):
            if torch.is_autocast_enabled(kind):
                # Weights in 16 bits that are kept without gradients would be used in training.
                stack.enter_context(torch.autocast(kind, enabled=False, cache_enabled=False))
        stack.enter_context(_random_states_preserved(module))
        yield


@contextlib.contextmanager
def _tensors_preserved(module: "torch.nn.Module", copies_weights: bool) -> Iterator[None]:
    """Restore gradients, buffers and copied weights, and refuse changes of buffers and parameters."""
    parameters = [(name, p, p.grad, p.requires_grad, p._version) for name, p in _own(module)]
    values = [(name, value, value.clone()) for name, value in module.named_buffers()]
    if copies_weights:
        # Only a copy shows what changes `parameter.data` in place. A device may have no room for it.
        values += [
            (name, p, p.detach().to("cpu", copy=True)) for name, p in module.named_parameters()
        ]
    changed = []
    try:
        yield
    finally:
        for _, p, gradient, requires, _ in parameters:
            if p.grad is not gradient:
                p.grad = gradient
            if p.requires_grad != requires:
                p.requires_grad_(requires)
        changed += [name for name, value, before in values if _restored(value, before)]
    changed += [
        name for name, p, *_, version in parameters if p._version != version and name not in changed
    ]
    if changed:
        raise ValueError(
            f"{type(module).__name__} changes its weights in evaluation mode ({list_names(changed)}), so its answer to"
            " an image depends on the images before it"
        )


def _own(module: "torch.nn.Module") -> "Iterator[tuple[str, torch.nn.Parameter]]":
    # Inference tensors have no version.
    return ((name, p) for name, p in module.named_parameters() if not p.is_inference())


def _restored(value: "torch.Tensor", old: "torch.Tensor") -> bool:
    """Whether a tensor had other bits than before, which are restored."""
    torch = torch_package()
    with torch.no_grad():
        old = old.to(value.device)
        if value.shape != old.shape:
            value.data = old
            return True
        if torch.equal(_bytes(value), _bytes(old)):
            return False
        value.data.copy_(old)
    return True


def _bytes(value: "torch.Tensor") -> "torch.Tensor":
    # NaN equals itself only as bytes.
    package = torch_package()
    value = value.detach()
    if value.is_quantized:
        value = value.int_repr()
    elif value.layout is not package.strided:
        value = value.to_dense()
    return cast("torch.Tensor", value.contiguous().reshape(-1).view(package.uint8))


@contextlib.contextmanager
def _attributes_preserved(module: "torch.nn.Module") -> Iterator[None]:
    """Restore all attributes of a module's parts, and the contents of tensors and containers, also nested ones."""
    torch = torch_package()
    saved = [(part, dict(vars(part))) for part in module.modules()]
    values = [value for _, attributes in saved for value in attributes.values()]
    tensors = [
        (value, value.detach().clone())
        for value in values
        if isinstance(value, torch.Tensor) and not value.is_meta
    ]
    containers = [(value, copy.copy(value)) for value in _containers(values)]
    try:
        yield
    finally:
        for part, attributes in saved:
            now = vars(part)
            for name in now.keys() - attributes.keys():
                del now[name]
            now.update(attributes)
        for value, before in tensors:
            _restored(value, before)
        for value, content in containers:
            # Not emptied without need: other threads may read the module.
            if _items(value) == _items(content):
                continue
            value.clear()
            if isinstance(value, list):
                value.extend(content)
            else:
                value.update(content)


def _containers(values: Iterable[Any]) -> Iterator[Any]:
    """Yield the dicts, lists and sets among some values and inside them, each once."""
    waiting, seen = list(values), set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict | list | set) and id(value) not in seen:
            seen.add(id(value))
            yield value
            waiting.extend(value.values() if isinstance(value, dict) else value)


def _items(container: Any) -> Any:
    """What a container holds, by identity, in its order."""
    if isinstance(container, dict):
        return [(key, id(value)) for key, value in container.items()]
    return container if isinstance(container, set) else list(map(id, container))


@contextlib.contextmanager
def _random_states_preserved(module: "torch.nn.Module") -> Iterator[None]:
    """Restore the states of Python's, NumPy's and torch's random numbers, and of generators that a module holds."""
    torch = torch_package()
    with contextlib.ExitStack() as stack:
        stack.callback(random.setstate, random.getstate())
        # The state of code that uses NumPy's global generator.
        stack.callback(np.random.set_state, np.random.get_state())  # noqa: NPY002
        stack.callback(torch.set_rng_state, torch.get_rng_state())
        for device in {value.device for value in (*module.parameters(), *module.buffers())}:
            if device.type not in ("cpu", "meta"):
                package: Any = getattr(torch, device.type)
                places = () if device.type == "mps" else (device,)
                stack.callback(package.set_rng_state, package.get_rng_state(*places), *places)
        for part in module.modules():
            for value in vars(part).values():
                if isinstance(value, torch.Generator):
                    stack.callback(value.set_state, value.get_state())
                elif isinstance(value, np.random.Generator):
                    generator = value.bit_generator
                    stack.callback(setattr, generator, "state", generator.state)
                elif isinstance(value, np.random.RandomState):
                    stack.callback(value.set_state, value.get_state())
                elif isinstance(value, random.Random):
                    stack.callback(value.setstate, value.getstate())
        yield


def random_states() -> bytes:
    """Return the states of Python's, NumPy's and torch's random numbers on the host, to compare."""
    torch = torch_package()
    # NumPy's global generator, which code with np.random.rand() uses.
    states = (random.getstate(), np.random.get_state(), torch.get_rng_state().numpy())  # noqa: NPY002
    return pickle.dumps(states)
