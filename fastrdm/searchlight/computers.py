"""Blocks of places → their RDMs: of conditions, of folds, and of patterns whose noise is whitened."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._kernels import cross, n_processors, searchlight, sliding_searchlight
from fastrdm.rdm import Precision, Residuals
from fastrdm.searchlight.blocks import Block
from fastrdm.searchlight.places import Index, Lists, Patches, Rows

Noise = Precision | Residuals
# The methods of whitened, or cross-validated, patterns.
_PLAIN = {"mahalanobis": "euclidean", "crossnobis": "sqeuclidean"}
# Bytes that are searched for integers at a time.
_SEARCHED = 1 << 20


class Computer:
    """Computes the RDMs of blocks of places."""

    def __init__(self, patches: Patches, method: str, n_threads: int | None) -> None:
        self.patches, self.method, self.n_threads = patches, method, n_threads
        self.whole = _is_whole(patches)
        self.row_shift = None
        if method in ("euclidean", "sqeuclidean"):
            # One shift of all conditions changes no distance.
            means = patches.rows.mean(axis=1, dtype=np.float64)
            self.row_shift = np.rint(means) if self.whole else means

    def fill(self, out: NDArray[np.float64], block: Block) -> None:
        """Write the RDMs of a block to (places, pairs)."""
        patches = self.patches
        channels = patches.centres.part(block.centres)
        options: dict[str, Any] = {"whole": self.whole, "row_shift": self.row_shift}
        if patches.slide is not None and self.method != "spearman":
            starts, width = patches.slide
            windows = starts[block.windows], width, int(starts[0])
            sliding_searchlight(
                patches.rows, channels, patches.n_samples, windows, self.method, out, self.n_threads, **options
            )  # fmt: skip
            return
        if patches.windows is None:
            samples = np.arange(patches.n_samples), np.array([0, patches.n_samples])
        else:
            samples = patches.windows.part(block.windows)
        searchlight(
            patches.rows, channels, patches.n_samples, samples, self.method, out, self.n_threads, **options
        )  # fmt: skip


class Crossed:
    """Computes cross-validated distances: those of the folds' sum less those of each fold, over folds (folds − 1)."""

    def __init__(self, patches: Patches, folds: Iterable[Rows], n_threads: int | None) -> None:
        self.whole = Computer(patches, "sqeuclidean", n_threads)
        self.folds = [
            Computer(patches._replace(rows=rows), "sqeuclidean", n_threads) for rows in folds
        ]

    def fill(self, out: NDArray[np.float64], block: Block) -> None:
        """Write the RDMs of a block to (places, pairs)."""
        self.whole.fill(out, block)
        one = np.empty_like(out)
        for fold in self.folds:
            fold.fill(one, block)
            out -= one
        out /= len(self.folds) * (len(self.folds) - 1)


class Whitened:
    """Computes distances of patterns whose noise is whitened in each place, with the covariance of its channels."""

    def __init__(
        self,
        patches: Patches,
        folds: tuple[Rows, ...],
        method: str,
        noise: Noise,
        n_threads: int | None,
    ) -> None:
        self.patches, self.folds, self.method, self.noise = patches, folds, method, noise
        self.n_threads = n_threads or n_processors()

    def fill(self, out: NDArray[np.float64], block: Block) -> None:
        """Write the RDMs of a block to (places, pairs)."""
        places = range(block.centres.start, block.centres.stop)
        parts = out.reshape(len(places), -1, out.shape[1])
        with ThreadPoolExecutor(min(self.n_threads, len(places))) as pool:
            for _ in pool.map(lambda k, part: self._fill(part, k, block.windows), places, parts):
                pass

    def _fill(self, out: NDArray[np.float64], place: int, windows: slice) -> None:
        patches = self.patches
        channels = np.asarray(patches.centres.lists[place], np.intp)
        try:
            filters = self.noise.some(channels).filters
        except ValueError as error:
            raise ValueError(f"neighbours[{place}], {len(channels)} channels: {error}") from None
        whole, *folds = (
            _whitened(rows, channels, patches.n_samples, filters)
            for rows in (patches.rows, *self.folds)
        )
        here = patches._replace(
            rows=whole, centres=Lists([np.arange(len(channels))], np.array([0, len(channels)]))
        )
        if folds:
            computer: Computer | Crossed = Crossed(here, folds, 1)
        else:
            computer = Computer(here, _PLAIN[self.method], 1)
        computer.fill(out, Block(slice(0, 1), windows))


def _whitened(rows: Rows, channels: Index, n_samples: int, filters: NDArray[np.float64]) -> Rows:
    """Return the rows of some channels, (channels × samples, conditions), with their noise whitened."""
    n = rows.shape[1]
    some = rows.reshape(-1, n_samples * n)[channels]
    white = cross(np.ascontiguousarray(some.T, np.float64), filters, 1)
    return np.ascontiguousarray(white.T).reshape(-1, n)


def _is_whole(patches: Patches) -> bool:
    """Whether all numbers are integers, so small that all products and their sums are exact."""
    rows = patches.rows
    low, high = float(rows.min()), float(rows.max())
    if patches.largest * max(high, -low, high - low) > np.sqrt(2.0**53):
        return False
    step = max(1, _SEARCHED // rows[:1].nbytes)
    blocks = (rows[k : k + step] for k in range(0, len(rows), step))
    return all(np.array_equal(block, np.rint(block)) for block in blocks)
