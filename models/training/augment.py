"""Pixels → a network's input, on the device that holds them: augmented, then normalised.

What is drawn at random follows from a generator that the caller makes for each step, on the processor: the same
images come out of the same seed, epoch and step, whatever ran before and wherever it runs.
"""

from collections.abc import Callable

import numpy as np
import torch

from fastrdm.images import Preprocessing

# Share of the image's area that a crop takes, and its width / height. torchvision's reference takes 0.08 to 1 of the
# photograph; these pixels are resized already, and have no detail to show of so little.
CROP_AREA = (0.35, 1.0)
CROP_RATIO = (3 / 4, 4 / 3)


def keep(pixels: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """The pixels as they are, as in testing."""
    return pixels


def flip(pixels: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Half of the images mirrored left to right, chosen at random."""
    mirrored = torch.from_numpy(rng.random(len(pixels)) < 0.5).to(pixels.device)
    return torch.where(mirrored[:, None, None, None], pixels.flip(3), pixels)


def crop(pixels: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """A part of each image, drawn by area and ratio, enlarged to the whole, and half of them mirrored.

    Bilinear, without antialiasing: a part that is enlarged needs none.

    Parameters
    ----------
    pixels : torch.Tensor of uint8, shape (n, 3, size, size)
    rng : numpy.random.Generator
        Whose next numbers are taken.

    Returns
    -------
    torch.Tensor of float32, shape (n, 3, size, size)
        In [0, 255].
    """
    n = len(pixels)
    area = rng.uniform(*CROP_AREA, n)
    low, high = np.log(CROP_RATIO).tolist()
    ratio = np.exp(rng.uniform(low, high, n))
    # Of width and height 1; what would reach beyond the image is cut to it.
    extent = np.minimum(np.sqrt([area * ratio, area / ratio]), 1)
    # The window's centre, from −1 to 1 as `affine_grid` counts.
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
"""What `--augment` names; (pixels, generator) → pixels."""


class Normalise:
    """(x / 255 − mean) / std of pixels, in float32 and in a network's order of channels.

    Parameters
    ----------
    preprocessing : Preprocessing
        Whose mean, standard deviation and order of channels are used.
    device : torch.device
    """

    def __init__(self, preprocessing: Preprocessing, device: torch.device) -> None:
        self._swapped = preprocessing.channel_order == "BGR"
        self._mean, self._std = (
            torch.tensor(values, device=device)[:, None, None]
            for values in (preprocessing.mean, preprocessing.std)
        )

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalise pixels (n, 3, height, width), RGB, of any type."""
        x = pixels.flip(1) if self._swapped else pixels
        # The operations of torchvision's ToTensor and Normalize in their order: the same bits.
        return x.float().div(255).sub_(self._mean).div_(self._std)
