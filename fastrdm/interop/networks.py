"""The network to score in the module that a framework trains."""

from typing import TYPE_CHECKING

from fastrdm._base import list_names

if TYPE_CHECKING:
    import torch


def network_of(module: "torch.nn.Module", path: str | None) -> "torch.nn.Module":
    """Return the module, or the one at a path inside it; ValueError names the path and the children."""
    if path is None:
        return module
    try:
        return module.get_submodule(path)
    except AttributeError:
        children = list_names([name for name, _ in module.named_children()])
        raise ValueError(
            f"{type(module).__name__} has no module {path!r} to score; its children are {children or 'none'}"
        ) from None


def is_score(name: str | None) -> bool:
    """Whether a metric that a callback monitors is a score, by its name."""
    return name is not None and name.partition("/")[0].partition("-")[0] == "brain"
