"""Stimuli as thumbnails along the axes of a map."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import require
from fastrdm.images import decode

# Thumbnails in one row; more stimuli have more rows, so that each is as wide as several conditions.
_IN_A_ROW = 24
_MOST = 300
_PIXELS = 48


@dataclass(frozen=True)
class ThumbnailStrip:
    """Square thumbnails, RGBA, in `rows` rows: each is as wide as `rows` conditions, centred on its own."""

    thumbnails: tuple[NDArray[np.uint8], ...]
    rows: int

    def draw(self, axes: Any) -> float:
        """Draw the thumbnails along both axes of a map, and return the width that they take, in conditions."""
        n = len(self.thumbnails)
        near, far = 0.012 * n, 0.012 * n + self.rows**2
        # Extents are (left, right, bottom, top); the map's y grows downwards.
        strips = {False: (0, n, -near, -far), True: (-far, -near, n, 0)}
        for upright, extent in strips.items():
            axes.imshow(self._composed(upright=upright), extent=extent, interpolation="bilinear")
        return far

    def _composed(self, *, upright: bool) -> NDArray[np.uint8]:
        """All thumbnails in one image, the strip at the left if `upright`, else that above the map."""
        n, size = len(self.thumbnails), len(self.thumbnails[0])
        unit = size // self.rows
        along, across = n * unit, size * self.rows
        out = np.zeros((along, across, 4) if upright else (across, along, 4), np.uint8)
        for i, pixels in enumerate(self.thumbnails):
            # Thumbnails at the ends stay beside the map.
            start = min(max(round((i + 0.5) * unit - size / 2), 0), along - size)
            place = slice(start, start + size)
            row = slice((self.rows - 1 - i % self.rows) * size, (self.rows - i % self.rows) * size)
            out[(place, row) if upright else (row, place)] = pixels
        return out


def thumbnail_strip(images: Sequence[Any]) -> ThumbnailStrip:
    """Read images as thumbnails; ValueError for one that cannot be read, or for more than 300."""
    if len(images) > _MOST:
        raise ValueError(
            f"images has {len(images)} stimuli, whose thumbnails are illegible; at most {_MOST} are"
        )
    rows = max(1, round(len(images) / _IN_A_ROW))
    size = rows * max(1, round(_PIXELS / rows))
    return ThumbnailStrip(tuple(_thumbnail(each, i, size) for i, each in enumerate(images)), rows)


def _thumbnail(image: Any, index: int, size: int) -> NDArray[np.uint8]:
    """The whole image in the middle of a transparent square."""
    pil = require("PIL.Image", "data", "to read images")
    picture = decode(image, index, "#ffffff")
    picture.thumbnail((size, size))
    square = pil.new("RGBA", (size, size))
    square.paste(picture, ((size - picture.width) // 2, (size - picture.height) // 2))
    return np.asarray(square)
