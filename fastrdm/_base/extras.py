"""Optional packages: imported when used; an error names the missing package and the extra that installs it."""

import importlib
from typing import Any


class MissingExtraError(ImportError):
    """A package of an extra is not installed."""


def require(module: str, extra: str, purpose: str) -> Any:
    """Import a package of an extra.

    Parameters
    ----------
    module : str
        Dotted name to import.
    extra : str
        The extra of fastrdm that installs the package.
    purpose : str
        Why the package is needed, such as "to read MATLAB v7.3 files".

    Returns
    -------
    module
        The imported module.

    Raises
    ------
    MissingExtraError
        If the package is not installed.
    """
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != package:
            raise
        raise MissingExtraError(
            f"{package} is needed {purpose}; install it with: pip install 'fastrdm[{extra}]'"
        ) from None
