"""Rows times a sparse matrix of signs, and pixels → a network's input: as project.cpp and normalise.cpp."""

import numba
import numpy as np
from numpy.typing import NDArray

from fastrdm._kernels.numba.common import Doubles, jit, kernel

# As in project.cpp: channels per block of signs, rows projected together, and shares of the blocks.
_SIGN_BLOCK, _ROWS, _SHARES, _BLOCKS_PER_SHARE = 256, 16, 16, 64


@jit
def _add_blocks(
    x: NDArray[np.float32],
    shift: NDArray[np.float32],
    entries: NDArray[np.uint32],
    first_block: int,
    out: NDArray[np.float32],
    sums: Doubles,
) -> None:
    """Add the products of at most _ROWS rows with some blocks of the matrix, and the rows' sums."""
    n, n_columns = x.shape
    turned = np.zeros((2 * _SIGN_BLOCK, _ROWS), np.float32)
    for i in range(len(entries)):
        start = (first_block + i) * _SIGN_BLOCK
        width = min(_SIGN_BLOCK, n_columns - start)
        if width < _SIGN_BLOCK:
            turned[:] = 0
        for lane in range(n):
            total = np.float32(0)
            for k in range(width):
                value = x[lane, start + k] - shift[lane]
                total += value
                turned[2 * k, lane] = value
                turned[2 * k + 1, lane] = -value
            sums[lane] += total
        for entry in entries[i]:
            component, place = entry // (2 * _SIGN_BLOCK), entry % (2 * _SIGN_BLOCK)
            for lane in range(_ROWS):
                out[component, lane] += turned[place, lane]


@kernel(
    lambda x, entries, *_: (
        -(-len(x) // _ROWS),
        len(entries) * _ROWS * (entries.shape[1] + 4 * _SIGN_BLOCK) / 2,
    )
)
def project(
    x: NDArray[np.float32],
    entries: NDArray[np.uint32],
    shift: Doubles,
    scale: float,
    out: NDArray[np.float32],
    sums: Doubles,
    begin: int,
    end: int,
) -> None:
    """Shifted rows times a sparse matrix of signs, and their sums."""
    shifts = shift.astype(np.float32)
    n_blocks = len(entries)
    shares = max(1, min(_SHARES, n_blocks // _BLOCKS_PER_SHARE))
    for group in range(begin, end):
        first, last = group * _ROWS, min((group + 1) * _ROWS, len(x))
        parts = np.zeros((shares, out.shape[1], _ROWS), np.float32)
        part_sums = np.zeros((shares, _ROWS))
        for s in numba.prange(shares):
            left, right = n_blocks * s // shares, n_blocks * (s + 1) // shares
            _add_blocks(
                x[first:last], shifts[first:last], entries[left:right], left, parts[s], part_sums[s]
            )
        for lane in range(last - first):
            for component in range(out.shape[1]):
                total = 0.0
                for s in range(shares):
                    total += parts[s, component, lane]
                out[first + lane, component] = total * scale
            total = 0.0
            for s in range(shares):
                total += part_sums[s, lane]
            sums[first + lane] = total


@kernel(lambda pixels, *_: (len(pixels), 3 * pixels.shape[1]))
def normalise(
    pixels: NDArray[np.uint8],
    table: NDArray[np.float32],
    channels: tuple[int, int, int],
    out: NDArray[np.float32],
    begin: int,
    end: int,
) -> None:
    """Look up each channel of every pixel in a table."""
    c0, c1, c2 = channels
    for i in numba.prange(begin, end):
        for p in range(pixels.shape[1]):
            out[i, 0, p] = table[0, pixels[i, p, c0]]
            out[i, 1, p] = table[1, pixels[i, p, c1]]
            out[i, 2, p] = table[2, pixels[i, p, c2]]
