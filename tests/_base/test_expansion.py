"""Small files that expand to much memory are refused in one sentence, before the memory is taken."""

import io
import pickle
import resource
import struct
import sys
import zipfile
import zlib

import h5py
import numpy as np
import pytest

from fastrdm._base import open_contents
from fastrdm._base.expansion import check_expansion

# More than the tests below need, and less than what any of the files would expand to.
BOUND = 160 * 2**20


def read_all(path):
    contents = open_contents(path).with_fields()
    return {key: contents.read(key) for key in contents.entries}


@pytest.fixture
def bounded():
    """A bound on what the test may add to the peak of the process's memory."""
    if not sys.platform.startswith("linux"):
        yield
        return
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) < BOUND


def refused(path, message):
    with pytest.raises(ValueError, match=message) as caught:
        read_all(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def repeated(byte, n):
    """A stream of zlib of n equal bytes, made without as much memory."""
    stream = zlib.compressobj(9)
    block = byte * 2**20
    return b"".join([*(stream.compress(block) for _ in range(n >> 20)), stream.flush()])


N_ZEROS = 192 * 2**20
ZEROS = repeated(b"\0", N_ZEROS)


def test_datasets_of_which_nothing_is_stored(tmp_path, bounded):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", (10**9,), "f8", chunks=(1024,))
    assert (tmp_path / "a.h5").stat().st_size < 2000
    refused(tmp_path / "a.h5", "/x announces shape .*, which would expand to 7.5 GiB from 1400 byt")


def test_chunks_larger_than_their_dataset(tmp_path, bounded):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        chunks = (4 * 10**8,)
        x = file.create_dataset(
            "x", (4,), "f8", chunks=chunks, maxshape=(None,), compression="gzip"
        )
        x.id.write_direct_chunk((0,), zlib.compress(bytes(100)))
    refused(tmp_path / "a.h5", "/x announces shape .*, which would expand to 3.0 GiB")


def test_chunks_that_inflate_to_more_than_their_size(tmp_path, bounded):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        x = file.create_dataset("x", (100,), "f8", chunks=(100,), compression="gzip")
        x.id.write_direct_chunk((0,), ZEROS)
    refused(tmp_path / "a.h5", "/x holds more than the 800 bytes of a chunk")


def test_texts_that_share_their_place(tmp_path, bounded):
    n, size = 100_000, 2_000_000
    with h5py.File(tmp_path / "a.h5", "w") as file:
        x = file.create_dataset("x", (n,), h5py.string_dtype(), chunks=(n,), compression="gzip")
        x[0] = "a" * size
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        chunk = zlib.decompress(file["x"].id.read_direct_chunk((0,))[1])
        file["x"].id.write_direct_chunk((0,), zlib.compress(chunk[:16] * n))
    refused(tmp_path / "a.h5", "the text of /x would expand to")


def test_cells_that_repeat_an_array(tmp_path, bounded):
    with h5py.File(tmp_path / "a.mat", "w", userblock_size=512) as file:
        array = file.create_dataset("#refs#/a", data=np.zeros((500, 500)), compression="gzip")
        array.attrs["MATLAB_class"] = np.bytes_("double")
        file["x"] = np.array([array.ref] * 1000, h5py.ref_dtype)
        file["x"].attrs["MATLAB_class"] = np.bytes_("cell")
    refused(tmp_path / "a.mat", "which would expand to|refer to each other")


@pytest.mark.parametrize("is_matlab", [False, True])
def test_groups_that_contain_themselves_many_times(tmp_path, is_matlab):
    with h5py.File(tmp_path / "a.mat", "w", userblock_size=512) as file:
        group = file.create_group("x")
        if is_matlab:
            group.attrs["MATLAB_class"] = np.bytes_("struct")
        for i in range(50):
            group[f"y{i}"] = group
    refused(tmp_path / "a.mat", "nested more than 16 deep|refer to each other")


def test_archives_of_zeros(tmp_path, bounded):
    header = io.BytesIO()
    facts = {"descr": "|u1", "fortran_order": False, "shape": (N_ZEROS,)}
    np.lib.format.write_array_header_1_0(header, facts)
    with (
        zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("x.npy", "w", force_zip64=True) as member,
    ):
        member.write(header.getvalue())
        for _ in range(N_ZEROS >> 20):
            member.write(bytes(2**20))
    refused(tmp_path / "a.npz", "its contents would expand to 192 MiB from 19.* bytes")


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_archives_of_other_methods(tmp_path, method):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", method) as archive:
        archive.writestr("x.npy", bytes(100))
    refused(tmp_path / "a.npz", f"x.npy is compressed by method {method}, which is not read")


def test_variables_of_matlab_that_inflate(tmp_path, bounded):
    flags, shape = struct.pack("<4I", 6, 8, 6, 0), struct.pack("<4I", 5, 8, 2**14, 2**13)
    name, values = struct.pack("<2HI", 1, 1, ord("x")), struct.pack("<2I", 9, 2**30)
    content = flags + shape + name + values
    content = zlib.compress(struct.pack("<2I", 14, len(content) + 2**30) + content)
    tag = struct.pack("<2I", 15, len(content))
    (tmp_path / "a.mat").write_bytes(
        b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\x01IM" + tag + content
    )
    assert open_contents(tmp_path / "a.mat").entries["x"].shape == (2**14, 2**13)
    refused(tmp_path / "a.mat", "a compressed variable would expand to 1.0 GiB from")


LAUGHS = b"\x80\x04]\x94K\x01a" + b"".join(
    b"]\x94(" + (b"h" + bytes([i])) * 10 + b"e" for i in range(20)
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (LAUGHS + b".", "its pickle would expand to .* its objects contain each other many times"),
        (b"\x80\x04]\x94h\x00a.", "an object that contains itself"),
        (
            b"\x80\x05\x96" + (2**33).to_bytes(8, "little") + b".",
            "announces 8589934592 bytes where",
        ),
        (
            b"\x80\x04\x8e" + (2**33).to_bytes(8, "little") + b".",
            "announces 8589934592 bytes where",
        ),
        (
            b"\x80\x04\x95" + (2**33).to_bytes(8, "little") + b".",
            "announces 8589934592 bytes where",
        ),
    ],
    ids=["shared", "cycle", "bytearray", "bytes", "frame"],
)
def test_pickles_that_expand(tmp_path, content, message, bounded):
    (tmp_path / "a.pkl").write_bytes(content)
    refused(tmp_path / "a.pkl", message)


