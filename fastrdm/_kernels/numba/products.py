"""Products and differences of rows, and what becomes of them, in portable form: as products.cpp and condense.cpp.

Every product of two rows is added up in one order, whatever the number of threads: in the rows' own type over CHAIN
columns, then in float64. `fastmath` is off but for "contract" in the products, where both factors may change places.
"""

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32] | NDArray[np.float64]
Doubles = NDArray[np.float64]

# Rows of a panel; columns that are packed at once, and columns over which sums run in the data's own type.
LANES, BLOCK, CHAIN = 32, 512, 128
# Columns that are read at once where they cannot be read in place; 16-bit floats are widened so.
SHARE = 8 * BLOCK
# As dispatch.cpp: multiplications that are worth a thread.
WORK_PER_THREAD = 4e6


class Threads:
    """The number of numba's threads for the length of a call."""

    def __init__(self, n_threads: int) -> None:
        self._wanted = max(1, min(n_threads, numba.config.NUMBA_NUM_THREADS))

    def __enter__(self) -> None:
        self._before = numba.get_num_threads()
        numba.set_num_threads(self._wanted)

    def __exit__(self, *_: object) -> None:
        numba.set_num_threads(self._before)


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _pack(x: Floats, shift: Floats, start: int, packed: Floats, sums: Doubles) -> None:
    """Panels of LANES rows: four columns after one another, then the next four; each row's sum is added."""
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
    """Add products of packed rows, for some of the tiles of four left rows; where symmetric, of i <= j."""
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
                    # Four rows times four columns, in registers while the lanes pass. LLVM vectorises the loop over
                    # lanes only because `lane` is the whole index but for constants, and one array is read, one
                    # written (else 5 x slower).
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


