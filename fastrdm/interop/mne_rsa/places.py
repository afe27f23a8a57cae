"""Patches of a searchlight → the channels and windows of time of each place, as the kernels take them."""

from collections.abc import Iterator, Sequence
from copy import copy
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrdm.interop.mne_rsa.peer import helper

Index = NDArray[np.intp]
# Bytes of RDMs that are computed together. Windows of the same channels share sums: they are parted only beyond the
# second limit, so that rounding does not depend on the first.
_BLOCK, _WINDOWS = 1 << 24, 1 << 28


class PatchList(list[Any]):
    """Patches that were generated, with the shape of their generator, to be iterated again."""

    shape: tuple[int, ...] = (-1,)


class Places(NamedTuple):
    """Channels × windows of each place; windows follow each other within the same channels."""

    neighbours: list[Index]
    #: None if the channels are all features.
    windows: list[Index] | None
    #: Shape of the axes of data after the items.
    axes: tuple[int, ...]

    @property
    def least(self) -> int:
        """The smallest number of features of a place."""
        samples = min(map(len, self.windows)) if self.windows is not None else 1
        return min(map(len, self.neighbours)) * samples

    def arranged(self, data: NDArray[Any]) -> NDArray[Any]:
        """Return data (items, ...) as (items, channels[, samples]), conditions last in memory, for many calls."""
        turned = np.ascontiguousarray(np.moveaxis(data.reshape(len(data), *self.axes), 0, -1))
        return np.moveaxis(turned, -1, 0)

    def blocks(self, n_bytes: int) -> Iterator["Places"]:
        """Yield parts in the order of the patches, whose RDMs of this size are held together."""
        n_windows = 1 if self.windows is None else len(self.windows)
        together = max(1, _BLOCK // (n_bytes * n_windows))
        step = min(n_windows, max(2, _WINDOWS // n_bytes))
        for first in range(0, len(self.neighbours), together):
            chosen = self.neighbours[first : first + together]
            if self.windows is None:
                yield self._replace(neighbours=chosen)
                continue
            # More than one place has all its windows: their order is that of the patches.
            for start in range(0, n_windows, step):
                yield self._replace(neighbours=chosen, windows=self.windows[start : start + step])


def patch_list(patches: Any) -> Any:
    """Return all patches of a generator; those of a searchlight over space and time are not listed."""
    if _is_grid(patches):
        return patches
    found = PatchList(patches)
    found.shape = getattr(patches, "shape", (-1,))
    return found


def places_of(patches: Any, shape: tuple[int, ...]) -> Places | None:
    """Return the places of patches of data of a shape (items, ...); None if they take some items or nothing."""
    if not patches or len(shape) < 2:
        return None
    if _is_grid(patches):
        return _grid(patches, shape)
    if not all(isinstance(patch, tuple) and patch and _is_all(patch[0]) for patch in patches):
        return None
    try:
        places = _product(patches, shape) or _listed(patches, shape)
    except IndexError:
        return None
    return places if places.least else None


def _is_grid(patches: Any) -> bool:
    """Whether patches are a searchlight over space and time."""
    if type(patches) is not helper("searchlight", "searchlight"):
        return False
    return patches.spatial_radius is not None and patches.temporal_radius is not None


def _grid(patches: Any, shape: tuple[int, ...]) -> Places | None:
    """Return the places of a searchlight over space and time, from the patches of its first window."""
    first = copy(patches)
    first.time_centers = patches.time_centers[:1]
    places = places_of(list(first), shape)
    if places is None or places.windows is None:
        return places_of(list(patches), shape)
    radius = patches.temporal_radius
    samples = np.arange(shape[-1])
    windows = [samples[at - radius : at + radius + 1] for at in patches.time_centers]
    places = places._replace(windows=windows)
    return places if places.least else None


def _product(patches: Sequence[Any], shape: tuple[int, ...]) -> Places | None:
    """Return channels × sliding windows, if that is what patches are."""
    axes = (1, *shape[1:]) if len(shape) == 2 else shape[1:]
    if len(axes) != 2 or any(len(patch) != len(shape) for patch in patches):
        return None
    if not all(isinstance(patch[-1], slice) for patch in patches):
        return None
    series = [patch[1] if len(shape) == 3 else slice(None) for patch in patches]
    windows = [patch[-1].indices(axes[1]) for patch in patches]
    n = next((k for k in range(1, len(windows)) if windows[k] == windows[0]), len(windows))
    if len(windows) % n or any(windows[k] != windows[k % n] for k in range(n, len(windows))):
        return None
    channels, samples = np.arange(axes[0]), np.arange(axes[1])
    neighbours = []
    for first in range(0, len(series), n):
        chosen = series[first]
        if any(not _same(other, chosen) for other in series[first + 1 : first + n]):
            return None
        found = np.atleast_1d(channels[chosen])
        if found.ndim > 1:
            return None
        neighbours.append(found)
    return Places(neighbours, [samples[slice(*_ends(each))] for each in windows[:n]], axes)


def _listed(patches: Sequence[Any], shape: tuple[int, ...]) -> Places:
    """Return the features of each patch, whatever it is made of."""
    features = np.arange(int(np.prod(shape[1:]))).reshape(shape[1:])
    neighbours = [np.ravel(features[patch[1:]]) for patch in patches]
    return Places(neighbours, None, (features.size,))


def _is_all(index: Any) -> bool:
    return isinstance(index, slice) and index == slice(None)


def _same(one: Any, other: Any) -> bool:
    return one is other or (isinstance(one, slice) and isinstance(other, slice) and one == other)


def _ends(indices: tuple[int, int, int]) -> tuple[int, int | None, int]:
    """Return what makes a slice of start, stop and step of ``slice.indices``, which may count down to -1."""
    start, stop, step = indices
    return start, None if stop < 0 else stop, step
