"""What the numba kernels share: decorators, types, and the lanes of sums.

Python's signal handlers cannot run within compiled code, so a kernel is called for some items at a time. No result
depends on how the items are divided.
"""

import functools
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32] | NDArray[np.float64]
Doubles = NDArray[np.float64]
F = TypeVar("F")

# Lanes of a sum: enough for the registers of every processor.
LANES = 32
# Simple operations of one thread in a call of compiled code, for about 50 ms.
OPERATIONS = 5e7


def jit(function: F) -> F:
    """Compile a function. `fastmath` stays off: sums must not be reordered around NaN and infinity."""
    return cast(F, numba.njit(cache=True)(function))


@functools.cache
def _first_process() -> int:
    """The process that called the first kernel."""
    return os.getpid()


def _check_fork() -> None:
    """Raise an error where numba would end the process: its threads of GNU OpenMP do not survive a fork."""
    is_forked = _first_process() != os.getpid()
    if is_forked and sys.platform == "linux" and numba.threading_layer() == "omp":
        raise RuntimeError(
            "the numba kernels cannot run in a process that was forked after they ran; start processes with the"
            ' method "spawn" or "forkserver", or set NUMBA_THREADING_LAYER=workqueue'
        )


# Compiled, because numba's functions for Python take a lock of the process at every call. If a signal handler raises an
# error there, or a forked process dies, the lock stays taken, and calls from other threads wait for ever.
@numba.njit  # type: ignore[untyped-decorator]
def _use_threads(n_threads: int) -> int:
    """Set this thread's number of threads, and return the one before."""
    before: int = numba.get_num_threads()
    numba.set_num_threads(n_threads)
    return before


def chunks(n_items: int, operations: float) -> Iterator[tuple[int, int]]:
    """Yield ranges of items, each with that many operations of one thread; one empty range if there are no items."""
    size = max(1, int(OPERATIONS / max(1.0, operations)))
    yield 0, min(size, n_items)
    for begin in range(size, n_items, size):
        yield begin, min(begin + size, n_items)


def kernel(
    plan: Callable[..., tuple[int, float]],
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Compile a kernel of `_core` that computes the items from `begin` to `end`, its last arguments.

    `plan` returns the number of items and the operations of one, for the arguments before the number of threads.
    Callers add the number of threads and, for some kernels, the instruction set.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        compiled = numba.njit(cache=True, parallel=True)(function)
        place = [*inspect.signature(function).parameters].index("begin")

        @functools.wraps(function)
        def run(*arguments: Any) -> None:
            _check_fork()
            n_threads = max(1, min(arguments[place], numba.config.NUMBA_NUM_THREADS))
            given = arguments[:place]
            n_items, operations = plan(*given)
            before = _use_threads(n_threads)
            try:
                for begin, end in chunks(n_items, operations / n_threads):
                    compiled(*given, begin, end)
            finally:
                _use_threads(before)

        return run

    return decorate
