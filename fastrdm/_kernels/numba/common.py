"""What the numba kernels share: decorators, types, the number of threads, and the lanes of sums."""

from typing import TypeVar, cast

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


class Threads:
    """Context manager that sets the number of numba's threads."""

    def __init__(self, n_threads: int) -> None:
        self._n_threads = max(1, min(n_threads, numba.config.NUMBA_NUM_THREADS))

    def __enter__(self) -> None:
        self._before = numba.get_num_threads()
        numba.set_num_threads(self._n_threads)

    def __exit__(self, *_: object) -> None:
        numba.set_num_threads(self._before)
