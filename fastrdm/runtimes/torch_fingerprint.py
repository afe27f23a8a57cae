"""What a torch module computes from its weights, as a key of stored results."""

import contextlib
import hashlib
import inspect
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from fastrdm.networks import Choice, Layout
from fastrdm.runtimes.rebuilding import constants_digest
from fastrdm.tensors import torch_package

if TYPE_CHECKING:
    import torch


def module_fingerprint(module: "torch.nn.Module", taps: Mapping[str, Choice]) -> str:
    """SHA-256 of a module without its weights, in hexadecimal: equal if the layers are computed in the same way.

    It covers the tapped layers, the layout of the state dict, the path, class and source code of each module (but not
    the code of torch's own classes), and what `constants_digest` covers: numbers and texts in attributes, and buffers
    outside the state dict. It does not cover functions that the modules call, nor the version of torch, which changes
    last bits; as for graphs of ONNX, the version is recorded with the results. Mode, device and values of the weights
    do not matter.
    """
    layout = Layout.of(module)
    # Reading the source takes milliseconds; networks have hundreds of modules of a few classes.
    classes = {kind: _class_text(kind) for kind in {type(part) for part in module.modules()}}
    facts = {
        "engine": "torch",
        "taps": [[name, choice.to_dict()] for name, choice in taps.items()],
        "entries": dict(layout.entries),
        "tied": sorted(layout.tied),
        "modules": [[path, classes[type(part)]] for path, part in module.named_modules()],
        "constants": constants_digest(module),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _class_text(kind: type) -> str:
    """Name of a class, and a hash of its source code and that of its bases; classes made at run time have none."""
    digest = hashlib.sha256()
    for base in kind.__mro__[: kind.__mro__.index(torch_package().nn.Module)]:
        # The code of torch's own classes changes with each version, and what they compute does not.
        if base.__module__.partition(".")[0] != "torch":
            with contextlib.suppress(OSError, TypeError):
                digest.update(inspect.getsource(base).encode())
    return f"{kind.__module__}.{kind.__qualname__} {digest.hexdigest()}"
