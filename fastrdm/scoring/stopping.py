"""The signals that end a sweep."""

import contextlib
import signal
import threading
from collections.abc import Iterator

_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


class StopRequest:
    """Whether a signal has asked to stop, and which one."""

    def __init__(self) -> None:
        self.number = 0

    def __call__(self) -> bool:
        """Whether to stop."""
        return bool(self.number)


@contextlib.contextmanager
def stop_signals() -> Iterator[StopRequest]:
    """Give a function that reports whether a signal has asked to stop; a second signal interrupts.

    SIGHUP stays ignored if it is, as under `nohup`.
    """
    request = StopRequest()

    def stop(number: int, frame: object) -> None:
        if request.number:
            raise KeyboardInterrupt(number)
        request.number = number

    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    numbers = [getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)]
    before = {
        number: signal.signal(number, stop)
        for number in numbers
        if number in (signal.SIGINT, signal.SIGTERM)
        or signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
