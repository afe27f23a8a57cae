"""What a pickle holds, found without importing or calling anything that it names."""

import _compat_pickle
import collections
import contextlib
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_DEPTH = 6
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
    `has_members` is whether objects are pickled as attributes of their classes.
    """

    names: dict[str, None] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    networks: dict[str, str] = field(default_factory=dict)
    weights: str = ""
    n_weights: int = 0
    has_members: bool = False

    @property
    def plain(self) -> set[str]:
        """Names that torch reads without an allow-list."""
        return {
            name
            for name in self.names
            if name.startswith(_PLAIN) or (name.startswith("torch.") and name.count(".") == 1)
        }


class PickledObject:
    """Stands for an object of any class, with its arguments and state."""

    kind = ""

    def __new__(cls, *args: Any, **kwargs: Any) -> "PickledObject":
        """Keep the arguments."""
        self = object.__new__(cls)
        self.args, self.state, self.items = args, None, {}
        return self

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args: tuple[Any, ...]
        self.state: Any
        self.items: dict[Any, Any]

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


class _Inspector(pickle.Unpickler):
    """Reads a pickle into dicts, lists and stand-ins."""

    def __init__(self, file: Any) -> None:
        super().__init__(file)
        self.classes: dict[str, Any] = {}
        self.has_members = False

    def find_class(self, module: str, name: str) -> Any:
        # Files of torch name Python's modules as Python 2 did.
        module, name = _compat_pickle.NAME_MAPPING.get((module, name), (module, name))
        path = f"{_compat_pickle.IMPORT_MAPPING.get(module, module)}.{name}"
        if path == GETATTR:
            return self._member
        if path not in self.classes:
            stand_in = type(name, (PickledObject,), {"kind": path})
            self.classes[path] = _HARMLESS.get(path, stand_in)
        return self.classes[path]

    def _member(self, owner: Any, *names: Any) -> Any:
        """Stand for a member of a class; the attribute of anything else is noted as a call."""
        if isinstance(owner, type) and issubclass(owner, PickledObject):
            self.has_members = True
            return owner(*names)
        self.classes[GETATTR] = PickledObject
        return PickledObject()

    def persistent_load(self, reference: Any) -> Any:
        return PickledObject()


def inspect_pickle(path: Path) -> PickledObjects | None:
    """Return what a file of `torch.save` holds; None if it is not one, or is damaged."""
    try:
        with contextlib.ExitStack() as stack:
            file: Any = stack.enter_context(path.open("rb"))
            if zipfile.is_zipfile(path):
                archive = stack.enter_context(zipfile.ZipFile(path))
                (name,) = (n for n in archive.namelist() if n.endswith("/data.pkl"))
                file = stack.enter_context(archive.open(name))
            inspectors = [inspector := _Inspector(file)]
            content = inspector.load()
            # Older files begin with three more pickles: a magic number, the protocol and the system.
            for _ in range(3 if isinstance(content, int) else 0):
                inspectors.append(inspector := _Inspector(file))
                content = inspector.load()
    # Whatever is wrong, the file is not a pickle that can be read.
    except Exception:
        return None
    names = {name: None for each in inspectors for name in each.classes}
    found = PickledObjects(names, has_members=any(each.has_members for each in inspectors))
    _look(content, "", _DEPTH, found)
    for name in found.names:
        if name not in found.plain:
            found.places.setdefault(name, "")
    return found


def _look(value: Any, place: str, depth: int, found: PickledObjects) -> None:
    """Add the objects at a place and below it."""
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
        _look(each, f"{place}{name}", depth - 1, found)


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
