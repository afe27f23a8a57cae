"""The contents of a file of arrays: a description of each entry, and its value when it is asked for.

Formats are recognised by content, not by the file's name. Values have one form whatever the file: arrays of numbers or
text; MATLAB's structs as arrays with named fields, its cells as arrays of objects, as `scipy.io.loadmat` returns them;
dicts for groups and pickles. Nothing outside the file is read, and nothing in it is run.
"""

import contextlib
import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fastrdm._base.anndata_files import anndata_entries, is_anndata
from fastrdm._base.expansion import check_expansion
from fastrdm._base.extras import MissingExtraError
from fastrdm._base.hdf5 import Hdf5File, is_hdf5
from fastrdm._base.matlab5 import MATLAB_NUMERIC, list_matlab5, read_matlab5
from fastrdm._base.numpy_files import UNNAMED, load_npy, load_npz
from fastrdm._base.pickles import PickledRdms, load_pickle
from fastrdm._base.settings_files import parse_json
from fastrdm._base.text import first_line

_MAX_GROUPS = 10_000
_MAX_DICTS = 4

NUMBERS, TEXT, STRUCT, CELL, GROUP, OTHER = "numbers", "text", "struct", "cell", "group", "other"


@dataclass(frozen=True)
class Entry:
    """What a file says of one of its entries: its kind, its shape, and the names of its axes if it has any.

    `fields` reads the fields of a single struct of MATLAB, if they are not listed with the file.
    """

    kind: str
    shape: tuple[int, ...]
    read: Callable[[], Any] = field(repr=False)
    axes: tuple[str, ...] = ()
    is_nested: bool = False
    fields: Callable[[], dict[str, "Entry"]] | None = field(default=None, repr=False)

    def __str__(self) -> str:
        """Return the kind and shape, such as ``"struct (1, 4, 2)"``."""
        if self.axes:
            axes = zip(self.axes, self.shape, strict=True)
            return f"{self.kind} ({', '.join(f'{name} {n}' for name, n in axes)})"
        return f"{self.kind} {self.shape}" if self.shape else self.kind


@dataclass(frozen=True)
class Contents:
    """The entries of a file by key, and the format's name in messages.

    Keys of groups and their members are joined with ``/``, those of MATLAB's structs and their fields with ``.``.
    `root` is the whole of a pickle or JSON file.
    """

    path: Path
    format: str
    entries: Mapping[str, Entry]
    root: Any = None

    def read(self, key: str) -> Any:
        """Return the value of an entry; ValueError if it cannot be read."""
        with _reading(self.path, self.format):
            return self.entries[key].read()

    def with_fields(self, keys: Sequence[str] | None = None) -> "Contents":
        """Return the contents with the fields of single structs, of all or of those to which keys lead."""
        entries: dict[str, Entry] = {}
        for name, entry in self.entries.items():
            entries[name] = entry
            wanted = keys is None or any(key.startswith(f"{name}.") for key in keys)
            if entry.fields is not None and (wanted or any("*" in key for key in keys or ())):
                with _reading(self.path, self.format):
                    entries |= entry.fields()
        return replace(self, entries=entries)


def open_contents(path: str | Path) -> Contents:
    """List what a file holds: MATLAB of any version, HDF5, netCDF, NumPy, pickles of arrays, or JSON.

    FileNotFoundError if the file does not exist; ValueError if it is a folder, empty, damaged or of another format.
    """
    path = Path(path)
    head = read_head(path)
    name, listing = next((name, listing) for name, is_kind, listing in _FORMATS if is_kind(head))
    with _reading(path, name):
        if listing is not _list_hdf5:
            size = path.stat().st_size
            check_expansion(size, size, "it")
        return Contents(path, name, **listing(path))


def read_head(path: Path, size: int = 4096) -> bytes:
    """Return the first bytes of a file; FileNotFoundError or ValueError if there is none."""
    if path.is_dir():
        raise ValueError(f"{path} is a folder, not a file of arrays")
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    try:
        with path.open("rb") as file:
            head = file.read(size)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    if not head:
        raise ValueError(f"{path} is empty")
    return head


@contextlib.contextmanager
def _reading(path: Path, name: str) -> Iterator[None]:
    try:
        yield
    except MissingExtraError:
        raise
    # scipy, h5py, zlib and pickle raise a dozen types of errors for damaged files.
    except Exception as error:
        raise ValueError(f"{path} cannot be read as {name}: {first_line(error)}") from error


