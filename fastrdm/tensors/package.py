"""The torch package, imported when it is needed."""

from typing import Any

from fastrdm._base import require


def torch_package() -> Any:
    """Return the torch package; MissingExtraError without it."""
    return require("torch", "export", "to run a torch module")
