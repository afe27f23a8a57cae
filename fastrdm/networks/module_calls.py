"""One run of a torch network → what each call of each of its modules returned, without keeping activations."""

import contextlib
import inspect
import io
import math
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from fastrdm._base import first_line, require
from fastrdm.networks.swapping import attributes_restored

if TYPE_CHECKING:
    import torch

# Storage, and the elements of it that a tensor has: equal for tensors with the same values in the same or another
# order. The weak reference keeps the storage's address from being used again, but not its memory.
Memory: TypeAlias = tuple[Any, tuple[int, ...]]

# Where models of images and text keep their vision part: transformers, open_clip, LLaVA, SAM, BLIP.
_VISION_PARTS = ("vision_model", "visual", "vision_tower", "vision_encoder", "visual_encoder")


@dataclass(frozen=True)
class ModuleCall:
    """What one call of a module returned.

    `part` is the key or index of the tensor among the outputs, `shape` is that of the tensor with the batch, `problem`
    the reason why it cannot be tapped, or empty. `memory` identifies its values, and `writes` counts the in-place
    operations on them until then. `is_trivial` is whether it is one of the module's arguments, unchanged, or the
    arguments are constants, so that the module does not see the images.
    """

    module: Any
    part: str
    shape: tuple[int, ...]
    problem: str
    memory: Memory | None = None
    writes: int = 0
    is_trivial: bool = False


