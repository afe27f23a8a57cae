"""What the numba kernels share: decorators, types, and the lanes of sums."""

import functools
import inspect
import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32] | NDArray[np.float64]
Doubles = NDArray[np.float64]
F = TypeVar("F")

# Lanes of a sum: enough for the registers of every processor.
LANES = 32


def jit(function: F) -> F:
    """Compile a function. `fastmath` stays off: sums must not be reordered around NaN and infinity."""
    return cast(F, numba.njit(cache=True)(function))


def parallel_jit(function: F) -> F:
    """Compile a function whose loops over `numba.prange` run in threads."""
    return cast(F, numba.njit(cache=True, parallel=True)(function))


@functools.cache
def _first_process() -> int:
    """The process that called the first kernel."""
    return os.getpid()


def _check_fork() -> None:
    """Raise an error where numba would end the process: its threads of GNU OpenMP do not survive a fork."""
    if _first_process() != os.getpid() and sys.platform == "linux":
        if numba.threading_layer() == "omp":
            raise RuntimeError(
                "the numba kernels cannot run in a process that was forked after they ran; start processes with the"
                ' method "spawn" or "forkserver", or set NUMBA_THREADING_LAYER=workqueue'
            )


def kernel(function: Callable[..., None]) -> Callable[..., None]:
    """Compile a kernel of `_core`. Callers add the number of threads and, for some kernels, the instruction set."""
    compiled, names = parallel_jit(function), [*inspect.signature(function).parameters]
    # Functions that call `numba.get_num_threads` cannot be cached, so some kernels have the number as an argument.
    place = names.index("n_threads") if "n_threads" in names else len(names)

    @functools.wraps(function)
    def run(*arguments: Any) -> None:
        _check_fork()
        before = numba.get_num_threads()
        n_threads = max(1, min(arguments[place], numba.config.NUMBA_NUM_THREADS))
        numba.set_num_threads(n_threads)
        try:
            compiled(*(*arguments[:place], n_threads)[: len(names)])
        finally:
            numba.set_num_threads(before)

    return run
