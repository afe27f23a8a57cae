"""Sensors near each sensor, and windows of time."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import check_integer
from fastrdm.searchlight.neighbourhoods import Index, Neighbourhoods, check_positive, collected

# Bytes of distances from some sensors to all.
_BLOCK = 32_000_000


def sensor_neighbours(
    positions: Any, *, k: int | None = None, radius: float | None = None
) -> Neighbourhoods:
    """Find the sensors near each sensor: the nearest `k`, or those within a radius.

    Parameters
    ----------
    positions : array_like, shape (sensors, 2) or (sensors, 3), or mne.Info
        Coordinates of all sensors of the data, in their order, or MNE-Python's description of its channels (in m). For
        some of the channels, pass ``mne.pick_info(info, picks)``.
    k : int, optional
        Number of sensors of a place, its centre included. Of sensors at the same distance, the first ones are taken.
        Either `k` or `radius` is needed.
    radius : float, optional
        Largest distance, straight, in the unit of the positions.

    Returns
    -------
    Neighbourhoods
        Sequence of index arrays in order of sensors; ``centres`` has all sensors.

    Raises
    ------
    ValueError
        If positions have another shape, are NaN or infinite or, in an ``Info``, unknown (the message names the
        channels) or in several frames of coordinates, as those of MEG and EEG are. If both or none of `k` and `radius`
        are given, one is not above 0, or `k` is more than the number of sensors.

    Examples
    --------
    >>> from fastrdm.searchlight import sensor_neighbours
    >>> list(sensor_neighbours([[0, 0], [1, 0], [5, 0]], k=2))
    [array([0, 1]), array([0, 1]), array([1, 2])]
    """
    if (radius is None) == (k is None):
        raise ValueError("pass either k, a number of sensors, or radius, a distance")
    points = _points(positions)
    if k is not None:
        check_integer(k, "k", 1)
        if k > len(points):
            raise ValueError(f"k is {k}, and positions has {len(points)} sensors")
    else:
        radius = check_positive(radius, "radius", "the unit of the positions")
    lists: list[Index] = []
    block = max(1, _BLOCK // (8 * len(points)))
    for first in range(0, len(points), block):
        lists += _near(points, first, block, k, radius)
    return collected(lists, np.arange(len(points)), len(points))


def _near(
    points: NDArray[np.float64], first: int, block: int, k: int | None, radius: float | None
) -> list[Index]:
    from scipy.spatial.distance import cdist

    distances = cdist(points[first : first + block], points)
    if k is None:
        limit = float(radius or 0) * (1 + 1e-9)
        return [np.flatnonzero(row <= limit) for row in distances]
    # A sensor comes first in its own place, also where others, such as gradiometers, have its position.
    distances[np.arange(len(distances)), first + np.arange(len(distances))] = -1
    return [np.sort(row) for row in np.argsort(distances, axis=1, kind="stable")[:, :k]]


def _points(positions: Any) -> NDArray[np.float64]:
    if hasattr(positions, "keys") and "chs" in positions:
        channels = positions["chs"]
        points = np.array([channel["loc"][:3] for channel in channels], np.float64).reshape(-1, 3)
        unknown = ~np.isfinite(points).all(axis=1) | (points == 0).all(axis=1)
        if unknown.any():
            names = [channels[i]["ch_name"] for i in np.flatnonzero(unknown)]
            shown = ", ".join(map(str, names[:5])) + (", …" if len(names) > 5 else "")
            raise ValueError(
                f"positions has {len(names)} of {len(points)} channels without a position: {shown}; leave them out, or"
                " set a montage"
            )
        frames = {int(channel["coord_frame"]) for channel in channels}
        if len(frames) > 1:
            raise ValueError(
                f"positions has channels in {len(frames)} frames of coordinates, such as those of the device (MEG) and"
                " the head (EEG), between which there are no distances; pass mne.pick_info(info, picks) of one type"
            )
    else:
        points = np.asarray(positions)
        if points.dtype.kind not in "iuf" or points.ndim != 2 or points.shape[1] not in (2, 3):
            raise ValueError(
                f"positions have shape {points.shape} and type {points.dtype}; expected numbers of shape (sensors, 2)"
                " or (sensors, 3)"
            )
        points = points.astype(np.float64)
        if not (finite := np.isfinite(points).all(axis=1)).all():
            raise ValueError(f"positions of sensor {int(np.argmin(finite))} are NaN or infinite")
    if not len(points):
        raise ValueError("positions is empty; expected the coordinates of at least one sensor")
    return points


def time_windows(n_samples: int, width: int, step: int = 1) -> list[range]:
    """Return windows of consecutive samples: of `width` samples, one every `step` samples.

    Windows lie within the samples: window i has samples ``i * step`` to ``i * step + width - 1``, so there are
    ``(n_samples - width) // step + 1``.

    Parameters
    ----------
    n_samples : int
        Number of samples of the data.
    width : int
        Samples of a window.
    step : int
        Samples from one window to the next.

    Returns
    -------
    list of range

    Raises
    ------
    ValueError
        If a number is not an integer of 1 or more, or `width` is more than `n_samples`.

    Examples
    --------
    >>> from fastrdm.searchlight import time_windows
    >>> time_windows(5, 3)
    [range(0, 3), range(1, 4), range(2, 5)]
    """
    for name, number in (("n_samples", n_samples), ("width", width), ("step", step)):
        check_integer(number, name, 1)
    if width > n_samples:
        raise ValueError(f"width is {width}, and there are n_samples = {n_samples}")
    return [range(first, first + width) for first in range(0, n_samples - width + 1, step)]
