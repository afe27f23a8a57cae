"""Checkpoints as files: whether they are complete, their hashes, and all that they hold."""

import contextlib
import hashlib
import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fastrdm._base import file_stamp, list_names, open_regular, require
from fastrdm.networks.errors import WeightsError
from fastrdm.networks.onnx_files import is_onnx
from fastrdm.networks.pickle_contents import ZIP
from fastrdm.networks.shards import files_of, find_index, is_index, read_index, shards_of
from fastrdm.networks.tensor_files import (
    is_safetensors,
    map_tensors,
    read_tensors,
    safetensors_header,
)
from fastrdm.networks.torch_archives import NotPlainError

SUFFIXES = (".pth", ".pt", ".ckpt", ".bin", ".th", ".pth.tar", ".pt.tar", ".safetensors")
"""Suffixes of weight files, in any case; `.onnx` is not among them."""

# safetensors reads no longer headers.
_LARGEST_HEADER = 100_000_000


def is_checkpoint(path: str | Path) -> bool:
    """Whether a file name ends as those of weights, their indices or ONNX files do, in any case."""
    return is_onnx(path) or is_index(path) or str(path).lower().endswith(SUFFIXES)


def check_file(path: str | Path) -> None:
    """Raise WeightsError unless all files of a checkpoint exist, and none is empty, a Git LFS pointer or a web page."""
    path = Path(path)
    for file in files_of(path):
        if not file.is_file():
            if file != path:
                raise WeightsError(f"{path}: the file {file.name} is missing")
            raise WeightsError(f"{path}: {_what_it_is(path)}")
        if not file.stat().st_size:
            raise WeightsError(f"{file}: the file is empty")
        _check_not_placeholder(file)


def _what_it_is(path: Path) -> str:
    """What is in the place of a file."""
    if path.is_dir():
        return "is a folder"
    return "is a pipe, a socket or a device, not a file" if path.exists() else "no such file"


def _check_not_placeholder(file: Path) -> None:
    """Raise WeightsError for what an unfinished download leaves in place of a file."""
    with file.open("rb") as stream:
        head = stream.read(64).lstrip().lower()
    if head.startswith(b"version https://git-lfs"):
        raise WeightsError(f"{file}: is a Git LFS pointer, not the file; run `git lfs pull`")
    if head.startswith((b"<!doctype html", b"<html")):
        raise WeightsError(f"{file}: is a web page, not weights; download the file again")


def read_contents(path: str | Path, *, as_arrays: bool) -> tuple[Any, type]:
    """Return all that a checkpoint holds, mapped if its format allows, and the type of its tensors.

    `as_arrays` reads NumPy arrays without torch, unless a file of `torch.save` holds what only torch can read. Tensors
    of torch are on the CPU.
    """
    check_file(path)
    index = find_index(path)
    if as_arrays:
        with contextlib.suppress(NotPlainError):
            return _read_all(Path(path), index, map_tensors), np.ndarray
    kind: type = require("torch", "export", "to read weights").Tensor
    return _read_all(Path(path), index, read_tensors), kind


def _read_all(path: Path, index: Path | None, read: Callable[[Path], Any]) -> Any:
    """The contents of a file, or the tensors of the files that an index names."""
    if index is None:
        return read(path)
    tensors = {}
    for file, names in shards_of(read_index(index)).items():
        content = read(file)
        if missing := [name for name in names if name not in content]:
            raise WeightsError(
                f"{file}: lacks tensors that {index.name} lists: {list_names(missing)}"
            )
        tensors.update({name: content[name] for name in names})
    return tensors


def hash_file(path: str | Path) -> str:
    """Return the SHA-256 of a checkpoint in hexadecimal.

    It includes all files in which an `.onnx` file keeps weights, and all files that an index names.
    """
    path, digest = Path(path), hashlib.sha256()
    files = files_of(path)
    # The contents of one file, of FILE and FILE.data, and of an index and its shards follow each other without names,
    # as in the keys of older stores. For other files, the border between two contents matters.
    is_named = is_onnx(path) and bool(set(files) - {path, Path(f"{path}.data")})
    for part in files:
        with part.open("rb") as file:
            if is_named:
                name = "" if part == path else part.relative_to(path.parent).as_posix()
                digest.update(
                    f"{os.fstat(file.fileno()).st_size} {name}\n".encode(errors="surrogateescape")
                )
            hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()


def is_complete(path: str | Path) -> bool:
    """Whether a checkpoint is complete, as far as its format shows: a training may still be writing it.

    Archives of `torch.save` end with their directory, and `.safetensors` files state their length. Other files
    count as incomplete only if they are empty. All files of a checkpoint must be complete.
    """
    try:
        return all(map(_is_complete, files_of(path)))
    except WeightsError:
        return False


def _is_complete(path: Path) -> bool:
    try:
        size = path.stat().st_size
        with open_regular(path) as file:
            head = file.read(8)
            if is_safetensors(path):
                length = int.from_bytes(head, "little")
                if len(head) < 8 or 8 + length > size or length > _LARGEST_HEADER:
                    return False
                tensors = safetensors_header(file.read(length))
                ends = [tensor["data_offsets"][1] for tensor in tensors.values()]
                return bool(8 + length + max(ends, default=0) == size)
            return zipfile.is_zipfile(file) if head.startswith(ZIP) else size > 0
    except (OSError, ValueError, LookupError, TypeError, AttributeError, zipfile.BadZipFile):
        return False


@contextlib.contextmanager
def check_unchanged(path: str | Path) -> Iterator[None]:
    """Raise WeightsError if a file of a checkpoint is written to within the context."""
    check_file(path)
    files = files_of(path)
    before = [file_stamp(file) for file in files]
    yield
    for file, state in zip(files, before, strict=True):
        if file_stamp(file) != state:
            raise WeightsError(f"{file}: was written to while it was read")
