"""A torch module → the layers that it has, found by running it once."""

import contextlib
import inspect
import io
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from fastrdm._base import first_line, require
from fastrdm.networks.layers import (
    Choice,
    Layer,
    NetworkLayers,
    Taps,
    Tokens,
    find_taps,
    shape_problem,
)
from fastrdm.networks.swapping import attributes_restored

if TYPE_CHECKING:
    import torch


def inspect_module(module: "torch.nn.Module", size: tuple[int, int]) -> NetworkLayers:
    """Run a network once on black images of a size (height, width), and leave it unchanged.

    Return a layer for each path to each module, in the order in which they finish; modules that do not run come last.
    Raise ValueError if the network does not run on this input size.
    """
    images = blank_images(module, size)
    paths: dict[Any, list[str]] = {}
    for path, part in module.named_modules(remove_duplicate=False):
        if path:
            paths.setdefault(part, []).append(path)
    # Not the outputs themselves: those of all modules may not fit in memory.
    seen: dict[Any, list[tuple[str, tuple[int, ...], str]]] = {}
    with contextlib.ExitStack() as stack:
        for part in paths:
            handle = part.register_forward_hook(
                lambda part, args, output: seen.setdefault(part, []).append(_shape(output, images))
            )
            stack.callback(handle.remove)
        # Attributes that this run leaves in the module would become constants of a traced graph.
        stack.enter_context(inference(module))
        args, kwargs = arguments(module, images)
        try:
            module(*args, **kwargs)
        except Exception as error:
            raise ValueError(
                f"{type(module).__name__} does not run on images of shape {tuple(images.shape)}: "
                f"{first_line(error)}"
            ) from error

    layers = {}
    for part in [*seen, *(part for part in paths if part not in seen)]:
        calls = seen.get(part, [("", (), "does not run in the forward pass")])
        key, shape, problem = calls[0]
        if len(calls) > 1:
            problem = f"runs {len(calls)} times in the forward pass, so its output is ambiguous"
        for path in paths[part]:
            layers[path] = Layer(path, type(part).__name__, shape, key, problem)
    weights = {name: tuple(value.shape) for name, value in module.state_dict().items()}
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
    children = [network.layers[name] for name, _ in module.named_children()]
    return {layer.name: Choice(layer, Tokens()) for layer in children if not layer.problem}


def blank_images(module: "torch.nn.Module", size: tuple[int, int]) -> "torch.Tensor":
    """Return two black images: one could not show whether a first axis is the batch."""
    torch = require("torch", "export", "to run a network")
    parameter = next(module.parameters(), None)
    return torch.zeros((2, 3, *size), device="cpu" if parameter is None else parameter.device)


def arguments(module: "torch.nn.Module", value: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return positional and keyword arguments of a network's forward; transformers names its images."""
    keyword = "pixel_values"
    if keyword in inspect.signature(module.forward).parameters:
        return (), {keyword: value}
    return (value,), {}


def output_tensor(output: Any) -> tuple[str, "torch.Tensor | None"]:
    """Return the key and the tensor of a module's output: the last hidden state, or the first tensor."""
    torch = require("torch", "export", "to run a network")
    if isinstance(output, torch.Tensor):
        return "", output
    parts: dict[Any, Any] = {}
    if isinstance(output, Mapping):
        parts = {"last_hidden_state": None} | dict(output)
    elif isinstance(output, tuple | list):
        parts = dict(enumerate(output))
    tensors = ((str(key), part) for key, part in parts.items() if isinstance(part, torch.Tensor))
    return next(tensors, ("", None))


@contextlib.contextmanager
def inference(module: "torch.nn.Module") -> Iterator[None]:
    """Run a network in evaluation mode, without gradients and messages; restore the state of its modules."""
    torch = require("torch", "export", "to run a network")
    training = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with attributes_restored(module), quiet(), torch.no_grad():
            yield
    finally:
        for part, flag in training:
            part.training = flag


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress printed messages and warnings."""
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        yield


def _shape(output: Any, images: "torch.Tensor") -> tuple[str, tuple[int, ...], str]:
    """Key and shape, for one image, of a module's output tensor, or why it has none."""
    key, tensor = output_tensor(output)
    if tensor is None:
        return "", (), f"returns a {type(output).__name__} without a tensor"
    if tensor.is_floating_point():
        problem = shape_problem(tuple(tensor.shape), len(images))
    else:
        problem = f"returns {tensor.dtype}, not floating-point numbers"
    return key, () if problem else tuple(tensor.shape[1:]), problem
