"""Images of any kind as upright RGB of 8 bits, each kind by one rule or refused by name.

=============================== ========================================================================
colour of 16 bits a channel     its upper 8 bits, as Pillow reads it
grey of 16 bits                 the same: its upper 8 bits; of a TIFF of 12 bits their upper 8, and of one
                                whose 0 is white the complement. (Pillow's own `convert` makes white of
                                all that is above 255.)
grey, 1 bit                     the same value in all three channels; 1 bit is black and white
palette                         the palette's colours
transparency (LA, RGBA, of a    composed on the background where one is given, else refused; fully opaque
palette, of one colour)         pixels are as without it
CMYK                            R = (1 − C)(1 − K), …, without a colour profile. A JPEG's values are
                                taken as inverted, as Adobe writes them, whether or not it bears
                                Adobe's marker: Pillow's rule.
YCbCr, LAB, HSV                 converted by Pillow
colour profiles, gamma          not applied
EXIF orientation                applied
a JPEG of several pictures      the first, which is the photograph; the others are its previews and
(MPO, of cameras)               depth maps
several frames or pages         refused: which one was meant is not known
32-bit integers, floats         refused: which value is white is not known
truncated, empty, no image      refused
more pixels than twice          refused as a decompression bomb; above the limit itself, Pillow
`PIL.Image.MAX_IMAGE_PIXELS`    warns
=============================== ========================================================================

Damage that a format has no checksum for (JPEG, BMP, uncompressed TIFF) cannot be found. Arrays are uint8, RGB. A PIL
image is taken at the frame that it is at.
"""

import io
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from fastrdm import _kernels
from fastrdm._base import one_line, require

if TYPE_CHECKING:
    from PIL.Image import Image

    ImageLike: TypeAlias = str | Path | Image | NDArray[np.uint8]
    Images: TypeAlias = Sequence[ImageLike] | NDArray[np.uint8]
else:
    ImageLike = Images = object

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
"""Endings of the files in a folder that are taken for images, in any case."""

# Raised when a rule above changes: what was made by others is then no longer taken from a cache.
RULES_VERSION = 2

# Baseline TIFF's tags, and the interpretation in which 0 is white.
_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0

_BACKGROUND = re.compile(r"#[0-9a-fA-F]{6}")

T = TypeVar("T")
Tags: TypeAlias = Mapping[int, Any]


def image_name(image: ImageLike, index: int) -> str:
    """Name an image for a message: its path, or its position in the list counted from 1."""
    return str(image) if isinstance(image, str | Path) else f"image {index + 1}"


def check_images(images: Images) -> None:
    """Raise unless this is a list of images, or an array of them, with one at least."""
    if isinstance(images, str | Path) or not isinstance(images, Sequence | np.ndarray):
        raise TypeError(f"images must be a list of images, not {type(images).__name__}")
    if not len(images):
        raise ValueError("images is empty")


def check_background(background: str | None) -> None:
    """Raise unless this is a colour as "#rrggbb", or None."""
    if background is not None and not _BACKGROUND.fullmatch(background):
        raise ValueError(f'background must be a colour as "#rrggbb", not {background!r}')


def read_file(path: str | Path) -> bytes:
    """Read an image file's bytes, of which there is one at least."""
    try:
        content = Path(path).read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise FileNotFoundError(f"{path}: no such image file") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    if not content:
        raise ValueError(f"{path} cannot be read as an image: the file is empty")
    return content


def decode(image: ImageLike, index: int, background: str | None = None) -> "Image":
    """Decode an image wholly, as upright RGB.

    Parameters
    ----------
    image : path, PIL image or uint8 array (h, w, 3)
    index : int
        Its position in its list, for messages.
    background : str, optional
        The colour that shows where the image is transparent, as "#rrggbb". Without one, an image with pixels that are
        not fully opaque is refused.

    Raises
    ------
    ValueError
        If it is refused; the message names it and says why.
    FileNotFoundError
        If the file is not there.
    TypeError
        If it is no image.
    """
    pil = require("PIL.Image", "data", "to read images")
    check_background(background)
    name = image_name(image, index)
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise ValueError(
                f"{name} must be uint8 of shape (h, w, 3), not {image.dtype} {image.shape}"
            )
        return cast("Image", pil.fromarray(image))
    if not isinstance(image, str | Path | pil.Image):
        raise TypeError(f"{name} must be a path, PIL image or array, not {type(image).__name__}")
    content = read_file(image) if isinstance(image, str | Path) else None
    try:
        if content is None:
            return _upright_rgb(image, background)
        return _decode_file(content, background)
    except pil.UnidentifiedImageError:
        reason = "it is in no format that Pillow reads"
        raise ValueError(f"{name} cannot be read as an image: {reason}") from None
    # PIL's decoders raise OSError, SyntaxError, ValueError, struct.error and more on damaged files.
    except Exception as error:
        raise ValueError(f"{name} cannot be read as an image: {one_line(error)}") from error


