"""Where the workers of a sweep run; a pool of workers is imported when it is made."""

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastrdm.scoring.scheduler import WorkerPool


# The start of processes on this machine is watched by the scheduler alone.
def _local(start_timeout: float = math.inf, **options: Any) -> "WorkerPool":
    from fastrdm.scoring.local_pool import LocalPool

    return LocalPool(**options)


def _ray(**options: Any) -> "WorkerPool":
    from fastrdm.scoring.ray_pool import RayPool

    return RayPool(**options)


def _in_process(start_timeout: float = math.inf, **options: Any) -> "WorkerPool":
    from fastrdm.scoring.local_pool import InProcessPool

    return InProcessPool(**options)


ENGINES: Mapping[str, Callable[..., "WorkerPool"]] = {
    "local": _local,
    "ray": _ray,
    "in-process": _in_process,
}
"""Functions that make the pool of each engine, from options of the pool's class."""
