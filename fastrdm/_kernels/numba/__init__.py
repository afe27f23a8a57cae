"""The kernels of `_core` in portable form; imported only when they are chosen.

Products of activations are in `numba.products`. `fastmath` stays off: sums must not be reordered around NaN and
infinity.
"""

import numba
import numpy as np
from numpy.typing import NDArray

from fastrdm._kernels.numba import products as _numba_products
from fastrdm._kernels.numba.concordance import jit_concordance, orders
from fastrdm._kernels.numba.products import (
    Threads,
    angles,
    cross,
    differences,
    distances,
    distinct,
    gram,
    guess_means,
    share,
)
from fastrdm._kernels.numba.ranks import (
    Floats,
    jit_centred_ranks,
    jit_rank,
    jit_rank_similarities,
    jit_similarities,
    rank_row_with,
)
from fastrdm._kernels.numba.resampling import (
    jit_permuted_similarities,
    jit_resampled_ceilings,
    jit_resampled_similarities,
)

__all__ = [
    "angles",
    "centred_ranks",
    "concordance",
    "cross",
    "differences",
    "distances",
    "distinct",
    "gram",
    "guess_means",
    "isas",
    "normalise",
    "permuted_similarities",
    "project",
    "rank",
    "rank_similarities",
    "resampled_ceilings",
    "resampled_similarities",
    "share",
    "similarities",
]

globals().update(_numba_products.halves())


# As project.cpp: channels of a block of signs, rows that are projected at once, and shares of the blocks.
SIGN_BLOCK, PROJECTED, SHARES, BLOCKS_PER_SHARE = 256, 16, 16, 64


@numba.njit(cache=True, parallel=True)  # type: ignore[untyped-decorator]
def _places(
    ranks: NDArray[np.float64], places: NDArray[np.int32], untied: NDArray[np.int64]
) -> None:
    """Of each row: entries in rising order, each entry's place in it, and the range of its ties."""
    n = ranks.shape[1]
    for row in numba.prange(len(ranks)):
        # Averages of two groups of ties differ by at least 1, so that their whole parts tell groups apart.
        starts = np.zeros(n + 1, np.int32)
        for i in range(n):
            starts[int(ranks[row, i])] += 1
        untied[row] = n * (n - 1) // 2
        total = 0
        for key in range(1, n + 1):
            size = int(starts[key])
            starts[key] = total
            total += size
            untied[row] -= size * (size - 1) // 2
        following = starts.copy()
        for i in range(n):
            key = int(ranks[row, i])
            places[1, row, i] = following[key]
            places[0, row, following[key]] = i
            following[key] += 1
        for i in range(n):
            places[2, row, i] = starts[int(ranks[row, i])]
            places[3, row, i] = following[int(ranks[row, i])]


@numba.njit(cache=True, parallel=True)  # type: ignore[untyped-decorator]
def _normalise(
    pixels: NDArray[np.uint8],
    table: NDArray[np.float32],
    channels: tuple[int, int, int],
    out: NDArray[np.float32],
) -> None:
    c0, c1, c2 = channels
    for i in numba.prange(len(pixels)):
        for p in range(pixels.shape[1]):
            out[i, 0, p] = table[0, pixels[i, p, c0]]
            out[i, 1, p] = table[1, pixels[i, p, c1]]
            out[i, 2, p] = table[2, pixels[i, p, c2]]


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _add_blocks(
    x: NDArray[np.float32],
    shift: NDArray[np.float32],
    entries: NDArray[np.uint32],
    first_block: int,
    out: NDArray[np.float32],
    sums: NDArray[np.float64],
) -> None:
    """Add what at most PROJECTED rows give to each component, block of channels by block; and their sums."""
    n, n_columns = x.shape
    turned = np.zeros((2 * SIGN_BLOCK, PROJECTED), np.float32)
    for i in range(len(entries)):
        start = (first_block + i) * SIGN_BLOCK
        width = min(SIGN_BLOCK, n_columns - start)
        if width < SIGN_BLOCK:
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
            component, place = entry // (2 * SIGN_BLOCK), entry % (2 * SIGN_BLOCK)
            for lane in range(PROJECTED):
                out[component, lane] += turned[place, lane]


