"""Names that a package imports when they are first asked for, and paths that lead to where modules are now."""

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any


def offer(
    package: str, names: Mapping[str, Sequence[str]], moved: Mapping[str, str] | None = None
) -> Callable[[str], Any]:
    """Make the `__getattr__` of a package whose names are imported when they are first asked for.

    Type checkers do not see it: the package imports the same names under `TYPE_CHECKING`.

    Parameters
    ----------
    package : str
        Its `__name__`.
    names : mapping of module to names
        What the package offers, by the modules that have it.
    moved : mapping of name to module, optional
        Modules that once lay in the package: `import package.name` goes on giving what the module has.

    Returns
    -------
    callable
        Takes a name; AttributeError where there is none.
    """
    where = {name: module for module, offered in names.items() for name in offered}
    for old, module in (moved or {}).items():
        sys.modules[f"{package}.{old}"] = _Moved(f"{package}.{old}", module)

    def get(name: str) -> Any:
        if moved and name in moved:
            return sys.modules[f"{package}.{name}"]
        if name not in where:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(where[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    return get


class _Moved(ModuleType):
    """A module by the path that it had; imported when something of it is asked for."""

    def __init__(self, name: str, module: str) -> None:
        super().__init__(name, f"`{module}`, by the path that it had.")
        self._module = module

    def __getattr__(self, name: str) -> Any:
        # Who looks through all modules asks for these, and shall not import this one.
        if name.startswith("__"):
            raise AttributeError(name)
        module = importlib.import_module(self._module)
        if not hasattr(module, name):
            # What has left the module since is in its package.
            module = importlib.import_module(self._module.rpartition(".")[0])
        return getattr(module, name)
