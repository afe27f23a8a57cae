"""The installed mne-rsa: its version, and its own functions, also while others stand in their places."""

import inspect
from collections.abc import Callable, Iterator
from functools import lru_cache
from types import ModuleType
from typing import Any

from fastrdm._base import require

# Versions whose functions have the signatures and conventions that are known here, by their first two numbers.
KNOWN = ("0.9", "1.0")
# Function → the module of mne-rsa that defines it.
REPLACED = {
    "compute_rdm": "rdm",
    "compute_rdm_cv": "rdm",
    "rdm_array": "rdm",
    "rsa": "rsa",
    "rsa_array": "rsa",
    "rsa_gen": "rsa",
}


def peer() -> ModuleType:
    """Return the package; ImportError in one sentence if its version is not known here."""
    package: ModuleType = require("mne_rsa", "mne", "for functions with mne-rsa's signatures")
    version = str(getattr(package, "__version__", "unknown"))
    if ".".join(version.split(".")[:2]) not in KNOWN:
        raise ImportError(
            f"mne-rsa {version} is not known to fastrdm, which stands in for the functions of"
            f" {' and '.join(KNOWN)}; install one of these, or call mne-rsa itself"
        )
    return package


@lru_cache
def _originals(package: ModuleType) -> dict[str, Any]:
    return {name: getattr(submodule(package, module), name) for name, module in REPLACED.items()}


def original(name: str) -> Any:
    """Return a function of mne-rsa itself."""
    return _originals(peer())[name]


def helper(module: str, name: str) -> Any:
    """Return a function that is not replaced, or a class, of one of its modules; None if this version has none."""
    return getattr(submodule(peer(), module), name, None)


def submodule(package: ModuleType, name: str) -> ModuleType:
    """Return a module of the package: functions of the same names hide some of them."""
    import importlib

    return importlib.import_module(f"{package.__name__}.{name}")


def modules() -> Iterator[ModuleType]:
    """Yield the package and its modules that are imported."""
    import sys

    root = peer().__name__
    for name, module in list(sys.modules.items()):
        if module is not None and (name == root or name.startswith(f"{root}.")):
            yield module


def with_signature_of(theirs: Any, ours: Callable[..., Any]) -> Callable[..., Any]:
    """Return `ours` called as `theirs`, whose arguments may come in another order in an older version."""
    from functools import wraps

    signature = inspect.signature(theirs)
    if signature == inspect.signature(ours) or list(signature.parameters) == list(
        inspect.signature(ours).parameters
    ):
        return ours

    @wraps(ours)
    def call(*args: Any, **kwargs: Any) -> Any:
        return ours(**signature.bind(*args, **kwargs).arguments)

    return call
