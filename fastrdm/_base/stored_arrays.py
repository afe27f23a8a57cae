"""Arrays in `.npy`, `.npz` and HDF5 files that are read in parts, so that they may be larger than the memory."""

import contextlib
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base.contents import NUMBERS, TEXT, open_contents, read_head
from fastrdm._base.extras import MissingExtraError
from fastrdm._base.hdf5 import Hdf5File, is_hdf5
from fastrdm._base.numpy_files import (
    UNNAMED,
    NpyHeader,
    check_members,
    load_member,
    load_npy,
    map_numbers,
    read_header,
)
from fastrdm._base.text import first_line

_FORMATS = ".npy, .npz and .h5"
# Kinds of NumPy's types.
_NUMBERS = "biufc"


@dataclass(frozen=True)
class StoredArray:
    """An array of numbers in a file: its shape and type, and `read`, which returns the part that a key selects.

    `chunk` is the number of elements along each axis that are stored together.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[tuple[slice, ...]], NDArray[Any]] = field(repr=False)
    chunk: tuple[int, ...] | None = None


@dataclass(frozen=True)
class StoredArrays:
    """The arrays of numbers of a file by name, and what it holds of text: arrays, and attributes of HDF5."""

    path: Path
    arrays: Mapping[str, StoredArray]
    texts: Mapping[str, Any]


def open_arrays(path: str | Path) -> StoredArrays:
    """List the arrays of numbers in a `.npy`, `.npz` or HDF5 file, and read its text.

    FileNotFoundError if the file does not exist; ValueError if it is a folder, empty, damaged or of another format.
    """
    path = Path(path)
    head = read_head(path)
    if head.startswith(b"\x93NUMPY"):
        name, listing = "a .npy file", _list_npy
    elif head.startswith(b"PK"):
        name, listing = "a .npz file", _list_npz
    elif is_hdf5(head):
        name, listing = "an HDF5 file", _list_hdf5
    else:
        raise ValueError(f"{path} is not a file of arrays that is read in parts: {_FORMATS}")
    with _reading(path, name):
        return listing(path)


@contextlib.contextmanager
def _reading(path: Path, name: str) -> Iterator[None]:
    try:
        yield
    except MissingExtraError:
        raise
    # h5py and zlib raise a dozen types of errors for damaged files.
    except Exception as error:
        raise ValueError(f"{path} cannot be read as {name}: {first_line(error)}") from error


def _list_npy(path: Path) -> StoredArrays:
    with path.open("rb") as file:
        header = read_header(file, path.stat().st_size)
    if header.dtype.kind in _NUMBERS:
        return StoredArrays(path, {UNNAMED: _of_array(map_numbers(path, header))}, {})
    # Records and pickled dicts.
    values = load_npy(path)
    arrays = {name: _of_array(each) for name, each in values.items() if _is_numeric(each)}
    return StoredArrays(path, arrays, {n: v for n, v in values.items() if not _is_numeric(v)})


def _is_numeric(array: NDArray[Any]) -> bool:
    return array.dtype.kind in _NUMBERS


def _of_array(array: NDArray[Any]) -> StoredArray:
    return StoredArray(array.shape, array.dtype, lambda part: np.asarray(array[part]))


def _list_npz(path: Path) -> StoredArrays:
    arrays: dict[str, StoredArray] = {}
    texts: dict[str, Any] = {}
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        for member in members:
            name = member.filename.removesuffix(".npy")
            check_members([member], path.stat().st_size)
            with archive.open(member) as file:
                header = read_header(file, member.file_size)
            if header.dtype.kind not in _NUMBERS:
                texts[name] = np.asarray(load_member(archive, member))
            elif member.compress_type == zipfile.ZIP_STORED:
                arrays[name] = _of_array(map_numbers(path, header, _start_of(path, member)))
            else:
                arrays[name] = _compressed(path, member, header)
    return StoredArrays(path, arrays, texts)


def read_members(path: Path, names: Sequence[str], part: tuple[slice, ...]) -> list[NDArray[Any]]:
    """Read a part of each of several arrays of a `.npz` file, which is opened once."""
    found = []
    with _reading(path, "a .npz file"), zipfile.ZipFile(path) as archive:
        held = path.stat().st_size
        for name in names:
            member = archive.getinfo(f"{name}.npy")
            check_members([member], held)
            found.append(np.asarray(load_member(archive, member)[part]))
    return found


def _start_of(path: Path, member: zipfile.ZipInfo) -> int:
    """Return where the data of a member begin."""
    with path.open("rb") as file:
        # The header before the data may have other extra fields than the directory.
        file.seek(member.header_offset + 26)
        n_name, n_extra = struct.unpack("<HH", file.read(4))
    return member.header_offset + 30 + int(n_name) + int(n_extra)


def _compressed(path: Path, member: zipfile.ZipInfo, header: NpyHeader) -> StoredArray:
    """Return an array that is inflated as a whole whenever it is read."""

    def read(part: tuple[slice, ...]) -> NDArray[Any]:
        with _reading(path, "a .npz file"), zipfile.ZipFile(path) as archive:
            return np.asarray(load_member(archive, member)[part])

    return StoredArray(header.shape, header.dtype, read, header.shape)


def _list_hdf5(path: Path) -> StoredArrays:
    arrays: dict[str, StoredArray] = {}
    contents = open_contents(path)
    with Hdf5File(path) as file:
        if file.is_matlab:
            raise ValueError("it is a file of MATLAB, which is not read in parts")
        for key, entry in contents.entries.items():
            if entry.kind == NUMBERS:
                item = file.find(key)
                read = partial(_read_part, path, key)
                arrays[key] = StoredArray(item.shape, item.dtype, read, item.chunks)
        attributes = file.attributes("")
    texts = {k: contents.read(k) for k, e in contents.entries.items() if e.kind == TEXT}
    return StoredArrays(path, arrays, attributes | texts)


def _read_part(path: Path, key: str, part: tuple[slice, ...]) -> NDArray[Any]:
    with _reading(path, "an HDF5 file"), Hdf5File(path, is_matlab=False) as file:
        return np.asarray(file.part(file.find(key), part))
