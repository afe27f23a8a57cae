"""Optional packages: imported when used; an error names the missing package and the extra that installs it."""

import importlib
from typing import Any


class MissingExtraError(ImportError):
    """A package of an extra is not installed."""


def require(module: str, extra: str, purpose: str) -> Any:
    """Import a module of an extra's package; MissingExtraError names the extra and the purpose ("to read images")."""
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != package:
            raise
        raise MissingExtraError(
            f"{package} is needed {purpose}; install it with: pip install 'fastrdm[{extra}]'"
        ) from None