@numba.njit(cache=True, parallel=True)  # type: ignore[untyped-decorator]
def _project(
    x: NDArray[np.float32],
    shift: NDArray[np.float32],
    entries: NDArray[np.uint32],
    scale: float,
    out: NDArray[np.float32],
    sums: NDArray[np.float64],
) -> None:
    n_blocks = len(entries)
    shares = max(1, min(SHARES, n_blocks // BLOCKS_PER_SHARE))
    for first in range(0, len(x), PROJECTED):
        last = min(first + PROJECTED, len(x))
        parts = np.zeros((shares, out.shape[1], PROJECTED), np.float32)
        part_sums = np.zeros((shares, PROJECTED))
        for s in numba.prange(shares):
            begin, end = n_blocks * s // shares, n_blocks * (s + 1) // shares
            _add_blocks(
                x[first:last], shift[first:last], entries[begin:end], begin, parts[s], part_sums[s]
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


def rank(x: NDArray[np.float64], out: NDArray[np.float64], n_threads: int) -> None:
    """Average ranks of each row; as `_core.rank`."""
    with Threads(n_threads):
        jit_rank(x, out)


def centred_ranks(
    x: Floats, out: NDArray[np.float32], squares: NDArray[np.float64], n_threads: int
) -> None:
    """Ranks as prepared rows; as `_core.centred_ranks`."""
    with Threads(n_threads):
        jit_centred_ranks(x, out, squares)


def rank_similarities(
    a: Floats,
    squares: float,
    b: NDArray[np.float32],
    squares_b: NDArray[np.float64],
    paired: bool,
    out: NDArray[np.float64],
    n_threads: int,
    isa: str,
) -> None:
    """Similarities of ranked rows to prepared ones; as `_core.rank_similarities`."""
    if len(a) == 1:
        # Numba's threads take longer to start than one row takes.
        rank_row_with(a[0], squares, b, squares_b, out[0])
        return
    with Threads(n_threads):
        jit_rank_similarities(a, squares, b, squares_b, paired, out)


def similarities(
    a: NDArray[np.float64],
    squares_a: NDArray[np.float64],
    b: NDArray[np.float64],
    squares_b: NDArray[np.float64],
    paired: bool,
    out: NDArray[np.float64],
    n_threads: int,
    isa: str,
) -> None:
    """Similarities of prepared rows; as `_core.similarities`."""
    with Threads(n_threads):
        jit_similarities(a, squares_a, b, squares_b, paired, out)


def concordance(
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    out: NDArray[np.int64],
    untied_a: NDArray[np.int64],
    untied_b: NDArray[np.int64],
    n_threads: int,
    isa: str,
) -> None:
    """Concordant less discordant pairs of all rows of ranks, and each row's untied pairs; as `_core.concordance`."""
    places_a, places_b = (np.empty((4, *x.shape), np.int32) for x in (a, b))
    with Threads(n_threads):
        _places(a, places_a, untied_a)
        _places(b, places_b, untied_b)
        jit_concordance(places_a, places_b, out)


def resampled_similarities(
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    counts: NDArray[np.int32],
    paired: bool,
    untied: bool,
    out: NDArray[np.float64],
    n_threads: int,
    isa: str,
) -> None:
    """Spearman's coefficients of RDMs with resampled conditions; as `_core.resampled_similarities`."""
    with Threads(n_threads):
        jit_resampled_similarities(*orders(a), *orders(b), counts, paired, untied, out)


def resampled_ceilings(
    subjects: NDArray[np.float64],
    condition_counts: NDArray[np.int32] | None,
    subject_counts: NDArray[np.int32] | None,
    conditions: int,
    ranked: bool,
    untied: bool,
    within: float,
    out: NDArray[np.float64],
    n_threads: int,
    isa: str,
) -> None:
    """Similarities of subjects to pools of those drawn; as `_core.resampled_ceilings`."""
    if condition_counts is None:
        condition_counts = np.ones((1, conditions), np.int32)
    if subject_counts is None:
        subject_counts = np.ones((1, len(subjects)), np.int32)
    with Threads(n_threads):
        jit_resampled_ceilings(
            subjects,
            *orders(subjects),
            condition_counts,
            subject_counts,
            ranked,
            untied,
            within,
            out,
        )


def permuted_similarities(
    a: Floats,
    squares_a: NDArray[np.float64],
    permutations: NDArray[np.int32],
    b: Floats,
    squares_b: NDArray[np.float64],
    out: NDArray[np.float64],
    n_threads: int,
    isa: str,
) -> None:
    """Similarities of matrices whose conditions are permuted; as `_core.permuted_similarities`."""
    with Threads(n_threads):
        jit_permuted_similarities(a, squares_a, permutations, b, squares_b, out)


def normalise(
    pixels: NDArray[np.uint8],
    table: NDArray[np.float32],
    channels: tuple[int, int, int],
    out: NDArray[np.float32],
    n_threads: int,
) -> None:
    """What a table has for each channel of every pixel; as `_core.normalise`."""
    with Threads(n_threads):
        _normalise(pixels, table, channels, out)


def project(
    x: NDArray[np.float32],
    entries: NDArray[np.uint32],
    shift: NDArray[np.float64],
    scale: float,
    out: NDArray[np.float32],
    sums: NDArray[np.float64],
    n_threads: int,
) -> None:
    """Shifted rows times a sparse matrix of signs, and their sums; as `_core.project`."""
    with Threads(n_threads):
        _project(x, shift.astype(np.float32), entries, scale, out, sums)


def isas() -> list[str]:
    """What numba compiles for is its own choice."""
    return ["native"]
