"""Names beside points, where they cover neither points nor other names."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FONT_SIZE = 6.5
# Width and height of a character, and radius of a point, in points of the page.
_CHARACTER = 0.56 * _FONT_SIZE
_HEIGHT = 1.25 * _FONT_SIZE
_RADIUS = 2.5
_DISTANCES = (6, 12, 20, 30, 42)

_Box = tuple[float, float, float, float]


def draw_names(axes: Any, positions: NDArray[Any], names: Sequence[str]) -> None:
    """Draw a name beside each point (n, 2), empty for none; those farther away with a line to their point."""
    # Names are placed on the page, so the layout must be known.
    axes.figure.canvas.figure.draw_without_rendering()
    points = axes.transData.transform(positions) * 72 / axes.figure.dpi
    extent = axes.get_window_extent().extents * 72 / axes.figure.dpi
    frame: _Box = (extent[0], extent[1], extent[2], extent[3])
    taken = [(x - _RADIUS, y - _RADIUS, x + _RADIUS, y + _RADIUS) for x, y in points]
    for (x, y), place, name in zip(points, positions, names, strict=True):
        if not name:
            continue
        size = _CHARACTER * len(name), _HEIGHT
        free = (
            (box, shift)
            for box, shift in _places(x, y, *size)
            if not _overlaps(box, taken) and _is_within(box, frame)
        )
        box, shift = next(free, next(_places(x, y, *size)))
        taken.append(box)
        line = {"arrowstyle": "-", "linewidth": 0.4, "color": "0.5", "shrinkA": 0, "shrinkB": 2}
        axes.annotate(
            name,
            place,
            xytext=shift,
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=_FONT_SIZE,
            arrowprops=line if max(map(abs, shift)) > 2 * _HEIGHT + size[0] / 2 else None,
            zorder=3,
        )


def _places(
    x: float, y: float, width: float, height: float
) -> Iterator[tuple[_Box, tuple[float, float]]]:
    """Yield boxes around a point, the nearest first, with the shift of their centres."""
    for distance in _DISTANCES:
        for angle in np.deg2rad([0, 180, 90, 270, 45, 135, 225, 315]):
            right, up = float(np.cos(angle)), float(np.sin(angle))
            shift = right * (distance + width / 2), up * (distance + height / 4)
            left, bottom = x + shift[0] - width / 2, y + shift[1] - height / 2
            yield (left, bottom, left + width, bottom + height), shift


def _is_within(box: _Box, frame: _Box) -> bool:
    return box[0] > frame[0] and box[1] > frame[1] and box[2] < frame[2] and box[3] < frame[3]


def _overlaps(box: _Box, taken: Sequence[_Box]) -> bool:
    left, bottom, right, top = box
    return any(left < r and right > a and bottom < t and top > b for a, b, r, t in taken)
