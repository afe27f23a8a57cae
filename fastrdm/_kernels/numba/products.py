"""Products and differences of rows, in portable form: as products.cpp.

Every product of two rows is summed in one order, for any number of threads: in the rows' type over CHAIN columns, then
in float64. `fastmath` is off except "contract" in the products, whose two factors may change places.
"""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from fastrdm._kernels.numba.common import LANES, OPERATIONS, Doubles, Floats, chunks, jit, kernel

# Columns packed per block, and columns over which sums run in the rows' type.
BLOCK, CHAIN = 512, 128
# Columns copied per block if rows cannot be read in place; 16-bit floats are widened so.
SHARE = 8 * BLOCK
# Multiplications that justify a thread, as in dispatch.cpp.
WORK_PER_THREAD = 4e6
# Multiplications in the time of a simple operation, and those of a strip of rows.
PER_OPERATION = 16
PRODUCTS = int(PER_OPERATION * OPERATIONS)


@jit
def _pack(x: Floats, shift: NDArray[Any], start: int, packed: Floats, sums: Doubles) -> None:
    """Pack panels of LANES rows: four columns one after the other, then the next four; add up each row's sum."""
    n = len(x)
    width = min(BLOCK, x.shape[1] - start)
    padded = (width + 3) // 4 * 4
    flat = packed.reshape(len(packed), BLOCK * LANES)
    for p in range(len(packed)):
        panel = flat[p]
        first, lanes = p * LANES, min(LANES, n - p * LANES)
        total = np.zeros(LANES)
        for chain in range(0, width, CHAIN):
            end = min(chain + CHAIN, width)
            for lane in range(lanes):
                i = first + lane
                for k in range(chain, end):
                    panel[k * LANES + lane] = x[i, start + k] - shift[i]
            for k in range(chain, end):
                for lane in range(LANES):
                    total[lane] += panel[k * LANES + lane]
        panel[width * LANES : padded * LANES] = 0
        for lane in range(lanes):
            sums[first + lane] += total[lane]


