"""Where the time of a call goes."""

import contextlib
import threading
import time
from unittest import mock

STAGES = ("weights", "decode", "forward", "Gram", "RDM", "score", "CKA", "ridge", "store")


class Stopwatch:
    """Seconds of each stage of a call, on the thread that created the watch.

    Other threads are not timed. The time of a nested stage counts for that stage only.
    """

    def __init__(self):
        self._thread = threading.get_ident()
        self._stages, self._since = [], 0.0
        self.reset()

    def reset(self):
        """Start from zero with a new `seconds`; the old one keeps its values."""
        self.seconds = dict.fromkeys(STAGES, 0.0)

    @contextlib.contextmanager
    def stage(self, name):
        if threading.get_ident() != self._thread:
            yield
            return
        self._charge()
        self._stages.append(name)
        try:
            yield
        finally:
            self._charge()
            self._stages.pop()

    def _charge(self):
        now = time.perf_counter()
        if self._stages:
            self.seconds[self._stages[-1]] += now - self._since
        self._since = now

    def observing(self, places, call):
        """Return `call` with each function of `places`, (owner, name) → stage, timed during it."""

        def timed(function, stage):
            def wrapper(*args, **kwargs):
                with self.stage(stage):
                    return function(*args, **kwargs)

            return wrapper

        def observed(*args):
            with contextlib.ExitStack() as patches:
                for (owner, name), stage in places.items():
                    function = timed(getattr(owner, name), stage)
                    patches.enter_context(mock.patch.object(owner, name, function))
                return call(*args)

        return observed
