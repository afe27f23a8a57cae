"""Blocks of rows, so that no step needs much memory."""

from collections.abc import Iterator

# Numbers that one step holds in memory: 32 MB of float64.
_BLOCK_SIZE = 1 << 22


def blocks_of(n: int, size: int, block_size: int | None = None) -> Iterator[slice]:
    """Yield slices of n items of `size` numbers each, in blocks of at most `block_size` numbers."""
    step = max(1, (block_size or _BLOCK_SIZE) // max(1, size))
    return (slice(start, min(n, start + step)) for start in range(0, n, step))
