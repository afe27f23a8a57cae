"""Reading of HDF5 files: MATLAB v7.3, netCDF 4, and those that other programs write.

MATLAB stores axes in reverse, text as numbers, and the elements of structs and cells behind references. Its files are
recognised by their signature: the text in the block before the HDF5 file, or the attribute `MATLAB_class` of an
object. In other files axes are as they are.
"""

import functools
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base.expansion import check_expansion, limit_of
from fastrdm._base.extras import require
from fastrdm._base.files import file_stamp
from fastrdm._base.hdf5_heaps import DEFLATE, Hdf5Heaps, filters_of, heaps_of

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
# MATLAB writes a header of 512 bytes before the HDF5 file; the format allows any power of two.
HDF5_OFFSETS = (0, 512, 1024, 2048)
_MATLAB_SIGNATURE = b"MATLAB 7.3 MAT-file"

_MAX_DEPTH = 16
# The least bytes that an object takes in a file, and objects that files of any size may have.
_LEAST_OBJECT, _FEW_OBJECTS = 32, 1000
# zlib compresses up to 1032 : 1.
_ZLIB_RATIO = 1032
# Bytes of a character in an array of text.
_CHARACTER = 4


def is_hdf5(head: bytes) -> bool:
    """Return whether a file begins like HDF5, possibly after a user block."""
    return any(head.startswith(HDF5_SIGNATURE, offset) for offset in HDF5_OFFSETS)


