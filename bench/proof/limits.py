"""Limits of time: a section that takes too long ends, and those after it run."""

import contextlib
import signal
from collections.abc import Iterator

# Seconds until the exception is raised again, for code that catches it or waits for something while it ends.
_AGAIN_S = 10.0


# Not an Exception, so that nothing that handles errors of a section handles it.
class OutOfTime(BaseException):
    """A section has reached its limit."""


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise OutOfTime in the main thread after some seconds; on systems without alarm signals (Windows), never.

    Python raises it between two of its instructions: a call of a library ends first. It is raised again after some time
    if the block has not ended.
    """
    if not hasattr(signal, "setitimer"):
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3), _AGAIN_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
