"""Training images: class folders in a folder or a zip, decoded once to uint8 pixels on disk.

The layout is torchvision's ImageFolder, once for training and once for validation: ROOT/train/CLASS/… and
ROOT/val/CLASS/…, with images at any depth below their class. In a zip, a common parent folder is allowed. Classes are
numbered in the order of their names.

The pixels of a split are one `.npy` file (n, 3, size, size) in the cache. Its name is the SHA-256 of everything that
determines the pixels: the images' names and sizes with their CRC-32 (zip) or modification times (folder), the size,
filter and background, and the versions of the decoders. The file appears when it is complete. Processes that need it at
the same time each make it; the last one replaces the others.
"""

import functools
import hashlib
import io
import json
import math
import os
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import list_names, new_file, one_line, require
from fastrdm.images import RULES_VERSION, SUFFIXES, cache_info, check_background, decode, in_order

SPLITS = ("train", "val")
_FILTERS = {"pil-bilinear": "BILINEAR", "pil-bicubic": "BICUBIC"}

Reader = Callable[[str], bytes]


class _File(NamedTuple):
    name: str
    size: int
    # CRC-32 in a zip, modification time in nanoseconds in a folder.
    stamp: int


@dataclass(frozen=True, eq=False)
class Split:
    """The images for training or validation.

    `files` are ordered by class and name, with names relative to `folder` in `source`, a folder or zip.
    """

    name: str
    source: Path
    folder: str
    files: tuple[_File, ...]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.files)

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 of names and sizes, the same for a zip and for its unpacked folder."""
        digest = hashlib.sha256()
        for file in self.files:
            digest.update(f"{file.name}\0{file.size}\n".encode())
        return digest.hexdigest()

    @contextmanager
    def reader(self) -> Iterator[Reader]:
        """Yield a thread-safe function that reads a file's bytes by its name."""
        if self.source.is_dir():
            yield lambda name: (self.source / self.folder / name).read_bytes()
        else:
            with zipfile.ZipFile(self.source) as archive:
                yield lambda name: archive.read(f"{self.folder}/{name}")


@dataclass(frozen=True, eq=False)
class TrainingImages:
    """Images for training and validation, and the names of their classes in order."""

    classes: tuple[str, ...]
    train: Split
    val: Split


def find_images(root: str | Path) -> TrainingImages:
    """Find images and their classes in a folder with `train` and `val`, or a zip of it; hidden files are ignored.

    Raise FileNotFoundError if `root`, `train` or `val` does not exist, and ValueError if a file is not a zip, an image
    is not in a class folder, there are fewer than two classes, or the classes of training and validation differ.
    """
    root = Path(root)
    if not root.exists():
        raise FileNotFoundError(f"{root}: no such folder or zip of images")
    if root.is_dir():
        top, files = "", list(_in_folder(root))
    elif zipfile.is_zipfile(root):
        files = list(_in_zip(root))
        tops = {file.name.partition("/")[0] for file in files}
        top = f"{tops.pop()}/" if len(tops) == 1 else ""
    else:
        raise ValueError(f"{root} is neither a folder nor a zip")
    train, val = (_select(root, files, f"{top}{split}/") for split in SPLITS)
    classes = sorted({_class_of(file) for file in train})
    if len(classes) < 2:
        raise ValueError(f"{root} has only the class {classes[0]}; training needs two or more")
    if differing := sorted({_class_of(file) for file in val} ^ set(classes)):
        others = f", as are {len(differing) - 1} others" if len(differing) > 1 else ""
        raise ValueError(
            f"{root}: the class {differing[0]} is in only one of train and val{others}"
        )
    number = {name: i for i, name in enumerate(classes)}
    splits = []
    for name, selected in zip(SPLITS, (train, val), strict=True):
        labels = np.array([number[_class_of(file)] for file in selected])
        splits.append(Split(name, root, f"{top}{name}", tuple(selected), labels))
    return TrainingImages(tuple(classes), *splits)


def _select(root: Path, files: list[_File], folder: str) -> list[_File]:
    """Return the files in a split's folder, by class and name."""
    inside = (file for file in files if file.name.startswith(folder))
    selected = [file._replace(name=file.name.removeprefix(folder)) for file in inside]
    if not selected:
        raise FileNotFoundError(f"{root} has no images in {Path(folder).name}/CLASS/")
    for file in selected:
        if "/" not in file.name:
            raise ValueError(f"{root}: {folder}{file.name} is not in a class folder")
    return sorted(selected, key=lambda file: (_class_of(file), file.name))


def _class_of(file: _File) -> str:
    return file.name.partition("/")[0]


def _wanted(name: str) -> bool:
    parts = name.split("/")
    return Path(name).suffix.lower() in SUFFIXES and not any(
        part.startswith((".", "__MACOSX")) for part in parts
    )


