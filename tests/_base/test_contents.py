"""What files hold: nothing outside them is read, nothing in them is run, and announced sizes are checked."""

import io
import pickle
from collections import OrderedDict

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from fastrdm._base import StandIn, open_contents, read_arrays
from fastrdm._base.pickles import load_pickle
from fastrdm.studies import read_rdms

VALUES = {
    "matrix": np.arange(6.0).reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "strided": np.arange(10)[::2],
    "empty": np.zeros((0, 3)),
    "big endian": np.arange(3, dtype=">i4"),
    "text": np.array(["x", "yy"]),
    "bytes": np.array([b"ab"]),
    "objects": np.array(["x", None, [1, 2]], object),
    "scalar": np.float64(3),
    "text scalar": np.str_("q"),
    "truth": np.array(True),
    "dict": OrderedDict(a=1),
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", VALUES)
def test_pickled_arrays_of_every_protocol(name, protocol):
    value = VALUES[name]
    found = load_pickle(io.BytesIO(pickle.dumps({"a": [value]}, protocol)))["a"][0]
    np.testing.assert_array_equal(np.asarray(found), value)
    assert type(np.asarray(found)) is np.ndarray


class Reduced:
    def __init__(self, *reduced):
        self.reduced = reduced

    def __reduce__(self):
        return self.reduced


def state(dtype="f8", shape=(3,), content=bytes(24)):
    constructor, arguments, _ = np.zeros(1).__reduce__()
    return Reduced(constructor, arguments, (1, shape, np.dtype(dtype), False, content))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Reduced(print, ("ran",)), "builtin.*print, which is not part of an array; it was not run"),
        (Reduced(np.dtype, ("f8",), (3, "|", None, ("a",), {"a": 1}, 8, 1, 27)), ""),
        (state(shape=(1 << 40,)), "announces an array of shape .* but holds 24 bytes"),
        (state(shape=(-3,)), "announces an array of shape"),
        (state([("a", "f8")]), "neither numbers nor text"),
        (Reduced(np.dtype, ("V8",)), "neither numbers nor text"),
        (np.datetime64("2020-01-01"), "neither numbers nor text"),
    ],
)
def test_pickles_that_are_refused(value, message):
    content = io.BytesIO(pickle.dumps(value, 2))
    if not message:
        # The state of a type is not used: its names, fields and sizes stay those of the type itself.
        assert load_pickle(content).dtype == np.dtype("f8")
        return
    with pytest.raises(pickle.UnpicklingError, match=message):
        load_pickle(content)


def test_headers_that_announce_more_than_the_file_holds(tmp_path):
    header = b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f8', 'fortran_order': False, 'shape': (1099511627776,), }"
    (tmp_path / "a.npy").write_bytes(header.ljust(127) + b"\n" + bytes(80))
    with pytest.raises(
        ValueError, match=r"a.npy cannot be read as a .npy file: it announces an array"
    ):
        read_arrays(tmp_path / "a.npy")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.create_dataset("x", (1 << 40,), "f8", chunks=(1024,))
    with pytest.raises(
        ValueError, match=r"b.h5 cannot be read as an HDF5 file: /x announces shape"
    ):
        read_arrays(tmp_path / "b.h5")


