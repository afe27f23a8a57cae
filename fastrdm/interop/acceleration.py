"""What accelerations of other toolboxes share: they nest, and the last to end puts the toolbox's functions back."""

from abc import ABC, abstractmethod
from threading import RLock
from typing import ClassVar, Self

#: Held while functions are exchanged.
LOCK = RLock()


class Acceleration(ABC):
    """Functions of fastrdm inside another toolbox, until the end of the ``with`` block or `restore`."""

    # Those in force; the class of each toolbox has its own.
    _in_force: ClassVar[list["Acceleration"]]

    def __init_subclass__(cls) -> None:
        cls._in_force = []

    def __init__(self) -> None:
        self._in_force.append(self)

    def __enter__(self) -> Self:
        if self not in self._in_force:
            raise RuntimeError("this acceleration has ended; call accelerate() again")
        return self

    def __exit__(self, *error: object) -> None:
        self.restore()

    def restore(self) -> None:
        """Put the toolbox's own functions back when no other acceleration is in force; a second call does nothing."""
        with LOCK:
            if self not in self._in_force:
                return
            self._in_force.remove(self)
            if not self._in_force:
                self._take_out()

    @abstractmethod
    def _take_out(self) -> None:
        """Put the functions back in all modules."""
