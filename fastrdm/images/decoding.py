"""Images of any kind → upright 8-bit RGB. Each kind is decoded by one rule, or refused.

=============================== ========================================================================
colour with 16 bits a channel   the upper 8 bits, as Pillow reads it
grey with 16 bits               also the upper 8 bits; the upper 8 of the 12 bits of a TIFF; the complement
                                if 0 is white in a TIFF. (Pillow's `convert` turns all values above 255
                                into white.)
grey, 1 bit                     the same value in all three channels; 1 bit is black and white
palette                         the palette's colours
transparency (LA, RGBA, of a    composed on the background if one is given, else refused unless all pixels
palette, of one colour)         are opaque
CMYK                            R = (1 − C)(1 − K), …, without a colour profile. The values of a JPEG are
                                taken as inverted, as Adobe writes them, with or without Adobe's marker:
                                Pillow's rule.
YCbCr, LAB, HSV                 converted by Pillow
colour profiles, gamma          not applied
EXIF orientation                applied
a JPEG of several pictures      the first, which is the photograph; the others are previews and depth maps
(MPO, of cameras)
several frames or pages         refused: it is unknown which one is meant
32-bit integers, floats         refused: it is unknown which value is white
truncated, empty, not an image  refused
formats other than JPEG, PNG,   refused: Pillow runs Ghostscript for some of them (EPS)
BMP, GIF, TIFF, WebP, AVIF,
JPEG 2000, PPM
more pixels than twice          refused as a decompression bomb; above the limit itself, Pillow warns
`PIL.Image.MAX_IMAGE_PIXELS`
128 MiB of pixels or more that  refused
take 100 times the file's size
=============================== ========================================================================

Damage in formats without a checksum (JPEG, BMP, uncompressed TIFF) is not detected. Arrays are uint8, RGB. Of a PIL
image, the current frame is used.
"""

import io
import os
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from fastrdm import _kernels
from fastrdm._base import check_expansion, one_line, open_regular, require

if TYPE_CHECKING:
    from PIL.Image import Image

    ImageLike: TypeAlias = str | Path | Image | NDArray[np.uint8]
    Images: TypeAlias = Sequence[ImageLike] | NDArray[np.uint8]
else:
    ImageLike = Images = object

SUFFIXES = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif"),
        *(".tif", ".tiff", ".webp", ".avif"),
    }
)
"""Suffixes of image files, in any case."""

# Incremented when a rule above changes, so that pixels decoded by older rules are not taken from a cache.
RULES_VERSION = 2

# Formats that Pillow reads only with an optional library: offset and values of the signature, and what to install.
_OPTIONAL_FORMATS = {
    "AVIF": (
        4,
        (b"ftypavif", b"ftypavis"),
        "install a wheel of Pillow 11.3 or later: pip install --upgrade 'pillow>=11.3'",
    ),
    "WebP": (8, (b"WEBP",), "install a wheel of Pillow: pip install --upgrade pillow"),
}

# Pillow's names of the formats that are read; an EPS file would run a program.
_FORMATS = (
    *("JPEG", "PNG", "BMP", "DIB", "GIF"),
    *("TIFF", "WEBP", "AVIF", "PPM", "JPEG2000"),
)

# Tags of baseline TIFF, and the interpretation in which 0 is white.
_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0

_BACKGROUND = re.compile(r"#[0-9a-fA-F]{6}")

# Bytes of a pixel while it is converted.
_PIXEL = 4

T = TypeVar("T")
Tags: TypeAlias = Mapping[int, Any]


def image_name(image: ImageLike, index: int) -> str:
    """Return the name of an image in messages: its path, or its position in the list, counted from 1."""
    return str(image) if isinstance(image, str | Path) else f"image {index + 1}"


def check_images(images: Images) -> None:
    """Raise unless `images` is a list or array of at least one image."""
    if isinstance(images, str | Path) or not isinstance(images, Sequence | np.ndarray):
        raise TypeError(f"images must be a list of images, not {type(images).__name__}")
    if not len(images):
        raise ValueError("images is empty")


def check_background(background: str | None) -> None:
    """Raise unless `background` is a colour as "#rrggbb", or None."""
    if background is not None and not _BACKGROUND.fullmatch(background):
        raise ValueError(f'background must be a colour as "#rrggbb", not {background!r}')


def read_file(path: str | Path) -> bytes:
    """Read the bytes of an image file; raise if it is missing or empty."""
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            check_expansion(size, size, f"{path} cannot be read: it")
            content = file.read(size)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise FileNotFoundError(f"{path}: no such image file") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error
    if not content:
        raise ValueError(f"{path} cannot be read as an image: the file is empty")
    return content


