"""rsatoolbox's files of RDMs and datasets, ``.hdf5`` and ``.pkl``: `read`, `read_contents`, `write`."""

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import check_writable_file, list_names, new_file, open_contents, require
from fastrdm.interop.rsatoolbox.originals import toolbox

# The version whose layout is written, and those whose layout is read, by their first two numbers.
_WRITTEN = "0.3.2"
_READ = ("0.0", "0.1", "0.2", "0.3")
_VERSION = "rsatoolbox_version"
_RDMS = ("dissimilarities", "descriptors", "rdm_descriptors", "pattern_descriptors")
_DATASET = ("measurements", "descriptors", "obs_descriptors", "channel_descriptors")
_SIGNATURE = b"\x89HDF\r\n\x1a\n"


def read(path: str | Path) -> Any:
    """Read RDMs or a dataset as rsatoolbox's object.

    Parameters
    ----------
    path : path-like
        A ``.hdf5`` or ``.pkl`` file that rsatoolbox's ``save``, or `write`, wrote. It is recognised by its content, and
        nothing in a pickle is run.

    Returns
    -------
    rsatoolbox.rdm.RDMs, or rsatoolbox.data.Dataset, TemporalDataset or DatasetBase
        What the file holds. Single numbers in HDF5 are NumPy's numbers, and text in arrays of objects is text, which
        rsatoolbox reads as arrays without dimension and as bytes.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If it holds neither RDMs nor a dataset, or is of a version of rsatoolbox that is not known.
    MissingExtraError
        If rsatoolbox is not installed.

    See Also
    --------
    read_contents : the same without rsatoolbox.
    fastrdm.read_rdms : condensed RDMs of this and other formats.
    """
    contents = read_contents(path)
    if _RDMS[0] in contents:
        return toolbox("rdm").rdms_from_dict(contents)
    return toolbox("data.dataset").dataset_from_dict(contents)


def read_contents(path: str | Path) -> dict[str, Any]:
    """Read RDMs or a dataset as arrays and descriptors; rsatoolbox is not needed.

    Parameters
    ----------
    path : path-like
        As for `read`.

    Returns
    -------
    dict
        With ``dissimilarities`` (RDMs, pairs), ``dissimilarity_measure``, ``descriptors``, ``rdm_descriptors`` and
        ``pattern_descriptors``; or with ``measurements`` (observations, channels) or (observations, channels, times),
        ``type``, ``descriptors``, ``obs_descriptors``, ``channel_descriptors`` and, for a TemporalDataset,
        ``time_descriptors``. Both have ``rsatoolbox_version`` if the file has it.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If it holds neither RDMs nor a dataset, or is of a version of rsatoolbox that is not known.
    MissingExtraError
        If h5py is needed and not installed.
    """
    path = Path(path)
    with path.open("rb") as file:
        is_hdf5 = file.read(len(_SIGNATURE)) == _SIGNATURE
    contents = _read_hdf5(path) if is_hdf5 else _read_pickle(path)
    _check(contents, str(path))
    version = contents.get(_VERSION)
    if version is not None and ".".join(str(version).split(".")[:2]) not in _READ:
        raise ValueError(
            f"{path} is of rsatoolbox {version}, whose files are not known to fastrdm; save it by one of"
            f" {', '.join(_READ)}"
        )
    return contents


def write(path: str | Path, value: Any, *, overwrite: bool = False) -> None:
    """Write RDMs or a dataset as rsatoolbox's ``save`` does; rsatoolbox is not needed.

    Parameters
    ----------
    path : path-like
        A name that ends with ``.hdf5``, ``.h5`` or ``.pkl``. The file appears when it is complete.
    value : rsatoolbox.rdm.RDMs, rsatoolbox.data.Dataset or TemporalDataset, or dict
        RDMs or a dataset; or a dict as `read_contents` returns.
    overwrite : bool
        Replace an existing file.

    Raises
    ------
    ValueError
        If the file exists and may not be replaced, the name ends otherwise, the value is neither RDMs nor a dataset, or
        HDF5 is to have text that is not ASCII, which rsatoolbox cannot read.
    MissingExtraError
        If h5py is needed and not installed.
    """
    path = Path(path)
    writer = _WRITERS.get(path.suffix.lower())
    if writer is None:
        raise ValueError(f"path is {str(path)!r}; its name should end with {list_names(_WRITERS)}")
    contents = value if isinstance(value, Mapping) else getattr(value, "to_dict", dict)()
    _check(contents, "value")
    check_writable_file(path, "path")
    if path.exists() and not overwrite:
        raise ValueError(f"{path} exists; pass overwrite=True to replace it")
    with new_file(path) as file:
        writer(file, {**contents, _VERSION: _WRITTEN})


