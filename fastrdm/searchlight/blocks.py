"""Many places, block by block: which are computed together, and where results go."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import format_bytes, parse_bytes, warn_caller
from fastrdm.searchlight.places import Patches

Progress = Callable[[int, int], Any]
# Bytes of RDMs that are computed together, if `max_memory` allows: few enough for the caches, and many enough for the
# threads.
_LEAST, _MOST = 1 << 20, 1 << 23


class Block(NamedTuple):
    """Some windows of some centres."""

    centres: slice
    windows: slice


def blocks_of(patches: Patches, max_memory: int | str | None, n_threads: int) -> Iterator[Block]:
    """Yield blocks of places that follow each other, whose RDMs take a small part of the memory of the data."""
    size = 8 * patches.n_pairs
    limit = min(_MOST, max(_LEAST, patches.rows.nbytes // 8))
    if max_memory is not None:
        memory = parse_bytes(max_memory)
        # RDMs, and their ranks.
        if memory < 2 * size:
            raise ValueError(
                f"max_memory is {format_bytes(memory)}, and one RDM of {patches.n_conditions} conditions needs"
                f" {format_bytes(2 * size)}"
            )
        limit = min(limit, memory // 2)
    at_once = max(1, limit // size)
    n, n_windows = patches.centres.n, patches.n_windows
    together = max(1, at_once // n_windows)
    if together > n_threads:
        together -= together % n_threads
    width = n_windows if together > 1 else min(n_windows, at_once)
    for first in range(0, n, together):
        for start in range(0, n_windows, width):
            yield Block(
                slice(first, min(n, first + together)), slice(start, min(n_windows, start + width))
            )


def warn_missing(missing: int, total: int, what: str) -> None:
    """Warn once of places with undefined values."""
    if missing:
        warn_caller(f"{what} of {missing} of {total} places")


def result_of(out: NDArray[Any] | None, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return the array for results: `out`, checked, or a new one."""
    if out is None:
        return np.empty(shape)
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out is a {type(out).__name__}; expected an array of float32 or float64")
    if (
        out.shape != shape
        or out.dtype not in (np.float32, np.float64)
        or not out.flags.c_contiguous
    ):
        raise ValueError(
            f"out has shape {out.shape} of {out.dtype}; expected {shape} of float32 or float64, contiguous"
        )
    if not out.flags.writeable:
        raise ValueError(
            "out is read-only; pass an array that can be written, such as a memmap of mode 'r+'"
        )
    return out
