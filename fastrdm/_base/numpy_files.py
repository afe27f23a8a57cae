"""Reading of NumPy's `.npy` and `.npz` files."""

import math
import os
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base.pickles import load_pickle

#: The key of a single array in a `.npy` file.
UNNAMED = "(unnamed)"


def load_npy(path: Path) -> dict[str, NDArray[Any]]:
    """Read the fields of a structured array, the items of a pickled dict, or a single array as `UNNAMED`."""
    with path.open("rb") as file:
        value = _load(file, path.stat().st_size)
    if value.dtype == object and value.ndim == 0:
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
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            with archive.open(member) as file:
                arrays[member.filename.removesuffix(".npy")] = _load(file, member.file_size)
    return arrays


def _load(file: IO[bytes], size: int) -> Any:
    read_header = _HEADERS.get(np.lib.format.read_magic(file))
    if read_header is not None:
        shape, _, dtype = read_header(file)
        if dtype.hasobject:
            return load_pickle(file)
        # NumPy would allocate what the header announces before it reads.
        if math.prod(shape) * dtype.itemsize > size:
            raise ValueError(
                f"it announces an array of shape {shape} and type {dtype}, but has {size} bytes"
            )
    file.seek(0, os.SEEK_SET)
    return np.load(file, allow_pickle=False)


_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
