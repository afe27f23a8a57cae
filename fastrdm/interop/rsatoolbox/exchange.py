"""Other functions in the place of rsatoolbox's, for a while."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from fastrdm.interop.rsatoolbox.originals import original


@contextmanager
def replaced(table: dict[tuple[str, str], Callable[..., Any]]) -> Iterator[None]:
    """Put functions in the place of rsatoolbox's, (module, name), wherever its modules have them, and undo that."""
    done: list[tuple[ModuleType, str, Any]] = []
    try:
        for (module, name), function in table.items():
            own = original(module, name)
            for holder in [m for key, m in sys.modules.items() if key.startswith("rsatoolbox.")]:
                if vars(holder).get(name) is own:
                    done.append((holder, name, own))
                    setattr(holder, name, function)
        yield
    finally:
        for holder, name, own in reversed(done):
            setattr(holder, name, own)
