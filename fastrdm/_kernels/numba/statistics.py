"""Statistics of rows, and kernels for 16-bit floats, which arrive as their bits."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._kernels.numba.common import Doubles, Floats, chunks, jit
from fastrdm._kernels.numba.products import SHARE, cross, differences, gram


@jit
def _add_distinct(
    bits: NDArray[Any],
    table: NDArray[np.int32],
    out: NDArray[Any],
    found: int,
    begin: int,
    end: int,
) -> int:
    limit, size = len(out), len(table)
    for i in range(begin, end):
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


def _distinct(bits: NDArray[Any], out: NDArray[Any]) -> int:
    # At most half full.
    table = np.zeros(max(64, 2 << (len(out) - 1).bit_length()), np.int32)
    found = 0
    for begin, end in chunks(len(bits), bits.shape[1]):
        found = _add_distinct(bits, table, out, found, begin, end)
        if found == len(out):
            break
    return found


def distinct(x: Floats, out: Floats) -> int:
    """Different numbers up to the length of `out`, and how many."""
    kind = np.uint32 if x.dtype == np.float32 else np.uint64
    return _distinct(x.view(kind), out.view(kind))


def guess_means(x: Floats, means: Doubles) -> None:
    """Means of 16 stretches of each row, or of a short row."""
    means[:] = _sample(x).mean(axis=1, dtype=np.float64)


def _sample(x: NDArray[Any]) -> NDArray[Any]:
    stretches, width = 16, 8
    if x.shape[1] <= stretches * width:
        return x
    starts = np.arange(stretches) * (x.shape[1] - width) // (stretches - 1)
    return np.concatenate([x[:, start : start + width] for start in starts], axis=1)


@functools.cache
def _widened(name: str) -> NDArray[np.float32]:
    """Return every 16-bit float of a type as float32, indexed by its bits."""
    bits = np.arange(1 << 16, dtype=np.uint32)
    if name == "float16":
        return bits.astype(np.uint16).view(np.float16).astype(np.float32)
    return (bits << 16).view(np.float32)


def _parts(name: str, *rows: NDArray[np.uint16]) -> Iterator[list[NDArray[np.float32]]]:
    for start in range(0, rows[0].shape[1], SHARE):
        yield [_widened(name)[x[:, start : start + SHARE]] for x in rows]


def _gram_half(
    name: str, x: NDArray[np.uint16], shift: Doubles, share: int, add: bool, *rest: Any
) -> None:
    for k, (part,) in enumerate(_parts(name, x)):
        gram(part, shift, share, add or k > 0, *rest)


def _cross_half(
    name: str,
    a: NDArray[np.uint16],
    b: NDArray[np.uint16],
    shift_a: Doubles,
    shift_b: Doubles,
    share: int,
    add: bool,
    *rest: Any,
) -> None:
    for k, (left, right) in enumerate(_parts(name, a, b)):
        cross(left, right, shift_a, shift_b, share, add or k > 0, *rest)


def _differences_half(name: str, a: NDArray[np.uint16], b: NDArray[np.uint16], *rest: Any) -> None:
    for left, right in _parts(name, a, b):
        differences(left, right, *rest)


def _guess_means_half(name: str, x: NDArray[np.uint16], means: Doubles) -> None:
    guess_means(_widened(name)[_sample(x)], means)


def _distinct_half(name: str, x: NDArray[np.uint16], out: NDArray[np.float32]) -> int:
    bits = np.empty(len(out), np.uint16)
    n = _distinct(x, bits)
    out[:n] = _widened(name)[bits[:n]]
    return n


def halves() -> dict[str, Callable[..., Any]]:
    """Return the kernels for 16-bit floats by their names in `_core`."""
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
