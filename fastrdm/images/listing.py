"""The images of a folder, in an order."""

import re
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from fastrdm._base import check_choice, list_names
from fastrdm.images.decoding import SUFFIXES

ORDERS = ("sorted", "natural")
_DIGITS = re.compile(r"([0-9]+)")


def list_images(
    folder: str | Path,
    order: str = "sorted",
    *,
    recursive: bool = False,
    exclude: Iterable[str | Path] = (),
) -> list[Path]:
    """List the images of a folder in the order of their names.

    Parameters
    ----------
    folder : path
        Hidden files and folders are ignored, and so are files of other kinds, which `unread_files` lists.
    order : {"sorted", "natural"}
        "sorted" compares names by characters, so that image_10 comes before image_2; "natural" compares the numbers in
        them as numbers. Paths are compared folder by folder.
    recursive : bool
        Whether to list the images of subfolders too; by default subfolders are ignored. Links to folders are followed.
    exclude : iterable of path
        Subfolders that are not listed.

    Returns
    -------
    list of Path
        Files with the suffix jpg, jpeg, jpe, jfif, png, bmp, gif, tif, tiff, webp or avif, in any case.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist.
    ValueError
        If it contains no image, or `order` is neither.

    Warns
    -----
    RuntimeWarning
        If the order is "sorted" and differs from "natural".
    """
    folder = Path(folder)
    check_choice(order, ORDERS, "order")
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder")
    files = _files(folder, recursive, exclude)
    images = [path for path in files if path.suffix.lower() in SUFFIXES]
    if not images:
        unread = describe_unread(folder, recursive=recursive, exclude=exclude)
        raise ValueError(f"{folder} contains no images ({', '.join(sorted(SUFFIXES))}){unread}")
    by_name = sorted(images, key=lambda path: path.relative_to(folder).parts)
    naturally = sorted(images, key=lambda path: natural_key(path.relative_to(folder)))
    if order == "natural":
        return naturally
    if by_name != naturally:
        here, other = next(
            pair for pair in zip(by_name, naturally, strict=True) if pair[0] != pair[1]
        )
        first, second = name_in(here, folder), name_in(other, folder)
        warnings.warn(
            f'the images of {folder} are in the order "sorted", where {first} comes before {second}; '
            'the order "natural" compares their numbers as numbers',
            RuntimeWarning,
            stacklevel=2,
        )
    return by_name


def natural_key(path: Path) -> tuple[Any, ...]:
    """Return the sort key for natural order: numbers compare as numbers, then names by characters."""
    split = [(_DIGITS.split(name), name) for name in path.parts]
    return tuple(
        (tuple(int(part) if k % 2 else part for k, part in enumerate(parts)), name)
        for parts, name in split
    )


def name_in(path: Path, folder: Path) -> str:
    """Return the name of a file in a folder: its relative path, with slashes on every system."""
    return path.relative_to(folder).as_posix()


def unread_files(
    folder: str | Path, *, recursive: bool = False, exclude: Iterable[str | Path] = ()
) -> list[Path]:
    """List the files of a folder that are not images, by name and without hidden ones; arguments as `list_images`."""
    folder = Path(folder)
    files = _files(folder, recursive, exclude)
    unread = (path for path in files if path.suffix.lower() not in SUFFIXES)
    return sorted(unread, key=lambda path: path.relative_to(folder).parts)


def describe_unread(
    folder: str | Path, *, recursive: bool = False, exclude: Iterable[str | Path] = ()
) -> str:
    """Return the files of a folder that are not images, as the end of an error message."""
    unread = unread_files(folder, recursive=recursive, exclude=exclude)
    names = [name_in(path, Path(folder)) for path in unread]
    return f"; present but not read: {list_names(names)}" if names else ""


def _files(folder: Path, recursive: bool, exclude: Iterable[str | Path]) -> Iterator[Path]:
    excluded = frozenset(Path(path).resolve() for path in exclude)
    return _walk(folder, recursive, excluded, frozenset([folder.resolve()]))


def _walk(
    folder: Path, recursive: bool, excluded: frozenset[Path], above: frozenset[Path]
) -> Iterator[Path]:
    """Yield the files of a folder; a link to one of the folders `above` is not followed, because it has no end."""
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        if path.is_file():
            yield path
        elif recursive and path.is_dir():
            real = path.resolve()
            if real not in excluded | above:
                yield from _walk(path, recursive, excluded, above | {real})
