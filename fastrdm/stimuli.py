"""Stimulus images: the files of a folder, and the arrays a network is shown."""

import json
import operator
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from fastrdm._extras import require

if TYPE_CHECKING:
    from PIL.Image import Image

    ImageLike: TypeAlias = str | Path | Image | NDArray[np.uint8]
else:
    ImageLike = object

_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
# Names of PIL's filters; PIL widens them when it shrinks an image, which is its antialiasing.
_FILTERS = {"pil-bilinear": "BILINEAR", "pil-bicubic": "BICUBIC"}
_CHANNELS = {"RGB": (0, 1, 2), "BGR": (2, 1, 0)}


def list_images(folder: str | Path) -> list[Path]:
    """List the images of a folder, sorted by file name.

    Parameters
    ----------
    folder : path
        Not searched below its first level; hidden files and files of other types are passed over.

    Returns
    -------
    list of Path
        The files that end in jpg, jpeg, png, bmp, tif, tiff or webp, in any case.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    ValueError
        If there is no image in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder of images")
    images = [
        path
        for path in folder.iterdir()
        if path.suffix.lower() in _SUFFIXES and not path.name.startswith(".") and path.is_file()
    ]
    if not images:
        raise ValueError(f"{folder} holds no image ({', '.join(sorted(_SUFFIXES))})")
    return sorted(images, key=lambda path: path.name)


def image_name(image: ImageLike, index: int) -> str:
    """Name an image for a message: its path, or its position in the list counted from 1."""
    return str(image) if isinstance(image, str | Path) else f"image {index + 1}"


def _three(values: Any, name: str) -> tuple[float, float, float]:
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.shape != (3,) or not np.isfinite(numbers).all():
        raise ValueError(f"{name} must be three finite numbers, one a channel, not {values!r}")
    return cast(tuple[float, float, float], tuple(numbers.tolist()))


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes a network's input: resized uncropped, x / 255, then (x − mean) / std.

    The defaults are those of the Algonauts 2019 development kit, ImageNet's mean and standard
    deviation.

    Parameters
    ----------
    size : (int, int)
        Height and width of the input, in pixels.
    resize : {"pil-bilinear", "pil-bicubic"}
        PIL's antialiased filter, which torchvision's `Resize` uses on PIL images.
    mean, std : three floats
        Of the channels in their order, for values in [0, 1].
    channel_order : {"RGB", "BGR"}
        Order of the channels in the input.

    Raises
    ------
    ValueError
        If a value is none of these; the message names it.
    """

    size: tuple[int, int] = (224, 224)
    resize: str = "pil-bilinear"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    channel_order: str = "RGB"

    def __post_init__(self) -> None:
        try:
            height, width = map(operator.index, self.size)
        except (TypeError, ValueError):
            height = width = 0
        if min(height, width) < 1:
            raise ValueError(f"size must be (height, width) in whole pixels, not {self.size!r}")
        if self.resize not in _FILTERS:
            raise ValueError(f"resize must be one of {', '.join(_FILTERS)}, not {self.resize!r}")
        if self.channel_order not in _CHANNELS:
            raise ValueError(
                f"channel_order must be one of {', '.join(_CHANNELS)}, not {self.channel_order!r}"
            )
        # Plain tuples, whatever sequences were given: what is equal compares and prints equal.
        object.__setattr__(self, "size", (height, width))
        object.__setattr__(self, "mean", _three(self.mean, "mean"))
        object.__setattr__(self, "std", _three(self.std, "std"))
        if min(self.std) <= 0:
            raise ValueError(f"std must be positive, not {self.std}")

    def to_json(self) -> str:
        """Write all fields as one JSON object."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Preprocessing":
        """Read what `to_json` wrote.

        Raises
        ------
        ValueError
            If the text is no JSON object with these fields.
        """
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"the preprocessing is no JSON: {error}") from None
        names = {field.name for field in fields(cls)}
        if not isinstance(values, dict) or set(values) != names:
            raise ValueError(f"the preprocessing must have the fields {', '.join(sorted(names))}")
        return cls(**values)

    def load(self, images: Sequence[ImageLike]) -> NDArray[np.float32]:
        """Read, resize and normalise images, as torchvision's `Resize`, `ToTensor`, `Normalize` do.

        Parameters
        ----------
        images : sequence of path, PIL image or uint8 array (h, w, 3)
            Of any size and mode; the EXIF orientation is applied, transparency dropped.

        Returns
        -------
        ndarray of float32, shape (n, 3, height, width)

        Raises
        ------
        ValueError
            If there is no image, or one cannot be decoded; the message names it.
        FileNotFoundError
            If a file is not there.
        TypeError
            If an element is no image, or a single image was given instead of a list.
        """
        if isinstance(images, str | Path) or not isinstance(images, Sequence | np.ndarray):
            raise TypeError(f"images must be a list of images, not {type(images).__name__}")
        if not len(images):
            raise ValueError("images is empty")
        height, width = self.size
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        resampling = require("PIL.Image", "data", "to read images").Resampling
        filter_ = resampling[_FILTERS[self.resize]]
        batch = np.empty((len(images), 3, height, width), np.float32)
        for i, image in enumerate(images):
            pixels = np.asarray(_open(image, i).resize((width, height), filter_))
            ordered = pixels[:, :, _CHANNELS[self.channel_order]].astype(np.float32)
            batch[i] = ((ordered / np.float32(255) - mean) / std).transpose(2, 0, 1)
        return batch


def _open(image: ImageLike, index: int) -> "Image":
    """Decode an image wholly, as upright RGB."""
    pil = require("PIL.Image", "data", "to read images")
    upright = require("PIL.ImageOps", "data", "to read images").exif_transpose
    name = image_name(image, index)
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(
                f"{name} must be uint8 of shape (h, w, 3), not {image.dtype} {image.shape}"
            )
        return cast("Image", pil.fromarray(image))
    if isinstance(image, pil.Image):
        return cast("Image", upright(image).convert("RGB"))
    if not isinstance(image, str | Path):
        raise TypeError(f"{name} must be a path, PIL image or array, not {type(image).__name__}")
    if not Path(image).is_file():
        raise FileNotFoundError(f"{name}: no such image file")
    try:
        with pil.open(image) as opened:
            return cast("Image", upright(opened).convert("RGB"))
    # PIL's decoders raise OSError, SyntaxError, ValueError, struct.error and more on damaged files.
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{name} cannot be read as an image: {reason}") from error
