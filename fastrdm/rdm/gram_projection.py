"""Projections of layers for their Gram matrices."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrdm import _kernels
from fastrdm._base import Labels
from fastrdm.rdm.gram_making import gram_of
from fastrdm.rdm.gram_matrix import Gram
from fastrdm.rdm.gram_parts import Digits
from fastrdm.rdm.products import Rows
from fastrdm.rdm.projection import Projector, SparseProjection
from fastrdm.rdm.sources import Member


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

    def project(self, activations: ArrayLike, n_threads: int | None = None) -> NDArray[np.float32]:
        """Return the projections (n, n_columns) of all conditions, or a batch."""
        sides = [each for each in (self.plain, self.centred) if each is not None]
        return np.concatenate(
            [each.project(activations, n_threads=n_threads) for each in sides], axis=1
        )

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
