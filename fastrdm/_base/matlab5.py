"""Reading of MATLAB files before v7.3, with scipy."""

import struct
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

MATLAB_NUMERIC = frozenset(
    {"double", "single", "logical"} | {f"{u}int{n}" for u in ("", "u") for n in (8, 16, 32, 64)}
)

_MI_MATRIX = 14
_MI_NUMERIC = frozenset({1, 2, 3, 4, 5, 6, 7, 9, 12, 13})
_MI_TEXT = frozenset({16, 17, 18})
_MX_CELL, _MX_STRUCT, _MX_CHAR = 1, 2, 4
_MX_NUMERIC = range(6, 16)
_MAX_DEPTH = 16


def list_matlab5(path: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """Return the shape and MATLAB's class of each variable, by name."""
    from scipy.io import whosmat

    _check(path.read_bytes())
    return {name: (tuple(shape), kind) for name, shape, kind in whosmat(path, appendmat=False)}


def read_matlab5(path: Path, names: list[str]) -> dict[str, NDArray[Any]]:
    """Read variables as `scipy.io.loadmat` does: structs and cells are arrays of objects."""
    from scipy.io import loadmat

    arrays = loadmat(path, appendmat=False, variable_names=names)
    return {name: arrays[name] for name in names}


def _check(content: bytes) -> None:
    """Check the types of the numbers in a MATLAB v5 file.

    scipy 1.17 looks up a type in a table without a bounds check, so that a damaged type, such as
    zeros after an interrupted download, crashes the process. Compressed data have a checksum.
    """
    order = {b"IM": "<", b"MI": ">"}.get(content[126:128])
    at = 128
    while order is not None and at + 8 <= len(content):
        kind, start, end = _element(content, at, order)
        if kind == _MI_MATRIX and end > start:
            _check_matrix(content, start, min(end, len(content)), order, 0)
        at = end


def _check_matrix(content: bytes, start: int, end: int, order: str, depth: int) -> None:
    """Check a matrix: array flags, dimensions and name, then numbers, or the matrices of cells and fields."""
    if depth > _MAX_DEPTH:
        raise ValueError(f"it holds arrays nested more than {_MAX_DEPTH} deep")
    (flags,) = struct.unpack_from(f"{order}I", content, start + 8)
    kind = flags & 0xFF
    if kind in (_MX_CELL, _MX_STRUCT):
        part = start
        # A struct has the length of its fields' names, and the names, before the fields.
        for _ in range(3 if kind == _MX_CELL else 5):
            _, _, part = _next(content, part, start, order)
        while part + 8 <= end:
            inner, first, after = _element(content, part, order)
            if inner == _MI_MATRIX and after > first:
                _check_matrix(content, first, min(after, end), order, depth + 1)
            part = after
        return
    # Complex arrays have imaginary numbers in addition.
    n_parts = 4 + (flags >> 11 & 1) if kind in _MX_NUMERIC or kind == _MX_CHAR else 0
    allowed = _MI_NUMERIC | _MI_TEXT if kind == _MX_CHAR else _MI_NUMERIC
    part = start
    for i in range(n_parts):
        inner, _, part = _next(content, part, start, order)
        if i >= 3 and inner not in allowed:
            what = "text" if kind == _MX_CHAR else "numbers"
            raise ValueError(f"it holds {what} of unknown type {inner}")


def _next(content: bytes, at: int, start: int, order: str) -> tuple[int, int, int]:
    """As `_element`, with the end at the next multiple of eight bytes."""
    kind, first, end = _element(content, at, order)
    return kind, first, end + (start - end) % 8


def _element(content: bytes, at: int, order: str) -> tuple[int, int, int]:
    """Return type, start and end of the data element with its tag at `at`."""
    kind, size = struct.unpack_from(f"{order}II", content, at)
    # Up to four bytes are packed into the tag itself.
    return (kind & 0xFFFF, at + 4, at + 8) if kind >> 16 else (kind, at + 8, at + 8 + size)
