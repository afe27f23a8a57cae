"""A network that is shown each image at several sizes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastrdm.runtimes import Architecture, OnnxModel


@dataclass(frozen=True)
class Sizes:
    """Models of the same weights by the height and width of their images; a layer's name is LAYER@SIZE."""

    models: Mapping[int, OnnxModel]

    @classmethod
    def open(
        cls, architectures: Mapping[int, Architecture], weights: Path, **options: object
    ) -> "Sizes":
        """Open weights behind graphs by size; options are those of `OnnxModel`."""
        return cls({size: each.open(weights, **options) for size, each in architectures.items()})

    def rdms(
        self, images: Sequence[Path], layers: Sequence[str] | None = None, progress: bool = False
    ) -> dict[str, NDArray[np.float64]]:
        """Each layer's RDM, as `OnnxModel.rdms` gives it."""
        found: dict[str, NDArray[np.float64]] = {}
        for size, model in self.models.items():
            own = [layer for layer in model.layers if layers is None or f"{layer}@{size}" in layers]
            if own:
                rdms = model.rdms(images, layers=own, progress=progress)
                found |= {f"{layer}@{size}": rdm for layer, rdm in rdms.items()}
        return found