def _in_folder(root: Path) -> Iterator[_File]:
    for split in SPLITS:
        for folder, _, names in os.walk(root / split, followlinks=True):
            inside = Path(folder).relative_to(root).as_posix()
            for name in names:
                if _wanted(f"{inside}/{name}"):
                    status = os.stat(f"{folder}/{name}")  # noqa: PTH116 - a million times
                    yield _File(f"{inside}/{name}", status.st_size, status.st_mtime_ns)


def _in_zip(root: Path) -> Iterator[_File]:
    with zipfile.ZipFile(root) as archive:
        for info in archive.infolist():
            if not info.is_dir() and _wanted(info.filename):
                yield _File(info.filename, info.file_size, info.CRC)


def training_pixels(
    split: Split,
    size: int,
    resize: str = "pil-bilinear",
    folder: str | Path | None = None,
    *,
    n_threads: int | None = None,
    background: str | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> NDArray[np.uint8]:
    """Return a split's pixels (n, 3, size, size) from the cache, read-only; decode them first if they are not there.

    Images are resized to size × size without a crop, like stimuli (`fastrdm.Preprocessing`), and converted to RGB by
    the same rules (`fastrdm.images`). `folder` is that of the cache, by default as for `fastrdm.images.cached_pixels`;
    `background` is the colour behind transparent pixels, as "#rrggbb", without which they are refused. `say` is called
    with one line before images are decoded; a terminal also shows a progress bar on stderr.

    Raise ValueError if images cannot be decoded (all are tried, the first ones are named), and OSError if the cache
    cannot be written or its disk has too little space.
    """
    shape = (len(split), 3, size, size)
    where = cache_info(folder).folder
    path = where / f"fastrdm-training-{_key(split, size, resize, background)}.npy"
    pixels = _map(path, shape)
    if pixels is None:
        where.mkdir(parents=True, exist_ok=True)
        n_bytes, free = math.prod(shape), shutil.disk_usage(where).free
        if n_bytes > free:
            raise OSError(
                f"{where} has {free / 1e9:.1f} GB free, but the pixels of {split.name} take {n_bytes / 1e9:.1f} GB;"
                " choose another folder with --cache or FASTRDM_CACHE"
            )
        say(f"decoding {len(split)} images of {split.name} to {size} × {size}, once, into {path}")
        with new_file(path) as file:
            facts = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, facts)
            for row in _decoded(split, size, resize, n_threads, background):
                file.write(row.data)
        pixels = _map(path, shape)
        if pixels is None:
            raise OSError(f"{path} disappeared or changed after it was written")
    return pixels


def _key(split: Split, size: int, resize: str, background: str | None) -> str:
    check_background(background)
    features = require("PIL.features", "data", "to read images")
    versions = [features.version(name) for name in ("pil", "jpg", "libjpeg_turbo")]
    digest = hashlib.sha256(
        json.dumps([RULES_VERSION, *versions, size, resize, background, split.fingerprint]).encode()
    )
    digest.update(np.array([file.stamp for file in split.files], np.int64).tobytes())
    return digest.hexdigest()


def _map(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8] | None:
    """Map a file's pixels; return None if it is missing or incomplete."""
    try:
        pixels = np.load(path, mmap_mode="r")
    except (FileNotFoundError, ValueError, EOFError):
        return None
    return pixels if (pixels.shape, pixels.dtype) == (shape, np.uint8) else None


def _decoded(
    split: Split, size: int, resize: str, n_threads: int | None, background: str | None
) -> Iterator[NDArray[np.uint8]]:
    """Yield each image's pixels (3, size, size); raise at the end if images could not be decoded."""
    pil = require("PIL.Image", "data", "to read images")
    rich = require("rich.progress", "train", "to show progress")
    console = require("rich.console", "train", "to show progress").Console(stderr=True)
    # Otherwise a thread may miss a format that another thread is importing.
    pil.init()
    filter_ = pil.Resampling[_FILTERS[resize]]
    failed = []
    with split.reader() as read:

        def pixels(name: Any, index: int) -> NDArray[np.uint8] | str:
            try:
                image = decode(pil.open(io.BytesIO(read(name))), index, background)
            # Zips and PIL's decoders raise errors of a dozen classes on damaged files.
            except Exception as error:
                reason = one_line(error.__cause__ or error)
                if isinstance(error, pil.UnidentifiedImageError):
                    reason = "it is not in a format that Pillow reads"
                return f"{split.folder}/{name}: {reason}"
            rows = np.asarray(image.resize((size, size), filter_))
            return np.ascontiguousarray(rows.transpose(2, 0, 1))

        results = in_order(pixels, [file.name for file in split.files], n_threads)
        title, hidden = f"decoding {split.name}", not sys.stderr.isatty()
        for result in rich.track(results, title, len(split), console=console, disable=hidden):
            if isinstance(result, str):
                failed.append(result)
            else:
                yield cast("NDArray[np.uint8]", result)
    if failed:
        raise ValueError(
            f"{len(failed)} of {len(split)} images of {split.source} cannot be decoded:"
            f" {list_names(failed, separator='; ')}"
        )
