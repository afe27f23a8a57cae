"""Reading of NumPy's `.npy` and `.npz` files."""

import math
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrdm._base.expansion import check_expansion
from fastrdm._base.pickles import check_text, load_pickle

# The longest header that NumPy reads from files that are not trusted.
_MAX_HEADER = 10_000

#: The key of a single array in a `.npy` file.
UNNAMED = "(unnamed)"


def load_npy(path: Path) -> dict[str, NDArray[Any]]:
    """Read the fields of a structured array, the items of a pickled dict, or a single array as `UNNAMED`."""
    with path.open("rb") as file:
        value = _load(file, path.stat().st_size)
    if isinstance(value, np.ndarray) and value.dtype == object and value.ndim == 0:
        value = value.item()
    if isinstance(value, dict):
        return {str(key): np.asarray(item) for key, item in value.items()}
    value = np.asarray(value)
    if value.dtype.names:
        record = value.reshape(()) if value.size == 1 else value
        return {name: np.asarray(record[name]) for name in value.dtype.names}
    return {UNNAMED: value}


def load_npz(path: Path) -> dict[str, NDArray[Any]]:
    """Read the arrays of an archive by name."""
    arrays = {}
    held = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        check_members(members, held)
        for member in members:
            arrays[member.filename.removesuffix(".npy")] = load_member(archive, member)
    return arrays


def check_members(members: Sequence[zipfile.ZipInfo], held: int) -> None:
    """Raise ValueError if members of an archive of `held` bytes expand too far, or are packed in an unusual way."""
    for member in members:
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(
                f"its member {member.filename} is compressed by method {member.compress_type}, which is not read"
            )
        if member.flag_bits & 1:
            raise ValueError(f"its member {member.filename} is encrypted")
    check_expansion(sum(member.file_size for member in members), held, "its contents")


class NpyHeader(NamedTuple):
    """What a `.npy` file announces; `offset` is where the numbers begin."""

    shape: tuple[int, ...]
    is_fortran: bool
    dtype: np.dtype[Any]
    offset: int


def read_header(file: IO[bytes], size: int) -> NpyHeader:
    """Read the header of a `.npy` file of `size` bytes; ValueError if it announces more than the file can hold."""
    start = file.tell()
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"it has version {version} of the format, which is not read")
    read, n_bytes = _HEADERS[version]
    length = file.read(n_bytes)
    # NumPy would reserve memory for a header of any length.
    if int.from_bytes(length, "little") > _MAX_HEADER:
        raise ValueError(
            f"it announces a header of {int.from_bytes(length, 'little')} bytes, more than {_MAX_HEADER}"
        )
    file.seek(-len(length), os.SEEK_CUR)
    try:
        shape, is_fortran, dtype = read(file)
    # Of Python's parser.
    except (MemoryError, RecursionError):
        raise ValueError("its header is nested too deeply") from None
    if not dtype.hasobject and (
        min(shape, default=0) < 0 or math.prod(shape) * max(1, dtype.itemsize) > size
    ):
        raise ValueError(
            f"it announces an array of shape {shape} and type {dtype}, but has {size} bytes"
        )
    return NpyHeader(shape, is_fortran, dtype, file.tell() - start)


def map_numbers(path: Path, header: NpyHeader, start: int = 0) -> NDArray[Any]:
    """Map an array of numbers that begins at a place in a file with its header, without reading it."""
    order: Literal["F", "C"] = "F" if header.is_fortran else "C"
    at = start + header.offset
    if at + math.prod(header.shape) * header.dtype.itemsize > path.stat().st_size:
        raise ValueError(f"it announces an array of shape {header.shape}, but is truncated")
    return np.memmap(path, header.dtype, "r", at, header.shape, order)


def load_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Any:
    """Read an array of an archive, whose members were checked."""
    with archive.open(member) as file:
        return _load(file, member.file_size)


def _load(file: IO[bytes], size: int) -> Any:
    header = read_header(file, size)
    if header.dtype.hasobject:
        return load_pickle(file, size)
    # NumPy would allocate what the header announces before it reads.
    check_expansion(math.prod(header.shape) * header.dtype.itemsize, size, "its array")
    file.seek(0, os.SEEK_SET)
    array = np.load(file, allow_pickle=False)
    check_text(array)
    return array


# What reads the header of each version, and the bytes of its length.
# Version 3.0 differs from 2.0 only in the characters of field names.
_HEADERS = {
    (1, 0): (np.lib.format.read_array_header_1_0, 2),
    (2, 0): (np.lib.format.read_array_header_2_0, 4),
    (3, 0): (np.lib.format.read_array_header_2_0, 4),
}
