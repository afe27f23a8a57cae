"""Files in which an ONNX file keeps tensors: their names, and the check that they are regular files below its folder.

A graph can keep any of its tensors in other files, by a name and an offset. These files belong to the hash and the
stamp of a checkpoint, so `external_locations` finds their names without the package onnx, and reads no weights.
"""

import functools
import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PureWindowsPath
from typing import TypeAlias

from fastrdm._base import leaves_folder, open_regular
from fastrdm.networks.errors import WeightsError

# In each kind of message, the fields that can hold tensors, by ONNX's numbers of fields.
INNER_FIELDS = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: "TensorProto",
        6: "GraphProto",
        10: "TensorProto",
        11: "GraphProto",
        22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "TensorProto": {13: "StringStringEntryProto"},
    "StringStringEntryProto": {},
}
_DATA_LOCATION, _EXTERNAL = 14, 1
_KEY, _VALUE = 1, 2
_LOCATION = b"location"
# protobuf's kinds of encoding.
_VARINT, _FIXED64, _BYTES, _GROUP, _END_GROUP, _FIXED32 = range(6)
# Smaller messages are searched for the word before they are taken apart.
_SMALL = 4096
_CHUNK = 2**13
# Only messages that can hold tensors are taken apart: 3,000 fields of a ResNet-152.
_MAX_FIELDS = 1_000_000
# No system opens files with longer names.
_LONGEST_NAME = 2**16
# A file that changes within the resolution of its time may keep its stamp.
_RECENT_S = 2.0

# Returns bytes from a position.
_Read: TypeAlias = Callable[[int, int], bytes]
# Number, kind of encoding, value of a varint, and where the content begins and ends.
_Field: TypeAlias = tuple[int, int, int, int, int]


class NotOnnxError(ValueError):
    """Bytes are not those of an ONNX model."""


def is_inside(name: str) -> bool:
    """Whether a relative name is that of a file below a folder, on any system; links are not followed."""
    return bool(PureWindowsPath(name).parts) and not leaves_folder(name)


def external_files(path: Path) -> list[Path]:
    """The files in which an ONNX file keeps tensors, sorted; they may be missing.

    A file that is not an ONNX model has none. Raise WeightsError as `external_file` does.
    """
    try:
        found = os.stat(path)  # noqa: PTH116
        if not stat.S_ISREG(found.st_mode):
            return []
        is_recent = abs(time.time() - found.st_mtime) < _RECENT_S
        known = _locations.__wrapped__ if is_recent else _locations
        names = known(str(path), found.st_size, found.st_mtime_ns, found.st_ino)
    except (OSError, NotOnnxError):
        return []
    return sorted({external_file(path, name) for name in names})


def external_file(path: Path, location: str) -> Path:
    """The file of a location in an ONNX file.

    Raise WeightsError if the location or a link leads outside the folder of the ONNX file, or if there is something
    else than a regular file.
    """
    if not is_inside(location):
        raise WeightsError(f"{path} refers to weights outside its folder: {location!r}")
    file = path.parent / location
    real, folder = (Path(os.path.realpath(each)) for each in (file, path.parent))
    if not real.is_relative_to(folder):
        raise WeightsError(
            f"{path} refers to weights outside its folder: {location!r} is a link to {real}; copy the file there"
        )
    if os.path.lexists(real) and not os.path.isfile(real):  # noqa: PTH113
        raise WeightsError(f"{file} is not a regular file, and {path} refers to it for its weights")
    return file


@functools.lru_cache(maxsize=2**16)
def _locations(path: str, size: int, mtime_ns: int, inode: int) -> tuple[str, ...]:
    with open_regular(path) as file:
        return external_locations(_reader(file.fileno()), size)


def external_locations(read: _Read, size: int) -> tuple[str, ...]:
    """Names of the files to which the tensors of an ONNX model refer, anywhere in it.

    `read` returns so many bytes from a position, of `size` in total. Raise NotOnnxError if they are not a model.
    """
    found: set[bytes] = set()
    waiting = [("ModelProto", 0, size)]
    n_fields = 0
    while waiting:
        kind, start, end = waiting.pop()
        locations, is_external = set(), False
        for number, encoding, value, first, last in _fields(read, start, end):
            n_fields += 1
            if n_fields > _MAX_FIELDS:
                raise NotOnnxError(f"it has more than {_MAX_FIELDS} fields")
            inner = INNER_FIELDS[kind].get(number) if encoding == _BYTES else None
            if kind == "TensorProto" and (number, encoding) == (_DATA_LOCATION, _VARINT):
                is_external |= value & 0xFFFFFFFF == _EXTERNAL
            elif inner == "StringStringEntryProto":
                locations |= _entry(read, first, last)
            elif inner and (last - first > _SMALL or _LOCATION in read(first, last - first)):
                waiting.append((inner, first, last))
        found |= locations if is_external else set()
    return tuple(sorted(os.fsdecode(name) for name in found))


def _entry(read: _Read, start: int, end: int) -> set[bytes]:
    """The values of an entry whose key is the one of locations."""
    texts: dict[int, list[bytes]] = {_KEY: [], _VALUE: []}
    for number, encoding, _, first, last in _fields(read, start, end):
        if encoding == _BYTES and number in texts:
            texts[number].append(read(first, min(last - first, _LONGEST_NAME)))
    return set(texts[_VALUE] or [b""]) if _LOCATION in texts[_KEY] else set()


def _fields(read: _Read, start: int, end: int) -> Iterator[_Field]:
    """Yield the fields of a message, without those in groups, which ONNX does not have."""
    depth = 0
    while start < end:
        tag, start = _varint(read, start, end)
        number, encoding = tag >> 3, tag & 7
        value, first = 0, start
        if encoding == _VARINT:
            value, start = _varint(read, start, end)
        elif encoding == _BYTES:
            length, first = _varint(read, start, end)
            start = first + length
        elif encoding in (_FIXED32, _FIXED64):
            start += 4 if encoding == _FIXED32 else 8
        elif encoding in (_GROUP, _END_GROUP):
            depth += 1 if encoding == _GROUP else -1
        else:
            raise NotOnnxError(f"it has a field of the unknown encoding {encoding}")
        if start > end or depth < 0:
            raise NotOnnxError("a field ends after its message")
        # protobuf does not check the numbers in groups that it does not know.
        if not depth:
            if not number:
                raise NotOnnxError("a field has the number 0")
            yield number, encoding, value, first, start
    if depth:
        raise NotOnnxError("a group has no end")


def _varint(read: _Read, start: int, end: int) -> tuple[int, int]:
    """A number in groups of seven bits, and the position after it."""
    value = 0
    for i, byte in enumerate(read(start, min(10, end - start))):
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            return value, start + i + 1
    raise NotOnnxError("a number has no end")


def _reader(descriptor: int) -> _Read:
    """A function that reads a file in chunks; a file that is truncated meanwhile has fewer bytes."""
    position, chunk = 0, b""

    def read(start: int, n: int) -> bytes:
        nonlocal position, chunk
        if not position <= start <= start + n <= position + len(chunk):
            os.lseek(descriptor, start, os.SEEK_SET)
            position, chunk = start, os.read(descriptor, max(n, _CHUNK))
        return chunk[start - position : start - position + n]

    return read
