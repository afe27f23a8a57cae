"""The kernels of `_core` in portable form; imported only when they are chosen.

`fastmath` stays off: sums must not be reordered around NaN and infinity.
"""

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32] | NDArray[np.float64]
BLOCK = 512


@numba.njit(cache=True, parallel=True)  # type: ignore[untyped-decorator]
def _gram(x: Floats, shift: Floats, out: NDArray[np.float64], sums: NDArray[np.float64]) -> None:
    n, n_columns = x.shape
    out[:] = 0.0
    sums[:] = 0.0
    block = np.empty((n, BLOCK), x.dtype)
    for start in range(0, n_columns, BLOCK):
        width = min(BLOCK, n_columns - start)
        for i in numba.prange(n):
            total = 0.0
            for k in range(width):
                value = x[i, start + k] - shift[i]
                block[i, k] = value
                total += value
            sums[i] += total
        for i in numba.prange(n):
            for j in range(i + 1):
                # Eight running sums: without reordering, one alone is bound by the latency of an addition.
                s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = shift[i] * 0
                end = width - width % 8
                for k in range(0, end, 8):
                    s0 += block[i, k] * block[j, k]
                    s1 += block[i, k + 1] * block[j, k + 1]
                    s2 += block[i, k + 2] * block[j, k + 2]
                    s3 += block[i, k + 3] * block[j, k + 3]
                    s4 += block[i, k + 4] * block[j, k + 4]
                    s5 += block[i, k + 5] * block[j, k + 5]
                    s6 += block[i, k + 6] * block[j, k + 6]
                    s7 += block[i, k + 7] * block[j, k + 7]
                for k in range(end, width):
                    s0 += block[i, k] * block[j, k]
                out[i, j] += np.float64((s0 + s1) + (s2 + s3)) + np.float64((s4 + s5) + (s6 + s7))
    for i in range(n):
        for j in range(i):
            out[j, i] = out[i, j]


@numba.njit(cache=True, parallel=True)  # type: ignore[untyped-decorator]
def _cross(a: NDArray[np.float64], b: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    n_columns = a.shape[1]
    end = n_columns - n_columns % 4
    for i in numba.prange(a.shape[0]):
        for j in range(b.shape[0]):
            s0 = s1 = s2 = s3 = 0.0
            for k in range(0, end, 4):
                s0 += a[i, k] * b[j, k]
                s1 += a[i, k + 1] * b[j, k + 1]
                s2 += a[i, k + 2] * b[j, k + 2]
                s3 += a[i, k + 3] * b[j, k + 3]
            for k in range(end, n_columns):
                s0 += a[i, k] * b[j, k]
            out[i, j] = (s0 + s1) + (s2 + s3)


@numba.njit(cache=True, parallel=True)  # type: ignore[untyped-decorator]
def _rank(x: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    n = x.shape[1]
    for row in numba.prange(x.shape[0]):
        order = np.argsort(x[row])
        begin = 0
        while begin < n:
            end = begin + 1
            while end < n and x[row, order[end]] == x[row, order[begin]]:
                end += 1
            for k in range(begin, end):
                out[row, order[k]] = 0.5 * (begin + 1 + end)
            begin = end


class _Threads:
    """The number of numba's threads for the length of a call."""

    def __init__(self, n_threads: int) -> None:
        self._wanted = max(1, min(n_threads, numba.config.NUMBA_NUM_THREADS))

    def __enter__(self) -> None:
        self._before = numba.get_num_threads()
        numba.set_num_threads(self._wanted)

    def __exit__(self, *_: object) -> None:
        numba.set_num_threads(self._before)


def gram(
    x: Floats,
    shift: NDArray[np.float64],
    out: NDArray[np.float64],
    sums: NDArray[np.float64],
    n_threads: int,
    isa: str,
) -> None:
    """Symmetric product of the shifted rows, and their sums; as `_core.gram`."""
    with _Threads(n_threads):
        _gram(x, shift.astype(x.dtype), out, sums)


def cross(
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    out: NDArray[np.float64],
    n_threads: int,
    isa: str,
) -> None:
    """Products of all rows of `a` with all rows of `b`; as `_core.cross`."""
    with _Threads(n_threads):
        _cross(a, b, out)


def rank(x: NDArray[np.float64], out: NDArray[np.float64], n_threads: int) -> None:
    """Average ranks of each row; as `_core.rank`."""
    with _Threads(n_threads):
        _rank(x, out)


def isas() -> list[str]:
    """What numba compiles for is its own choice."""
    return ["native"]
