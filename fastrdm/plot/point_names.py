"""Names beside points, where they cover neither points nor other names."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FONT_SIZE = 6.5
# Width and height of a character, and radius of a point, in points of the page.
_CHARACTER = 0.56 * _FONT_SIZE
_HEIGHT = 1.25 * _FONT_SIZE
_RADIUS = 2.5
_DISTANCES = (6, 12, 20, 30, 42)
_NEAR = (4, 8, 12, 18)

# Distance of the points on a line that a name should not cover.
_STEP = 3.0

_Box = tuple[float, float, float, float]


def draw_names(
    axes: Any,
    positions: NDArray[Any],
    names: Sequence[str],
    *,
    lines: Sequence[NDArray[Any]] = (),
    colours: Sequence[Any] | None = None,
    needs_room: bool = False,
) -> None:
    """Draw a name beside each point (n, 2), empty for none; those farther away with a line to their point.

    Names do not cover `lines` (vertices, 2) either if there is another place. Without any place, a name covers
    something, or with `needs_room`, which allows only places near the point, is left out.
    """
    # Names are placed on the page, so the layout must be known.
    axes.figure.canvas.figure.draw_without_rendering()
    points = _on_page(axes, positions)
    left, bottom, right, top = axes.get_window_extent().extents * 72 / axes.figure.dpi
    frame: _Box = (left, bottom, right, top)
    taken = [(x - _RADIUS, y - _RADIUS, x + _RADIUS, y + _RADIUS) for x, y in points]
    covered = [box for line in lines for box in _boxes_of_line(_on_page(axes, line))]
    for i, ((x, y), name) in enumerate(zip(points, names, strict=True)):
        if not name:
            continue
        size = _CHARACTER * len(name), _HEIGHT
        places = list(_places(x, y, *size, _NEAR if needs_room else _DISTANCES))
        free = [
            place
            for place in places
            if _is_within(place[0], frame) and not _overlaps(place[0], taken)
        ]
        clear = [place for place in free if not _overlaps(place[0], covered)]
        if needs_room and not free:
            continue
        box, shift = (clear or free or places)[0]
        taken.append(box)
        line = {"arrowstyle": "-", "linewidth": 0.4, "color": "0.5", "shrinkA": 0, "shrinkB": 2}
        axes.annotate(
            name,
            positions[i],
            xytext=shift,
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=_FONT_SIZE,
            color="black" if colours is None else colours[i],
            arrowprops=line if max(map(abs, shift)) > 2 * _HEIGHT + size[0] / 2 else None,
            zorder=6,
        )


def _on_page(axes: Any, positions: NDArray[Any]) -> NDArray[Any]:
    """Positions in points of the page."""
    return np.asarray(axes.transData.transform(positions) * 72 / axes.figure.dpi)


def _boxes_of_line(vertices: NDArray[Any]) -> Iterator[_Box]:
    for start, end in pairwise(vertices):
        for share in np.linspace(0, 1, 2 + int(np.hypot(*(end - start)) / _STEP)):
            x, y = start + share * (end - start)
            yield x - 0.5, y - 0.5, x + 0.5, y + 0.5


def _places(
    x: float, y: float, width: float, height: float, distances: Sequence[int]
) -> Iterator[tuple[_Box, tuple[float, float]]]:
    """Yield boxes around a point, the nearest first, with the shift of their centres."""
    for distance in distances:
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
