"""Kernels of many small RDMs: rows of conditions side by side, and lists of the rows of each RDM."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._kernels.dispatch import active

Index = NDArray[np.intp]
Doubles = NDArray[np.float64]

#: The numbers by which kernels know methods.
METHOD_NUMBERS = {"correlation": 0, "cosine": 1, "sqeuclidean": 2, "euclidean": 3, "spearman": 4}


def searchlight(
    rows: NDArray[Any],
    channels: tuple[Index, Index],
    n_samples: int,
    samples: tuple[Index, Index],
    method: str,
    out: Doubles,
    n_threads: int | None = None,
    *,
    whole: bool = False,
    row_shift: Doubles | None = None,
) -> None:
    """Write the RDM of each list of channels and each list of samples to `out` (lists of channels × samples, pairs).

    Row c * n_samples + t holds channel c at sample t of all conditions. Lists are indices one after the other, and
    where each begins, and the last ends. `whole` says that all numbers are integers with exact products; `row_shift`
    holds numbers near those of each row, for distances. Conditions without angles have NaN.
    """
    chosen, number = active(), METHOD_NUMBERS[method]
    chosen.run(
        "searchlight", n_threads, rows, *channels, n_samples, *samples, number, whole, row_shift, out
    )  # fmt: skip


def sliding_searchlight(
    rows: NDArray[Any],
    channels: tuple[Index, Index],
    n_samples: int,
    windows: tuple[Index, int, int],
    method: str,
    out: Doubles,
    n_threads: int | None = None,
    *,
    whole: bool = False,
    row_shift: Doubles | None = None,
) -> None:
    """Do the same for windows that overlap, which share sums; not for ``"spearman"``.

    `windows` holds their rising starts, their width, and the start from which boundaries of sums are counted: results
    do not depend on other windows of a call with the same.
    """
    chosen, number = active(), METHOD_NUMBERS[method]
    chosen.run(
        "sliding_searchlight", n_threads, rows, *channels, n_samples, *windows, number, whole, row_shift, out
    )  # fmt: skip
