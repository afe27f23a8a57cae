"""The file of a target, which processes map.

It consists of `_MAGIC`, the length and the checksum of the header as eight hexadecimal digits each, the header, and
the bytes of the arrays, each at a multiple of `_ALIGNMENT` bytes of the file. The header is a JSON object: the version
of the format, the size and the checksum of the arrays, the type, shape and offset of each array, and the facts of the
target. Nothing of it is trusted before it has been checked; `target_contents` checks what it means.
"""

import itertools
import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import new_file

_MAGIC = b"fastrdm target\n"
_VERSION = 4
_ALIGNMENT = 64
# Number of axes of each array.
_AXES = {"subjects": 3, "values": 2, "squares": 1}
_TYPES = ("<f4", "<f8")


@dataclass(frozen=True)
class TargetFile:
    """A file that was read, and the checksum of its arrays."""

    path: str
    checksum: int


def damaged(path: Path, problem: str) -> ValueError:
    """Return the error of a file that cannot be right."""
    return ValueError(f"{path} is damaged: {problem}")


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
    facts, begin = _read_header(path)
    entries = _checked_entries(path, facts, begin)
    found, expected = path.stat().st_size, begin + facts["size"]
    if found != expected:
        raise ValueError(
            f"{path} is damaged or incomplete: it has {found} bytes instead of {expected}"
        )
    mapped = np.memmap(path, np.uint8, "r", begin)
    if zlib.crc32(mapped.data) != facts["checksum"]:
        raise damaged(path, "the checksum of its arrays differs")
    arrays = {}
    for name, (kind, shape, start, end) in entries.items():
        arrays[name] = np.asarray(mapped[start:end].view(kind).reshape(shape))
    return TargetFile(str(path.resolve()), facts["checksum"]), facts, arrays


def _read_header(path: Path) -> tuple[dict[str, Any], int]:
    """Return the facts of a header whose checksum and version fit, and where the arrays begin."""
    incomplete = ValueError(f"{path} is damaged or incomplete")
    with path.open("rb") as file:
        head = file.read(len(_MAGIC) + 17)
        if not head.startswith(_MAGIC):
            raise ValueError(f"{path} is not a target that fastrdm saved")
        try:
            size, checksum = (int(head[len(_MAGIC) + at :][:8], 16) for at in (0, 8))
        except ValueError:
            raise incomplete from None
        if not 0 <= size <= path.stat().st_size:
            raise incomplete
        text = file.read(size)
    if len(text) != size or zlib.crc32(text) != checksum:
        raise incomplete
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError):
        raise damaged(path, "its header is not JSON") from None
    version = facts.get("version") if isinstance(facts, dict) else None
    if not _is_count(version, least=1):
        raise damaged(path, "its header has no version")
    if version > _VERSION:
        raise ValueError(
            f"{path} was saved by a later fastrdm, in version {version} of the format; this one reads versions"
            f" up to {_VERSION}"
        )
    return facts, len(head) + size


def _checked_entries(
    path: Path, facts: Mapping[str, Any], begin: int
) -> dict[str, tuple[np.dtype[Any], tuple[int, ...], int, int]]:
    """Return type, shape, begin and end of each array; ValueError for arrays that the file cannot hold as announced."""
    size, entries = facts.get("size"), facts.get("arrays")
    if not _is_count(size) or not _is_count(facts.get("checksum")):
        raise damaged(path, "its header lacks the size or the checksum of the arrays")
    if not isinstance(entries, dict) or set(entries) not in ({"subjects"}, set(_AXES)):
        raise damaged(
            path, f"its header does not list the arrays {', '.join(_AXES)}, or subjects alone"
        )
    checked: dict[str, tuple[np.dtype[Any], tuple[int, ...], int, int]] = {}
    for name, entry in entries.items():
        found = entry if isinstance(entry, dict) else {}
        kind, shape, start = found.get("dtype"), found.get("shape"), found.get("offset")
        if kind not in _TYPES:
            raise damaged(path, f"the type of {name} is {kind!r} instead of {' or '.join(_TYPES)}")
        if not isinstance(shape, list) or not all(_is_count(length, least=1) for length in shape):
            raise damaged(
                path, f"the shape of {name} is {shape!r}, not a list of positive integers"
            )
        if len(shape) != _AXES[name]:
            raise damaged(path, f"{name} has {len(shape)} axes instead of {_AXES[name]}")
        if not _is_count(start) or (begin + start) % _ALIGNMENT:
            raise damaged(
                path, f"the offset of {name} is {start!r}, not a multiple of {_ALIGNMENT}"
            )
        end = start + math.prod(shape) * np.dtype(kind).itemsize
        if end > size:
            raise damaged(path, f"{name} with shape {tuple(shape)} at {start} ends after the file")
        checked[name] = np.dtype(kind), tuple(shape), start, end
    places = sorted((start, end, name) for name, (_, _, start, end) in checked.items())
    for (_, end, first), (start, _, second) in itertools.pairwise(places):
        if start < end:
            raise damaged(path, f"the arrays {first} and {second} overlap")
    return checked


def _is_count(value: object, least: int = 0) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
