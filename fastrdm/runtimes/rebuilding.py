"""Whether building a network twice gives the same constants."""

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrdm._base import require

if TYPE_CHECKING:
    import torch

_NUMBERS = (bool, int, float, complex, str, bytes, type(None))


def constants_digest(module: "torch.nn.Module") -> str:
    """SHA-256 of what a network's modules hold beside parameters and the buffers of the state dict.

    These are buffers outside the state dict, and tensors, arrays, numbers and texts in attributes, also in lists,
    tuples and dicts. They can become constants of the graph. If they are random, they differ between two builds. The
    mode, training or evaluation, does not count.
    """
    torch = require("torch", "export", "to export a network")
    digest = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            if not isinstance(value, torch.nn.Parameter) and not value.is_meta:
                data = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
                digest.update(f"{value.dtype} {tuple(value.shape)}".encode() + data.numpy().data)
        elif isinstance(value, np.ndarray) and value.dtype != object:
            digest.update(f"{value.dtype} {value.shape}".encode() + value.tobytes())
        elif isinstance(value, (*_NUMBERS, np.generic)):
            digest.update(f"{type(value).__name__} {value!r};".encode())
        elif isinstance(value, list | tuple):
            for each in value:
                add(each)
        elif isinstance(value, Mapping):
            for name, each in value.items():
                digest.update(f"{name!r}:".encode())
                add(each)

    for name, part in module.named_modules():
        digest.update(name.encode())
        unsaved = part._non_persistent_buffers_set
        add({key: value for key, value in part._buffers.items() if key in unsaved})
        public = (item for item in vars(part).items() if not item[0].startswith("_"))
        add({key: value for key, value in public if key != "training"})
    return digest.hexdigest()
