"""Files of named arrays and facts, which processes map.

A file consists of the magic of its format, the length and the checksum of the header as eight hexadecimal digits each,
the header, and the bytes of the arrays, each at a multiple of `_ALIGNMENT` bytes of the file. The header is a JSON
object: the version of the format, the size and the checksum of the arrays, the type, shape and offset of each array,
and facts. Nothing of it is trusted before it has been checked; the caller checks what it means.
"""

import itertools
import json
import math
import zlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeGuard

import numpy as np
from numpy.typing import NDArray

from fastrdm._base.files import new_file

#: The content of a file, in order.
Blocks: TypeAlias = list[bytes | memoryview]

_ALIGNMENT = 64


def write_blocks(path: Path, blocks: Blocks) -> None:
    """Write the content of a file, which appears when it is complete."""
    with new_file(path) as file:
        for block in blocks:
            file.write(block)


def damaged(path: Path, problem: str) -> ValueError:
    """Return the error of a file that cannot be right."""
    return ValueError(f"{path} is damaged: {problem}")


@dataclass(frozen=True)
class ArrayFormat:
    """A format of files: `name` is that of its files in messages, `version` the latest.

    `axes` are the numbers of axes of the arrays, `types` those that they may have. `missing` returns what a file with
    some of them lacks.
    """

    magic: bytes
    name: str
    version: int
    axes: Mapping[str, int]
    types: tuple[str, ...]
    missing: Callable[[Collection[str]], str]

    def pack(self, arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]) -> Blocks:
        """Return the content of a file of these arrays and facts."""
        body: Blocks = []
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
        text = json.dumps({"version": self.version, **facts}).encode()
        before = len(self.magic) + 17
        text += b" " * (-(before + len(text)) % _ALIGNMENT)
        return [self.magic + b"%08x%08x\n" % (len(text), zlib.crc32(text)) + text, *body]

    def read(self, path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return the facts of the header, with the checksum of the arrays, and the arrays, mapped.

        FileNotFoundError if there is no such file; ValueError if it is damaged or of another format.
        """
        if not path.is_file():
            raise FileNotFoundError(f"{path} is not a file")
        facts, begin = self._read_header(path)
        entries = self._checked_entries(path, facts, begin)
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
        return facts, arrays

    def _read_header(self, path: Path) -> tuple[dict[str, Any], int]:
        """Return the facts of a header whose checksum and version fit, and where the arrays begin."""
        incomplete = ValueError(f"{path} is damaged or incomplete")
        with path.open("rb") as file:
            head = file.read(len(self.magic) + 17)
            if not head.startswith(self.magic):
                raise ValueError(f"{path} is not {self.name} that fastrdm saved")
            try:
                size, checksum = (int(head[len(self.magic) + at :][:8], 16) for at in (0, 8))
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
        if version > self.version:
            raise ValueError(
                f"{path} was saved by a later fastrdm, in version {version} of the format; this one reads versions"
                f" up to {self.version}"
            )
        return facts, len(head) + size

    def _checked_entries(
        self, path: Path, facts: Mapping[str, Any], begin: int
    ) -> dict[str, tuple[np.dtype[Any], tuple[int, ...], int, int]]:
        """Return type, shape, begin and end of each array; ValueError for arrays that the file cannot hold."""
        size, entries = facts.get("size"), facts.get("arrays")
        if not _is_count(size) or not _is_count(facts.get("checksum")):
            raise damaged(path, "its header lacks the size or the checksum of the arrays")
        if not isinstance(entries, dict) or not entries.keys() <= self.axes.keys():
            raise damaged(path, f"its header does not list the arrays {', '.join(self.axes)}")
        if missing := self.missing(entries.keys()):
            raise damaged(path, f"its header does not list {missing}")
        checked: dict[str, tuple[np.dtype[Any], tuple[int, ...], int, int]] = {}
        for name, entry in entries.items():
            found = entry if isinstance(entry, dict) else {}
            kind, shape, start = found.get("dtype"), found.get("shape"), found.get("offset")
            if kind not in self.types:
                raise damaged(
                    path, f"the type of {name} is {kind!r} instead of {' or '.join(self.types)}"
                )
            if not isinstance(shape, list) or not all(
                _is_count(length, least=1) for length in shape
            ):
                raise damaged(
                    path, f"the shape of {name} is {shape!r}, not a list of positive integers"
                )
            if len(shape) != self.axes[name]:
                raise damaged(path, f"{name} has {len(shape)} axes instead of {self.axes[name]}")
            if not _is_count(start) or (begin + start) % _ALIGNMENT:
                raise damaged(
                    path, f"the offset of {name} is {start!r}, not a multiple of {_ALIGNMENT}"
                )
            end = start + math.prod(shape) * np.dtype(kind).itemsize
            if end > size:
                raise damaged(
                    path, f"{name} with shape {tuple(shape)} at {start} ends after the file"
                )
            checked[name] = np.dtype(kind), tuple(shape), start, end
        places = sorted((start, end, name) for name, (_, _, start, end) in checked.items())
        for (_, end, first), (start, _, second) in itertools.pairwise(places):
            if start < end:
                raise damaged(path, f"the arrays {first} and {second} overlap")
        return checked


def _is_count(value: object, least: int = 0) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
