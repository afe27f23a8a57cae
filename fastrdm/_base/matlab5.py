"""Reading of MATLAB files before v7.3.

Versions 5 to 7 are read here: scipy 1.17 looks up the types of numbers in a table without a bounds check, so that a
damaged type crashes the process, and makes arrays as large as a file announces. The results are those of
`scipy.io.loadmat`. Version 4 is left to scipy, after its sizes are checked.
"""

import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base.expansion import check_expansion
from fastrdm._base.matlab4 import list_matlab4, read_matlab4

MATLAB_NUMERIC = frozenset(
    {"double", "single", "logical"} | {f"{u}int{n}" for u in ("", "u") for n in (8, 16, 32, 64)}
)

_MI_INT8, _MI_UINT8, _MI_INT32, _MI_UINT32 = 1, 2, 5, 6
_MI_MATRIX, _MI_COMPRESSED, _MI_UTF8 = 14, 15, 16
_NUMBERS = {
    **{1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4"},
    **{7: "f4", 9: "f8", 12: "i8", 13: "u8"},
}
_CODECS = {_MI_UTF8: "utf-8", 17: "utf-16", 18: "utf-32"}
_CLASSES = (
    *("", "cell", "struct", "object", "char", "sparse", "double", "single"),
    *("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"),
    *("function", "opaque"),
)
_LOGICAL, _COMPLEX = 0x200, 0x800
_MAX_DEPTH = 16
_MAX_AXES = 32
# Enough for the flags, dimensions and name of a variable.
_HEAD = 4096


def list_matlab5(path: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """Return the shape and MATLAB's class of each variable, by name."""
    content = path.read_bytes()
    order = _byte_order(content)
    if not order:
        return list_matlab4(path)
    found = {}
    for element in _variables(content, order):
        header = _Header.of(_Element(element.head(content), order))
        if header.name:
            # The last axis of text is that of the letters.
            shape = header.shape[:-1] if header.kind == "char" else header.shape
            found[header.name] = (shape, header.kind)
    return found


def read_matlab5(path: Path, name: str) -> NDArray[Any]:
    """Read a variable as `scipy.io.loadmat` does: structs and cells are arrays of objects."""
    content = path.read_bytes()
    order = _byte_order(content)
    if not order:
        return read_matlab4(path, name)
    # Of equal names, the last counts.
    chosen = None
    for element in _variables(content, order):
        if _Header.of(_Element(element.head(content), order)).name == name:
            chosen = element
    if chosen is None:
        raise ValueError(f"it holds no variable {name}")
    return _read(_Element(chosen.content(content), order), 0)


def _byte_order(content: bytes) -> str:
    """The byte order of a file since version 5, for `struct`; empty for version 4."""
    return {b"IM": "<", b"MI": ">"}.get(content[126:128], "")


@dataclass(frozen=True)
class _Variable:
    """The place of a variable in a file; the tag of a compressed one is inside."""

    start: int
    end: int
    order: str
    is_compressed: bool

    def head(self, content: bytes) -> bytes:
        """The beginning of the variable."""
        if not self.is_compressed:
            return content[self.start : min(self.end, self.start + _HEAD)]
        return _inflated(content, self.start, self.end, _HEAD + 8)[8:]

    def content(self, content: bytes) -> bytes | memoryview:
        """The whole variable."""
        if not self.is_compressed:
            return memoryview(content)[self.start : self.end]
        tag = _inflated(content, self.start, self.end, 8)
        size = struct.unpack(f"{self.order}II", tag)[1] + 8
        check_expansion(size, self.end - self.start, "a compressed variable")
        stream = zlib.decompressobj()
        found = stream.decompress(memoryview(content)[self.start : self.end], size)
        # The checksum follows the last byte.
        if len(found) != size or stream.decompress(stream.unconsumed_tail, 1) or not stream.eof:
            raise ValueError(f"a compressed variable does not end after {size} bytes")
        return found[8:]


def _inflated(content: bytes, start: int, end: int, size: int) -> bytes:
    return zlib.decompressobj().decompress(memoryview(content)[start:end], size)


def _variables(content: bytes, order: str) -> Iterator[_Variable]:
    at = 128
    while at + 8 <= len(content):
        kind, size = struct.unpack_from(f"{order}II", content, at)
        at += 8
        if at + size > len(content):
            raise ValueError(f"it ends within a variable of {size} bytes: truncated")
        is_compressed = kind == _MI_COMPRESSED
        inner = kind
        if is_compressed:
            tag = _inflated(content, at, at + size, 8)
            inner = struct.unpack(f"{order}II", tag)[0] if len(tag) == 8 else 0
        if inner != _MI_MATRIX:
            raise ValueError(f"it holds an element of type {inner}, which is not a variable")
        if size:
            yield _Variable(at, at + size, order, is_compressed)
        at += size


class _Element:
    """The content of a matrix, read part by part."""

    def __init__(self, content: bytes | memoryview, order: str) -> None:
        self._content, self.order, self._at = memoryview(content), order, 0

    @property
    def left(self) -> int:
        """Bytes that are left."""
        return len(self._content) - self._at

    def next(self) -> tuple[int, memoryview]:
        """The type and content of the next part."""
        kind, size = struct.unpack_from(f"{self.order}II", self._content, self._at)
        first = self._at + 8
        # Up to four bytes are packed into the tag itself.
        if kind >> 16:
            kind, size, first = kind & 0xFFFF, kind >> 16, self._at + 4
            if size > 4:
                raise ValueError(f"it holds a small element of {size} bytes")
        end = first + size
        if end > len(self._content):
            raise ValueError(f"it ends within an element of {size} bytes: truncated")
        # Matrices have no padding; that of the last part of all may be missing.
        after = max(end, self._at + 8)
        self._at = after if kind == _MI_MATRIX else min(after + -after % 8, len(self._content))
        return kind, self._content[first:end]

    def numbers(self, kinds: tuple[int, ...] = tuple(_NUMBERS)) -> NDArray[Any]:
        """The next part as numbers."""
        kind, content = self.next()
        if kind not in kinds:
            raise ValueError(f"it holds numbers of unknown type {kind}")
        return np.frombuffer(content, f"{self.order}{_NUMBERS[kind]}")

    def text(self) -> str:
        """The next part as the name of something."""
        kind, content = self.next()
        if kind not in (_MI_INT8, _MI_UINT8, _MI_UTF8):
            raise ValueError(f"it holds a name of unknown type {kind}")
        return bytes(content).decode("utf-8" if kind == _MI_UTF8 else "latin1")


@dataclass(frozen=True)
class _Header:
    """What precedes the values of a matrix."""

    kind: str
    is_complex: bool
    shape: tuple[int, ...]
    name: str

    @classmethod
    def of(cls, element: _Element) -> "_Header":
        """Read flags, dimensions and name; objects of newer classes have other headers."""
        flags = int(element.numbers((_MI_UINT32,)).item(0))
        if flags & 0xFF >= len(_CLASSES) or not flags & 0xFF:
            raise ValueError(f"it holds an array of unknown class {flags & 0xFF}")
        kind = _CLASSES[flags & 0xFF]
        if kind == "opaque":
            return cls(kind, False, (), element.text())
        shape = tuple(int(n) for n in element.numbers((_MI_INT32, _MI_UINT32)))
        if len(shape) > _MAX_AXES or min(shape, default=0) < 0:
            raise ValueError(f"it holds an array of shape {shape[:_MAX_AXES]}")
        kind = "logical" if flags & _LOGICAL and kind in MATLAB_NUMERIC else kind
        return cls(kind, bool(flags & _COMPLEX), shape, element.text())


def _read(element: _Element, depth: int) -> NDArray[Any]:
    """Read a matrix."""
    if depth > _MAX_DEPTH:
        raise ValueError(f"it holds arrays nested more than {_MAX_DEPTH} deep")
    header = _Header.of(element)
    if header.kind in MATLAB_NUMERIC:
        value = element.numbers()
        if header.is_complex:
            value = value + 1j * element.numbers()
        return _shaped(value, header)
    if header.kind == "char":
        return _joined(_shaped(_characters(element), header))
    if header.kind in ("cell", "struct", "object"):
        return _nested(element, header, depth)
    if header.kind == "sparse":
        raise ValueError(f"{header.name} is a sparse matrix; save full(…) of it")
    raise ValueError(f"{header.name} is of MATLAB's class {header.kind}, which is not read")


def _shaped(value: NDArray[Any], header: _Header) -> NDArray[Any]:
    if value.size != math.prod(header.shape):
        raise ValueError(
            f"it announces an array of shape {header.shape}, but holds {value.size} values"
        )
    # A copy, which the caller may change.
    return value.reshape(header.shape, order="F").copy(order="F")


def _characters(element: _Element) -> NDArray[Any]:
    kind, content = element.next()
    if kind in _CODECS:
        codec = _CODECS[kind]
        if kind != _MI_UTF8:
            codec += "-le" if element.order == "<" else "-be"
        text = bytes(content).decode(codec, "replace")
    elif kind in _NUMBERS and kind < _MI_INT32:
        units = np.frombuffer(content, f"{element.order}{_NUMBERS[kind]}")
        text = units.astype("<u2").tobytes().decode("utf-16-le", "replace")
    else:
        raise ValueError(f"it holds text of unknown type {kind}")
    return np.array(list(text), "U1")


def _joined(letters: NDArray[Any]) -> NDArray[Any]:
    """Join the letters of each row, the last axis."""
    if not letters.ndim or not letters.size:
        return np.zeros(letters.shape[:-1] if letters.size else (0,), "U1")
    rows = np.ascontiguousarray(letters).view(f"U{letters.shape[-1]}")
    return rows.reshape(letters.shape[:-1])


def _nested(element: _Element, header: _Header, depth: int) -> NDArray[Any]:
    """Read a cell array, or a struct as an array with named fields."""
    if header.kind == "object":
        # The name of the class.
        element.text()
    is_cell = header.kind == "cell"
    fields = [] if is_cell else _fields(element)
    count, per_element = math.prod(header.shape), 1 if is_cell else len(fields)
    # Each member has a tag of eight bytes.
    if 8 * count * per_element > element.left or count > element.left + _HEAD:
        raise ValueError(
            f"it announces {count} elements of shape {header.shape} in {element.left} bytes"
        )
    values = np.empty(count, object if is_cell else [(field, object) for field in fields])
    for i in range(count):
        if is_cell:
            values[i] = _member(element, depth)
        for field in fields:
            values[field][i] = _member(element, depth)
    return values.reshape(header.shape, order="F")


def _fields(element: _Element) -> list[str]:
    """The names of a struct's fields, all stored in the same number of bytes."""
    (length,) = element.numbers((_MI_INT32,)).tolist()
    names = element.numbers((_MI_INT8, _MI_UINT8)).tobytes()
    if length <= 0 or len(names) % length:
        raise ValueError(f"it holds names of fields of {length} bytes each")
    fields = [
        names[at : at + length].partition(b"\0")[0].decode("latin1")
        for at in range(0, len(names), length)
    ]
    if len(set(fields)) < len(fields) or not all(fields):
        raise ValueError("it holds a struct with two fields of one name, or with one of none")
    return fields


def _member(element: _Element, depth: int) -> NDArray[Any]:
    kind, content = element.next()
    if kind != _MI_MATRIX:
        raise ValueError(f"it holds an element of type {kind} in place of an array")
    if not content:
        return np.zeros((1, 0))
    return _read(_Element(content, element.order), depth + 1)