@pytest.fixture
def outside(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["secret"] = np.arange(9.0).reshape(3, 3)
    return tmp_path / "other.h5"


def test_links_out_of_a_file_are_not_followed(tmp_path, outside):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["own"] = np.eye(3)
        file["theirs"] = h5py.ExternalLink(str(outside), "secret")
        file["alias"] = h5py.SoftLink("/own")
    contents = open_contents(tmp_path / "a.h5")
    assert [*contents.entries] == ["own", "alias", "theirs"]
    with pytest.raises(
        ValueError, match=r"theirs is a link to another file, .*other.h5, which is not"
    ):
        contents.read("theirs")
    with pytest.raises(ValueError, match="alias is a link to /own; name that instead"):
        contents.read("alias")
    assert [*read_arrays(tmp_path / "a.h5")] == ["own"]


def test_virtual_and_external_datasets_are_not_read(tmp_path, outside):
    layout = h5py.VirtualLayout((3, 3), "f8")
    layout[:] = h5py.VirtualSource(str(outside), "secret", (3, 3))
    (tmp_path / "raw").write_bytes(bytes(72))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("raw", (3, 3), "f8", external=[(str(tmp_path / "raw"), 0, 72)])
    contents = open_contents(tmp_path / "a.h5")
    with pytest.raises(ValueError, match="/virtual is a virtual dataset of other files"):
        contents.read("virtual")
    with pytest.raises(
        ValueError, match="/raw is stored in another file, .*raw, which is not read"
    ):
        contents.read("raw")


def test_types_that_are_stored_in_a_file_are_not_arrays(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["kind"] = h5py.enum_dtype({"no": 0, "yes": 1})
        file["x"] = np.eye(3)
    assert [*open_contents(tmp_path / "a.h5").entries] == ["x"]


def test_structs_are_read_only_if_they_are_named(tmp_path):
    savemat(tmp_path / "a.mat", {"x": np.eye(3), "big": {"y": {"z": np.eye(4)}}})
    contents = open_contents(tmp_path / "a.mat")
    assert [*contents.entries] == [*contents.with_fields(["x"]).entries] == ["x", "big"]
    for keys in (None, ["big.y"], ["*.z"]):
        assert [*contents.with_fields(keys).entries] == ["x", "big", "big.y", "big.y.z"]
    np.testing.assert_array_equal(contents.with_fields().read("big.y.z"), np.eye(4))


def test_groups_that_hold_themselves(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["g/x"] = np.eye(3)
        file["g/again"] = file["g"]
    assert [*open_contents(tmp_path / "a.h5").entries] == ["g", "g/x"]


def test_damaged_structs_are_errors_not_crashes(tmp_path):
    struct = {"RDM": np.eye(4), "name": "text", "inner": {"x": np.arange(5.0)}}
    savemat(tmp_path / "a.mat", {"s": struct})
    content = (tmp_path / "a.mat").read_bytes()
    for start in range(128, len(content) - 32, 8):
        for junk in (bytes(8), b"\xff" * 8, b"\x77\x00\x00\x00\x10\x00\x00\x00"):
            (tmp_path / "a.mat").write_bytes(content[:start] + junk + content[start + 8 :])
            try:
                contents = open_contents(tmp_path / "a.mat")
                contents = contents.with_fields()
                for key in contents.entries:
                    contents.read(key)
            except ValueError as error:
                assert "a.mat cannot be read as" in str(error)


def test_evaluation_files_of_python_have_their_axes_as_they_are(tmp_path):
    array = np.arange(2 * 4 * 4.0).reshape(2, 4, 4)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = array
    np.testing.assert_array_equal(read_arrays(tmp_path / "a.h5")["x"], array)


@pytest.mark.parametrize("end", [b"Ns.", b"Nd.", b"\x91.", b"\x90."])
def test_tuples_that_are_too_deep_to_be_keys(end, tmp_path):
    # Python crashes when it hashes such a tuple.
    begin = {b"Ns.": b"}", b"\x90.": b"\x8f("}.get(end, b"(")
    (tmp_path / "a.pkl").write_bytes(b"\x80\x04" + begin + b")" + b"\x85" * 10**6 + end)
    with pytest.raises(
        ValueError, match=r"a\.pkl cannot be read as a pickle: .* nested too deeply"
    ):
        open_contents(tmp_path / "a.pkl")


def test_objects_in_place_of_pickled_ones_refuse_a_state_unless_they_take_it():
    with pytest.raises(pickle.UnpicklingError, match="a state to an object that takes none"):
        StandIn().__setstate__({})


def test_headers_of_any_length(tmp_path):
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x02\x00\xff\xff\xff\xff{}")
    with pytest.raises(ValueError, match="it announces a header of 4294967295 bytes"):
        open_contents(tmp_path / "a.npy")


@pytest.mark.parametrize("shape", ["-" * 9000 + "1", "a" + ".a" * 4000])
def test_headers_that_are_too_deep(shape, tmp_path):
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    (tmp_path / "a.npy").write_bytes(
        b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    )
    with pytest.raises(ValueError, match="its header is nested too deeply|Cannot parse header"):
        open_contents(tmp_path / "a.npy")


def test_long_lines_are_shortened(tmp_path):
    header = b"{'descr': " + b"[" * 9000 + b"\n"
    (tmp_path / "a.npy").write_bytes(
        b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    )
    with pytest.raises(ValueError, match="cannot be read as a .npy file") as caught:
        open_contents(tmp_path / "a.npy")
    assert len(str(caught.value)) < 1500


def test_keys_are_shown_harmlessly(tmp_path):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"x\n\x1b[31m": np.eye(4), "y": np.eye(4)}))
    with pytest.raises(ValueError, match=r"it holds x\\n\\x1b\[31m numbers \(4, 4\), y numbers"):
        read_rdms(tmp_path / "a.pkl")
