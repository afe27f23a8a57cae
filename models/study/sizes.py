"""A network that sees each image at several sizes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastrdm.runtimes import Architecture, OnnxModel


@dataclass(frozen=True)
class Sizes:
    """Models with the same weights, by the height and width of their images; layers are called LAYER@SIZE."""

    models: Mapping[int, OnnxModel]

    @classmethod
    def open(
        cls, architectures: Mapping[int, Architecture], weights: Path, **options: object
    ) -> "Sizes":
        """Open weights with the graph of each size; options are those of `OnnxModel`."""
        return cls({size: each.open(weights, **options) for size, each in architectures.items()})

    def rdms(
        self, images: Sequence[Path], layers: Sequence[str] | None = None, progress: bool = False
    ) -> dict[str, NDArray[np.float64]]:
        """Return each layer's RDM, as `OnnxModel.rdms`."""
        rdms: dict[str, NDArray[np.float64]] = {}
        for size, model in self.models.items():
            chosen = [n for n in model.layers if layers is None or f"{n}@{size}" in layers]
            if chosen:
                of_size = model.rdms(images, layers=chosen, progress=progress)
                rdms |= {f"{layer}@{size}": rdm for layer, rdm in of_size.items()}
        return rdms