def _list_hdf5(path: Path) -> dict[str, Any]:
    entries: dict[str, Entry] = {}
    with Hdf5File(path) as file:
        if is_anndata(file):
            for key, each in anndata_entries(path, file).items():
                kind = TEXT if each.is_text else NUMBERS
                entries[key] = Entry(kind, each.shape, each.read, each.axes)
            return {"entries": entries}
        found = _matlab_items(file) if file.is_matlab else _plain_items(file, set())
        for key, at, item in found:
            axes: tuple[str, ...] = ()
            if file.is_matlab:
                kind, shape = _matlab_kind(file, item)
            elif file.is_group(item):
                kind, shape = GROUP, ()
            elif item.shape is None or file.is_bare_dimension(item):
                continue
            else:
                kind, shape, axes = _kind_of_dtype(item.dtype), item.shape, file.dimensions(item)
            nested = "/" in at
            entries[key] = Entry(
                kind, shape, partial(_read_hdf5, path, at, file.is_matlab), axes, nested
            )
        entries |= {
            key: Entry("link", (), partial(_read_hdf5, path, key, file.is_matlab))
            for key in file.links()
        }
        return {"entries": entries}


def _read_hdf5(path: Path, at: str, is_matlab: bool) -> Any:
    with Hdf5File(path, is_matlab) as file:
        return file.read(file.find(at))


def _kind_of_dtype(dtype: Any) -> str:
    # h5py describes text of variable length as objects with metadata.
    if dtype.kind == "S" or (
        dtype.kind == "O" and (dtype.metadata or {}).get("vlen") in (str, bytes)
    ):
        return TEXT
    return NUMBERS if dtype.kind in "biufc" else OTHER


def _plain_items(
    file: Hdf5File, seen: set[Any], group: Any = None, at: str = ""
) -> Iterator[tuple[str, str, Any]]:
    """Yield path, path and object of datasets and groups; each group once, also where links form a cycle."""
    for name, item in file.items(group):
        path = f"{at}/{name}".lstrip("/")
        if not file.is_group(item):
            yield path, path, item
        elif item.id not in seen and len(seen) < _MAX_GROUPS:
            seen.add(item.id)
            yield path, path, item
            yield from _plain_items(file, seen, item, path)


def _matlab_items(
    file: Hdf5File, group: Any = None, at: str = "", key: str = ""
) -> Iterator[tuple[str, str, Any]]:
    """Yield key, path and object of variables, and of the fields of single structs."""
    for name, item in file.items(group):
        own, path = f"{key}.{name}".lstrip("."), f"{at}/{name}".lstrip("/")
        yield own, path, item
        if own.count(".") < 4 and _matlab_kind(file, item) == (STRUCT, (1, 1)):
            yield from _matlab_items(file, item, path, own)


def _matlab_kind(file: Hdf5File, item: Any) -> tuple[str, tuple[int, ...]]:
    if file.is_group(item):
        if "MATLAB_sparse" in item.attrs:
            return "sparse", ()
        fields = [field for _, field in file.items(item)]
        array = fields and all(
            not file.is_group(f) and f.dtype.kind == "O" and "MATLAB_class" not in f.attrs
            for f in fields
        )
        return STRUCT, tuple(reversed(fields[0].shape)) if array else (1, 1)
    name = file.text_of(item, "MATLAB_class")
    shape = tuple(reversed(item.shape or ()))
    if item.dtype.kind == "O":
        return CELL, shape
    return (TEXT if name == "char" else NUMBERS if name in MATLAB_NUMERIC | {""} else name), shape


def _list_matlab5(path: Path) -> dict[str, Any]:
    kinds = {"char": TEXT, "struct": STRUCT, "cell": CELL}
    entries: dict[str, Entry] = {}
    for name, (shape, kind) in list_matlab5(path).items():
        kind = NUMBERS if kind in MATLAB_NUMERIC else kinds.get(kind, kind)
        # Structs are read only as a whole, and may be large.
        single = kind == STRUCT and shape == (1, 1)
        fields = partial(_read_fields, path, name) if single else None
        entries[name] = Entry(kind, shape, partial(_read_matlab5, path, name), fields=fields)
    return {"entries": entries}


def _read_matlab5(path: Path, name: str) -> Any:
    return read_matlab5(path, name)


def _read_fields(path: Path, name: str) -> dict[str, Entry]:
    return _fields(name, _read_matlab5(path, name))


