"""Ctrl-C and SIGTERM, at once or when a step is done."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType


class Stopped(BaseException):
    """Ctrl-C or SIGTERM."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Signals:
    """Ctrl-C and SIGTERM within a context: raised as `Stopped`, or noted for the next step to end on.

    A second one is raised in any case.
    """

    def __init__(self) -> None:
        self.number = 0
        self._patient = False

    def __enter__(self) -> "Signals":
        handled = (signal.SIGINT, signal.SIGTERM)
        self._before = {each: signal.signal(each, self._handle) for each in handled}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.number or not self._patient:
            raise Stopped(number)
        self.number = number

    @contextlib.contextmanager
    def noted(self) -> Iterator[Callable[[], bool]]:
        """Note signals instead of raising them; gives what says whether one came."""
        self._patient = True
        try:
            yield lambda: bool(self.number)
        finally:
            self._patient = False
