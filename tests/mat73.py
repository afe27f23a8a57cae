"""MATLAB v7.3 files as MATLAB writes them: reversed axes, text as numbers, structs and cells behind references."""

import h5py
import numpy as np

HEADER = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Wed Feb 20 18:45:25 2019 HDF5 schema 1.00 ."


class Cell:
    """A cell array, or with names of fields a struct array of dicts."""

    def __init__(self, shape, elements, fields=None):
        self.shape, self.elements, self.fields = shape, list(elements), fields


def write_mat73(path, variables):
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in variables.items():
            _write(file, file, name, value)
    with path.open("r+b") as file:
        file.write(HEADER.ljust(124) + b"\x00\x02IM" + bytes(384))


def _write(file, group, name, value):
    if isinstance(value, dict):
        child = group.create_group(name)
        child.attrs["MATLAB_class"] = np.bytes_("struct")
        for field, member in value.items():
            _write(file, child, field, member)
    elif isinstance(value, Cell) and value.fields:
        child = group.create_group(name)
        child.attrs["MATLAB_class"] = np.bytes_("struct")
        for field in value.fields:
            child[field] = _references(file, value.shape, [each[field] for each in value.elements])
    elif isinstance(value, Cell):
        group[name] = _references(file, value.shape, value.elements)
        group[name].attrs["MATLAB_class"] = np.bytes_("cell")
    elif isinstance(value, str):
        group[name] = np.array([[ord(letter)] for letter in value], np.uint16)
        group[name].attrs["MATLAB_class"] = np.bytes_("char")
        group[name].attrs["MATLAB_int_decode"] = np.int32(2)
    else:
        array = np.atleast_2d(value)
        group[name] = array.T
        kinds = {"float64": "double", "float32": "single"}
        group[name].attrs["MATLAB_class"] = np.bytes_(kinds.get(str(array.dtype), str(array.dtype)))


def _references(file, shape, values):
    refs = file.require_group("#refs#")
    out = np.empty(len(values), h5py.ref_dtype)
    for i, value in enumerate(values):
        name = f"r{len(refs)}"
        _write(file, refs, name, value)
        out[i] = refs[name].ref
    return out.reshape(shape).transpose()