def decode(image: ImageLike, index: int, background: str | None = None) -> "Image":
    """Decode an image (path, PIL image or uint8 array (h, w, 3)) as upright RGB.

    Its index in a list is for messages. The background is the colour behind transparent pixels, as "#rrggbb"; without
    one, images with pixels that are not opaque are refused. Raise ValueError if an image is refused, FileNotFoundError
    if the file does not exist, and TypeError if it is not an image.
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
        with open_image(content) as opened:
            check_size(opened, content)
            if getattr(opened, "is_animated", False) and opened.format != "MPO":
                raise ValueError("it holds several frames or pages; a stimulus has one")
            return _upright_rgb(opened, background, in_place=True)
    except pil.UnidentifiedImageError:
        reason = _missing_codec(content or b"") or "it has none of the formats that are read"
        raise ValueError(f"{name} cannot be read as an image: {reason}") from None
    # PIL's decoders raise OSError, SyntaxError, ValueError, struct.error and more on damaged files.
    except Exception as error:
        reason = _missing_codec(content or b"") or one_line(error)
        raise ValueError(f"{name} cannot be read as an image: {reason}") from error


def open_image(content: bytes) -> Any:
    """Open the content of a file with Pillow, if it has one of the formats that are read."""
    pil = require("PIL.Image", "data", "to read images")
    pil.init()
    return pil.open(io.BytesIO(content), formats=[name for name in _FORMATS if name in pil.OPEN])


def check_size(image: Any, content: bytes) -> None:
    """Raise ValueError if the pixels of an image take far more memory than its file."""
    width, height = image.size
    check_expansion(_PIXEL * width * height, len(content), "it")


def _missing_codec(content: bytes) -> str:
    """Say what to install for a format that this installation of Pillow lacks; empty for other contents."""
    features = require("PIL.features", "data", "to read images")
    for name, (start, signatures, advice) in _OPTIONAL_FORMATS.items():
        if content[start:].startswith(signatures):
            module = name.lower()
            if not (module in features.modules and features.check_module(module)):
                return f"it is {name}, which this installation of Pillow cannot read; {advice}"
    return ""


def _upright_rgb(image: Any, background: str | None, *, in_place: bool = False) -> "Image":
    pil = require("PIL.Image", "data", "to read images")
    upright = require("PIL.ImageOps", "data", "to read images").exif_transpose
    if not all(image.size):
        raise ValueError(f"it has no pixels (size {image.size})")
    # A copy has no tags.
    tags = getattr(image, "tag_v2", {})
    # In place avoids a copy of the whole image, which would take a sixth as long as all the rest.
    image = upright(image, in_place=in_place) or image
    alpha = opacity(image)
    # With this entry, PIL warns that transparency is lost, even on conversion to RGB.
    image.info.pop("transparency", None)
    if alpha is None:
        return _RULES.get(image.mode, _convert)(image, tags)
    if background is None:
        raise ValueError(
            f"some of its pixels are transparent (mode {image.mode}); save it without transparency, or set the"
            " background that it is shown on (background in study.toml, or as an argument)"
        )
    straight = image.convert(_STRAIGHT[image.mode]) if image.mode in _STRAIGHT else image
    rgb = _RULES.get(image.mode, _convert)(straight, tags)
    return cast("Image", pil.composite(rgb, pil.new("RGB", rgb.size, background), alpha))


# Modes in which colours are multiplied by their opacity, and modes to convert them to.
_STRAIGHT = {"La": "LA", "RGBa": "RGBA"}


def opacity(image: Any) -> Any:
    """Opacity of an image's pixels, from 0 to 255; None if all are opaque."""
    if not image.has_transparency_data:
        return None
    alpha = _keyed_alpha(image) if image.mode in _KEYED else None
    if alpha is None and image.mode in {"LA", "La", "PA", "RGBA", "RGBa"}:
        alpha = image.getchannel(image.mode[-1])
    if alpha is None:
        alpha = image.convert("RGBA").getchannel("A")
    return None if alpha.getextrema()[0] == 255 else alpha


def _keyed_alpha(image: Any) -> Any:
    """Opacity of an image with one transparent colour of 16 bits a channel; None for one of 8 bits."""
    pil = require("PIL.Image", "data", "to read images")
    key = np.atleast_1d(image.info["transparency"])
    if image.mode == "RGB":
        if key.max() < 256:
            return None
        # Pillow keeps the upper bytes of such files.
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
        f"its values have 32 bits (mode {image.mode}), so it is unknown which one is white; save it with 8 or 16 bits"
    )


_KEYED = {"RGB", "I;16", "I;16L", "I;16B", "I;16N"}
_RULES: dict[str, Callable[[Any, Tags], "Image"]] = {
    **dict.fromkeys(("I;16", "I;16L", "I;16B", "I;16N"), _upper_byte),
    **dict.fromkeys(("I", "F"), _refuse),
}


def in_order(
    function: Callable[[ImageLike, int], T], images: Images, n_threads: int | None = None
) -> Iterator[T]:
    """Yield a function of each image and its position, in order; threads compute it a few images ahead.

    If it raises, the exception of the first such image is raised here. By default there are as many threads as
    processors for this process.
    """
    pil = require("PIL.Image", "data", "to read images")
    n_threads = min(n_threads or _kernels.active().info.n_threads, len(images))
    # A PIL image may be listed twice or not be loaded yet, and PIL images are not thread-safe.
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
