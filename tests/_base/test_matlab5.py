"""MATLAB files before v7.3 are read as scipy reads them, and damaged ones are refused."""

import struct
import zlib

import numpy as np
import pytest
from scipy.io import loadmat, savemat, whosmat

from fastrdm._base import open_contents
from fastrdm._base.matlab5 import list_matlab5, read_matlab5

VALUES = {
    "matrix": np.arange(6.0).reshape(2, 3),
    "cube": np.random.default_rng(0).random((2, 3, 4)),
    "row": np.arange(6, dtype=np.int16),
    "single": np.float32(3),
    "long": np.int64(-3),
    "complex": np.array([1 + 2j, 3]),
    "truth": np.array([True, False]),
    "empty": np.zeros((0, 3)),
    "text": "hello",
    "rows": np.array(["ab", "c"]),
    "none": "",
    "struct": {"RDM": np.eye(4), "name": "täxt €", "inner": {"x": np.arange(5.0)}},
    "structs": np.array([(np.eye(2), "a"), (np.eye(3), "bb")], [("RDM", object), ("n", object)]),
    "cell": np.array([np.eye(2), "x", np.zeros(0)], object),
    "no cells": np.empty((0, 2), object),
}


def check_same(own, other):
    assert own.shape == other.shape
    assert own.dtype.names == other.dtype.names
    for name in own.dtype.names or ():
        check_same(own[name], other[name])
    if own.dtype == object:
        for one, two in zip(own.flat, other.flat, strict=True):
            check_same(one, two)
    elif not own.dtype.names:
        assert own.dtype == other.dtype.newbyteorder("=")
        np.testing.assert_array_equal(own, other)


@pytest.mark.parametrize("compressed", [False, True])
def test_values_are_those_of_scipy(tmp_path, compressed):
    path = tmp_path / "a.mat"
    savemat(path, VALUES, do_compression=compressed)
    listed = {name: (tuple(shape), kind) for name, shape, kind in whosmat(path)}
    assert list_matlab5(path) == listed
    expected = loadmat(path)
    for name in listed:
        check_same(read_matlab5(path, name), expected[name])


def test_version_4(tmp_path):
    path = tmp_path / "a.mat"
    values = {"x": np.arange(6.0).reshape(2, 3), "c": np.array([[1 + 2j]]), "t": "hello"}
    savemat(path, values, format="4")
    for name in values:
        check_same(read_matlab5(path, name), loadmat(path)[name])
    content = bytearray(path.read_bytes())
    content[4:12] = struct.pack("<2i", 2**30, 2**30)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"ends within a variable of shape \(1073741824, 1073741"):
        open_contents(path)


@pytest.mark.parametrize("kind", [0, 14, 99])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    "value", [np.eye(4), "text", {"RDM": np.eye(4)}], ids=["numbers", "text", "struct"]
)
def test_numbers_of_unknown_types(tmp_path, value, kind, compressed):
    path = tmp_path / "a.mat"
    savemat(path, {"x": value})
    content = bytearray(path.read_bytes())
    tag = (
        struct.pack("<2H", 1, 4) + b"text" if isinstance(value, str) else struct.pack("<2I", 9, 128)
    )
    at = content.find(tag, 128 + 8) if not isinstance(value, str) else content.rfind(b"text") - 4
    content[at : at + 2] = struct.pack("<H", kind)
    if compressed:
        packed = zlib.compress(content[128:])
        content[128:] = struct.pack("<2I", 15, len(packed)) + packed
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"cannot be read as a MATLAB file: .* type {kind}"):
        open_contents(path).read("x")


def test_compressed_variables_have_a_checksum(tmp_path):
    path = tmp_path / "a.mat"
    savemat(path, {"x": np.random.default_rng(0).random((4, 4))}, do_compression=True)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="incorrect data check"):
        open_contents(path).read("x")


def test_cells_that_the_file_cannot_hold(tmp_path):
    path = tmp_path / "a.mat"
    savemat(path, {"x": np.array([np.eye(2), "x"], object)})
    content = bytearray(path.read_bytes())
    at = content.find(struct.pack("<2i", 1, 2), 128)
    content[at : at + 8] = struct.pack("<2i", 2**15, 2**15)
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match=r"announces 1073741824 elements of shape \(32768, 32768\)"
    ):
        open_contents(path).read("x")
