"""Files of `torch.save` as mapped NumPy arrays, read without torch, whose import takes longer than most scores.

These are uncompressed zip archives: a pickle, and a member for the memory of each tensor. Only what state dicts consist
of is unpickled here: dense tensors, parameters, ordered dicts, and plain values. torch reads every other file, and
reports what is wrong with it.
"""

import collections
import io
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import (
    BoundedUnpickler,
    MissingExtraError,
    check_expansion,
    check_members,
    expanded_size,
    require,
)

_STORAGES = {
    **{"FloatStorage": "float32", "DoubleStorage": "float64", "HalfStorage": "float16"},
    **{"BFloat16Storage": "bfloat16", "BoolStorage": "bool", "ByteStorage": "uint8"},
    **{"CharStorage": "int8", "ShortStorage": "int16", "IntStorage": "int32"},
    **{"LongStorage": "int64", "ComplexFloatStorage": "complex64"},
    "ComplexDoubleStorage": "complex128",
}
# The default of `torch.save`, and the only one that torch reads without running code.
_PROTOCOL = b"\x80\x02"


class NotPlainError(Exception):
    """A file of `torch.save` holds more than state dicts consist of, or is damaged."""


def map_torch(path: Path) -> Any:
    """Return what `torch.save` has saved, with read-only arrays as tensors.

    NotPlainError if torch must read it.
    """
    try:
        return _ArchiveReader(path).read()
    except MissingExtraError:
        raise
    # Damaged files raise errors of all kinds; torch's messages describe them.
    except Exception as error:
        raise NotPlainError(str(error)) from error


class _ArchiveReader:
    """An archive, and its members' places."""

    def __init__(self, path: Path) -> None:
        self._content: NDArray[np.uint8] = np.asarray(np.memmap(path, np.uint8, "r"))
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            check_members(members, self._content.size)
            self._members = {each.filename: each for each in members}
            (pickled,) = (name for name in self._members if name.endswith("/data.pkl"))
            self._root = pickled.removesuffix("data.pkl")
            order = f"{self._root}byteorder"
            orders = archive.read(order).decode() if order in self._members else "little"
            if {orders, sys.byteorder} != {
                "little"
            } or f"{self._root}constants.pkl" in archive.NameToInfo:
                raise NotPlainError(orders)
            self._pickle = archive.read(pickled)
            if not self._pickle.startswith(_PROTOCOL):
                raise NotPlainError("another protocol of pickle")

    def read(self) -> Any:
        """Unpickle the contents; views of memory that repeat may not expand without bound."""
        contents = _PlainUnpickler(self._pickle, self._storage).load()
        check_expansion(expanded_size(contents), self._content.size, "its tensors")
        return contents

    def _storage(self, kind: str, key: str, n_numbers: int) -> NDArray[Any]:
        """The memory of a tensor."""
        member = self._members[f"{self._root}data/{key}"]
        if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
            raise NotPlainError(key)
        # The name and the extra field of a member precede its data.
        start = member.header_offset + 30
        if not 30 <= start <= self._content.size:
            raise NotPlainError(key)
        lengths = self._content[start - 4 : start].view("<u2")
        start += int(lengths[0]) + int(lengths[1])
        dtype = _dtype(kind)
        n_bytes = n_numbers * dtype.itemsize
        if n_bytes > member.file_size or start + n_bytes > self._content.size:
            raise NotPlainError(key)
        return self._content[start : start + n_bytes].view(dtype)


class _PlainUnpickler(BoundedUnpickler):
    """Calls nothing but the functions below."""

    def __init__(self, data: bytes, storage: Callable[[str, str, int], NDArray[Any]]) -> None:
        super().__init__(io.BytesIO(data), len(data), encoding="utf-8")
        self._storage = storage

    def set_state(self, value: Any, state: Any) -> None:
        """Leave out the metadata of a state dict."""
        if not isinstance(value, collections.OrderedDict):
            super().set_state(value, state)

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a class or function."""
        if module == "torch" and name in _STORAGES:
            return name
        if (module, name) not in _CALLED:
            raise NotPlainError(f"{module}.{name}")
        return _CALLED[module, name]

    def persistent_load(self, pid: Any) -> NDArray[Any]:
        """Return the memory of a tensor."""
        word, kind, key, _, n_numbers = pid
        if word != "storage" or kind not in _STORAGES:
            raise NotPlainError(str(word))
        return self._storage(kind, key, n_numbers)


def _tensor(
    storage: NDArray[Any],
    offset: int,
    shape: Sequence[int],
    strides: Sequence[int],
    requires_grad: bool,
    hooks: Any,
    metadata: Any = None,
) -> NDArray[Any]:
    """A view of the memory, which must hold it."""
    if metadata or offset < 0 or min((*shape, *strides), default=0) < 0:
        raise NotPlainError("tensor")
    if 0 in shape:
        return np.empty(shape, storage.dtype)
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    if last >= storage.size:
        raise NotPlainError("tensor")
    steps = [stride * storage.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(storage[offset:], shape, steps, writeable=False)


def _size(numbers: Sequence[int] = ()) -> tuple[int, ...]:
    if not all(isinstance(n, int) for n in numbers):
        raise NotPlainError("size")
    return tuple(numbers)


def _parameter(data: NDArray[Any], requires_grad: bool, hooks: Any) -> NDArray[Any]:
    return data


_CALLED: dict[tuple[str, str], Any] = {
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch", "Size"): _size,
    ("collections", "OrderedDict"): collections.OrderedDict,
}


def _dtype(kind: str) -> np.dtype[Any]:
    name = _STORAGES[kind]
    if name == "bfloat16":
        kind_of_number: type = require("ml_dtypes", "run", "for weights in bfloat16").bfloat16
        return np.dtype(kind_of_number)
    return np.dtype(name)
