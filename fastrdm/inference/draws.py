"""Random draws that depend only on the seed and their position, not on threads, kernels or the number of draws.

The numbers of a draw are words of NumPy's Philox 4×64-10 (Salmon et al. 2011, Parallel random numbers: as easy as 1, 2,
3); the key is the seed and the stream, the counter is the position.
"""

import itertools
import math

import numpy as np
from numpy.typing import NDArray

# Streams of one seed; draws for different purposes are independent.
SUBJECTS, CONDITIONS, PERMUTATIONS, SIGNS, UNITS = range(5)

Indices = NDArray[np.intp]
Counts = NDArray[np.int32]


def _words(seed: int, stream: int, attempt: int, n: int) -> NDArray[np.uint64]:
    key = np.array([seed, stream | attempt << 32], np.uint64)
    return np.asarray(np.random.Philox(key=key).random_raw(n), np.uint64)


def check_seed(seed: int) -> None:
    """Raise ValueError for a seed that is not an integer from 0 to 2⁶⁴ − 1."""
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 1 << 64:
        raise ValueError(f"seed must be an integer from 0 to 2**64 - 1, not {seed!r}")


def draw_indices(seed: int, stream: int, n_draws: int, n: int) -> Indices:
    """Draw indices (n_draws, n) below n with replacement, all equally likely.

    Multiplies 32-bit words with rejection (Lemire 2019, Fast random integer generation in an interval). A rejected word
    is replaced by the word at the same position in the stream of the next attempt.
    """
    check_seed(seed)
    size, n64, low = n_draws * n, np.uint64(n), np.uint64(0xFFFFFFFF)
    products = (_words(seed, stream, 0, size) >> np.uint64(32)) * n64
    unfair = np.uint64((1 << 32) % n)
    attempt = 0
    while (rejected := np.flatnonzero((products & low) < unfair)).size:
        attempt += 1
        words = _words(seed, stream, attempt, int(rejected[-1]) + 1)[rejected]
        products[rejected] = (words >> np.uint64(32)) * n64
    return (products >> np.uint64(32)).astype(np.intp).reshape(n_draws, n)


def count(indices: Indices, n: int) -> Counts:
    """Count how often each of n indices occurs in each draw (n_draws, n)."""
    counts = np.zeros((len(indices), n), np.int32)
    np.add.at(counts, (np.arange(len(indices))[:, None], indices), 1)
    return counts


def draw_permutations(seed: int, n_permutations: int, n: int) -> Counts:
    """Draw permutations (n_permutations, n) of range(n), all equally likely, from the order of random words."""
    check_seed(seed)
    words = _words(seed, PERMUTATIONS, 0, n_permutations * n).reshape(n_permutations, n)
    return np.argsort(words, axis=1).astype(np.int32)


def all_permutations(n: int) -> Counts:
    """Return all permutations (n!, n), the identity first."""
    return np.array(list(itertools.permutations(range(n))), np.int32).reshape(math.factorial(n), n)


def draw_signs(seed: int, n_draws: int, n: int) -> NDArray[np.float64]:
    """Draw signs (n_draws, n), 1 or −1, both equally likely."""
    check_seed(seed)
    negative = (_words(seed, SIGNS, 0, n_draws * n) >> np.uint64(63)).astype(np.float64)
    return np.asarray(1 - 2 * negative.reshape(n_draws, n), np.float64)


def all_signs(n: int) -> NDArray[np.float64]:
    """Return all rows of signs (2ⁿ, n), all positive first."""
    return np.asarray(1 - 2 * (np.arange(1 << n)[:, None] >> np.arange(n) & 1), np.float64)