def _decode_file(content: bytes, background: str | None) -> "Image":
    pil = require("PIL.Image", "data", "to read images")
    with pil.open(io.BytesIO(content)) as opened:
        if getattr(opened, "is_animated", False) and opened.format != "MPO":
            raise ValueError("it holds several frames or pages, and a stimulus is one")
        return _upright_rgb(opened, background, in_place=True)


def _upright_rgb(image: Any, background: str | None, *, in_place: bool = False) -> "Image":
    pil = require("PIL.Image", "data", "to read images")
    upright = require("PIL.ImageOps", "data", "to read images").exif_transpose
    if not all(image.size):
        raise ValueError(f"it has no pixels, its size being {image.size}")
    # A copy has no tags.
    tags = getattr(image, "tag_v2", {})
    # In place saves a copy of the whole image, which takes a sixth as long as all else.
    image = upright(image, in_place=in_place) or image
    alpha = _alpha(image)
    # Left in, PIL warns that transparency is lost, even where it is asked for RGB.
    image.info.pop("transparency", None)
    if alpha is None:
        return _RULES.get(image.mode, _convert)(image, tags)
    if background is None:
        raise ValueError(
            f"some of its pixels are transparent (mode {image.mode}), and what shows there is not known; save it"
            " without transparency, or give the background it is seen on (background of study.toml, or of the call)"
        )
    rgb = _RULES.get(image.mode, _convert)(_STRAIGHT.get(image.mode, _same)(image), tags)
    return cast("Image", pil.composite(rgb, pil.new("RGB", rgb.size, background), alpha))


def _same(image: Any) -> Any:
    return image


# Modes whose colours are multiplied by their opacity, and how to undo that.
_STRAIGHT: dict[str, Callable[[Any], Any]] = {
    "La": lambda image: image.convert("LA"),
    "RGBa": lambda image: image.convert("RGBA"),
}


def _alpha(image: Any) -> Any:
    """The opacity of an image's pixels, from 0 to 255; None where all are fully opaque."""
    if not image.has_transparency_data:
        return None
    alpha = _keyed_alpha(image) if image.mode in _KEYED else None
    if alpha is None and image.mode in {"LA", "La", "PA", "RGBA", "RGBa"}:
        alpha = image.getchannel(image.mode[-1])
    if alpha is None:
        alpha = image.convert("RGBA").getchannel("A")
    return None if alpha.getextrema()[0] == 255 else alpha


def _keyed_alpha(image: Any) -> Any:
    """The opacity of an image of which one colour, of 16 bits a channel, is transparent; None for one of 8 bits."""
    pil = require("PIL.Image", "data", "to read images")
    key = np.atleast_1d(image.info["transparency"])
    if image.mode == "RGB":
        if key.max() < 256:
            return None
        # Of such files Pillow keeps the upper bytes.
        key = key >> 8
    values = np.asarray(image).reshape(image.height, image.width, -1)
    return pil.fromarray(np.where((values == key).all(axis=2), 0, 255).astype(np.uint8))


def _convert(image: Any, tags: Tags) -> "Image":
    return cast("Image", image if image.mode == "RGB" else image.convert("RGB"))


def _upper_byte(image: Any, tags: Tags) -> "Image":
    (bits,) = tags.get(_BITS_PER_SAMPLE, (16,))
    values = np.asarray(image)
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        values = (1 << bits) - 1 - values
    grey = (values >> (bits - 8)).astype(np.uint8)
    pil = require("PIL.Image", "data", "to read images")
    return cast("Image", pil.fromarray(grey).convert("RGB"))


def _refuse(image: Any, tags: Tags) -> "Image":
    raise ValueError(
        f"its values are of 32 bits (mode {image.mode}) and which of them is white is not known; save it with 8 or 16"
    )


_KEYED = {"RGB", "I;16", "I;16L", "I;16B", "I;16N"}
_RULES: dict[str, Callable[[Any, Tags], "Image"]] = {
    **dict.fromkeys(("I;16", "I;16L", "I;16B", "I;16N"), _upper_byte),
    **dict.fromkeys(("I", "F"), _refuse),
}


def in_order(
    function: Callable[[ImageLike, int], T], images: Images, n_threads: int | None = None
) -> Iterator[T]:
    """Yield a function of each image and its position, in order, made by threads a few images ahead.

    Parameters
    ----------
    function : callable
        What it raises for the first such image in the list's order is raised here.
    images : sequence or array of images
    n_threads : int, optional
        Threads to use; the processors of this process by default.
    """
    pil = require("PIL.Image", "data", "to read images")
    n_threads = min(n_threads or _kernels.active().info.n_threads, len(images))
    # PIL images may be there twice, or not loaded yet, and PIL does not guard them against threads.
    if n_threads < 2 or any(isinstance(image, pil.Image) for image in images):
        yield from (function(image, index) for index, image in enumerate(images))
        return
    ahead: deque[Future[T]] = deque()
    with ThreadPoolExecutor(n_threads) as pool:
        try:
            for index, image in enumerate(images):
                ahead.append(pool.submit(function, image, index))
                if len(ahead) > 4 * n_threads:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()
