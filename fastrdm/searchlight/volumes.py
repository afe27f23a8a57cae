"""Volumes ↔ data (conditions, channels), and the spheres of voxels of a searchlight."""

import itertools
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import check_choice, require
from fastrdm.searchlight.masks import Mask, mask_of, opened, values_of
from fastrdm.searchlight.neighbourhoods import Index, Neighbourhoods, check_positive

# Voxels of spheres that are looked up together.
_BLOCK = 4_000_000
# Distances that differ from the radius by rounding alone are within it.
_SLACK = 1e-9


def volume_neighbours(
    mask: Any, radius: float, *, unit: str | None = None, min_share: float = 0.0
) -> Neighbourhoods:
    """Find the voxels of a sphere around each voxel of a mask.

    A channel is a voxel of the mask; channels are in C order of (x, y, z), as in nilearn and `from_volume`. A place has
    the voxels of the mask whose centres are at most `radius` from its centre, in order of channels.

    Parameters
    ----------
    mask : array_like, shape (x, y, z), nibabel image, path, or fitted masker of nilearn
        Voxels that are not 0 are in the mask.
    radius : float
        Radius, in `unit`. Voxels at this distance belong to the sphere; in rsatoolbox they do not.
    unit : {"mm", "voxels"}, optional
        By default mm for images, whose affine gives the size and the angles of voxels, and voxels for arrays.
    min_share : float
        Share of a sphere, from 0 to 1, that has to be in the mask for its centre to have a place, as rsatoolbox's
        ``threshold``. The sphere ends at the border of the volume.

    Returns
    -------
    Neighbourhoods
        Sequence of index arrays; ``centres`` has the channel at the centre of each place.

    Raises
    ------
    ValueError
        If the mask has another number of dimensions, NaN, or no voxels, the radius is not above 0, ``unit="mm"`` is
        asked of an array, `min_share` is not from 0 to 1, or no sphere has that share.
    MissingExtraError
        If a path is given, and nibabel is not installed.

    References
    ----------
    Kriegeskorte, Goebel & Bandettini (2006), Information-based functional brain mapping, PNAS 103(10).

    Examples
    --------
    >>> import numpy as np
    >>> from fastrdm.searchlight import volume_neighbours
    >>> volume_neighbours(np.ones((5, 5, 5)), radius=1)
    <Neighbourhoods: 125 places of 4 to 7 of 125 channels>
    """
    found = mask_of(mask)
    radius = check_positive(radius, "radius", "mm or voxels")
    if unit is None:
        unit = "voxels" if found.affine is None else "mm"
    check_choice(unit, ("mm", "voxels"), "unit")
    if unit == "mm" and found.affine is None:
        raise ValueError(
            "unit is 'mm', and mask is an array without an affine; pass an image, or a radius in voxels"
        )
    if not 0 <= min_share <= 1:
        raise ValueError(f"min_share is {min_share}; expected a share from 0 to 1")
    axes = np.eye(3) if unit == "voxels" or found.affine is None else found.affine[:3, :3]
    return _spheres(found.voxels, _offsets(axes, radius, found.voxels.shape), min_share, radius)


def _offsets(axes: NDArray[np.float64], radius: float, shape: tuple[int, ...]) -> Index:
    """Return steps (n, 3) of voxels to those within a radius, in C order."""
    if np.linalg.matrix_rank(axes) < 3:
        raise ValueError("mask has an affine that maps volumes to a plane; correct its header")
    # The extent of a ball along each axis of the voxels, which may be oblique.
    extents = np.linalg.norm(np.linalg.inv(axes), axis=1) * radius * (1 + _SLACK)
    limits = [min(int(extent), n - 1) for extent, n in zip(extents, shape, strict=True)]
    steps = np.array(list(itertools.product(*(range(-limit, limit + 1) for limit in limits))))
    near = np.linalg.norm(steps @ axes.T, axis=1) <= radius * (1 + _SLACK)
    return np.asarray(steps[near], np.intp)


