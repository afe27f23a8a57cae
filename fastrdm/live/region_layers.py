"""The layers that regions are scored by, as `Scorer` takes them."""

from collections.abc import Iterable, Mapping, Sequence

from fastrdm._base import list_names, nearest_known


class RegionLayers:
    """Layers by region, checked; without a mapping, all layers for all regions.

    `regions` are the regions to score, and `names` the layers to compute; None means all.
    """

    def __init__(
        self, layers: Mapping[str, str | Sequence[str]] | None, regions: Sequence[str] | None
    ) -> None:
        self.regions, self.names = regions, None
        self._layers: dict[str, tuple[str, ...]] | None = None
        if layers is None:
            return
        if not isinstance(layers, Mapping):
            raise TypeError(
                f"layers must be a mapping of region to layer, such as {{'it': 'layer4'}}, not {layers!r}"
            )
        if not layers:
            raise ValueError("layers is empty; name the layer of a region, or None for all layers")
        self._layers = {}
        for region, value in layers.items():
            if not isinstance(region, str):
                raise TypeError(f"layers must have names of regions as keys, not {region!r}")
            names = (
                (value,)
                if isinstance(value, str) or not isinstance(value, Iterable)
                else tuple(value)
            )
            if not names or not all(isinstance(name, str) and name for name in names):
                raise ValueError(f"layers[{region!r}] must name a layer, or several, not {value!r}")
            if region.casefold() in self._layers:
                raise ValueError(f"layers names the region {region!r} twice")
            self._layers[region.casefold()] = tuple(dict.fromkeys(names))
        self.names = list(dict.fromkeys(name for each in self._layers.values() for name in each))
        if regions is None:
            self.regions = list(layers)
        elif not isinstance(regions, str) and (
            lacking := [each for each in map(str, regions) if each.casefold() not in self._layers]
        ):
            raise ValueError(f"layers has no layer for the region {list_names(lacking)} of regions")

    def check(self, known: Sequence[str], architecture: str) -> None:
        """Refuse names of layers that a network has not."""
        for name in self.names or ():
            if name not in known:
                raise ValueError(
                    f"{architecture} has no layer {name!r}, which layers names; {nearest_known(name, known)}"
                )

    def keeps(self, region: str, layer: str) -> bool:
        """Whether a region is scored by a layer."""
        return self._layers is None or layer in self._layers[region.casefold()]
