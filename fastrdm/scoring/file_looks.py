"""Looks into files that a training may still be writing, and that anyone may have made, in a process of their own."""

from fastrdm.scoring.guarded_process import GuardedProcess, GuardError
from fastrdm.scoring.jobs import Stamp

# Seconds for a look, and bytes: the longest header of safetensors fits.
_DEADLINE_S, _MEMORY = 10.0, 1 << 30


class FileLooks:
    """Tells whether files are complete; a file that makes a look hang or end is looked into once."""

    def __init__(self) -> None:
        self._process = GuardedProcess("fastrdm.networks:is_complete", _DEADLINE_S, _MEMORY)
        self._failed: dict[str, Stamp] = {}

    def is_complete(self, path: str, stamp: Stamp) -> bool:
        """As `fastrdm.networks.is_complete`; False if the file does not let itself be looked into.

        `stamp` is the present stamp of the file.
        """
        if self._failed.get(path) == stamp:
            return False
        try:
            return bool(self._process.call(path))
        except GuardError:
            self._failed[path] = stamp
            return False

    def close(self) -> None:
        """End the process."""
        self._process.close()
