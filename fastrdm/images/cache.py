"""Decoded stimuli on disk: images are decoded once for each size and filter, by the first process that needs them.

A file holds the pixels of one list of images as `.npy`. Its name is the SHA-256 of all that determines them: the bytes
of the image files (or the upright RGB pixels of arrays and PIL images) in their order, the size, the filter, the crop,
the background of transparent images, the versions of Pillow and its JPEG library, and that of the rules in
`fastrdm.images`. Paths, times, mean, standard deviation and channel order are not part of it, so networks with the same
input size share the pixels. A file never changes: it appears when it is complete, and several processes may write
the same one.

A file is used only if its header and size are as expected and the SHA-256 of its name and pixels is the one at its
end; otherwise it is written again. Hashing 118 images of 224 × 224 pixels takes 10 ms on processors with instructions
for it. The folder is private: it is made with mode 0700, and that of another user is refused.
"""

import contextlib
import hashlib
import io
import json
import math
import os
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import check_private_folder, make_private_folder, new_file, require
from fastrdm.images.decoding import (
    RULES_VERSION,
    Images,
    check_background,
    check_images,
    decode,
    read_file,
)
from fastrdm.images.preprocessing import Preprocessing

_VARIABLE = "FASTRDM_CACHE"
# The variable with the user's cache folder, and the default below the home folder.
_USER_CACHES = {"win32": ("LOCALAPPDATA", "AppData/Local"), "darwin": ("", "Library/Caches")}
_XDG = ("XDG_CACHE_HOME", ".cache")
_OURS = "fastrdm-"
_PREFIX = f"{_OURS}pixels-"
# Version of the files' format: 2 ends with a digest.
_FORMAT = 2
_DIGEST_SIZE = 32
_A_DAY = 24 * 3600.0


@dataclass(frozen=True)
class CacheInfo:
    """Folder of a cache, which may not exist yet; number of files, one for each list of images; their size on disk."""

    folder: Path
    n_files: int
    n_bytes: int


def cached_pixels(
    images: Images,
    preprocessing: Preprocessing,
    folder: str | Path | None = None,
    *,
    n_threads: int | None = None,
    background: str | None = None,
) -> NDArray[np.uint8]:
    """Return the pixels of images from the cache; decode and add them if they are missing.

    The result is uint8 of shape (n, height, width, 3) and read-only, mapped from the file, so that processes share its
    pages; if `images` is an array of such pixels, a view of it. All files are read to identify them, which is much
    faster than decoding. Of the preprocessing only size, filter and crop matter.

    `folder` is by default FASTRDM_CACHE, else `fastrdm` in the user's cache folder: XDG_CACHE_HOME or ~/.cache,
    ~/Library/Caches on macOS, %LOCALAPPDATA% on Windows. If this default cannot be read or written, the images are
    decoded without the cache, with a RuntimeWarning; for another folder, OSError is raised. A folder that belongs to
    another user, or that others can write to, is not used.

    Images, threads, background and other errors are those of `Preprocessing.pixels`; ValueError also if the images
    change while they are decoded.
    """
    check_images(images)
    if preprocessing.are_pixels(images):
        return _frozen(cast("NDArray[np.uint8]", images))
    shape = (len(images), *preprocessing.size, 3)
    key = _key(images, preprocessing, background)
    try:
        with _cache_errors():
            path = _folder(folder) / f"{_PREFIX}{key}.npy"
            check_private_folder(path.parent, _OURS)
            pixels = _map(path, shape)
            if pixels is None:
                _make(path, shape, _decoded(images, preprocessing, key, n_threads, background))
                pixels = _map(path, shape)
            if pixels is None:
                raise FileNotFoundError(f"{path} disappeared or changed after it was written")
            return pixels
    except CacheError as error:
        if folder or os.environ.get(_VARIABLE):
            raise
        warnings.warn(
            f"{error}; images are decoded without it each time; set {_VARIABLE} to another folder",
            RuntimeWarning,
            stacklevel=2,
        )
        return _frozen(preprocessing.pixels(images, n_threads=n_threads, background=background))


def hash_images(images: Images, background: str | None = None) -> str:
    """Return the SHA-256 of images in their order, in hexadecimal: of files' bytes, or of upright RGB pixels.

    Parameters and errors are those of `cached_pixels`; the background is part of the hash.
    """
    check_images(images)
    return _hash((background or "").lower().encode(), images, background)


def cache_info(folder: str | Path | None = None) -> CacheInfo:
    """Return folder and size of the cache, by default that of `cached_pixels`; OSError if it cannot be read."""
    with _cache_errors():
        where = _folder(folder)
        sizes = [status.st_size for _, status in _entries(where, ".npy")]
        return CacheInfo(where, len(sizes), sum(sizes))