def _spheres(
    voxels: NDArray[np.bool_], offsets: Index, min_share: float, radius: float
) -> Neighbourhoods:
    # A volume with a margin: -1 outside the mask, -2 outside the volume.
    margin = np.abs(offsets).max(axis=0)
    padded = np.full(np.array(voxels.shape) + 2 * margin, -2, np.intp)
    inner = tuple(slice(m, m + n) for m, n in zip(margin, voxels.shape, strict=True))
    n = int(np.count_nonzero(voxels))
    padded[inner] = -1
    padded[inner][voxels] = np.arange(n)
    steps = offsets @ (np.array(padded.strides) // padded.itemsize)
    flat = padded.ravel()
    starts = np.flatnonzero(flat >= 0)
    block = max(1, _BLOCK // len(steps))
    indices, sizes, centres = [], [], []
    for first in range(0, n, block):
        channels = flat[starts[first : first + block, None] + steps]
        inside = channels >= 0
        counts = inside.sum(axis=1)
        kept = counts >= min_share * (channels > -2).sum(axis=1) - _SLACK
        indices.append(channels[kept][inside[kept]])
        sizes.append(counts[kept])
        centres.append(first + np.flatnonzero(kept))
    if not sum(map(len, centres)):
        raise ValueError(
            f"no sphere of radius {radius:g} has a share of {min_share:g} in the mask (min_share); lower either"
        )
    ends = np.concatenate([[0], np.cumsum(np.concatenate(sizes))]).astype(np.intp)
    return Neighbourhoods(np.concatenate(indices), ends, np.concatenate(centres), n)


def from_volume(images: Any, mask: Any) -> NDArray[Any]:
    """Return the values of a mask's voxels: data (conditions, channels) of volumes.

    Parameters
    ----------
    images : nibabel image, path, list of them, or array_like
        A volume of each condition: one of shape (x, y, z, conditions), or a list of volumes (x, y, z).
    mask : array_like, shape (x, y, z), nibabel image, path, or fitted masker of nilearn
        Voxels that are not 0 are kept, in C order. The ``transform`` of a masker is used, with its smoothing and
        standardisation.

    Returns
    -------
    ndarray of float32 or float64, shape (conditions, channels)
        float64 for volumes of 64 bits.

    Raises
    ------
    ValueError
        If mask and images have other shapes or affines (they differ by more than 1e-3 mm at a corner), the mask is
        empty, or a voxel of the mask is NaN or infinite in an image; the message names the first.
    MissingExtraError
        If paths are given, and nibabel is not installed.

    See Also
    --------
    to_volume : values of channels back as a volume.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrdm.searchlight import from_volume
    >>> from_volume(np.ones((4, 4, 4, 6)), np.ones((4, 4, 4))).shape
    (6, 64)
    """
    found = mask_of(mask)
    if found.masker is not None:
        values = np.atleast_2d(np.asarray(found.masker.transform(images)))
        if values.shape[1:] != (found.n_channels,):
            raise ValueError(
                f"mask is a {type(found.masker).__name__} that returns shape {values.shape} for {found.n_channels}"
                " voxels; pass a NiftiMasker"
            )
        return _checked_values(values, found)
    if isinstance(images, Sequence) and not isinstance(images, str):
        if not len(images):
            raise ValueError("images is empty; expected a volume of each condition")
        parts = [_values(each, found, f"images[{k}]") for k, each in enumerate(images)]
        return _checked_values(np.concatenate(parts), found)
    return _checked_values(_values(images, found, "images"), found)


def _values(volume: Any, mask: Mask, name: str) -> NDArray[Any]:
    image = opened(volume)
    array, affine = (np.asarray(volume), None) if image is None else values_of(image)
    if array.ndim not in (3, 4) or array.shape[:3] != mask.voxels.shape:
        raise ValueError(
            f"{name} has shape {array.shape}, and mask has shape {mask.voxels.shape}; expected (x, y, z, conditions) or"
            " a list of (x, y, z) with the mask's (x, y, z)"
        )
    if affine is not None and mask.affine is not None:
        corners = np.array([(*corner, 1) for corner in itertools.product((0, 1), repeat=3)])
        corners[:, :3] *= np.array(mask.voxels.shape) - 1
        if not (apart := np.abs(corners @ (affine - mask.affine).T).max()) <= 1e-3:
            raise ValueError(
                f"{name} and mask have other affines: their voxels lie up to {apart:.3g} mm apart; resample the mask"
            )
    kept = array[mask.voxels]
    return np.atleast_2d(kept.T)


def _checked_values(values: NDArray[Any], mask: Mask) -> NDArray[Any]:
    if values.dtype.kind not in "biuf":
        raise ValueError(f"images hold {values.dtype}; expected real numbers")
    dtype = np.float32 if values.dtype.itemsize <= 4 and values.dtype.kind == "f" else np.float64
    values = np.ascontiguousarray(values, dtype)
    if not (finite := np.isfinite(values)).all():
        condition, channel = np.argwhere(~finite)[0]
        voxel = tuple(int(axis[channel]) for axis in np.nonzero(mask.voxels))
        wrong = int(np.count_nonzero(~finite.all(axis=0)))
        raise ValueError(
            f"images have NaN or infinity in {wrong} voxels of the mask, first in volume {condition} at voxel {voxel};"
            " leave these voxels out of the mask"
        )
    return values


def to_volume(
    values: Any,
    mask: Any,
    *,
    centres: Any = None,
    fill: float = np.nan,
    path: str | os.PathLike[str] | None = None,
) -> Any:
    """Put values of places or channels back into a volume.

    Parameters
    ----------
    values : array_like, shape (places,) or (places, maps)
        For example what `score_searchlight` returns: (places, models).
    mask : array_like, shape (x, y, z), nibabel image, path, or fitted masker of nilearn
        The mask of which `volume_neighbours` made the places.
    centres : Neighbourhoods or array_like of int, optional
        The channel of each place. By default, each voxel of the mask has a value.
    fill : float
        Value of voxels without a place.
    path : path-like, optional
        File to which the image is written also; its ending is the format, as nibabel has it.

    Returns
    -------
    nibabel.Nifti1Image, or ndarray if the mask is an array
        Shape (x, y, z) or (x, y, z, maps), float32 if values are, else float64; an image has the mask's affine.

    Raises
    ------
    ValueError
        If the number of values is not that of places, a centre is not a channel of the mask, or `path` is given for a
        mask that is an array.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrdm.searchlight import to_volume
    >>> to_volume(np.arange(8.0), np.ones((2, 2, 2))).shape
    (2, 2, 2)
    """
    found = mask_of(mask)
    if path is not None and found.affine is None:
        raise ValueError("path is given, and mask is an array without an affine; pass an image")
    placed = placed_values(values, centres, found.n_channels, fill)
    volume = np.full((*found.voxels.shape, *placed.shape[1:]), fill, placed.dtype)
    volume[found.voxels] = placed
    if found.affine is None:
        return volume
    nibabel = require("nibabel", "imaging", "to make images of volumes")
    image = nibabel.Nifti1Image(volume, found.affine)
    image.header.set_xyzt_units("mm")
    if path is not None:
        nibabel.save(image, path)
    return image


def placed_values(values: Any, centres: Any, n_channels: int, fill: float) -> NDArray[Any]:
    """Return values of all channels (channels, …), `fill` where there is no place."""
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"values hold {array.dtype}; expected real numbers")
    if array.dtype != np.float32:
        array = array.astype(np.float64)
    chosen = getattr(centres, "centres", centres)
    if isinstance(centres, Neighbourhoods) and centres.n_channels != n_channels:
        raise ValueError(
            f"centres are neighbourhoods of {centres.n_channels} channels, and there are {n_channels}"
        )
    chosen = np.arange(n_channels) if chosen is None else np.asarray(chosen)
    if chosen.ndim != 1 or chosen.dtype.kind not in "iu":
        raise ValueError(f"centres hold {chosen.dtype} of shape {chosen.shape}; expected integers")
    if array.ndim not in (1, 2) or len(array) != len(chosen):
        raise ValueError(
            f"values have shape {array.shape}; expected ({len(chosen)},) or ({len(chosen)}, maps)"
        )
    if len(chosen) and not 0 <= chosen.min() <= chosen.max() < n_channels:
        raise ValueError(
            f"centres are from {chosen.min()} to {chosen.max()}, and there are {n_channels} channels"
        )
    placed = np.full((n_channels, *array.shape[1:]), fill, array.dtype)
    placed[chosen] = array
    return placed
