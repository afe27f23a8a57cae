"""Bounds on what the contents of a file may expand to in memory."""

import os
from pathlib import Path

from fastrdm._base.units import format_bytes

# Files of any size may expand to this.
_ALWAYS = 128 * 2**20
# RDMs of measurements shrink to a tenth at best; zlib shrinks zeros to a thousandth.
_MAX_RATIO = 100


_ADVICE = "if you trust the file, save it again without compression"


def check_expansion(announced: int, held: int, what: str, advice: str = _ADVICE) -> None:
    """Raise ValueError if data of a file take far more memory than the file itself, or more than there is.

    `announced` is the number of bytes in memory, `held` that in the file; `what` begins the message, `advice` ends it.
    """
    if announced <= _ALWAYS:
        return
    if announced > _MAX_RATIO * held:
        raise ValueError(
            f"{what} would expand to {format_bytes(announced)} from {_size(held)}, more than {_MAX_RATIO} times as"
            f" much; {advice}"
        )
    free = free_memory()
    if free is not None and announced > free:
        raise ValueError(
            f"{what} needs {format_bytes(announced)} of memory, but only {format_bytes(free)} are free"
        )


def limit_of(held: int) -> int:
    """The bytes that data may expand to from `held` bytes in a file, if there is as much memory."""
    return max(_ALWAYS, _MAX_RATIO * held)


def _size(n: int) -> str:
    return f"{n} bytes" if n < 2**20 else format_bytes(n)


def free_memory() -> int | None:
    """Bytes of memory that this process may still use; None if the system does not say."""
    known = [each for each in (_of_system(), _of_group(), _of_process()) if each is not None]
    return max(0, min(known)) if known else None


def _of_system() -> int | None:
    try:
        with Path("/proc/meminfo").open("rb") as file:
            for line in file:
                if line.startswith(b"MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def _of_group() -> int | None:
    """What the control group leaves, as containers and batch systems limit it."""
    folder = Path("/sys/fs/cgroup")
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            # "max" stands for no limit.
            return int((folder / limit).read_bytes()) - int((folder / used).read_bytes())
        except (OSError, ValueError):
            continue
    return None


def _of_process() -> int | None:
    """What the limit of the address space leaves, as `ulimit -v` sets it."""
    try:
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if limit == resource.RLIM_INFINITY:
            return None
        pages = int(Path("/proc/self/statm").read_bytes().split()[0])
        return int(limit - pages * os.sysconf("SC_PAGE_SIZE"))
    except (ImportError, OSError, ValueError, IndexError):
        return None
