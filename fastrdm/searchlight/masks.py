"""Masks of volumes, as arrays, images, files or nilearn's maskers → one array with its affine."""

import os
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import require


class Mask(NamedTuple):
    """The voxels of a mask; channels are its voxels in C order, as in nilearn."""

    #: Shape (x, y, z).
    voxels: NDArray[np.bool_]
    #: Voxel indices → mm; None for an array.
    affine: NDArray[np.float64] | None
    #: The image from which the mask comes, whose header written images have.
    image: Any
    #: nilearn's masker, if it was one.
    masker: Any = None

    @property
    def n_channels(self) -> int:
        """Number of voxels of the mask."""
        return int(np.count_nonzero(self.voxels))


def mask_of(mask: Any) -> Mask:
    """Return a mask: True where it is not 0; ValueError for another shape, NaN, or no voxels."""
    if isinstance(mask, Mask):
        return mask
    masker = None
    if hasattr(mask, "inverse_transform") and hasattr(mask, "get_params"):
        masker = mask
        if not hasattr(masker, "mask_img_"):
            raise ValueError(
                f"mask is a {type(masker).__name__} that is not fitted; call its `fit` before"
            )
        mask = masker.mask_img_
        if mask is None:
            raise ValueError(
                f"mask is a {type(masker).__name__} without a mask of voxels; pass a NiftiMasker"
            )
    image = opened(mask)
    array, affine = (np.asarray(mask), None) if image is None else values_of(image)
    if array.ndim == 4 and array.shape[3] == 1:
        array = array[..., 0]
    if array.ndim != 3 or array.dtype.kind not in "biuf":
        raise ValueError(
            f"mask has shape {array.shape} and type {array.dtype}; expected numbers of shape (x, y, z)"
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        n = int(np.count_nonzero(~np.isfinite(array)))
        raise ValueError(f"mask has {n} voxels with NaN or infinity; expected 0 outside the mask")
    voxels = array != 0
    if not voxels.any():
        raise ValueError(f"mask of shape {array.shape} is empty: all its voxels are 0")
    return Mask(voxels, affine, image, masker)


def opened(source: Any) -> Any:
    """Return an image of nibabel, of a file if a path is given; None for arrays."""
    if isinstance(source, (str, os.PathLike)):
        nibabel = require("nibabel", "imaging", "to read images of volumes and surfaces")
        if not os.path.exists(source):  # noqa: PTH110
            raise FileNotFoundError(f"there is no image {os.fspath(source)}")
        try:
            return nibabel.load(source)
        except nibabel.filebasedimages.ImageFileError as error:
            raise ValueError(
                f"{os.fspath(source)} is not an image that nibabel reads: {error}"
            ) from error
    return source if hasattr(source, "affine") and hasattr(source, "dataobj") else None


def values_of(image: Any) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Return the array and affine of an image; float32 if it is scaled or has 16 bits or less."""
    array = np.asanyarray(image.dataobj)
    if array.dtype.kind == "f" and image.get_data_dtype().itemsize <= 4:
        array = array.astype(np.float32, copy=False)
    return array, np.asarray(image.affine, np.float64)