def _fields(key: str, value: Any, depth: int = 0) -> dict[str, Entry]:
    """Return entries of the fields of a single struct, and of single structs in these."""
    entries: dict[str, Entry] = {}
    for name in value.dtype.names or ():
        member = np.asarray(value[name][0, 0])
        own = f"{key}.{name}"
        read = partial(_same, member)
        entries[own] = Entry(kind_of(member), member.shape, read, is_nested=True)
        if member.dtype.names and member.shape == (1, 1) and depth < 4:
            entries |= _fields(own, member, depth + 1)
    return entries


def _same(value: Any) -> Any:
    return value


def kind_of(value: Any) -> str:
    """Return the kind of a value."""
    if isinstance(value, Mapping):
        return GROUP
    dtype = np.asarray(value).dtype
    if dtype.names:
        return STRUCT
    return {"O": CELL, "U": TEXT, "S": TEXT}.get(
        dtype.kind, NUMBERS if dtype.kind in "biufc" else OTHER
    )


def _in_memory(values: Mapping[Any, Any], at: str = "") -> dict[str, Entry]:
    """Return entries of values, and of arrays in dicts in these."""
    entries = {}
    for name, value in values.items():
        key = f"{at}{name}"
        if isinstance(value, Mapping):
            entries[key] = Entry(GROUP, (), partial(_same, value))
            if key.count("/") < _MAX_DICTS:
                inner = {k: v for k, v in value.items() if isinstance(v, (np.ndarray, Mapping))}
                entries |= _in_memory(inner, f"{key}/")
        else:
            array = np.asarray(value)
            entries[key] = Entry(kind_of(value), array.shape, partial(_same, array))
    return entries


def _list_npy(path: Path) -> dict[str, Any]:
    return {"entries": _in_memory(load_npy(path))}


def _list_npz(path: Path) -> dict[str, Any]:
    return {"entries": _in_memory(load_npz(path))}


def _list_pickle(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        root = load_pickle(file)
    if isinstance(root, PickledRdms):
        root = root.attributes
    if isinstance(root, Mapping):
        return {
            "entries": _in_memory(root),
            "root": root,
        }
    return {"entries": _in_memory({UNNAMED: root}), "root": root}


def _list_json(path: Path) -> dict[str, Any]:
    return {"entries": {}, "root": parse_json(path.read_text("utf-8-sig"))}


class _NetcdfFile(io.FileIO):
    """A file that is never asked for more bytes than it has, for which Python would reserve memory first."""

    def read(self, size: int | None = -1, /) -> bytes:
        left = os.fstat(self.fileno()).st_size - self.tell()
        if size is not None and size > left:
            raise ValueError(f"it announces {size} bytes where {left} are left: truncated")
        return super().read(size) or b""


def _list_netcdf(path: Path) -> dict[str, Any]:
    from scipy.io import netcdf_file

    entries = {}
    with (
        _NetcdfFile(path) as bounded,
        netcdf_file(bounded, "r", mmap=False, maskandscale=True) as file,
    ):
        for name, variable in file.variables.items():
            value = (
                np.ma.filled(variable[...], np.nan)
                if variable.typecode() in "fd"
                else variable[...]
            )
            value, axes = np.asarray(value), tuple(variable.dimensions)
            if value.dtype.kind == "S" and axes:
                # Text is an array of single characters, with an axis of its own.
                rows = np.ascontiguousarray(value).view(f"S{value.shape[-1]}")[..., 0]
                value, axes = np.char.decode(rows, "utf-8", "replace"), axes[:-1]
            entries[name] = Entry(kind_of(value), value.shape, partial(_same, value.copy()), axes)
    return {"entries": entries}


_Listing = Callable[[Path], dict[str, Any]]
_FORMATS: tuple[tuple[str, Callable[[bytes], bool], _Listing], ...] = (
    ("an HDF5 file", is_hdf5, _list_hdf5),
    ("a .npy file", lambda head: head.startswith(b"\x93NUMPY"), _list_npy),
    ("a .npz file", lambda head: head.startswith(b"PK"), _list_npz),
    ("a netCDF file", lambda head: head.startswith((b"CDF\x01", b"CDF\x02")), _list_netcdf),
    ("a pickle", lambda head: head.startswith(b"\x80") and 2 <= head[1] <= 5, _list_pickle),
    (
        "JSON",
        lambda head: head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"["),
        _list_json,
    ),
    # MATLAB files before v7.3 have no common signature.
    ("a MATLAB file", lambda head: head.startswith(b"MATLAB 5"), _list_matlab5),
    (
        "a MATLAB file (nor is it HDF5, netCDF, NumPy, a pickle or JSON)",
        lambda head: True,
        _list_matlab5,
    ),
)