def _check(contents: Any, name: str) -> None:
    if not isinstance(contents, Mapping) or not any(
        all(key in contents for key in keys) for keys in (_RDMS, _DATASET)
    ):
        raise ValueError(
            f"{name} holds neither RDMs ({', '.join(_RDMS)}) nor a dataset ({', '.join(_DATASET)}) of rsatoolbox"
        )


# HDF5: text is an attribute, None an empty dataset, a list that is no array a group with numbers as names.


def _read_hdf5(path: Path) -> dict[str, Any]:
    h5py = require("h5py", "data", "to read rsatoolbox's .hdf5 files")
    try:
        with h5py.File(path, "r") as file:
            return _group(file, h5py)
    except OSError as error:
        raise ValueError(f"{path} cannot be read as HDF5: {error}") from error


def _group(group: Any, h5py: Any) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, entry in group.items():
        if isinstance(entry, h5py.Group):
            values[key] = _group(entry, h5py)
        elif entry.shape is None:
            values[key] = None
        else:
            values[key] = _decoded(entry[()])
    return values | {key: _decoded(value) for key, value in group.attrs.items()}


def _decoded(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, np.ndarray) and value.dtype.kind == "S":
        return np.char.decode(value, "utf-8")
    if isinstance(value, np.ndarray) and value.dtype.kind == "O":
        return np.array([_decoded(each) for each in value.ravel()]).reshape(value.shape)
    return value


def _write_hdf5(file: IO[bytes], contents: Mapping[str, Any]) -> None:
    h5py = require("h5py", "data", "to write rsatoolbox's .hdf5 files")
    with h5py.File(file, "w") as root:
        _fill(root, contents, h5py)


def _fill(group: Any, contents: Mapping[str, Any], h5py: Any) -> None:
    for key, value in contents.items():
        if isinstance(value, str):
            group.attrs[key] = str(value)
        elif value is None:
            group[key] = h5py.Empty("f")
        elif isinstance(value, Mapping):
            _fill(group.create_group(key), value, h5py)
        else:
            array = _array_of(value)
            if array is None:
                members = {str(i): each for i, each in enumerate(value)}
                _fill(group.create_group(key), members, h5py)
            else:
                group[key] = _encoded(array, key)


def _array_of(value: Any) -> NDArray[Any] | None:
    try:
        array = np.asarray(value)
    except ValueError:
        return None
    if array.dtype.kind == "O" and all(isinstance(each, str) for each in array.ravel()):
        array = array.astype(str)
    return None if array.dtype.kind == "O" else array


def _encoded(array: NDArray[Any], key: str) -> NDArray[Any]:
    if array.dtype.kind != "U":
        return array
    try:
        return array.astype("S")
    except UnicodeEncodeError:
        raise ValueError(
            f"descriptor {key!r} has text that is not ASCII, which rsatoolbox cannot read from HDF5; write a .pkl file"
        ) from None


# Pickles of a dict.


def _read_pickle(path: Path) -> dict[str, Any]:
    found = open_contents(path)
    values = {key: found.read(key) for key in found.entries if "/" not in key}
    return {key: _unwrapped(value) for key, value in values.items()}


def _unwrapped(value: Any) -> Any:
    """Return text and None, which arrive as arrays, as they were, and arrays, also in containers, as plain ones."""
    if isinstance(value, dict):
        return {key: _unwrapped(each) for key, each in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_unwrapped(each) for each in value)
    if not isinstance(value, np.ndarray):
        return value
    if value.ndim == 0 and value.dtype.kind in "UO":
        return value.item()
    return np.asarray(value)


def _write_pickle(file: IO[bytes], contents: Mapping[str, Any]) -> None:
    pickle.dump(dict(contents), file, protocol=4)


_WRITERS: dict[str, Callable[[IO[bytes], Mapping[str, Any]], None]] = {
    ".hdf5": _write_hdf5,
    ".h5": _write_hdf5,
    ".pkl": _write_pickle,
}
