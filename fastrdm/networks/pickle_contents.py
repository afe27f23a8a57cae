"""What a pickle holds, found without importing or calling anything that it names."""

import _compat_pickle
import collections
import contextlib
import math
import pickle
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastrdm._base import BoundedUnpickler, StandIn, expanded_size, first_line

# Files of torch that are zip archives, of which only uncompressed ones can be mapped.
ZIP = b"PK\x03\x04"
_DEPTH = 6
# The first pickle of files of older versions of torch.
_MAGIC = 0x1950A86A20F9469CFC6C
# Bytes of a number, by a part of the name of its type.
_SIZES = {
    **{"ComplexDouble": 16, "Double": 8, "Long": 8, "ComplexFloat": 8, "Half": 2, "BFloat16": 2},
    **{"Short": 2, "Bool": 1, "Byte": 1, "Char": 1, "Untyped": 1, "QInt8": 1, "QUInt": 1},
}
# Names that torch calls with a number of bytes or elements to reserve.
_RESERVING = ("bytearray", "Tensor", "Storage")
#: The name with which Python 3.11.0 to 3.11.3 pickles members of enums: as an attribute of their class.
GETATTR = "builtins.getattr"
_HARMLESS = {"collections.OrderedDict": collections.OrderedDict, "builtins.set": set}
# Names of torch and the standard library that torch reads without an allow-list.
_PLAIN = (
    *("torch._utils.", "torch._tensor.", "torch.storage.", "torch.serialization."),
    *("torch.nn.parameter.", "_codecs.encode", "collections.OrderedDict", "collections.Counter"),
    *("builtins.set", "builtins.complex", "builtins.bytearray", "copyreg."),
)


@dataclass
class PickledObjects:
    """The names of classes and functions in a pickle, and where the objects are.

    `places` has the first place of the objects of each class, as in ``["args"]``; `networks` the class of each whole
    network by place; `plain` the names that torch reads by itself; `weights` is the place of the largest state dict.
    `has_members` is whether objects are pickled as attributes of their classes, `damage` why the pickle cannot be read
    to its end, if so. `n_bytes` is what the contents take in memory, `n_stored` what the tensors take in the file.
    """

    names: dict[str, None] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    networks: dict[str, str] = field(default_factory=dict)
    weights: str = ""
    n_weights: int = 0
    has_members: bool = False
    damage: str = ""
    n_bytes: int = 0
    n_stored: int = 0

    @property
    def plain(self) -> set[str]:
        """Names that torch reads without an allow-list."""
        return {
            name
            for name in self.names
            if name.startswith(_PLAIN) or (name.startswith("torch.") and name.count(".") == 1)
        }


class PickledObject(StandIn):
    """Stands for an object of any class, with its arguments and state."""

    kind = ""
    nbytes = 0

    def __new__(cls, *args: Any, **kwargs: Any) -> "PickledObject":
        """Keep the arguments."""
        self = object.__new__(cls)
        self.args, self.state, self.items = args, None, {}
        return self

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args: tuple[Any, ...]
        self.state: Any
        self.items: dict[Any, Any]

    def parts(self) -> Iterable[Any]:
        """The memory of a tensor, or what was given to another object."""
        if _is_tensor(self):
            # Subclasses of tensors are made by another function, whose arguments are a tuple among these.
            given = (self.args, *(each for each in self.args if isinstance(each, tuple)))
            own = next((args for args in given if _is_view(args)), None)
            yield PickledMemory(_size_of_view(own) if own else 0)
            if own is self.args:
                return
        if self.kind.endswith(_RESERVING):
            numbers = [abs(n) for n in self.args if isinstance(n, int)]
            yield PickledMemory(8 * math.prod(numbers) if numbers else 0)
        yield from (*self.args, self.state, *self.items, *self.items.values())

    def __call__(self, *args: Any, **kwargs: Any) -> "PickledObject":
        """Stand for the result too."""
        return self

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, name: Any, value: Any) -> None:
        self.items[name] = value

    def append(self, value: Any) -> None:
        """Keep an item."""
        self.items[len(self.items)] = value

    add = append

    def extend(self, values: Any) -> None:
        """Keep items."""
        for value in values:
            self.append(value)


