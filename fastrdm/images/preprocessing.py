"""Images → the arrays that networks take."""

import json
import math
import operator
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from fastrdm import _kernels
from fastrdm._base import check_choice, parse_json, require
from fastrdm.images.decoding import Images, check_images, decode, in_order
from fastrdm.images.filters import FILTERS

_MAX_SIDE = 16384
_CHANNELS = {"RGB": (0, 1, 2), "BGR": (2, 1, 0)}


def _three(values: Any, name: str) -> tuple[float, float, float]:
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.shape != (3,) or not np.isfinite(numbers).all():
        raise ValueError(
            f"{name} must be three finite numbers, one for each channel, not {values!r}"
        )
    return cast(tuple[float, float, float], tuple(numbers.tolist()))


@dataclass(frozen=True)
class Preprocessing:
    """The conversion of an image to a network's input: resize, perhaps crop, x / 255, then (x − mean) / std.

    The defaults are those of the Algonauts 2019 development kit, with the mean and standard deviation of ImageNet.

    Images are resized by Pillow's antialiased convolution, as in torchvision's `Resize` of PIL images (that of tensors
    rounds differently). A pixel of the result is a weighted mean of the pixels around its position: the weights are a
    triangle that reaches 1 pixel to each side ("pil-bilinear"), or Keys' cubic with a = −0.5 that reaches 2
    ("pil-bicubic"). When the image shrinks, the filter is widened by the same factor, so that every pixel contributes:
    this is the antialiasing. When it grows, the filter keeps its width. At the edges the remaining weights are scaled
    to sum to 1. The filter runs along the rows, then along the columns, with weights of 22 binary places, and rounds to
    8 bits after each.

    By default the whole image is resized to `size`, whatever its shape. With a `crop`, it is resized with its shape,
    and the centre is cut out; the result is bit for bit that of torchvision or timm on PIL images. Where the resized
    image is smaller than `size`, it is padded with black.

    Parameters
    ----------
    size : (int, int)
        Height and width of the input, in pixels.
    resize : {"pil-bilinear", "pil-bicubic"}
        The filter: torchvision's `InterpolationMode.BILINEAR` or `BICUBIC`.
    mean, std : three floats
        Of the channels in the input's order, for values in [0, 1].
    channel_order : {"RGB", "BGR"}
        Order of the channels in the network's input.
    crop : int or float, optional
        An integer is the length of the resized image's shorter edge: torchvision's `Resize(crop)` and
        `CenterCrop(size)`. A float in (0, 1] is timm's `crop_pct` in its crop mode "center": the shorter edge is
        resized to floor(size / crop), 256 pixels for 224 and 0.875. None crops nothing.

    Raises
    ------
    ValueError
        If a value is not valid; the message names it.

    References
    ----------
    Keys (1981), IEEE Transactions on Acoustics, Speech, and Signal Processing 29: 1153-1160. Pillow, `Resample.c`.
    """

    size: tuple[int, int] = (224, 224)
    resize: str = "pil-bilinear"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    channel_order: str = "RGB"
    crop: int | float | None = None

    def __post_init__(self) -> None:
        try:
            height, width = map(operator.index, self.size)
        except (TypeError, ValueError):
            height = width = 0
        if min(height, width) < 1 or max(height, width) > _MAX_SIDE:
            raise ValueError(
                f"size must be (height, width) in pixels, each at most {_MAX_SIDE}, not {self.size!r}"
            )
        check_choice(self.resize, FILTERS, "resize")
        check_choice(self.channel_order, _CHANNELS, "channel_order")
        # Store plain tuples, so that equal values compare and print equal.
        object.__setattr__(self, "size", (height, width))
        object.__setattr__(self, "mean", _three(self.mean, "mean"))
        object.__setattr__(self, "std", _three(self.std, "std"))
        if min(self.std) <= 0:
            raise ValueError(f"std must be positive, not {self.std}")
        object.__setattr__(self, "crop", _crop(self.crop))

    @property
    def geometry(self) -> tuple[tuple[int, int], str, int | float | None]:
        """Size, filter and crop, which determine the pixels of an image; the other fields scale their values."""
        return self.size, self.resize, self.crop

    def to_json(self) -> str:
        """Return all fields as one JSON object; `crop` only if there is one."""
        values = asdict(self)
        if self.crop is None:
            # As in files and stores from before there were crops.
            del values["crop"]
        return json.dumps(values)

    @classmethod
    def from_json(cls, text: str) -> "Preprocessing":
        """Inverse of `to_json`; raise ValueError unless the text is a JSON object with these fields."""
        try:
            values = parse_json(text)
        except ValueError as error:
            raise ValueError(f"the preprocessing is not valid JSON: {error}") from None
        names = {field.name for field in fields(cls)} - {"crop"}
        if not isinstance(values, dict) or set(values) - {"crop"} != names:
            raise ValueError(f"the preprocessing must have the fields {', '.join(sorted(names))}")
        try:
            return cls(**values)
        except TypeError as error:
            raise ValueError(f"the preprocessing has a field of another type: {error}") from None

    def pixels(
        self, images: Images, *, n_threads: int | None = None, background: str | None = None
    ) -> NDArray[np.uint8]:
        """Decode, resize and crop images, bit for bit as torchvision's `Resize` and `CenterCrop` of PIL images do.

        Parameters
        ----------
        images : sequence of path, PIL image or uint8 array (h, w, 3)
            Of any size and kind; `fastrdm.images.decoding` lists the rule for each kind. An array
            (n, height, width, 3) of this preprocessing's size is returned unchanged, also with a crop.
        n_threads : int, optional
            Threads that decode; by default the number of processors of this process.
        background : str, optional
            Colour behind transparent pixels, as "#rrggbb"; without one, images with transparent pixels are refused.

        Returns
        -------
        ndarray of uint8, shape (n, height, width, 3)
            Upright, RGB, in the order of the images.

        Raises
        ------
        ValueError
            If there is no image, or one cannot be decoded; the message names the first such image.
        FileNotFoundError
            If a file does not exist.
        TypeError
            If an element is not an image, or a single image is passed instead of a list.
        """
        check_images(images)
        if self.are_pixels(images):
            return cast("NDArray[np.uint8]", images)
        out = np.empty((len(images), *self.size, 3), np.uint8)
        for row, image in zip(out, self.each(images, n_threads, background), strict=True):
            row[:] = image
        return out

    def are_pixels(self, images: Images) -> bool:
        """Whether `images` are pixels of this preprocessing's size."""
        return (
            isinstance(images, np.ndarray)
            and images.dtype == np.uint8
            and images.shape[1:] == (*self.size, 3)
        )

    def each(
        self, images: Images, n_threads: int | None = None, background: str | None = None
    ) -> Iterator[NDArray[np.uint8]]:
        """Yield the `pixels` of each image; only a few images are in memory at a time."""
        pil = require("PIL.Image", "data", "to read images")
        # Otherwise a thread may miss a format that another thread is importing.
        pil.init()
        filter_ = pil.Resampling[FILTERS[self.resize]]

        def fitted(image: Any, index: int) -> NDArray[np.uint8]:
            decoded = decode(image, index, background)
            height, width = self._resized(decoded.height, decoded.width)
            resized = decoded.resize((width, height), filter_)
            if self.crop is not None:
                top, left = map(_offset, (height, width), self.size)
                # Pillow fills what lies outside the image with black.
                resized = resized.crop((left, top, left + self.size[1], top + self.size[0]))
            return np.asarray(resized)

        return in_order(fitted, images, n_threads)

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        """Height and width to which an image of this size is resized, before the crop."""
        if self.crop is None:
            return self.size
        if isinstance(self.crop, int):
            return _with_shorter_edge(self.crop, height, width)
        scaled = (math.floor(self.size[0] / self.crop), math.floor(self.size[1] / self.crop))
        if scaled[0] == scaled[1]:
            return _with_shorter_edge(scaled[0], height, width)
        # timm's ResizeKeepRatio.
        ratio = min(height / scaled[0], width / scaled[1])
        return round(height / ratio), round(width / ratio)

    def normalise(
        self,
        pixels: NDArray[np.uint8],
        out: NDArray[np.float32] | None = None,
        *,
        n_threads: int | None = None,
    ) -> NDArray[np.float32]:
        """Convert pixels to a network's input, bit for bit as torchvision's `ToTensor` and `Normalize` do.

        Parameters
        ----------
        pixels : ndarray of uint8, shape (n, height, width, 3)
            As from `pixels`.
        out : ndarray of float32, shape (n, 3, height, width), optional
            Contiguous memory to write to. Allocating new memory takes longer than filling it.
        n_threads : int, optional
            By default the number of processors of this process.

        Returns
        -------
        ndarray of float32, shape (n, 3, height, width)
            (x / 255 − mean) / std in float32, with channels in `channel_order`; `out` if it is passed.

        Raises
        ------
        ValueError
            If a shape or type is wrong.
        """
        _check(pixels, "pixels", np.uint8, ("n", *self.size, 3))
        if out is None:
            out = np.empty((len(pixels), 3, *self.size), np.float32)
        else:
            _check(out, "out", np.float32, (len(pixels), 3, *self.size))
            if not (out.flags.c_contiguous and out.flags.writeable):
                raise ValueError("out must be contiguous and writeable")
        values = np.arange(256, dtype=np.float32) / np.float32(255)
        mean, std = (np.array(x, np.float32)[:, None] for x in (self.mean, self.std))
        table = (values - mean) / std
        _kernels.normalise(
            np.ascontiguousarray(pixels), table, _CHANNELS[self.channel_order], out, n_threads
        )
        return out

    def load(self, images: Images, *, background: str | None = None) -> NDArray[np.float32]:
        """Read, resize and normalise images, as torchvision's `Resize`, `ToTensor` and `Normalize` do.

        Parameters
        ----------
        images, background
            As for `pixels`.

        Returns
        -------
        ndarray of float32, shape (n, 3, height, width)

        Raises
        ------
        ValueError, FileNotFoundError, TypeError
            As for `pixels`.
        """
        return self.normalise(self.pixels(images, background=background))