@numba.njit(cache=True, fastmath={"contract"})  # type: ignore[untyped-decorator]
def _add_products(
    left: Floats,
    right: Floats,
    n_left: int,
    n_right: int,
    padded: int,
    symmetric: bool,
    out: Doubles,
    first_tile: int,
    tile_step: int,
) -> None:
    """Add products of packed rows for some tiles of four left rows; if symmetric, only for i <= j."""
    acc = np.empty(4 * LANES, left.dtype)
    for p in range(len(right)):
        panel = right[p]
        first, lanes = p * LANES, min(LANES, n_right - p * LANES)
        end = min(n_left, first + lanes) if symmetric else n_left
        for i in range(4 * first_tile, end, 4 * tile_step):
            rows = left[i // LANES]
            for chain in range(0, padded // 4, CHAIN // 4):
                acc[:] = 0
                for k in range(chain, min(chain + CHAIN // 4, padded // 4)):
                    # Four rows times four columns stay in registers during the loop over lanes. LLVM vectorises that
                    # loop only if the index is `lane` plus constants and one array is read, one written (else 5 x
                    # slower).
                    v = rows[k, i % LANES :]
                    a00, a01, a02, a03 = v[0], v[1], v[2], v[3]
                    v = v[LANES:]
                    a10, a11, a12, a13 = v[0], v[1], v[2], v[3]
                    v = v[LANES:]
                    a20, a21, a22, a23 = v[0], v[1], v[2], v[3]
                    v = v[LANES:]
                    a30, a31, a32, a33 = v[0], v[1], v[2], v[3]
                    for lane in range(LANES):
                        b0, b1 = panel[k, lane], panel[k, LANES + lane]
                        b2, b3 = panel[k, 2 * LANES + lane], panel[k, 3 * LANES + lane]
                        acc[lane] += a00 * b0 + a10 * b1 + a20 * b2 + a30 * b3
                        acc[LANES + lane] += a01 * b0 + a11 * b1 + a21 * b2 + a31 * b3
                        acc[2 * LANES + lane] += a02 * b0 + a12 * b1 + a22 * b2 + a32 * b3
                        acc[3 * LANES + lane] += a03 * b0 + a13 * b1 + a23 * b2 + a33 * b3
                for r in range(min(4, n_left - i)):
                    for lane in range(lanes):
                        out[i + r, first + lane] += acc[r * LANES + lane]


def share(cols: int, size: int, isa: str) -> int:
    """Width of a share."""
    return SHARE


def _workers(n_left: int, n_right: int, n_columns: int, n_threads: int) -> int:
    n_threads = min(n_threads, numba.config.NUMBA_NUM_THREADS)
    return int(min(n_threads, 1 + n_left * n_right * n_columns / WORK_PER_THREAD))


def _room(x: Floats, workers: int) -> NDArray[Any]:
    """Return room for each worker to pack a block of the rows."""
    return np.zeros((workers, -(-len(x) // LANES), BLOCK // 4, 4 * LANES), x.dtype)


def _strips(n_left: int, n_right: int) -> int:
    """Return into how many strips of left rows to divide the products of a block."""
    return max(1, -(-n_left * n_right * BLOCK // PRODUCTS))


def _plan(n_left: int, n_right: int, n_columns: int) -> tuple[int, float]:
    strips = _strips(n_left, n_right)
    products = n_left * n_right * BLOCK / PER_OPERATION
    return -(-n_columns // BLOCK) * strips, products / strips + 2 * (n_left + n_right) * BLOCK


@kernel(lambda x, *_: _plan(len(x), len(x), x.shape[1]))
def _gram(
    x: Floats,
    shift: Floats,
    out: Doubles,
    sums: Doubles,
    room: NDArray[Any],
    strips: int,
    begin: int,
    end: int,
) -> None:
    n, n_columns = x.shape
    workers = len(room)
    for w in numba.prange(workers):
        packed = room[w]
        row_sums = sums if w == 0 else np.zeros(n)
        for item in range(begin, end):
            start, strip = item // strips * BLOCK, item % strips
            if strip == 0:
                _pack(x, shift, start, packed, row_sums)
            padded = (min(BLOCK, n_columns - start) + 3) // 4 * 4
            first, step = strip * workers + w, strips * workers
            _add_products(packed, packed, n, n, padded, True, out, first, step)


@jit
def _mirror(out: Doubles, begin: int, end: int) -> None:
    for i in range(begin, end):
        for j in range(i):
            out[i, j] = out[j, i]


def gram(
    x: Floats,
    shift: Doubles,
    share: int,
    add: bool,
    out: Doubles,
    sums: Doubles,
    n_threads: int,
    isa: str,
) -> None:
    """Symmetric product of the shifted rows, and their sums."""
    if not add:
        out[:] = 0
        sums[:] = 0
    n, n_columns = x.shape
    room = _room(x, _workers(n, n, n_columns, n_threads))
    _gram(x, shift.astype(x.dtype), out, sums, room, _strips(n, n), n_threads)
    for begin, end in chunks(n, n):
        _mirror(out, begin, end)


@kernel(lambda a, b, *_: _plan(len(a), len(b), a.shape[1]))
def _cross(
    a: Floats,
    b: Floats,
    shift_a: Floats,
    shift_b: Floats,
    out: Doubles,
    room_a: NDArray[Any],
    room_b: NDArray[Any],
    strips: int,
    begin: int,
    end: int,
) -> None:
    n_a, n_b, n_columns = len(a), len(b), a.shape[1]
    workers = len(room_a)
    for w in numba.prange(workers):
        sums_a, sums_b = np.zeros(n_a), np.zeros(n_b)
        for item in range(begin, end):
            start, strip = item // strips * BLOCK, item % strips
            if strip == 0:
                _pack(a, shift_a, start, room_a[w], sums_a)
                _pack(b, shift_b, start, room_b[w], sums_b)
            padded = (min(BLOCK, n_columns - start) + 3) // 4 * 4
            first, step = strip * workers + w, strips * workers
            _add_products(room_a[w], room_b[w], n_a, n_b, padded, False, out, first, step)


def cross(
    a: Floats,
    b: Floats,
    shift_a: Doubles,
    shift_b: Doubles,
    share: int,
    add: bool,
    out: Doubles,
    n_threads: int,
    isa: str,
) -> None:
    """Products of all shifted rows of `a` with all shifted rows of `b`."""
    if not add:
        out[:] = 0
    shifts = shift_a.astype(a.dtype), shift_b.astype(a.dtype)
    workers = _workers(len(a), len(b), a.shape[1], n_threads)
    rooms = _room(a, workers), _room(b, workers)
    _cross(a, b, *shifts, out, *rooms, _strips(len(a), len(b)), n_threads)


@jit
def _difference(
    a: Floats,
    b: Floats,
    shift_a: np.float64,
    shift_b: np.float64,
    factor_a: np.float64,
    factor_b: np.float64,
    lanes: Floats,
    total: float,
) -> float:
    """Add the blocks' sums to `total` one after the other, so that columns may come in several calls."""
    for start in range(0, len(a), BLOCK):
        end = min(start + BLOCK, len(a))
        lanes[:] = 0
        whole = start + (end - start) // LANES * LANES
        for begin in range(start, whole, LANES):
            x, y = a[begin : begin + LANES], b[begin : begin + LANES]
            for lane in range(LANES):
                w = (x[lane] - shift_a) * factor_a - (y[lane] - shift_b) * factor_b
                lanes[lane] += w * w
        block = 0.0
        for lane in range(LANES):
            block += lanes[lane]
        for k in range(whole, end):
            w = (a[k] - shift_a) * factor_a - (b[k] - shift_b) * factor_b
            block += np.float64(w) * np.float64(w)
        total += block
    return total


@kernel(lambda a, *arguments: (len(arguments[-2]), 2 * a.shape[1]))
def differences(
    a: Floats,
    b: Floats,
    shift_a: Doubles,
    shift_b: Doubles,
    factor_a: Doubles,
    factor_b: Doubles,
    pairs: NDArray[np.int32],
    out: Doubles,
    begin: int,
    end: int,
) -> None:
    """Add squared differences of pairs of shifted and scaled rows."""
    shifts = shift_a.astype(a.dtype), shift_b.astype(a.dtype)
    factors = factor_a.astype(a.dtype), factor_b.astype(a.dtype)
    for p in numba.prange(begin, end):
        i, j = pairs[p]
        lanes = np.empty(LANES, a.dtype)
        out[p] = _difference(
            a[i], b[j], shifts[0][i], shifts[1][j], factors[0][i], factors[1][j], lanes, out[p]
        )