@dataclass(frozen=True)
class PickledMemory:
    """Stands for memory: its size in bytes, and in bytes of each number."""

    nbytes: int
    itemsize: int = 8


def _is_view(args: tuple[Any, ...]) -> bool:
    """Whether these are the arguments of a tensor: memory, offset, shape and strides."""
    return len(args) > 2 and isinstance(args[0], PickledMemory)


def _size_of_view(args: tuple[Any, ...]) -> int:
    memory, _, shape = args[:3]
    if isinstance(shape, PickledObject) and shape.args:
        # A `torch.Size`.
        shape = shape.args[0]
    if not isinstance(shape, (tuple, list)) or not all(isinstance(n, int) for n in shape):
        raise pickle.UnpicklingError("its pickle holds a tensor without a shape")
    return int(math.prod(shape) * memory.itemsize)


class _Inspector(BoundedUnpickler):
    """Reads a pickle into dicts, lists and stand-ins."""

    def __init__(self, file: Any, size: int) -> None:
        super().__init__(file, size)
        self.classes: dict[str, Any] = {}
        self.has_members = False
        self.memory: dict[str, PickledMemory] = {}

    def find_class(self, module: str, name: str) -> Any:
        # Files of torch name Python's modules as Python 2 did.
        module, name = _compat_pickle.NAME_MAPPING.get((module, name), (module, name))
        path = f"{_compat_pickle.IMPORT_MAPPING.get(module, module)}.{name}"
        if path == GETATTR:
            return self._member
        if path not in self.classes:
            if path in _HARMLESS:
                self.classes[path] = _HARMLESS[path]
            else:
                self.classes[path] = type("PickledObject", (PickledObject,), {"kind": path})
        return self.classes[path]

    def _member(self, owner: Any, *names: Any) -> Any:
        """Stand for a member of a class; the attribute of anything else is noted as a call."""
        if isinstance(owner, type) and issubclass(owner, PickledObject):
            self.has_members = True
            return owner(*names)
        self.classes[GETATTR] = PickledObject
        return PickledObject()

    def persistent_load(self, reference: Any) -> Any:
        """Stand for the memory of a tensor: a word, its type, name and place, and the count of its numbers."""
        if reference[0] == "module":
            # The class of a network, with its source.
            return reference[1]
        kind = getattr(reference[1], "kind", "")
        n_numbers = reference[4]
        size = next((n for word, n in _SIZES.items() if word in kind), 4)
        memory = PickledMemory(n_numbers * size if isinstance(n_numbers, int) else 0, size)
        return self.memory.setdefault(str(reference[2]), memory)

    def set_state(self, value: Any, state: Any) -> None:
        """Keep the state of a stand-in, but not the metadata of a state dict."""
        if not isinstance(value, collections.OrderedDict):
            super().set_state(value, state)

    def container(self, kind: type) -> Any:
        """Add items to stand-ins too."""
        top = self.stack[-1]
        return top if isinstance(top, PickledObject) else super().container(kind)


def inspect_pickle(path: Path) -> PickledObjects:
    """Return what a file of `torch.save` holds, up to where it is damaged."""
    inspectors: list[_Inspector] = []
    found = PickledObjects()
    try:
        try:
            content = _inspect(path, inspectors, found)
        finally:
            found.names = {name: None for each in inspectors for name in each.classes}
            found.has_members = any(each.has_members for each in inspectors)
        _look(content, "", _DEPTH, found, {})
    # Whatever is wrong, the rest cannot be read.
    except Exception as error:
        found.damage = first_line(error)
    for name in found.names:
        if name not in found.plain:
            found.places.setdefault(name, "")
    return found