def _crop(value: Any) -> int | float | None:
    """A crop as a plain number; raise ValueError if it is not valid."""
    if value is None:
        return None
    if not isinstance(value, bool | np.bool_):
        if isinstance(value, float | np.floating) and 0 < value <= 1:
            return float(value)
        if isinstance(value, int | np.integer) and value >= 1:
            return int(value)
    raise ValueError(
        "crop must be the length of the resized image's shorter edge in pixels, or a fraction in (0, 1] with a"
        f" decimal point, not {value!r}"
    )


def _with_shorter_edge(length: int, height: int, width: int) -> tuple[int, int]:
    """Height and width of an image after torchvision's `Resize(length)`."""
    longer = int(length * max(height, width) / min(height, width))
    return (longer, length) if width <= height else (length, longer)


def _offset(length: int, wanted: int) -> int:
    """Where torchvision's `CenterCrop` begins; negative if it pads."""
    return -((wanted - length) // 2) if length < wanted else round((length - wanted) / 2)


def _check(array: Any, name: str, dtype: type, shape: tuple[int | str, ...]) -> None:
    """Raise unless an array has a type and shape; "n" in the shape stands for any number."""
    actual = f"a {type(array).__name__}"
    if isinstance(array, np.ndarray):
        actual = f"{array.dtype} {array.shape}"
        if (
            array.dtype == dtype
            and array.ndim == len(shape)
            and all(n in (size, "n") for size, n in zip(array.shape, shape, strict=True))
        ):
            return
    expected = f"({', '.join(map(str, shape))})"
    raise ValueError(f"{name} must be {np.dtype(dtype)} of shape {expected}, not {actual}")
