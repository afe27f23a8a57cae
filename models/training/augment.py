"""Pixels → a network's input: augmentation and normalisation on the device that holds the pixels.

The caller makes a random generator on the CPU for each step. So the same seed, epoch and step result in the same images
on any device, whatever ran before.
"""

from collections.abc import Callable

import numpy as np
import torch

from fastrdm.images import Preprocessing

# Range of a crop's share of the image's area, and of its width / height. torchvision's reference crops 0.08 to 1 of the
# photograph; these pixels are already resized and have too little detail for that.
CROP_AREA = (0.35, 1.0)
CROP_RATIO = (3 / 4, 4 / 3)


def keep(pixels: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Return the pixels unchanged, as in testing."""
    return pixels


def flip(pixels: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Mirror a random half of the images left to right."""
    mirrored = torch.from_numpy(rng.random(len(pixels)) < 0.5).to(pixels.device)
    return torch.where(mirrored[:, None, None, None], pixels.flip(3), pixels)


def crop(pixels: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Enlarge a part of each image with random area and aspect ratio, and mirror a random half.

    Pixels (n, 3, size, size) of uint8 become float32 in [0, 255]. The interpolation is bilinear; enlarging needs no
    antialiasing.
    """
    n = len(pixels)
    area = rng.uniform(*CROP_AREA, n)
    low, high = np.log(CROP_RATIO).tolist()
    ratio = np.exp(rng.uniform(low, high, n))
    # Relative to width and height; limited to the image.
    extent = np.minimum(np.sqrt([area * ratio, area / ratio]), 1)
    # The window's centre in `affine_grid`'s coordinates, −1 to 1.
    centre = (1 - extent) * rng.uniform(-1, 1, (2, n))
    mirror = np.where(rng.random(n) < 0.5, -1.0, 1.0)
    maps = np.zeros((n, 2, 3), np.float32)
    maps[:, 0, 0], maps[:, 1, 1] = extent * [mirror, np.ones(n)]
    maps[:, :, 2] = centre.T
    theta = torch.from_numpy(maps).to(pixels.device)
    functional = torch.nn.functional
    grid = functional.affine_grid(theta, list(pixels.shape), align_corners=False)
    return functional.grid_sample(pixels.float(), grid, padding_mode="border", align_corners=False)


AUGMENTATIONS: dict[str, Callable[[torch.Tensor, np.random.Generator], torch.Tensor]] = {
    "none": keep,
    "flip": flip,
    "crop": crop,
}
"""Values of `--augment`: (pixels, generator) → pixels."""


class Normalise:
    """Pixels → (x / 255 − mean) / std, in float32 and with the preprocessing's channel order."""

    def __init__(self, preprocessing: Preprocessing, device: torch.device) -> None:
        self._swapped = preprocessing.channel_order == "BGR"
        self._mean, self._std = (
            torch.tensor(values, device=device)[:, None, None]
            for values in (preprocessing.mean, preprocessing.std)
        )

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalise pixels (n, 3, height, width), RGB, of any type."""
        x = pixels.flip(1) if self._swapped else pixels
        # The operations of torchvision's ToTensor and Normalize in the same order, for bit-identical results.
        return x.float().div(255).sub_(self._mean).div_(self._std)
