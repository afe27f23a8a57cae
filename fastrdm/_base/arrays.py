"""Reading of array files: MATLAB's `.mat` of any version, NumPy's `.npy` and `.npz`."""

import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base.extras import MissingExtraError, require
from fastrdm._base.text import first_line

#: The key of a single array in a `.npy` file.
UNNAMED = "(unnamed)"

_HDF5 = b"\x89HDF\r\n\x1a\n"
# MATLAB writes a header of 512 bytes before the HDF5 file; the format allows any power of two.
_HDF5_OFFSETS = (0, 512, 1024, 2048)


def read_arrays(path: str | Path) -> dict[str, NDArray[Any]]:
    """Read all arrays of a file, by name; from a MATLAB file, only numeric arrays at the top level.

    The format is recognised by the content, not the file's name. MATLAB v7.3 files (HDF5) store axes in reverse, so
    their arrays are transposed. A `.npy` file is a structured array, a pickled dict, or a single array, returned under
    the key `UNNAMED`. Unpickling runs only NumPy's array constructors; a pickle with other objects is a ValueError, as
    is a folder, a truncated file, or an unknown format.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder, not a .mat, .npy or .npz file")
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    with path.open("rb") as file:
        head = file.read(max(_HDF5_OFFSETS) + len(_HDF5))
    if not head:
        raise ValueError(f"{path} is empty")
    kind, read = next((kind, read) for kind, is_kind, read in _FORMATS if is_kind(head))
    try:
        return read(path)
    except MissingExtraError:
        raise
    # scipy, h5py, zlib and pickle raise a dozen types of errors for damaged files.
    except Exception as error:
        raise ValueError(f"{path} cannot be read as {kind}: {first_line(error)}") from error


def _read_hdf5(path: Path) -> dict[str, NDArray[Any]]:
    h5py = require("h5py", "data", "to read MATLAB v7.3 files")
    with h5py.File(path, "r") as file:
        return {
            key: np.transpose(item[()])
            for key, item in file.items()
            if isinstance(item, h5py.Dataset)
        }


def _read_matlab(path: Path) -> dict[str, NDArray[Any]]:
    from scipy.io import loadmat, whosmat

    _check_matlab5(path.read_bytes())
    numeric = [name for name, _, kind in whosmat(path, appendmat=False) if kind in _MATLAB_CLASSES]
    arrays = loadmat(path, appendmat=False, variable_names=numeric)
    return {name: arrays[name] for name in numeric}


def _check_matlab5(content: bytes) -> None:
    """Check the types of the numbers in a MATLAB v5 file.

    scipy 1.17 looks up a type in a table without a bounds check, so that a damaged type, such as
    zeros after an interrupted download, crashes the process. Compressed data have a checksum.
    """
    order = {b"IM": "<", b"MI": ">"}.get(content[126:128])
    at = 128
    while order is not None and at + 8 <= len(content):
        kind, start, end = _matlab5_element(content, at, order)
        if kind == _MI_MATRIX and end > start:
            (flags,) = struct.unpack_from(f"{order}I", content, start + 8)
            part = start
            # Array flags, dimensions, name, numbers, and imaginary ones where it is complex.
            n_parts = 4 + (flags >> 11 & 1) if flags & 0xFF in _MX_NUMERIC else 0
            for i in range(n_parts):
                kind, _, part = _matlab5_element(content, part, order)
                part += (start - part) % 8
                if i >= 3 and kind not in _MI_NUMERIC:
                    raise ValueError(f"it holds numbers of unknown type {kind}")
        at = end


def _matlab5_element(content: bytes, at: int, order: str) -> tuple[int, int, int]:
    """Return type, start and end of the data element with its tag at `at`."""
    kind, size = struct.unpack_from(f"{order}II", content, at)
    # Up to four bytes are packed into the tag itself.
    return (kind & 0xFFFF, at + 4, at + 8) if kind >> 16 else (kind, at + 8, at + 8 + size)


_MATLAB_CLASSES = frozenset(
    {"double", "single", "logical"} | {f"{u}int{n}" for u in ("", "u") for n in (8, 16, 32, 64)}
)
_MI_MATRIX = 14
_MI_NUMERIC = frozenset({1, 2, 3, 4, 5, 6, 7, 9, 12, 13})
_MX_NUMERIC = range(6, 16)


def _read_npy(path: Path) -> dict[str, NDArray[Any]]:
    with path.open("rb") as file:
        value = _load(file)
    if value.dtype == object and value.ndim == 0:
        value = value.item()
    if isinstance(value, dict):
        return {str(key): np.asarray(item) for key, item in value.items()}
    value = np.asarray(value)
    if value.dtype.names:
        record = value.reshape(()) if value.size == 1 else value
        return {name: np.asarray(record[name]) for name in value.dtype.names}
    return {UNNAMED: value}


def _read_npz(path: Path) -> dict[str, NDArray[Any]]:
    arrays = {}
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            with archive.open(name) as file:
                arrays[name.removesuffix(".npy")] = _load(file)
    return arrays


def _load(file: IO[bytes]) -> Any:
    read_header = _HEADERS.get(np.lib.format.read_magic(file))
    if read_header is not None and read_header(file)[2].hasobject:
        return _ArrayUnpickler(file, encoding="latin1").load()
    file.seek(0)
    return np.load(file, allow_pickle=False)


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickler of NumPy arrays, numbers, strings and containers of them; it runs nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _UNPICKLED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"its pickle holds {module}.{name}, which is not part of an array; it was not run"
            ) from None


def _encode(text: str, encoding: str) -> bytes:
    """`codecs.encode` for bytes pickled by Python 2, without codec look-up."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"its pickle asks for the codec {encoding!r}")
    return text.encode("latin1")


_UNPICKLED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _encode,
} | {
    # NumPy 2 moved numpy.core to numpy._core; files name the one that wrote them.
    (f"numpy.{core}.multiarray", name): constructor
    for core in ("core", "_core")
    for name, constructor in (
        ("_reconstruct", np.zeros(1).__reduce__()[0]),
        ("scalar", np.float64(0).__reduce__()[0]),
    )
}

_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}

_Reader = Callable[[Path], dict[str, NDArray[Any]]]
_FORMATS: tuple[tuple[str, Callable[[bytes], bool], _Reader], ...] = (
    (
        "a MATLAB v7.3 (HDF5) file",
        lambda head: any(head.startswith(_HDF5, offset) for offset in _HDF5_OFFSETS),
        _read_hdf5,
    ),
    ("a .npy file", lambda head: head.startswith(b"\x93NUMPY"), _read_npy),
    ("a .npz file", lambda head: head.startswith(b"PK"), _read_npz),
    # MATLAB files before v7.3 have no common signature.
    ("a MATLAB file (nor is it .npy or .npz)", lambda head: True, _read_matlab),
)
