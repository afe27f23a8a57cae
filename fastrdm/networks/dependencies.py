"""The entries of a torch network's state dict on which its tapped layers depend, found by running it once."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from fastrdm._base import require
from fastrdm.networks.layers import Choice
from fastrdm.networks.module_calls import arguments, blank_images, inference
from fastrdm.networks.tapping import tapped

if TYPE_CHECKING:
    import torch


def needed_entries(
    module: "torch.nn.Module", taps: Mapping[str, Choice], size: tuple[int, int]
) -> tuple[str, ...]:
    """Return the names of entries that change the tapped layers, in the order of the state dict.

    The network runs on black images, and each tensor inherits the entries of those that it is computed from. Entries
    whose values become Python numbers count as needed, since what depends on these is unknown.
    """
    torch = require("torch", "export", "to run a network")
    modes = require("torch.utils._python_dispatch", "export", "to run a network")
    reductions = require("torch.multiprocessing.reductions", "export", "to run a network")
    tree = require("torch.utils._pytree", "export", "to run a network")

    def storages(value: Any) -> Iterator[Any]:
        for leaf in tree.tree_leaves(value):
            if isinstance(leaf, torch.Tensor) and leaf.layout == torch.strided:
                # The weak reference keeps the address of the storage from being used again.
                yield reductions.StorageWeakRef(leaf.untyped_storage())

    entries: dict[Any, set[str]] = {}
    everywhere: set[str] = set()
    for name, value in module.state_dict(keep_vars=True).items():
        for storage in storages(value):
            entries.setdefault(storage, set()).add(name)

    class Inheritance(modes.TorchDispatchMode):  # type: ignore[misc, name-defined]
        def __torch_dispatch__(
            self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            given = [*args, *(kwargs or {}).values()]
            found: set[str] = set().union(*(entries.get(s, ()) for s in storages(given)))
            result = operation(*args, **(kwargs or {}))
            written = [
                value
                for value, described in zip(args, operation._schema.arguments, strict=False)
                if described.alias_info is not None and described.alias_info.is_write
            ]
            results = list(storages([result, written, (kwargs or {}).get("out")]))
            for storage in results:
                entries[storage] = entries.get(storage, set()) | found
            if not results:
                everywhere.update(found)
            return result

    images = blank_images(module, size)
    with inference(module), tapped(module, taps) as read, Inheritance():
        args, kwargs = arguments(module, images)
        module(*args, **kwargs)
        layers = list(read().values())
    needed = everywhere.union(*(entries.get(storage, ()) for storage in storages(layers)))
    return tuple(name for name in module.state_dict() if name in needed)
