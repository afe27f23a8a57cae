"""Projections of layers for their Gram matrices."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrdm import _kernels
from fastrdm._base import Labels
from fastrdm.rdm import tiles
from fastrdm.rdm.gram_making import gram_of
from fastrdm.rdm.gram_matrix import Gram
from fastrdm.rdm.gram_parts import Digits
from fastrdm.rdm.numbers import Kind
from fastrdm.rdm.products import Rows
from fastrdm.rdm.projection import Projector, SparseProjection
from fastrdm.rdm.sources import Member, in_place

# Bytes of activations that are projected at a time, which are copied unless they are float32.
_BLOCK_BYTES = 1 << 26


class GramProjector(NamedTuple):
    """Projects a layer for its Gram: activations as they are and, for correlations, minus their mean over channels."""

    plain: Projector
    centred: Projector | None
    methods: tuple[str, ...]

    @classmethod
    def of(
        cls,
        projection: SparseProjection,
        n_channels: int,
        name: str | int,
        methods: Sequence[str],
    ) -> "GramProjector":
        """Return the projector of a layer for the RDMs of these methods."""
        centred = None
        if "correlation" in methods:
            centred = projection.layer(n_channels, name, "correlation")
        return cls(projection.layer(n_channels, name, "cosine"), centred, tuple(methods))

    @property
    def n_channels(self) -> int:
        """Channels of the layer."""
        return self.plain.n_channels

    @property
    def n_components(self) -> int:
        """Components of a projection; `n_channels` if the layer is not projected."""
        return self.plain.n_components

    @property
    def n_columns(self) -> int:
        """Columns of the projections."""
        return self.n_components * (1 if self.centred is None else 2)

    def room(self, max_memory: int, n_conditions: int, n_threads: int) -> int:
        """Return what projections of so many conditions leave of the memory; ValueError if it is not enough."""
        block = 4 * self._step(n_conditions) * (2 * self.n_channels + self.n_columns)
        used = self.plain.n_bytes + 4 * n_conditions * self.n_columns + block
        rows = np.broadcast_to(np.float32(0), (n_conditions, self.n_components))
        source = in_place(Member(rows, "activations"), Kind(np.dtype(np.float32)))
        least = used + tiles.least_bytes(source, n_threads)
        if least > max_memory:
            raise ValueError(
                f"max_memory of {max_memory} bytes is too small for projections of {n_conditions} conditions ×"
                f" {self.n_channels} channels to {self.n_components} components; the minimum is {least} bytes"
            )
        return max_memory - used

    def _step(self, n_conditions: int) -> int:
        return min(n_conditions, max(1, _BLOCK_BYTES // (4 * self.n_channels)))

    def project(self, activations: ArrayLike, n_threads: int | None = None) -> NDArray[np.float32]:
        """Return the projections (n, n_columns) of all conditions, or a batch."""
        rows, step = np.asarray(activations), self._step(len(activations))  # type: ignore[arg-type]
        k = self.n_components
        out = np.empty((len(rows), self.n_columns), np.float32)
        for start in range(0, len(rows), step):
            some = slice(start, start + step)
            out[some, :k] = self.plain.project(rows[some], n_threads=n_threads)
            if self.centred is not None:
                out[some, k:] = self.centred.project(rows[some], n_threads=n_threads)
        return out

    def gram(
        self,
        rows: Rows,
        labels: Labels | None = None,
        max_memory: int | None = None,
        n_threads: int | None = None,
    ) -> Gram:
        """Return the Gram of the projections of all conditions."""
        threads = n_threads or _kernels.kernels().n_threads
        k = self.plain.n_components
        others = tuple(name for name in self.methods if name != "correlation")
        made = gram_of(Member(rows[:, :k], "activations"), others, labels, max_memory, threads)
        parts = made.parts
        digits = dict(parts.digits)
        if self.centred is not None:
            angles = Member(rows[:, k:], "activations")
            found = gram_of(angles, ("cosine",), None, max_memory, threads)
            values, undefined = found.settled("cosine")
            digits["correlation"] = Digits(None, values, undefined=undefined)
        try:
            eps = self.plain.bound(len(rows)).eps
        except ValueError:
            eps = np.inf
        parts = replace(parts, digits=digits, rounding=eps, n_original=self.plain.n_channels)
        return Gram(parts, None, labels)
