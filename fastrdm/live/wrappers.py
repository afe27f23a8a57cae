"""The plain network inside wrappers of torch: compiled, parallel, with activation checkpoints."""

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from fastrdm._base import list_names
from fastrdm.live.training_wrappers import network_of
from fastrdm.tensors import torch_package

if TYPE_CHECKING:
    import torch

# Where accelerate keeps a module's forward, which it replaces by one in mixed precision.
_ORIGINAL = "_original_forward"


@contextlib.contextmanager
def plain(
    module: "torch.nn.Module", path: str | None = None, *, compiles: bool = False
) -> Iterator["torch.nn.Module"]:
    """Yield the network inside wrappers; in this block its parts have no wrappers, and nothing compiled runs.

    Layers then have the names that they have without wrappers, and what has been compiled for training stays as it is.
    Mixed precision of accelerate does not apply. With a path, the network is the part of the module at that path;
    ValueError if there is none. `compiles` is whether the block itself compiles.
    """
    network = network_of(module)
    with contextlib.ExitStack() as stack:
        waiting, seen = [network], set()
        while waiting:
            part = waiting.pop()
            if id(part) in seen:
                continue
            seen.add(id(part))
            for name, child in list(part._modules.items()):
                if child is None:
                    continue
                inner = network_of(child)
                if inner is not child:
                    stack.callback(part._modules.__setitem__, name, child)
                    part._modules[name] = inner
                waiting.append(inner)
            if (compiled := vars(part).get("_compiled_call_impl")) is not None:
                stack.callback(setattr, part, "_compiled_call_impl", compiled)
                part._compiled_call_impl = None
            if (forward := vars(part).get(_ORIGINAL)) is not None:
                stack.callback(setattr, part, "forward", part.forward)
                part.forward = forward
        # Without it nothing has been compiled, and its import takes seconds.
        if "torch._dynamo" in sys.modules and not compiles:
            stack.enter_context(torch_package().compiler.set_stance("force_eager"))
        yield network if path is None else _part(network, path)


def _part(module: "torch.nn.Module", path: str) -> "torch.nn.Module":
    try:
        return module.get_submodule(path)
    except AttributeError:
        children = list_names([name for name, _ in module.named_children()])
        raise ValueError(
            f"{type(module).__name__} has no module {path!r} to score; its children are {children or 'none'}"
        ) from None
