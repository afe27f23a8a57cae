"""Entries of AnnData's `.h5ad` files: matrices of observations and variables, with the columns that describe both.

Sparse matrices are made dense when they are read, and categories become the values that they stand for.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrdm._base.expansion import check_expansion
from fastrdm._base.hdf5 import Hdf5File

#: Names of the axes of an AnnData object.
OBSERVATIONS, VARIABLES = "obs", "var"
_VERSIONS = ("0.1.0",)
_SPARSE = ("csr_matrix", "csc_matrix")


class AnnDataEntry(NamedTuple):
    """A matrix or a column of an AnnData file, with the names of its axes."""

    shape: tuple[int, ...]
    axes: tuple[str, ...]
    is_text: bool
    read: Callable[[], Any]


def is_anndata(file: Hdf5File) -> bool:
    """Return whether a file says that it is AnnData's; ValueError for a version that is not known."""
    if file.is_matlab:
        return False
    facts = file.attributes("")
    if str(facts.get("encoding-type", "")) != "anndata":
        return False
    version = str(facts.get("encoding-version", ""))
    if version not in _VERSIONS:
        raise ValueError(
            f"it is AnnData's format in version {version or 'unknown'}, but {', '.join(_VERSIONS)} is the version that"
            " is known"
        )
    return True


def anndata_entries(path: Path, file: Hdf5File) -> dict[str, AnnDataEntry]:
    """Return the matrices, ``X`` and those of its layers, and the columns ``obs/NAME`` and ``var/NAME``."""
    found: dict[str, AnnDataEntry] = {}
    for key, item in _matrices(file):
        shape = _shape(file, key, item)
        if shape is not None:
            read = partial(_read_matrix, path, key)
            found[key] = AnnDataEntry(shape, (OBSERVATIONS, VARIABLES), False, read)
    for axis in (OBSERVATIONS, VARIABLES):
        for name, item in _members(file, axis):
            key = f"{axis}/{name}"
            parts = _parts(file, item)
            if {"codes", "categories"} <= parts.keys():
                n, is_text = parts["codes"].shape[0], True
            elif {"values", "mask"} <= parts.keys():
                n, is_text = parts["values"].shape[0], parts["values"].dtype.kind in "OS"
            elif not file.is_group(item) and item.shape is not None and len(item.shape) == 1:
                n, is_text = item.shape[0], item.dtype.kind in "OS"
            else:
                continue
            found[key] = AnnDataEntry((n,), (axis,), is_text, partial(_read_column, path, key))
    return found


def _parts(file: Hdf5File, item: Any) -> dict[str, Any]:
    """Return the datasets of a group by name, without links; none for a dataset."""
    if not file.is_group(item):
        return {}
    return {name: each for name, each in file.items(item) if not file.is_group(each)}


def _members(file: Hdf5File, key: str) -> Iterator[tuple[str, Any]]:
    held = dict(file.items())
    if key in held and file.is_group(held[key]):
        yield from file.items(held[key])


def _matrices(file: Hdf5File) -> Iterator[tuple[str, Any]]:
    held = dict(file.items())
    if "X" in held:
        yield "X", held["X"]
    for name, item in _members(file, "layers"):
        yield f"layers/{name}", item


def _shape(file: Hdf5File, key: str, item: Any) -> tuple[int, ...] | None:
    """Return the shape of a matrix; None if it is none."""
    if not file.is_group(item):
        return None if item.shape is None or len(item.shape) != 2 else tuple(item.shape)
    facts = file.attributes(key)
    shape = np.asarray(facts.get("shape", ()))
    if str(facts.get("encoding-type", "")) not in _SPARSE or shape.shape != (2,):
        return None
    return tuple(int(n) for n in shape)


def _read_matrix(path: Path, key: str) -> NDArray[Any]:
    with Hdf5File(path, is_matlab=False) as file:
        item = file.find(key)
        if not file.is_group(item):
            return np.asarray(file.numbers(item))
        facts = file.attributes(key)
        n_rows, n_columns = (int(n) for n in facts["shape"])
        parts = _parts(file, item)
        data, indices, starts = (
            np.asarray(file.numbers(parts[name])) for name in ("data", "indices", "indptr")
        )
    check_expansion(n_rows * n_columns * data.dtype.itemsize, path.stat().st_size, key)
    is_rows = str(facts["encoding-type"]) == "csr_matrix"
    n_major, n_minor = (n_rows, n_columns) if is_rows else (n_columns, n_rows)
    steps = np.diff(starts.astype(np.intp)).astype(np.intp)
    if (
        len(starts) != n_major + 1
        or len(data) != len(indices)
        or (steps < 0).any()
        or steps.sum() != len(data)
        or (len(indices) and not (indices.min() >= 0 and indices.max() < n_minor))
    ):
        raise ValueError(f"{key} is not a sparse matrix of shape {(n_rows, n_columns)}")
    dense = np.zeros((n_major, n_minor), data.dtype)
    np.add.at(dense, (np.repeat(np.arange(n_major), steps), indices.astype(np.intp)), data)
    return dense if is_rows else np.ascontiguousarray(dense.T)


def _read_column(path: Path, key: str) -> NDArray[Any]:
    with Hdf5File(path, is_matlab=False) as file:
        item = file.find(key)
        if not file.is_group(item):
            return np.asarray(file.read(item))
        parts = _parts(file, item)
        if "values" in parts:
            values = np.asarray(file.read(parts["values"]))
            missing = np.asarray(file.numbers(parts["mask"])).astype(bool)
            if values.shape != missing.shape:
                raise ValueError(f"{key} has a mask of another shape, {missing.shape}")
            is_text = values.dtype.kind in "OSU"
            return np.where(
                missing, "" if is_text else np.nan, values.astype(str) if is_text else values
            )
        codes = np.asarray(file.numbers(parts["codes"]))
        categories = np.asarray(file.read(parts["categories"])).astype(str)
    if len(codes) and not (codes.min() >= -1 and codes.max() < len(categories)):
        raise ValueError(f"{key} has codes beyond its {len(categories)} categories")
    # The code of a missing value is -1.
    return np.asarray(np.append(categories, "")[codes])
