"""Reading of MATLAB files of version 4 with scipy, after a check of the sizes that they announce."""

import struct
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

# Bytes of a number, by the digit of its type.
_SIZES = (8, 4, 4, 2, 2, 1)
_SPARSE = 2


def list_matlab4(path: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """Return the shape and MATLAB's class of each variable, by name."""
    from scipy.io import whosmat

    _check(path.read_bytes())
    return {name: (tuple(shape), kind) for name, shape, kind in whosmat(path, appendmat=False)}


def read_matlab4(path: Path, name: str) -> NDArray[Any]:
    """Read a variable as `scipy.io.loadmat` does."""
    from scipy.io import loadmat

    _check(path.read_bytes())
    found: NDArray[Any] = loadmat(path, appendmat=False, variable_names=[name])[name]
    return found


def _check(content: bytes) -> None:
    """Raise ValueError unless the file consists of variables of numbers and text."""
    if len(content) < 20:
        raise ValueError("it is too short")
    # The type is below 5000 in the right byte order.
    order = "<" if struct.unpack_from("<I", content)[0] < 5000 else ">"
    at = 0
    while at < len(content):
        if at + 20 > len(content):
            raise ValueError("it ends within the header of a variable: truncated")
        kind, rows, columns, is_complex, n_name = struct.unpack_from(f"{order}5i", content, at)
        thousands, hundreds, tens, ones = (kind // 10**power % 10 for power in (3, 2, 1, 0))
        sizes = (rows, columns, is_complex, n_name)
        if (
            not 0 <= kind < 5000
            or hundreds
            or thousands > 1
            or tens >= len(_SIZES)
            or min(sizes) < 0
        ):
            raise ValueError("it is not a file of MATLAB")
        if ones == _SPARSE:
            raise ValueError("it holds a sparse matrix; save full(…) of it")
        at += 20 + n_name + rows * columns * _SIZES[tens] * (2 if is_complex else 1)
        if at > len(content):
            raise ValueError(f"it ends within a variable of shape {(rows, columns)}: truncated")
