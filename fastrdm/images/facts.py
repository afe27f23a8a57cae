"""What an image file is, before it is resized: format, size, transparency, and whether it can be decoded."""

import contextlib
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastrdm._base import one_line
from fastrdm.images.decoding import check_size, decode, opacity, open_image, read_file

# The tag of EXIF whose value is 1 if the image is stored upright.
_ORIENTATION = 0x0112


@dataclass(frozen=True)
class ImageFacts:
    """What an image file is.

    Attributes
    ----------
    format, mode : str
        Pillow's names of the file format and of the kind of pixels; empty if the file is not an image.
    width, height : int
        Size of the upright image in pixels; 0 if the file is not an image.
    transparent : float
        Share of the pixels that are not opaque.
    is_turned : bool
        Whether the image is stored turned or mirrored, and EXIF says how to show it.
    is_grey, is_uniform : bool
        Whether all pixels are grey, and whether they have one colour.
    sha256 : str
        Digest of the upright RGB pixels; empty if they cannot be decoded.
    problem : str
        Why the image cannot be used; empty if it can.
    """

    format: str = ""
    mode: str = ""
    width: int = 0
    height: int = 0
    transparent: float = 0.0
    is_turned: bool = False
    is_grey: bool = False
    is_uniform: bool = False
    sha256: str = ""
    problem: str = ""


def inspect_image(path: str | Path, background: str | None = None) -> ImageFacts:
    """Return what an image file is; problems are reported in the result.

    The digest of an image with transparent pixels is that on the background, or on white without one.
    """
    facts: dict[str, Any] = {}
    image = None
    try:
        facts = _opened(path)
        image = decode(path, 0, background)
    except (ValueError, OSError) as error:
        facts["problem"] = one_line(error)
    if image is None and facts.get("transparent"):
        with contextlib.suppress(ValueError):
            image = decode(path, 0, background or "#ffffff")
    if image is None:
        return ImageFacts(**facts)
    rgb = np.asarray(image)
    height, width = rgb.shape[:2]
    digest = hashlib.sha256(f"{rgb.shape}".encode())
    digest.update(np.ascontiguousarray(rgb).data)
    return ImageFacts(
        **facts | {"width": width, "height": height},
        is_grey=bool((rgb[..., :1] == rgb).all()),
        is_uniform=bool((rgb == rgb[0, 0]).all()),
        sha256=digest.hexdigest(),
    )


def _opened(path: str | Path) -> dict[str, Any]:
    """Facts that are lost when the image is converted; those known before an error, if there is one."""
    facts: dict[str, Any] = {"transparent": 0.0}
    content = read_file(path)
    try:
        with open_image(content) as image:
            facts |= {"format": image.format or "", "mode": image.mode}
            facts |= {"width": image.width, "height": image.height}
            facts["is_turned"] = image.getexif().get(_ORIENTATION, 1) not in (0, 1)
            check_size(image, content)
            alpha = opacity(image)
            if alpha is not None:
                facts["transparent"] = float((np.asarray(alpha) < 255).mean())
    # Decoders raise errors of many kinds on damaged files; `decode` names the damage.
    except Exception:
        return facts
    return facts