def clear_cache(folder: str | Path | None = None, *, max_bytes: int = 0) -> CacheInfo:
    """Remove files from the cache, least recently used first, until it has at most `max_bytes`; return what remains.

    Arrays from `cached_pixels` stay valid; on Windows, their files cannot be removed. Partial files of killed processes
    are removed when they are a day old. Raise OSError if a file cannot be removed.
    """
    with _cache_errors():
        where = _folder(folder)
        for path, status in _entries(where, ".part"):
            if time.time() - status.st_mtime > _A_DAY:
                path.unlink(missing_ok=True)
        total = 0
        files = _entries(where, ".npy")
        for path, status in sorted(files, key=lambda file: file[1].st_mtime, reverse=True):
            total += status.st_size
            if total > max_bytes:
                path.unlink(missing_ok=True)
    return cache_info(folder)


class CacheError(OSError):
    """The cache cannot be read or written."""


@contextlib.contextmanager
def _cache_errors() -> Iterator[None]:
    """Raise a `CacheError` for an `OSError`."""
    try:
        yield
    except OSError as error:
        raise CacheError(f"the cache of pixels cannot be used: {error}") from error


def _folder(folder: str | Path | None) -> Path:
    named = folder or os.environ.get(_VARIABLE)
    if named:
        return Path(named)
    variable, under_home = _USER_CACHES.get(sys.platform, _XDG)
    base = Path(os.environ.get(variable, ""))
    if not base.is_absolute():
        try:
            base = Path.home() / under_home
        except RuntimeError as error:
            raise OSError(error) from error
    return base / "fastrdm"


def _entries(folder: Path, suffix: str) -> Iterator[tuple[Path, os.stat_result]]:
    for path in folder.glob(f"{_PREFIX}*{suffix}"):
        # Another process may remove it at any time.
        with contextlib.suppress(FileNotFoundError):
            yield path, path.stat()


def _key(images: Images, preprocessing: Preprocessing, background: str | None) -> str:
    check_background(background)
    colour = background and background.lower()
    facts: list[int | float | str | None] = [
        _FORMAT,
        RULES_VERSION,
        *_versions(),
        preprocessing.resize,
        colour,
    ]
    if preprocessing.crop is not None:
        facts.append(preprocessing.crop)
    header = _header((len(images), *preprocessing.size, 3))
    return _hash(json.dumps(facts).encode() + header, images, background)


def _hash(start: bytes, images: Images, background: str | None) -> str:
    digest = hashlib.sha256(start)
    # On this thread: 2 ms for 118 images; several threads take 3 ms.
    for index, image in enumerate(images):
        if isinstance(image, str | Path):
            content = b"file" + read_file(image)
        else:
            rgb = decode(image, index, background)
            content = b"RGB %d %d " % rgb.size + rgb.tobytes()
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()


def _versions() -> list[str | None]:
    """Versions of the decoders: versions of libjpeg may round differently; lossless formats cannot."""
    features = require("PIL.features", "data", "to read images")
    return [features.version(name) for name in ("pil", "jpg", "libjpeg_turbo")]


def _decoded(
    images: Images,
    preprocessing: Preprocessing,
    key: str,
    n_threads: int | None,
    background: str | None,
) -> Iterator[NDArray[np.uint8]]:
    changed = "the images changed while they were decoded"
    try:
        yield from preprocessing.each(images, n_threads, background)
        if _key(images, preprocessing, background) != key:
            raise ValueError(changed)
    except FileNotFoundError as error:
        raise ValueError(f"{changed}: {error}") from error


def _header(shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    facts = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, facts)
    return buffer.getvalue()


def _make(path: Path, shape: tuple[int, ...], rows: Iterator[NDArray[np.uint8]]) -> None:
    make_private_folder(path.parent, _OURS)
    digest = hashlib.sha256(path.name.encode())
    try:
        with new_file(path) as file:
            file.write(_header(shape))
            for row in rows:
                file.write(row.data)
                digest.update(row.data)
            file.write(digest.digest())
    except PermissionError:
        # Windows cannot replace a mapped file, which another process may have written meanwhile.
        if _map(path, shape) is None:
            raise


def _map(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8] | None:
    """Map the pixels of a file; return None if it does not exist, is not complete, or has another digest."""
    header = _header(shape)
    end = len(header) + math.prod(shape)
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    with file:
        is_valid = file.read(len(header)) == header
        if not is_valid or os.fstat(file.fileno()).st_size != end + _DIGEST_SIZE:
            return None
        pixels = np.asarray(np.memmap(file, np.uint8, "r", len(header), shape))
        file.seek(end)
        expected = file.read()
    digest = hashlib.sha256(path.name.encode())
    digest.update(pixels.data)
    if digest.digest() != expected:
        return None
    # Mark as recently used. This may not be allowed for files of other users.
    with contextlib.suppress(OSError):
        os.utime(path)
    return pixels


def _frozen(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    pixels = pixels.view()
    pixels.flags.writeable = False
    return pixels