def _inspect(path: Path, inspectors: list[_Inspector], found: PickledObjects) -> Any:
    """Read the pickles of a file, note how much memory their contents take, and return what was saved."""
    with contextlib.ExitStack() as stack:
        file: Any = stack.enter_context(path.open("rb"))
        size = path.stat().st_size
        sizes = None
        if file.read(len(ZIP)) == ZIP:
            archive = stack.enter_context(zipfile.ZipFile(path))
            member, sizes = _members(archive)
            file, size = stack.enter_context(archive.open(member)), member.file_size
        else:
            file.seek(0)
        # Older files begin with three more pickles: a magic number, the protocol and the system. A list of the tensors
        # follows the contents.
        contents: list[Any] = []
        for _ in range(1 if sizes is not None else 5):
            before = file.tell()
            inspectors.append(inspector := _Inspector(file, size))
            contents.append(inspector.load())
            size -= file.tell() - before
            if contents[0] != _MAGIC:
                break
    memory = {name: each for inspector in inspectors for name, each in inspector.memory.items()}
    for name, each in memory.items():
        if sizes is not None and not 0 <= each.nbytes <= sizes.get(name, 0):
            raise ValueError(
                f"it announces {each.nbytes} bytes for the tensor {name}, but holds {sizes.get(name, 0)}"
            )
    found.n_bytes = expanded_size(contents, cycles=True)
    found.n_stored = sum(each.nbytes for each in memory.values())
    return contents[3] if len(contents) > 3 else contents[0]


def _members(archive: zipfile.ZipFile) -> tuple[zipfile.ZipInfo, dict[str, int]]:
    """The pickle of an archive, and the sizes of the members for tensors by name.

    ValueError if torch could take another member for one of them: it ignores the case of letters, and begins the
    archive at the first byte of the file.
    """
    members = archive.infolist()
    names = [each.filename.casefold() for each in members]
    pickles = [each for each, name in zip(members, names, strict=True) if name.endswith("data.pkl")]
    if len(pickles) != 1:
        raise ValueError(f"its archive holds {len(pickles)} pickles instead of one")
    if len(set(names)) < len(names):
        raise ValueError("its archive holds two members of one name")
    if min(each.header_offset for each in members):
        raise ValueError("its archive does not begin with the file")
    root = pickles[0].filename.removesuffix("data.pkl") + "data/"
    sizes = {
        each.filename.removeprefix(root): each.file_size
        for each in members
        if each.filename.startswith(root)
    }
    return pickles[0], sizes


def _look(value: Any, place: str, depth: int, found: PickledObjects, seen: dict[int, int]) -> None:
    """Add the objects at a place and below it, unless they were seen at a place that is no deeper."""
    if seen.get(id(value), -1) >= depth:
        return
    seen[id(value)] = depth
    if isinstance(value, PickledObject):
        if value.kind and value.kind not in found.plain:
            found.places.setdefault(value.kind, place)
        state = value.state
        if isinstance(state, dict) and {"_modules", "_parameters"} <= state.keys():
            found.networks.setdefault(place, value.kind)
            return
    if not depth:
        return
    if isinstance(value, Mapping):
        n = sum(_is_tensor(each) for each in value.values())
        if n > found.n_weights:
            found.weights, found.n_weights = place, n
    for name, each in _parts(value):
        _look(each, f"{place}{name}", depth - 1, found, seen)


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """Contents of an object, with the code that leads to them."""
    if isinstance(value, Mapping):
        yield from ((f'["{k}"]' if isinstance(k, str) else f"[{k!r}]", v) for k, v in value.items())
    elif isinstance(value, list | tuple):
        yield from ((f"[{i}]", each) for i, each in enumerate(value))
    elif isinstance(value, PickledObject) and not _is_tensor(value):
        inner = value.state
        if isinstance(inner, tuple) and len(inner) == 2:
            inner = inner[0]
        if isinstance(inner, dict):
            yield from ((f".{name}", each) for name, each in inner.items())
        yield from ((f"[{name!r}]", each) for name, each in value.items.items())
        yield from (("", each) for each in value.args)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, PickledObject) and value.kind.startswith(
        ("torch._utils._rebuild", "torch._tensor._rebuild")
    )
