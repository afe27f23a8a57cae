"""Ctrl-C and SIGTERM: stop immediately, or after the current step."""

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType


class Stopped(BaseException):
    """Ctrl-C or SIGTERM."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Signals:
    """A context in which Ctrl-C and SIGTERM raise `Stopped`, or within `deferred`, are noted for the end of the step.

    A second signal always raises.
    """

    def __init__(self) -> None:
        self.number = 0
        self._deferring = False

    def __enter__(self) -> "Signals":
        handled = (signal.SIGINT, signal.SIGTERM)
        self._before = {each: signal.signal(each, self._handle) for each in handled}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.number or not self._deferring:
            raise Stopped(number)
        self.number = number

    @contextlib.contextmanager
    def deferred(self) -> Iterator[Callable[[], bool]]:
        """Note signals instead of raising; yield a function that returns whether one arrived."""
        self._deferring = True
        try:
            yield lambda: bool(self.number)
        finally:
            self._deferring = False


def run_command(program: str, work: Callable[[Signals], bool], hint: str) -> int:
    """Run the work of a command, which returns False when stopped; return the exit status.

    It is 0, 1 after an error, or 130 or 143 when stopped: then the hint is printed.
    """
    signals = Signals()
    try:
        with signals:
            if work(signals):
                return 0
        number = signals.number
    except Stopped as stopped:
        number = stopped.number
    except (ValueError, OSError, ImportError) as error:
        print(f"{program}: error: {error}", file=sys.stderr)
        return 1
    print(hint, file=sys.stderr)
    return 128 + number