def call_modules(module: "torch.nn.Module", images: "torch.Tensor") -> list[ModuleCall]:
    """Run a network once, and return the calls of its modules in the order in which they finish.

    Raise ValueError if the network takes no hooks, or does not run on images of this shape; for a model of images and
    text, the message names its vision part.
    """
    check_hooks(module)
    calls: list[ModuleCall] = []
    # The tensors among the arguments of calls that have not finished; None for constants.
    waiting: list[dict[Memory, int] | None] = []

    def begin(part: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        leaves = list(_leaves((args, kwargs)))
        is_constant = all(each is None or isinstance(each, int | float | str) for each in leaves)
        tensors = {_memory(each): _writes(each) for each in leaves if _is_tensor(each)}
        waiting.append(None if is_constant else tensors)

    def end(part: Any, args: tuple[Any, ...], output: Any) -> None:
        calls.append(_call(part, output, waiting.pop()))

    with contextlib.ExitStack() as stack:
        for part in filter(lambda part: part is not module, module.modules()):
            stack.callback(part.register_forward_pre_hook(begin, with_kwargs=True).remove)
            stack.callback(part.register_forward_hook(end).remove)
        # Attributes that this run leaves in the module would become constants of a traced graph.
        stack.enter_context(inference(module))
        args, kwargs = arguments(module, images)
        try:
            module(*args, **kwargs)
        except Exception as error:
            raise ValueError(
                f"{type(module).__name__} does not run on images of shape {tuple(images.shape)}: "
                f"{first_line(error)}{_advice(module, error)}"
            ) from error
    return calls


def check_hooks(module: "torch.nn.Module") -> None:
    """Raise ValueError for TorchScript, which takes no hooks before a module."""
    torch = require("torch", "export", "to run a network")
    for path, part in module.named_modules():
        if isinstance(part, torch.jit.ScriptModule):
            raise ValueError(
                f"{repr(path) + ' of ' if path else ''}{type(module).__name__} is a TorchScript module, whose layers"
                " cannot be read; pass the module that it was made from"
            )


def blank_images(module: "torch.nn.Module", size: tuple[int, int], n: int = 2) -> "torch.Tensor":
    """Return black images: one could not show whether a first axis is the batch."""
    torch = require("torch", "export", "to run a network")
    parameter = next(module.parameters(), None)
    device = "cpu" if parameter is None else parameter.device
    return torch.zeros((n, 3, *size), dtype=torch.float32, device=device)


def arguments(module: "torch.nn.Module", value: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return positional and keyword arguments of a network's forward; transformers names its images."""
    keyword = "pixel_values"
    if keyword in inspect.signature(module.forward).parameters:
        return (), {keyword: value}
    return (value,), {}


def output_tensor(output: Any) -> tuple[str, "torch.Tensor | None"]:
    """Return the key and the tensor of a module's output: the last hidden state, or the first tensor."""
    if _is_tensor(output):
        return "", output
    parts: dict[Any, Any] = {}
    if isinstance(output, Mapping):
        parts = {"last_hidden_state": None} | dict(output)
    elif isinstance(output, tuple | list):
        parts = dict(enumerate(output))
    tensors = ((str(key), part) for key, part in parts.items() if _is_tensor(part))
    return next(tensors, ("", None))


@contextlib.contextmanager
def inference(module: "torch.nn.Module") -> Iterator[None]:
    """Run a network in evaluation mode, without gradients and messages; restore the state of its modules."""
    torch = require("torch", "export", "to run a network")
    training = [(part, part.training) for part in module.modules()]
    # Not by `eval`, in which some modules change their weights, such as LoRA's that merge theirs.
    for part, _ in training:
        part.training = False
    try:
        with attributes_restored(module), quiet(), torch.no_grad():
            yield
    finally:
        for part, flag in training:
            part.training = flag


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress printed messages and warnings; outside the main thread, warnings as far as they are printed."""
    with (
        contextlib.ExitStack() as stack,
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        # Threads would leave wrong filters behind, as in `recorded_warnings`.
        if threading.current_thread() is threading.main_thread():
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
        yield


def _call(module: Any, output: Any, inputs: Mapping[Memory, int] | None) -> ModuleCall:
    part, tensor = output_tensor(output)
    if tensor is None:
        return ModuleCall(module, "", (), f"returns a {type(output).__name__} without a tensor")
    if not tensor.is_floating_point():
        return ModuleCall(module, part, (), f"returns {tensor.dtype}, not floating-point numbers")
    memory, writes = _memory(tensor), _writes(tensor)
    is_trivial = inputs is None or inputs.get(memory) == writes
    return ModuleCall(module, part, tuple(tensor.shape), "", memory, writes, is_trivial)


def _is_tensor(value: Any) -> bool:
    # By the modules that are imported, because torch.compile cannot trace an import.
    return isinstance(value, sys.modules["torch"].Tensor)


def _leaves(value: Any) -> Iterator[Any]:
    """What is in nested arguments."""
    if isinstance(value, Mapping | tuple | list):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from _leaves(each)
    else:
        yield value


def _writes(tensor: "torch.Tensor") -> int:
    """Number of in-place operations on a tensor's memory, which torch does not count in its inference mode."""
    return 0 if tensor.is_inference() else tensor._version


def _memory(tensor: "torch.Tensor") -> Memory:
    torch = require("torch", "export", "to run a network")
    reductions = require("torch.multiprocessing.reductions", "export", "to run a network")
    if tensor.layout != torch.strided:
        return object(), ()
    shape, strides = tuple(tensor.shape), tensor.stride()
    extent = sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True)) + 1
    # A transposed or reshaped view of all elements has the same values.
    elements = (extent,) if extent == math.prod(shape) else (*shape, *strides)
    storage = reductions.StorageWeakRef(tensor.untyped_storage())
    return storage, (tensor.storage_offset(), *elements)


def _advice(module: "torch.nn.Module", error: Exception) -> str:
    """How to run a network after an error, as the end of a message: on images of another size, or its vision part."""
    takes_text = any(
        "text" in name or name == "input_ids"
        for name in inspect.signature(module.forward).parameters
    )
    children = dict(module.named_modules())
    part = next((name for name in _VISION_PARTS if name in children), "")
    if not (part and takes_text):
        is_about_size = any(word in str(error).lower() for word in ("size", "height", "shape"))
        return "; --size (input_size=) sets the size of images" if is_about_size else ""
    name, inner = type(module).__name__, type(children[part]).__name__
    ready, line = "", f"return model.{part}"
    if type(module).__module__.startswith("transformers."):
        line = f"return transformers.{name}.from_pretrained(NAME).{part}"
        if inner.endswith("VisionModel"):
            ready = f", or transformers.{inner}.from_pretrained(NAME)"
    return (
        f"; {name} also takes text, so use its vision part, {part} ({inner}): the function that --arch names ends with"
        f' "{line}"{ready}'
    )