@numba.njit(cache=True, parallel=True)  # type: ignore[untyped-decorator]
def _gram(x: Floats, shift: Floats, out: Doubles, sums: Doubles, n_threads: int) -> None:
    n, n_columns = x.shape
    workers = int(min(n_threads, 1 + n * n * n_columns / WORK_PER_THREAD))
    for w in numba.prange(workers):
        packed = np.zeros(((n + LANES - 1) // LANES, BLOCK // 4, 4 * LANES), x.dtype)
        own = sums if w == 0 else np.zeros(n)
        for start in range(0, n_columns, BLOCK):
            _pack(x, shift, start, packed, own)
            padded = (min(BLOCK, n_columns - start) + 3) // 4 * 4
            _add_products(packed, packed, n, n, padded, True, out, w, workers)
    for i in range(n):
        for j in range(i):
            out[i, j] = out[j, i]


@numba.njit(cache=True, parallel=True)  # type: ignore[untyped-decorator]
def _cross(
    a: Floats, b: Floats, shift_a: Floats, shift_b: Floats, out: Doubles, n_threads: int
) -> None:
    n_a, n_b, n_columns = len(a), len(b), a.shape[1]
    workers = int(min(n_threads, 1 + n_a * n_b * n_columns / WORK_PER_THREAD))
    for w in numba.prange(workers):
        left = np.zeros(((n_a + LANES - 1) // LANES, BLOCK // 4, 4 * LANES), a.dtype)
        right = np.zeros(((n_b + LANES - 1) // LANES, BLOCK // 4, 4 * LANES), a.dtype)
        sums_a, sums_b = np.zeros(n_a), np.zeros(n_b)
        for start in range(0, n_columns, BLOCK):
            _pack(a, shift_a, start, left, sums_a)
            _pack(b, shift_b, start, right, sums_b)
            padded = (min(BLOCK, n_columns - start) + 3) // 4 * 4
            _add_products(left, right, n_a, n_b, padded, False, out, w, workers)


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _difference(
    a: Floats,
    b: Floats,
    shift_a: np.float64,
    shift_b: np.float64,
    factor_a: np.float64,
    factor_b: np.float64,
    lanes: Floats,
) -> float:
    total = 0.0
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


@numba.njit(cache=True, parallel=True)  # type: ignore[untyped-decorator]
def _differences(
    a: Floats,
    b: Floats,
    shift_a: Floats,
    shift_b: Floats,
    factor_a: Floats,
    factor_b: Floats,
    pairs: NDArray[np.int32],
    out: Doubles,
) -> None:
    for p in numba.prange(len(pairs)):
        i, j = pairs[p]
        lanes = np.empty(LANES, a.dtype)
        out[p] += _difference(a[i], b[j], shift_a[i], shift_b[j], factor_a[i], factor_b[j], lanes)


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _distinct(bits: NDArray[Any], out: NDArray[Any]) -> int:
    limit = len(out)
    size = 64
    while size < 2 * limit:
        size *= 2
    table = np.zeros(size, np.int32)
    found = 0
    for i in range(len(bits)):
        for k in range(bits.shape[1]):
            value = bits[i, k]
            if k > 0 and value == bits[i, k - 1]:
                continue
            mixed = np.uint64(value) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(40)
            at = np.int64(mixed) & (size - 1)
            while table[at] and out[table[at] - 1] != value:
                at = (at + 1) & (size - 1)
            if table[at]:
                continue
            if found == limit:
                return limit
            out[found] = value
            found += 1
            table[at] = found
    return found


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _scaled(norms: Doubles) -> tuple[Doubles, Doubles]:
    """Powers of two that bring the roots of norms near 1, and the norms so scaled."""
    factor, norm = np.empty_like(norms), np.empty_like(norms)
    for i in range(len(norms)):
        half = int(math.frexp(norms[i])[1] / 2) if np.isfinite(norms[i]) else 0
        factor[i] = math.ldexp(1.0, -half)
        norm[i] = math.ldexp(norms[i], -2 * half)
    return factor, norm


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _angles(
    product: Doubles,
    condensed: bool,
    norms_a: Doubles,
    norms_b: Doubles,
    sums_a: Doubles,
    sums_b: Doubles,
    n: float,
    near: float,
    out: Doubles,
) -> int:
    factor_a, norm_a = _scaled(norms_a)
    factor_b, norm_b = _scaled(norms_b)
    pair = count = 0
    for i in range(len(product)):
        for j in range(i + 1 if condensed else 0, product.shape[1]):
            own = n * product[i, j] - sums_a[i] * sums_b[j]
            scaled = own * factor_a[i] * factor_b[j]
            cosine = np.sqrt(scaled * scaled / (norm_a[i] * norm_b[j]))
            cosine = 1.0 if cosine > 1 else cosine
            value = 1 + cosine if scaled < 0 else 1 - cosine
            count += value < near
            out[pair] = -value if value < near else value
            pair += 1
    return count


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def distances(
    product: Doubles,
    condensed: bool,
    norms_a: Doubles,
    norms_b: Doubles,
    near: float,
    out: Doubles,
) -> int:
    """Squared distances from products; as `_core.distances`."""
    pair = count = 0
    for i in range(len(product)):
        for j in range(i + 1 if condensed else 0, product.shape[1]):
            total = norms_a[i] + norms_b[j]
            square = total - 2 * product[i, j]
            value = 0.0 if square < 0 else square
            count += square < near * total
            out[pair] = -value if square < near * total else value
            pair += 1
    return count


def share(cols: int, size: int, isa: str) -> int:
    """Columns that are read at once where rows cannot be read in place; as `_core.share`."""
    return SHARE


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
    """Symmetric product of the shifted rows, and their sums; as `_core.gram`."""
    if not add:
        out[:] = 0
        sums[:] = 0
    with Threads(n_threads):
        _gram(x, shift.astype(x.dtype), out, sums, numba.get_num_threads())


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
    """Products of all shifted rows of `a` with all shifted rows of `b`; as `_core.cross`."""
    if not add:
        out[:] = 0
    with Threads(n_threads):
        _cross(a, b, shift_a.astype(a.dtype), shift_b.astype(a.dtype), out, numba.get_num_threads())


def differences(
    a: Floats,
    b: Floats,
    shift_a: Doubles,
    shift_b: Doubles,
    factor_a: Doubles,
    factor_b: Doubles,
    pairs: NDArray[np.int32],
    out: Doubles,
    n_threads: int,
    isa: str,
) -> None:
    """Add squared differences of pairs of shifted and scaled rows; as `_core.differences`."""
    given = (v.astype(a.dtype) for v in (shift_a, shift_b, factor_a, factor_b))
    with Threads(n_threads):
        _differences(a, b, *given, pairs, out)


def distinct(x: Floats, out: Floats) -> int:
    """How many different numbers there are, and which, up to the length of `out`; as `_core.distinct`."""
    kind = np.uint32 if x.dtype == np.float32 else np.uint64
    found: int = _distinct(x.view(kind), out.view(kind))
    return found


def angles(
    product: Doubles,
    condensed: bool,
    norms_a: Doubles,
    norms_b: Doubles,
    sums_a: Doubles | None,
    sums_b: Doubles | None,
    n: float,
    near: float,
    out: Doubles,
) -> int:
    """1 − cosine from products; as `_core.angles`."""
    if sums_a is None or sums_b is None:
        sums_a, sums_b, n = np.zeros(len(norms_a)), np.zeros(len(norms_b)), 1.0
    count: int = _angles(
        product, condensed, norms_a, norms_b, sums_a, sums_b, float(n), float(near), out
    )
    return count


def guess_means(x: Floats, means: Doubles) -> None:
    """Means of 16 stretches of each row, or of all of a short one; as `_core.guess_means`."""
    means[:] = _sample(x).mean(axis=1, dtype=np.float64)


def _sample(x: NDArray[Any]) -> NDArray[Any]:
    stretches, width = 16, 8
    if x.shape[1] <= stretches * width:
        return x
    starts = np.arange(stretches) * (x.shape[1] - width) // (stretches - 1)
    return np.concatenate([x[:, start : start + width] for start in starts], axis=1)


@functools.cache
def _widened(name: str) -> NDArray[np.float32]:
    """Every 16-bit float of a type as float32, by its bits."""
    bits = np.arange(1 << 16, dtype=np.uint32)
    if name == "float16":
        return bits.astype(np.uint16).view(np.float16).astype(np.float32)
    return (bits << 16).view(np.float32)


def _parts(name: str, *rows: NDArray[np.uint16]) -> Iterator[list[NDArray[np.float32]]]:
    for start in range(0, rows[0].shape[1], SHARE):
        yield [_widened(name)[x[:, start : start + SHARE]] for x in rows]


def _gram_half(
    name: str,
    x: NDArray[np.uint16],
    shift: Doubles,
    share: int,
    add: bool,
    out: Doubles,
    sums: Doubles,
    n_threads: int,
    isa: str,
) -> None:
    for k, (part,) in enumerate(_parts(name, x)):
        gram(part, shift, share, add or k > 0, out, sums, n_threads, isa)


def _cross_half(
    name: str,
    a: NDArray[np.uint16],
    b: NDArray[np.uint16],
    shift_a: Doubles,
    shift_b: Doubles,
    share: int,
    add: bool,
    out: Doubles,
    n_threads: int,
    isa: str,
) -> None:
    for k, (left, right) in enumerate(_parts(name, a, b)):
        cross(left, right, shift_a, shift_b, share, add or k > 0, out, n_threads, isa)


def _differences_half(name: str, a: NDArray[np.uint16], b: NDArray[np.uint16], *rest: Any) -> None:
    for left, right in _parts(name, a, b):
        differences(left, right, *rest)


def _guess_means_half(name: str, x: NDArray[np.uint16], means: Doubles) -> None:
    guess_means(_widened(name)[_sample(x)], means)


def _distinct_half(name: str, x: NDArray[np.uint16], out: NDArray[np.float32]) -> int:
    bits = np.empty(len(out), np.uint16)
    found: int = _distinct(x, bits)
    out[:found] = _widened(name)[bits[:found]]
    return found


def halves() -> dict[str, Callable[..., Any]]:
    """The kernels of 16-bit floats, which come as their bits, by the names that `_core` has for them."""
    kernels: dict[str, Callable[..., Any]] = {
        "gram": _gram_half,
        "cross": _cross_half,
        "differences": _differences_half,
        "guess_means": _guess_means_half,
        "distinct": _distinct_half,
    }
    return {
        f"{kernel}_{name}": functools.partial(function, name)
        for kernel, function in kernels.items()
        for name in ("float16", "bfloat16")
    }
