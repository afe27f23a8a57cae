"""Unpickling of arrays, numbers, text and containers of them, which never runs what a pickle names.

Arrays are made of the shape, type and content in the file, not by NumPy's constructors, which trust a pickle.
"""

import math
import os
import pickle
import sys
from collections.abc import Iterable
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base.expansion import check_expansion
from fastrdm._base.unpickling import BoundedUnpickler, StandIn, expanded_size

# Elements of arrays of empty text, which take no bytes in a file.
_MAX_EMPTY = 1_000_000


def load_pickle(file: IO[bytes], size: int | None = None) -> Any:
    """Read a pickle of arrays, numbers, text, dicts, lists and tuples; UnpicklingError names anything else.

    Arrays have numbers, text or such objects as elements. Arrays that Python 2 pickled are read too. `size` is the
    number of bytes up to the end of the file, if it is known. Raise ValueError if the contents would take far more
    memory than the file, because objects repeat.
    """
    if size is None:
        at = file.tell()
        size = file.seek(0, os.SEEK_END) - at
        file.seek(at)
    root = _ArrayUnpickler(file, size, encoding="latin1").load()
    check_expansion(
        expanded_size(root), size, "its pickle", "its objects contain each other many times"
    )
    return root


class _ArrayUnpickler(BoundedUnpickler):
    """An unpickler with its own constructors of arrays; it runs nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _CONSTRUCTORS[module, name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"its pickle holds {module}.{name}, which is not part of an array; it was not run"
            ) from None

    def set_state(self, value: Any, state: Any) -> None:
        if isinstance(value, _PickledArray):
            value.__setstate__(state)
        else:
            super().set_state(value, state)


def check_text(array: NDArray[Any]) -> None:
    """Raise ValueError if text holds numbers that are not those of characters, with which Python fails later."""
    for name in array.dtype.names or ():
        check_text(array[name])
    if array.dtype.kind == "U" and array.size and array.dtype.itemsize:
        codes = np.ascontiguousarray(array).view(np.dtype("u4").newbyteorder(array.dtype.byteorder))
        if codes.max() > sys.maxunicode:
            raise ValueError("its text holds characters that do not exist")


class _PickledDtype(StandIn):
    """A dtype of numbers, text or objects; of its pickled state, only the byte order is used."""

    def __init__(self, text: Any, align: Any = False, copy: Any = True) -> None:
        name = text.decode("latin1") if isinstance(text, bytes) else text
        # A repeated or structured dtype begins otherwise.
        if not isinstance(name, str) or name[:1] not in set("biufcSUO") or "," in name:
            raise pickle.UnpicklingError(
                f"its pickle holds an array of type {name!r}, neither numbers nor text"
            )
        self.dtype = np.dtype(name)

    def __setstate__(self, state: Any) -> None:
        order = state[1]
        if isinstance(order, bytes):
            order = order.decode("latin1")
        if order not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError(f"its pickle holds an array of byte order {order!r}")
        if order in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(order)


class _PickledArray(np.ndarray[Any, Any]):
    """An array whose pickled state is checked; `numpy.asarray` makes it a plain array."""

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, is_fortran, content = state
        made = _filled(content, dtype, shape, "F" if is_fortran else "C")
        # The plain state of NumPy's own array of these elements.
        plain: Any = made.__reduce__()[2]
        super().__setstate__(plain)


def _filled(content: Any, dtype: Any, shape: Any, order: Any) -> NDArray[Any]:
    if not isinstance(dtype, _PickledDtype):
        raise pickle.UnpicklingError("its pickle holds an array without a type")
    kind = dtype.dtype
    shape = tuple(int(n) for n in (shape if isinstance(shape, (tuple, list)) else (shape,)))
    count = math.prod(shape)
    if isinstance(content, str):
        # Python 2's bytes.
        content = content.encode("latin1")
    if type(content) not in ((list,) if kind.hasobject else (bytes, bytearray)):
        raise pickle.UnpicklingError(
            f"its pickle holds an array of type {kind} whose content is a {type(content).__name__}"
        )
    if not kind.itemsize and count > _MAX_EMPTY:
        raise pickle.UnpicklingError(
            f"its pickle announces an array of shape {shape} without bytes"
        )
    given = len(content)
    if min(shape, default=0) < 0 or given != count * (1 if kind.hasobject else kind.itemsize):
        raise pickle.UnpicklingError(
            f"its pickle announces an array of shape {shape} and type {kind}, but holds {given}"
            f" {'elements' if kind.hasobject else 'bytes'}"
        )
    if kind.hasobject:
        flat = np.empty(count, object)
        for i, element in enumerate(content):
            flat[i] = element
    else:
        flat = np.frombuffer(content, kind) if kind.itemsize else np.zeros(count, kind)
        check_text(flat)
    return flat.reshape(shape, order="F" if order in ("F", b"F") else "C").copy()


def _reconstruct(subtype: Any, shape: Any, kind: Any) -> Any:
    return np.ndarray.__new__(_PickledArray, (0,), np.uint8)


def _scalar(dtype: Any, content: Any = None) -> Any:
    if isinstance(dtype, _PickledDtype) and dtype.dtype.hasobject:
        raise pickle.UnpicklingError(
            "its pickle holds a number of type object, which NumPy never writes"
        )
    return _filled(content, dtype, (), "C")[()]


def _from_buffer(content: Any, dtype: Any, shape: Any, order: Any, *_: Any) -> Any:
    return _filled(content, dtype, shape, order)


def _encode(text: str, encoding: str) -> bytes:
    """`codecs.encode` for bytes pickled by Python 2, without codec look-up."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"its pickle asks for the codec {encoding!r}")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    return b""


def _ordered_dict(items: Any = ()) -> dict[Any, Any]:
    return dict(items)


def _ndarray(*_: Any) -> Any:
    """Stand for the class, which `_reconstruct` gets as an argument."""
    raise pickle.UnpicklingError("its pickle calls numpy.ndarray")


class PickledRdms(StandIn):
    """The attributes of an `rsatoolbox.rdm.RDMs` that was pickled as an object."""

    attributes: dict[str, Any]

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict):
            raise pickle.UnpicklingError("its pickle holds an RDMs object without attributes")
        self.attributes = state

    def parts(self) -> Iterable[Any]:
        return (self.attributes,)


_FIXED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _ndarray,
    ("numpy", "dtype"): _PickledDtype,
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): _ordered_dict,
    ("__builtin__", "bytes"): _no_bytes,
    ("rsatoolbox.rdm.rdms", "RDMs"): PickledRdms,
    ("pyrsa.rdm.rdms", "RDMs"): PickledRdms,
}
_CONSTRUCTORS: dict[tuple[str, str], Any] = _FIXED | {
    # NumPy 2 moved numpy.core to numpy._core; files name the one that wrote them.
    (f"numpy.{core}.{module}", name): constructor
    for core in ("core", "_core")
    for module, name, constructor in (
        ("multiarray", "_reconstruct", _reconstruct),
        ("multiarray", "scalar", _scalar),
        ("numeric", "_frombuffer", _from_buffer),
    )
}