def test_a_place_far_away_in_the_memo_of_a_pickle_takes_no_memory(tmp_path, bounded):
    (tmp_path / "a.pkl").write_bytes(b"\x80\x02K\x01r\xff\xff\xff\x7f.")
    assert [*read_all(tmp_path / "a.pkl").values()] == [1]


@pytest.mark.parametrize("version", [1, 3])
@pytest.mark.parametrize(
    "facts", ["'<f8', 'shape': (10000000000,)", "'S0', 'shape': (10000000000,)"]
)
def test_headers_of_every_version(tmp_path, version, facts):
    header = f"{{'fortran_order': False, 'descr': {facts}}}".encode()
    length = len(header).to_bytes(2 if version == 1 else 4, "little")
    content = b"\x93NUMPY" + bytes([version, 0]) + length + header + bytes(80)
    (tmp_path / "a.npy").write_bytes(content)
    refused(tmp_path / "a.npy", r"it announces an array of shape \(10000000000,\)")


def test_arrays_that_compress_well_are_read(tmp_path):
    zeros = np.zeros((4, 1000, 1000))
    np.savez_compressed(tmp_path / "a.npz", x=zeros)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=zeros, compression="gzip")
    for name in ("a.npz", "a.h5"):
        assert read_all(tmp_path / name)["x"].shape == zeros.shape


def test_what_does_not_fit_into_memory_is_refused(monkeypatch):
    monkeypatch.setattr("fastrdm._base.expansion.free_memory", lambda: 2**30)
    check_expansion(2**30, 2**30, "x")
    with pytest.raises(ValueError, match="x needs 2.0 GiB of memory, but only 1.0 GiB are free"):
        check_expansion(2**31, 2**31, "x")


class Forged:
    def __init__(self, *reduced):
        self.reduced = reduced

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize("kind", ["O8", "f8", "V8", "O"])
@pytest.mark.parametrize("holder", ["npy", "npz", "pkl"])
def test_the_state_of_a_dtype_is_never_set(tmp_path, kind, holder):
    """A forged state makes NumPy take bytes of the file for the address of an object."""
    state = (3, "|", None, None, None, 8, 8, 63)
    dtype = Forged(np.dtype, (kind, False, True), state)
    scalar, _ = np.float64(0).__reduce__()
    pickled = pickle.dumps(Forged(scalar, (dtype, b"A" * 8)), 2)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|O", "fortran_order": False, "shape": ()}
    )
    path = tmp_path / f"a.{holder}"
    if holder == "pkl":
        path.write_bytes(pickled)
    elif holder == "npy":
        path.write_bytes(header.getvalue() + pickled)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", header.getvalue() + pickled)
    try:
        values = list(read_all(path).values())
    except ValueError as error:
        assert str(path) in str(error)
        assert "type object" in str(error) or "neither numbers nor text" in str(error)
    else:
        assert all(value.dtype.kind in "fSU" for value in values)


