"""rsatoolbox's own functions, also while others are in their place."""

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

from fastrdm._base import require

_PURPOSE = "to use its functions"
_found: dict[tuple[str, str], Any] = {}


def toolbox(module: str) -> ModuleType:
    """Import a module of rsatoolbox."""
    require("rsatoolbox", "rsatoolbox", _PURPOSE)
    return importlib.import_module(f"rsatoolbox.{module}" if module else "rsatoolbox")


def remember(module: str, name: str) -> Callable[..., Any]:
    """Return, and keep, a function of rsatoolbox before another takes its place."""
    found: Callable[..., Any] = getattr(toolbox(module), name)
    if not found.__module__.startswith("fastrdm."):
        _found[module, name] = found
    kept: Callable[..., Any] = _found[module, name]
    return kept


def original(module: str, name: str) -> Callable[..., Any]:
    """Return rsatoolbox's own function."""
    return remember(module, name)
