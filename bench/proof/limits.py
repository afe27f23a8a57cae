"""Limits of time: a section that takes too long ends, and those after it run."""

import contextlib
import signal
from collections.abc import Iterator


# Not an Exception, so that nothing that handles errors of a section handles it.
class OutOfTime(BaseException):
    """A section has reached its limit."""


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise OutOfTime in the main thread after some seconds; on systems without alarm signals (Windows), never.

    Python raises it between two of its instructions: a call of a library ends first.
    """
    if not hasattr(signal, "setitimer"):
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