class Hdf5File:
    """An open HDF5 file, of which nothing outside the file is read; whether it is of MATLAB may be known."""

    def __init__(self, path: Path, is_matlab: bool | None = None) -> None:
        with path.open("rb") as file:
            signed = file.read(len(_MATLAB_SIGNATURE)) == _MATLAB_SIGNATURE
        purpose = "to read MATLAB v7.3 files" if signed else "to read HDF5 files"
        self._h5py = require("h5py", "data", purpose)
        self._size = path.stat().st_size
        self._taken = self._n_objects = 0
        self._path = path
        self._file = self._h5py.File(path, "r")
        try:
            # This looks at all objects, and a file is opened for each one that is read.
            self.is_matlab = (
                signed or any("MATLAB_class" in i.attrs for _, i in self.items())
                if is_matlab is None
                else is_matlab
            )
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> "Hdf5File":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def items(self, group: Any = None) -> Iterator[tuple[str, Any]]:
        """Yield names, and groups and datasets, of a group or the file, but not links and MATLAB's own groups."""
        parent = self._file if group is None else group
        for name in parent:
            self._count_object()
            link = parent.get(name, getlink=True)
            if name.startswith("#") or not isinstance(link, self._h5py.HardLink):
                continue
            if not isinstance(item := parent[name], self._h5py.Datatype):
                yield name, item

    def links(self) -> list[str]:
        """Return the names at the top level that are links out of the file or to a name."""
        hard = self._h5py.HardLink
        return [n for n in self._file if not isinstance(self._file.get(n, getlink=True), hard)]

    def find(self, key: str) -> Any:
        """Return the object with a path; ValueError if a part of the path is a link."""
        item = self._file
        for name in filter(None, key.split("/")):
            link = item.get(name, getlink=True)
            if isinstance(link, self._h5py.ExternalLink):
                raise ValueError(
                    f"{key} is a link to another file, {link.filename}, which is not followed"
                )
            if isinstance(link, self._h5py.SoftLink):
                raise ValueError(f"{key} is a link to {link.path}; name that instead")
            item = item[name]
        return item

    def is_group(self, item: Any) -> bool:
        """Return whether an object is a group."""
        return isinstance(item, self._h5py.Group)

    def is_bare_dimension(self, dataset: Any) -> bool:
        """Return whether a dataset only stands for a dimension of netCDF that has no values."""
        text = self.text_of(dataset, "NAME") if self._is_scale(dataset) else ""
        return text.startswith("This is a netCDF dimension but not a netCDF variable")

    def _is_scale(self, dataset: Any) -> bool:
        # HDF5 2.0's own function for this writes beyond its memory where the attribute is not one text.
        return self.text_of(dataset, "CLASS") == "DIMENSION_SCALE"

    def dimensions(self, dataset: Any) -> tuple[str, ...]:
        """Return the names of a dataset's axes, as netCDF stores them; empty if an axis has none."""
        n_axes = len(dataset.shape)
        lists, labels = (
            [] if value is None or np.shape(value)[:1] != (n_axes,) else value
            for value in (self._attribute(dataset, f"DIMENSION_{n}") for n in ("LIST", "LABELS"))
        )
        names = []
        for axis in range(n_axes):
            if len(lists) and len(lists[axis]):
                names.append(str(self._file[lists[axis][0]].name).rpartition("/")[2])
            elif len(labels) and labels[axis]:
                label = labels[axis]
                names.append(label.decode("latin1") if isinstance(label, bytes) else str(label))
            elif n_axes == 1 and self._is_scale(dataset):
                names.append(str(dataset.name).rpartition("/")[2])
            else:
                return ()
        return tuple(names)

    def read(self, item: Any) -> Any:
        """Return the value of an object, in a MATLAB file as `scipy.io.loadmat` does."""
        if self.is_matlab:
            return self._matlab(item, 0)
        return self._plain(item, 0)

    def part(self, dataset: Any, part: tuple[slice, ...]) -> Any:
        """Return a part of a dataset of numbers; errors as for `numbers`."""
        self._check_inside(dataset)
        whole = (*part, *[slice(None)] * (len(dataset.shape) - len(part)))
        ranges = [range(*each.indices(n)) for each, n in zip(whole, dataset.shape, strict=True)]
        n_bytes = math.prod(map(len, ranges)) * dataset.dtype.itemsize
        self._check_size(dataset, n_bytes, ranges)
        return dataset[part]

    def attributes(self, key: str) -> dict[str, Any]:
        """Return the attributes of an object with a path; those of the file for an empty one."""
        return self._attributes(self.find(key))

    def numbers(self, dataset: Any) -> Any:
        """Return a dataset; ValueError if other files hold its data, or its size is impossible for the file."""
        self._check_inside(dataset)
        self._check_size(dataset, dataset.size * dataset.dtype.itemsize)
        if self._h5py.check_dtype(vlen=dataset.dtype) is not None:
            return self._of_any_length(dataset)
        return dataset[()]

    def _check_inside(self, dataset: Any) -> None:
        """Raise a ValueError if other files hold the data."""
        if dataset.is_virtual:
            raise ValueError(
                f"{dataset.name} is a virtual dataset of other files, which are not read"
            )
        if dataset.external:
            other = dataset.external[0][0]
            raise ValueError(
                f"{dataset.name} is stored in another file, {other}, which is not read"
            )

    def _check_size(self, dataset: Any, n_bytes: int, part: Sequence[range] | None = None) -> None:
        """Check what all data that were read so far take, and what the filters of these may make of them."""
        if dataset.dtype.kind == "S":
            n_bytes *= 1 + _CHARACTER
        chunk = math.prod(dataset.chunks or ()) * dataset.dtype.itemsize
        self._take(max(n_bytes, chunk), f"{dataset.name} announces shape {dataset.shape}, which")
        if not dataset.chunks:
            return
        codes = filters_of(dataset)
        if codes.count(DEFLATE) > 1:
            raise ValueError(f"{dataset.name} is compressed several times, which is not read")
        if DEFLATE in codes and _ZLIB_RATIO * self._size > limit_of(self._size):
            self._check_chunks(dataset, chunk, part)

    def _check_chunks(self, dataset: Any, size: int, part: Sequence[range] | None) -> None:
        """Check that no large chunk, of a part, holds more than its size, all of which HDF5 would inflate."""
        for i in range(dataset.id.get_num_chunks()):
            info = dataset.id.get_chunk_info(i)
            if _ZLIB_RATIO * info.size <= limit_of(0) or info.filter_mask:
                continue
            if part is not None and not _meets(part, info.chunk_offset, dataset.chunks):
                continue
            content = dataset.id.read_direct_chunk(info.chunk_offset)[1]
            # Checksums follow the data.
            if len(zlib.decompressobj().decompress(content, size + 9)) > size + 8:
                raise ValueError(f"{dataset.name} holds more than the {size} bytes of a chunk")

    def _take(self, n_bytes: int, what: str) -> None:
        self._taken += n_bytes
        check_expansion(self._taken, self._size, what)

    def _count_object(self) -> None:
        self._n_objects += 1
        if self._n_objects > _FEW_OBJECTS + self._size // _LEAST_OBJECT:
            raise ValueError(
                f"its objects refer to each other {self._n_objects} times, more often than {self._size} bytes of"
                " contents can"
            )

    @functools.cached_property
    def _heaps(self) -> Hdf5Heaps:
        """The places of texts of any length, checked."""
        properties = self._file.id.get_create_plist()
        if properties.get_sizes() != (8, 8):
            raise ValueError(
                f"its addresses have other sizes than 8 bytes: {properties.get_sizes()}"
            )
        return heaps_of(self._path, properties.get_userblock(), file_stamp(self._path))

    def _of_any_length(self, dataset: Any) -> NDArray[Any]:
        """Return elements of different lengths, read so few at a time that each may be as large as the file."""
        self._heaps.check_chunks(dataset)
        flat = np.empty(dataset.size, object)
        if not dataset.shape:
            flat[0] = dataset[()]
            return flat.reshape(())
        per_row = max(1, dataset.size // max(1, dataset.shape[0]))
        n_rows = max(1, limit_of(0) // (self._size * per_row))
        if not flat.size:
            return flat.reshape(dataset.shape)
        if per_row * self._size > limit_of(self._size):
            raise ValueError(f"{dataset.name} has {per_row} texts in a row, too many to read")
        for start in range(0, dataset.shape[0], n_rows):
            rows = np.ravel(dataset[start : start + n_rows])
            self._take(sum(len(each) for each in rows) * _CHARACTER, f"the text of {dataset.name}")
            flat[start * per_row : start * per_row + rows.size] = rows
        return flat.reshape(dataset.shape)

    def _plain(self, item: Any, depth: int) -> Any:
        self._count_object()
        if depth > _MAX_DEPTH:
            raise ValueError(f"{item.name} is nested more than {_MAX_DEPTH} deep")
        if self.is_group(item):
            members = {name: self._plain(child, depth + 1) for name, child in self.items(item)}
            return members | self._attributes(item)
        if item.shape is None:
            return None
        if self._h5py.check_string_dtype(item.dtype):
            value = np.asarray(self.numbers(item))
            texts = [
                t.decode("utf-8", "replace") if isinstance(t, bytes) else str(t) for t in value.flat
            ]
            return np.array(texts or np.zeros(0, "U1")).reshape(value.shape)
        if self._h5py.check_ref_dtype(item.dtype):
            raise ValueError(f"{item.name} holds references, which are read only in MATLAB's files")
        value = _unpacked(self.numbers(item), self._attributes(item))
        return value if self.dimensions(item) else _conditions_last(value)

    def _attribute(self, item: Any, name: str) -> Any:
        """Return an attribute; None if there is none, or its texts might be far larger than the file."""
        if name not in item.attrs:
            return None
        attribute = item.attrs.get_id(name)
        if attribute.dtype.hasobject:
            # Checked at the first use.
            _ = self._heaps
        n_bytes = math.prod(attribute.shape or ()) * attribute.dtype.itemsize
        if self._h5py.check_dtype(vlen=attribute.dtype) is not None:
            n_bytes = math.prod(attribute.shape or ()) * self._size
        return item.attrs[name] if n_bytes <= limit_of(self._size) else None

    def text_of(self, item: Any, name: str) -> str:
        """Return an attribute as text; empty if there is none."""
        value = self._attribute(item, name)
        return value.decode("latin1") if isinstance(value, bytes) else str(value or "")

    def _attributes(self, item: Any) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for name in item.attrs:
            if (value := self._attribute(item, name)) is None:
                continue
            array = np.asarray(value)
            if array.dtype.kind == "S":
                out[name] = np.char.decode(array, "utf-8", "replace")
            elif array.dtype.kind in "biufU" or (
                array.dtype == object and all(isinstance(v, str) for v in array.flat)
            ):
                out[name] = array.astype(str) if array.dtype == object else array
        return out

    def _matlab(self, item: Any, depth: int) -> Any:
        self._count_object()
        if depth > _MAX_DEPTH:
            raise ValueError(f"{item.name} is nested more than {_MAX_DEPTH} deep")
        kind = self.text_of(item, "MATLAB_class")
        if self.is_group(item):
            if "MATLAB_sparse" in item.attrs:
                raise ValueError(f"{item.name} is a sparse matrix; save full(…) of it")
            return self._struct(item, depth)
        is_reference = self._h5py.check_ref_dtype(item.dtype) is not None
        if self._attribute(item, "MATLAB_empty"):
            shape = tuple(int(n) for n in np.asarray(self.numbers(item)).flat)
            if 0 not in shape:
                raise ValueError(f"{item.name} is empty, but announces shape {shape}")
            return np.zeros(shape, object if kind == "cell" else "U1" if kind == "char" else float)
        value = np.transpose(self.numbers(item))
        if is_reference:
            return self._cells(value, depth)
        if kind == "char":
            rows = np.ascontiguousarray(value, "<u2")
            rows = rows.reshape(-1, rows.shape[-1]) if rows.ndim else rows.reshape(1, 1)
            return np.array([row.tobytes().decode("utf-16-le", "replace") for row in rows])
        if value.dtype.names == ("real", "imag"):
            return value["real"] + 1j * value["imag"]
        if kind not in _MATLAB_NUMERIC:
            raise ValueError(f"{item.name} is of MATLAB's class {kind}, which is not read")
        return value

    def _struct(self, group: Any, depth: int) -> NDArray[Any]:
        """Return a struct array; fields of a single struct are stored directly, others behind references."""
        fields = dict(self.items(group))
        refers = {
            name: not self.is_group(field)
            and self._h5py.check_ref_dtype(field.dtype) is not None
            and "MATLAB_class" not in field.attrs
            for name, field in fields.items()
        }
        if not fields or not all(refers.values()):
            out = np.zeros((1, 1), [(name, object) for name in fields])
            for name, field in fields.items():
                out[name][0, 0] = self._matlab(field, depth + 1)
            return out
        columns = {
            name: self._cells(np.transpose(self.numbers(field)), depth)
            for name, field in fields.items()
        }
        shapes = {column.shape for column in columns.values()}
        if len(shapes) > 1:
            raise ValueError(f"{group.name} has fields of different shapes: {sorted(shapes)}")
        out = np.zeros(shapes.pop(), [(name, object) for name in fields])
        for name, column in columns.items():
            out[name] = column
        return out

    def _cells(self, references: NDArray[Any], depth: int) -> NDArray[Any]:
        out = np.empty(references.shape, object)
        for index in np.ndindex(references.shape):
            if not references[index]:
                raise ValueError("the reference of an element is empty")
            out[index] = self._matlab(self._file[references[index]], depth + 1)
        return out


def _meets(part: Sequence[range], offset: Sequence[int], chunk: Sequence[int]) -> bool:
    """Return whether a part has elements of the chunk at an offset."""
    return all(
        each.start < start + n and start < each.stop
        for each, start, n in zip(part, offset, chunk, strict=True)
    )


def _unpacked(value: Any, attributes: Mapping[str, Any]) -> Any:
    """Apply the conventions of netCDF for missing and packed numbers."""
    value = np.asarray(value)
    missing = [attributes[n] for n in ("_FillValue", "missing_value") if n in attributes]
    packed = {"scale_factor", "add_offset"} & attributes.keys()
    if value.dtype.kind not in "iuf" or not (missing or packed):
        return value
    gaps = np.zeros(value.shape, bool)
    for number in missing:
        gaps |= value == np.asarray(number).ravel()[0]
    if packed or gaps.any():
        value = value.astype(np.float64 if value.dtype.itemsize > 4 or packed else np.float32)
        value = value * float(np.ravel(attributes.get("scale_factor", 1))[0])
        value = value + float(np.ravel(attributes.get("add_offset", 0))[0])
        value[gaps] = np.nan
    return value


def _conditions_last(array: NDArray[Any]) -> NDArray[Any]:
    """Reverse the axes of an array if only its first two can be those of an RDM.

    The challenge's MEG targets have MATLAB's axes without its signature: (n, n, times, subjects).
    """
    conditions_first = (
        array.ndim > 2
        and array.shape[0] == array.shape[1] > 1
        and array.shape[-1] != array.shape[-2]
        and array.dtype.kind in "biuf"
        and np.array_equal(array, np.swapaxes(array, 0, 1), equal_nan=array.dtype.kind == "f")
    )
    return np.transpose(array) if conditions_first else array


# Arrays that other programs wrote for MATLAB may have no class.
_MATLAB_NUMERIC = frozenset(
    {"", "double", "single", "logical"} | {f"{u}int{n}" for u in ("", "u") for n in (8, 16, 32, 64)}
)