def test_a_pickle_changes_no_function_of_its_reader(tmp_path):
    scalar, _ = np.float64(0).__reduce__()
    for target in (scalar, np.ndarray, np.zeros(1).__reduce__()[0]):
        content = pickle.dumps(Forged(list, ()), 2)[:-1].partition(b"c")[0]
        pickled = (
            content + pickle.dumps(target, 2)[2:-1] + b"N}X\x0c\x00\x00\x00__defaults__(K\x01tsb."
        )
        # A state of two parts sets attributes: here the defaults of a function.
        pickled = pickled.replace(b"N}", b"N}", 1).replace(b"tsb.", b"ts\x86b.")
        (tmp_path / "a.pkl").write_bytes(pickled)
        refused(tmp_path / "a.pkl", "its pickle holds a state of a (function|type)")


def test_images_of_one_colour(tmp_path, bounded):
    from PIL import Image

    from fastrdm.images import decode, inspect_image

    path = tmp_path / "a.png"
    Image.new("1", (9000, 9000)).save(path)
    with pytest.raises(
        ValueError, match=r"a\.png cannot be read as an image: it would expand to 309 MiB"
    ):
        decode(path, 0)
    assert "would expand to" in inspect_image(path).problem


def test_netcdf_variables_larger_than_the_file(tmp_path, bounded):
    from scipy.io import netcdf_file

    path = tmp_path / "a.nc"
    with netcdf_file(path, "w") as file:
        file.createDimension("x", 5)
        file.createVariable("y", "f8", ("x",))[:] = 1
    content = path.read_bytes()
    at = content.index(b"x\0\0\0") + 4
    path.write_bytes(content[:at] + (2**30).to_bytes(4, "big") + content[at + 4 :])
    refused(path, "it announces 8589934592 bytes where .* are left")


@pytest.mark.parametrize("size", [0, 2**60])
def test_heaps_of_hdf5_that_have_no_end(tmp_path, size):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=np.array(["a", "b"], object), dtype=h5py.string_dtype())
    content = bytearray(path.read_bytes())
    # The free space follows two objects of 16 and 8 bytes.
    at = content.index(b"GCOL") + 16 + 2 * 24
    assert content[at : at + 2] == bytes(2)
    content[at + 8 : at + 16] = size.to_bytes(8, "little")
    path.write_bytes(content)
    refused(path, f"has an object of {size} bytes: damaged")


@pytest.mark.parametrize("place", ["attribute", "dataset", "compressed"])
def test_lengths_of_texts_that_the_file_does_not_hold(tmp_path, place, bounded):
    path = tmp_path / "a.h5"
    text = h5py.string_dtype()
    with h5py.File(path, "w", userblock_size=512) as file:
        if place == "attribute":
            file["x"] = np.eye(3)
            file["x"].attrs.create("y", "abcde", dtype=text)
        else:
            packed = {"compression": "gzip", "shuffle": True} if place == "compressed" else {}
            file.create_dataset("x", data=np.array(["abcde"] * 3, object), dtype=text, **packed)
    assert "x" in read_all(path)
    content = bytearray(path.read_bytes())
    heap = content.index(b"GCOL") - 512
    if place == "compressed":
        with h5py.File(path, "r+") as file:
            mask, packed = file["x"].id.read_direct_chunk((0,))
            chunk = bytearray(zlib.decompress(packed))
            # The fourth byte of each length.
            chunk[3::16] = b"\x7f" * 3
            file["x"].id.write_direct_chunk((0,), zlib.compress(chunk), mask)
    else:
        at = content.index(heap.to_bytes(8, "little"))
        content[at - 4 : at] = (2**31).to_bytes(4, "little")
        path.write_bytes(content)
    refused(path, r"it announces a text of \d+ bytes where the file has \d")


def test_text_of_characters_that_do_not_exist(tmp_path):
    text = np.array(["ab"])
    wrong = np.frombuffer(
        text.tobytes().replace(b"a", b"\xff", 1)[:3] + b"\xff" + text.tobytes()[4:], "<U2"
    )
    np.save(tmp_path / "a.npy", wrong)
    refused(tmp_path / "a.npy", "its text holds characters that do not exist")
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"x": wrong}))
    refused(tmp_path / "a.pkl", "its text holds characters that do not exist")
