"""The file of a target, which processes map.

It consists of `_MAGIC`, the length and the checksum of the header as eight hexadecimal digits each, the header, and
the bytes of the arrays, each at a multiple of `_ALIGNMENT`. The header holds the checksum of those bytes.
"""

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import new_file

_MAGIC = b"fastrdm target\n"
_VERSION = 2
_ALIGNMENT = 64


@dataclass(frozen=True)
class TargetFile:
    """A file that was read, and the checksum of its arrays."""

    path: str
    checksum: int


def write_target_file(
    path: Path, arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]
) -> None:
    """Write arrays and facts; the file appears when it is complete."""
    header, body = _pack(arrays, facts)
    with new_file(path) as file:
        for part in (header, *body):
            file.write(part)


def _pack(
    arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]
) -> tuple[bytes, list[bytes | memoryview]]:
    body: list[bytes | memoryview] = []
    entries, checksum, offset = {}, 0, 0
    for name, array in arrays.items():
        array = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        padding = bytes(-array.nbytes % _ALIGNMENT)
        entries[name] = {"dtype": array.dtype.str, "shape": array.shape, "offset": offset}
        for part in (array.reshape(-1).view(np.uint8).data, padding):
            body.append(part)
            checksum = zlib.crc32(part, checksum)
            offset += len(part)
    facts = {"arrays": entries, "size": offset, "checksum": checksum, **facts}
    text = json.dumps({"version": _VERSION, **facts}).encode()
    before = len(_MAGIC) + 17
    text += b" " * (-(before + len(text)) % _ALIGNMENT)
    return _MAGIC + b"%08x%08x\n" % (len(text), zlib.crc32(text)) + text, body


def read_target_file(path: Path) -> tuple[TargetFile, dict[str, Any], dict[str, NDArray[Any]]]:
    """Return the file, the facts of its header, and its arrays, mapped; errors as in `Target.load`."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not a file")
    damaged = ValueError(f"{path} is damaged or incomplete")
    with path.open("rb") as file:
        head = file.read(len(_MAGIC) + 17)
        if not head.startswith(_MAGIC):
            raise ValueError(f"{path} is not a target that fastrdm saved")
        try:
            size, checksum = (int(head[len(_MAGIC) + at :][:8], 16) for at in (0, 8))
        except ValueError:
            raise damaged from None
        text = file.read(size)
    if len(text) != size or zlib.crc32(text) != checksum:
        raise damaged
    facts = json.loads(text)
    if facts["version"] > _VERSION:
        raise ValueError(
            f"{path} was saved by a later fastrdm, in version {facts['version']} of the format; this one reads versions"
            f" up to {_VERSION}"
        )
    begin = len(head) + size
    if path.stat().st_size != begin + facts["size"]:
        raise ValueError(
            f"{path} is damaged or incomplete: it has {path.stat().st_size} bytes instead of {begin + facts['size']}"
        )
    mapped = np.memmap(path, np.uint8, "r", begin)
    if zlib.crc32(mapped.data) != facts["checksum"]:
        raise ValueError(f"{path} is damaged: the checksum of its arrays differs")
    arrays = {}
    for name, entry in facts["arrays"].items():
        kind, shape = np.dtype(entry["dtype"]), tuple(entry["shape"])
        part = mapped[entry["offset"] : entry["offset"] + int(np.prod(shape)) * kind.itemsize]
        arrays[name] = np.asarray(part.view(kind).reshape(shape))
    return TargetFile(str(path.resolve()), facts["checksum"]), facts, arrays
