"""The plain network inside wrappers of torch: compiled, parallel, with activation checkpoints."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fastrdm.tensors import torch_package

if TYPE_CHECKING:
    import torch

# Where wrappers keep the network: torch.compile, and activation checkpoints.
_INNER = ("_orig_mod", "_checkpoint_wrapped_module")


def inner_module(module: "torch.nn.Module") -> "torch.nn.Module":
    """Return the module inside wrappers, the module itself without any."""
    torch = torch_package()
    parallel = (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)
    while True:
        if isinstance(module, parallel):
            module = module.module
            continue
        children = vars(module).get("_modules", {})
        inner = next((children[name] for name in _INNER if name in children), None)
        if inner is None:
            return module
        module = inner


@contextlib.contextmanager
def plain(module: "torch.nn.Module") -> Iterator["torch.nn.Module"]:
    """Yield the network inside wrappers, with wrappers of its parts replaced and nothing compiled, for a while.

    Its layers then have the names that they have without wrappers, and what has been compiled for training stays as it
    is.
    """
    torch = torch_package()
    module = inner_module(module)
    with contextlib.ExitStack() as stack:
        waiting, seen = [module], set()
        while waiting:
            part = waiting.pop()
            if id(part) in seen:
                continue
            seen.add(id(part))
            for name, child in list(part._modules.items()):
                if child is None:
                    continue
                inner = inner_module(child)
                if inner is not child:
                    stack.callback(part._modules.__setitem__, name, child)
                    part._modules[name] = inner
                waiting.append(inner)
            compiled = vars(part).get("_compiled_call_impl")
            if compiled is not None:
                stack.callback(setattr, part, "_compiled_call_impl", compiled)
                part._compiled_call_impl = None
        stance: Any = getattr(torch.compiler, "set_stance", None)
        if stance is not None:
            stack.enter_context(stance("force_eager"))
        yield module
