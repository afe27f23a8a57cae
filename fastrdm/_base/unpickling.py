"""A reader of pickles that calls, changes and reserves nothing but what its subclasses allow.

Python's unpickler in C sets attributes of any object that a pickle names, and reserves memory for as many bytes or
objects as a pickle announces.
"""

import functools
import io
import pickle
import struct
from collections.abc import Callable, Iterable, Mapping
from typing import IO, Any, ClassVar

import numpy as np

# About what an object takes in a container.
_OBJECT = 64
_TOO_DEEP = "its pickle holds objects that are nested too deeply"
# Tuples in tuples: Python crashes when it hashes a tuple of hundreds of thousands of levels, as the key of a dict.
_MAX_NESTED = 64
# Python shows no integers of more than 4300 digits.
_LONGEST_INTEGER = 1024


class StandIn:
    """An object in place of one in a pickle. A subclass that may be given a state has its own `__setstate__`."""

    def parts(self) -> Iterable[Any]:
        """The objects in it."""
        return ()

    def __setstate__(self, state: Any) -> None:
        """Refuse a state."""
        raise pickle.UnpicklingError("its pickle gives a state to an object that takes none")


class BoundedUnpickler(pickle._Unpickler):
    """Python's unpickler in Python, for `size` bytes of a file.

    A subclass returns in `find_class` what is called. Only a `StandIn` is given a state, and items are added only to
    dicts, lists and sets that the pickle holds. UnpicklingError for anything else.
    """

    # Attributes of Python's unpickler.
    stack: list[Any]
    append: Callable[[Any], None]
    read: Callable[[int], bytes]
    pop_mark: Callable[[], list[Any]]

    def __init__(self, file: IO[bytes], size: int, encoding: str = "ASCII") -> None:
        bounded: Any = file if isinstance(file, io.BytesIO) else _BoundedFile(file, size)
        super().__init__(bounded, encoding=encoding)
        # Levels of the tuples that contain others, with these, so that no other object has their identity.
        self._levels: dict[int, tuple[Any, int]] = {}

    def persistent_load(self, pid: Any) -> Any:
        """Refuse what is not in the pickle."""
        raise pickle.UnpicklingError("its pickle refers to objects outside the file")

    def get_extension(self, code: int) -> None:
        """Refuse classes that a registry outside the pickle names."""
        raise pickle.UnpicklingError("its pickle holds an extension of another program")

    def set_state(self, value: Any, state: Any) -> None:
        """Give an object its state."""
        if not isinstance(value, StandIn):
            raise pickle.UnpicklingError(f"its pickle holds a state of a {type(value).__name__}")
        value.__setstate__(state)

    def container(self, kind: type) -> Any:
        """The container at the top of the stack, to which items are added."""
        value = self.stack[-1]
        if not isinstance(value, kind):
            raise pickle.UnpicklingError(f"its pickle adds items to a {type(value).__name__}")
        return value

    def _build(self) -> None:
        state = self.stack.pop()
        self.set_state(self.stack[-1], state)

    def _set_items(self) -> None:
        items = self.pop_mark()
        found = self.container(dict)
        for name, value in zip(items[::2], items[1::2], strict=True):
            found[name] = value

    def _set_item(self) -> None:
        value, name = self.stack.pop(), self.stack.pop()
        self.container(dict)[name] = value

    def _extend(self) -> None:
        items = self.pop_mark()
        self.container(list).extend(items)

    def _append(self) -> None:
        value = self.stack.pop()
        self.container(list).append(value)

    def _update(self) -> None:
        items = self.pop_mark()
        found = self.container(set)
        for value in items:
            found.add(value)

    def _nest(self, value: Any) -> None:
        """Put a tuple or a frozen set on the stack; both can be keys of dicts."""
        inner = [each for each in value if isinstance(each, (tuple, frozenset))]
        if inner:
            levels = 1 + max(self._levels.get(id(each), (each, 1))[1] for each in inner)
            if levels > _MAX_NESTED:
                raise pickle.UnpicklingError(_TOO_DEEP)
            self._levels[id(value)] = value, levels
        self.append(value)

    def _tuple(self) -> None:
        self._nest(tuple(self.pop_mark()))

    def _short_tuple(self, n: int) -> None:
        value = tuple(self.stack[-n:])
        del self.stack[-n:]
        self._nest(value)

    def _frozen_set(self) -> None:
        self._nest(frozenset(self.pop_mark()))

    def _long_integer(self) -> None:
        (n,) = struct.unpack("<i", self.read(4))
        if not 0 <= n <= _LONGEST_INTEGER:
            raise pickle.UnpicklingError(f"its pickle holds an integer of {n} bytes")
        self.append(pickle.decode_long(self.read(n)))

    def _bytearray(self) -> None:
        (n,) = struct.unpack("<Q", self.read(8))
        self.append(bytearray(self.read(n)))

    # What is called for each opcode.
    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        **pickle._Unpickler.dispatch,
        pickle.BUILD[0]: _build,
        pickle.SETITEMS[0]: _set_items,
        pickle.SETITEM[0]: _set_item,
        pickle.APPENDS[0]: _extend,
        pickle.APPEND[0]: _append,
        pickle.ADDITEMS[0]: _update,
        pickle.BYTEARRAY8[0]: _bytearray,
        pickle.LONG4[0]: _long_integer,
        pickle.FROZENSET[0]: _frozen_set,
        pickle.TUPLE[0]: _tuple,
        pickle.TUPLE1[0]: functools.partial(_short_tuple, n=1),
        pickle.TUPLE2[0]: functools.partial(_short_tuple, n=2),
        pickle.TUPLE3[0]: functools.partial(_short_tuple, n=3),
    }


class _BoundedFile:
    """A file that is never asked for more bytes than are left, for which Python would reserve memory first."""

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


def expanded_size(value: Any, *, cycles: bool = False) -> int:
    """The bytes that a value takes if each reference to an object is a copy of it.

    An object that contains itself counts once with `cycles`, else it is an UnpicklingError. So is deep nesting.
    """
    try:
        return _expanded_size(value, {}, cycles)
    except RecursionError:
        raise pickle.UnpicklingError(_TOO_DEEP) from None


def _expanded_size(value: Any, known: dict[int, int], cycles: bool) -> int:
    if isinstance(value, np.ndarray) and value.dtype != object:
        return int(value.nbytes)
    if isinstance(value, (str, bytes, bytearray)):
        return len(value)
    parts: Iterable[Any]
    if isinstance(value, Mapping):
        parts = (*value, *value.values())
    elif isinstance(value, StandIn):
        parts = value.parts()
    elif isinstance(value, (list, tuple, set, frozenset)):
        parts = value
    elif isinstance(value, np.ndarray):
        parts = value.flat
    else:
        return getattr(value, "nbytes", _OBJECT)
    if id(value) in known:
        if not known[id(value)] and not cycles:
            raise pickle.UnpicklingError("its pickle holds an object that contains itself")
        return known[id(value)]
    known[id(value)] = 0
    n_bytes = _OBJECT + sum(_OBJECT + _expanded_size(part, known, cycles) for part in parts)
    known[id(value)] = n_bytes
    return n_bytes
