"""Unpickling of arrays, numbers, text and containers of them, which never runs what a pickle names.

Python's own unpickler in C calls the constructors that a pickle names, and sets the state and the attributes of what
they return. The one here returns arrays that are made of the shape, type and content in the file, and sets no other
state.
"""

import math
import os
import pickle
import struct
from collections.abc import Callable, Mapping
from typing import IO, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastrdm._base.expansion import check_expansion

# Elements of arrays of empty text, which take no bytes in a file.
_MAX_EMPTY = 1_000_000
# What a reference to an object takes in a list.
_REFERENCE = 8


def load_pickle(file: IO[bytes], size: int | None = None) -> Any:
    """Read a pickle of arrays, numbers, text, dicts, lists and tuples; UnpicklingError names anything else.

    Arrays have numbers, text or such objects as elements. Arrays that Python 2 pickled are read too. `size` is the
    number of bytes up to the end of the file, if it is known. Raise ValueError if the contents would take far more
    memory than the file, because objects repeat or contain themselves.
    """
    if size is None:
        at = file.tell()
        size = file.seek(0, os.SEEK_END) - at
        file.seek(at)
    root = _ArrayUnpickler(_BoundedFile(file, size), encoding="latin1").load()
    check_expansion(
        _expanded_size(root, {}), size, "its pickle", "its objects contain each other many times"
    )
    return root


class _BoundedFile:
    """A file whose reads never ask for more bytes than are left, for which Python would allocate memory first."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._left = file, size

    def read(self, n: int) -> bytes:
        if n > self._left:
            raise pickle.UnpicklingError(
                f"its pickle is truncated: it announces {n} bytes where {self._left} are left"
            )
        self._left -= n
        return self._file.read(n)

    def readline(self) -> bytes:
        line = self._file.readline(self._left)
        self._left -= len(line)
        return line


def _expanded_size(value: Any, known: dict[int, int | None]) -> int:
    """The bytes that a value takes if each reference to an object is a copy of it."""
    if isinstance(value, np.ndarray) and value.dtype != object:
        return int(value.nbytes)
    if isinstance(value, (str, bytes, bytearray)):
        return len(value)
    if isinstance(value, PickledRdms):
        value = value.attributes
    if not isinstance(value, (Mapping, list, tuple, set, frozenset, np.ndarray)):
        return _REFERENCE
    size = known.get(id(value), 0)
    if size is None:
        raise pickle.UnpicklingError("its pickle holds an object that contains itself")
    if not size:
        known[id(value)] = None
        parts = (
            (*value, *value.values())
            if isinstance(value, Mapping)
            else tuple(value.flat if isinstance(value, np.ndarray) else value)
        )
        size = _REFERENCE + sum(_REFERENCE + _expanded_size(part, known) for part in parts)
        known[id(value)] = size
    return size


class _ArrayUnpickler(pickle._Unpickler):
    """Python's unpickler in Python, with its own constructors of arrays; it runs nothing else."""

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(pickle._Unpickler.dispatch)

    # Attributes of Python's unpickler.
    stack: list[Any]
    append: Callable[[Any], None]
    read: Callable[[int], bytes]
    pop_mark: Callable[[], list[Any]]

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _CONSTRUCTORS[module, name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"its pickle holds {module}.{name}, which is not part of an array; it was not run"
            ) from None

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("its pickle refers to objects outside the file")

    def get_extension(self, code: int) -> None:
        raise pickle.UnpicklingError("its pickle holds an extension of another program")

    def load_build(self) -> None:
        """Set the state of what the functions below have made, and of nothing else."""
        value: Any = self.stack[-2]
        if not isinstance(value, (_PickledDtype, _PickledArray, PickledRdms)):
            raise pickle.UnpicklingError(f"its pickle holds a state of a {type(value).__name__}")
        value.__setstate__(self.stack.pop())

    def load_setitems(self) -> None:
        items = self.pop_mark()
        self._take(dict).update(zip(items[::2], items[1::2], strict=True))

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._take(dict)[key] = value

    def load_appends(self) -> None:
        items = self.pop_mark()
        self._take(list).extend(items)

    def load_append(self) -> None:
        value = self.stack.pop()
        self._take(list).append(value)

    def load_additems(self) -> None:
        items = self.pop_mark()
        self._take(set).update(items)

    def load_bytearray8(self) -> None:
        (n,) = struct.unpack("<Q", self.read(8))
        self.append(bytearray(self.read(n)))

    def _take(self, kind: type) -> Any:
        """The container at the top of the stack."""
        value = self.stack[-1]
        if type(value) is not kind:
            raise pickle.UnpicklingError(f"its pickle adds an item to a {type(value).__name__}")
        return value

    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.SETITEMS[0]] = load_setitems
    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.APPENDS[0]] = load_appends
    dispatch[pickle.APPEND[0]] = load_append
    dispatch[pickle.ADDITEMS[0]] = load_additems
    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8


class _PickledDtype:
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
    return flat.reshape(shape, order="F" if order in ("F", b"F") else "C").copy()


def _reconstruct(subtype: Any, shape: Any, kind: Any) -> Any:
    return np.ndarray.__new__(_PickledArray, (0,), np.uint8)


def _scalar(dtype: Any, content: Any = None) -> Any:
    if isinstance(dtype, _PickledDtype) and dtype.dtype.hasobject:
        return content
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


class PickledRdms:
    """The attributes of an `rsatoolbox.rdm.RDMs` that was pickled as an object."""

    attributes: dict[str, Any]

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict):
            raise pickle.UnpicklingError("its pickle holds an RDMs object without attributes")
        self.attributes = state


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
