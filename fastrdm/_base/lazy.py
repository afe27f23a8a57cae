"""Names that a package imports on first use, and old paths of modules."""

import importlib
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from types import ModuleType
from typing import Any


def lazy_attributes(
    package: str,
    names: Mapping[str, Sequence[str]],
    moved: Mapping[str, str] | None = None,
    packages: Collection[str] = (),
) -> Callable[[str], Any]:
    """Make the `__getattr__` of a package that imports names on first use.

    `names` are those of the package's namespace, by the module that defines them; for type checkers, the package
    imports them under `TYPE_CHECKING`. With `moved`, modules by their old names, `import package.name` still gives
    access to a module's contents. `packages` are subpackages and modules that are imported when the attribute is read.
    """
    module_of = {name: module for module, defined in names.items() for name in defined}
    for old, module in (moved or {}).items():
        sys.modules[f"{package}.{old}"] = _Moved(f"{package}.{old}", module)

    def get(name: str) -> Any:
        if moved and name in moved:
            return sys.modules[f"{package}.{name}"]
        if name in packages:
            return importlib.import_module(f"{package}.{name}")
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(module_of[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    return get


class _Moved(ModuleType):
    """A module under its old path, imported when an attribute is read."""

    def __init__(self, name: str, module: str) -> None:
        super().__init__(name, f"`{module}` under its old path.")
        self._module = module

    def __getattr__(self, name: str) -> Any:
        # Tools that inspect all modules read these names, which must not import this module.
        if name.startswith("__"):
            raise AttributeError(name)
        module = importlib.import_module(self._module)
        if not hasattr(module, name):
            # Names that have since left the module are in its package.
            module = importlib.import_module(self._module.rpartition(".")[0])
        return getattr(module, name)
