"""Files of `torch.save` that would take far more memory than they should, or run code however they are damaged."""

import argparse
import io
import os
import pickle
import tarfile
import zipfile

import pytest
import torch

from fastrdm.networks import WeightsError, is_complete, load_state_dict, read_weights

READERS = [read_weights, load_state_dict]
LARGE = (2**33).to_bytes(5, "little")
# Calls os.system with "true".
RUNS = b"\x80\x02cposix\nsystem\nX\x04\x00\x00\x00true\x85R"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.pth"


def archive(path, pickled, **others):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", pickled)
        file.writestr("archive/version", b"3\n")
        for name, content in others.items():
            file.writestr(f"archive/{name}", content)


def refused(path, message):
    for read in READERS:
        with pytest.raises(WeightsError, match=message) as caught:
            read(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_that_share_memory(path, zipped):
    shared = torch.zeros(10**5)
    contents = {f"w{i}": shared for i in range(10**3)}
    torch.save(contents, path, _use_new_zipfile_serialization=zipped)
    refused(path, "its contents would expand to 382 MiB from")


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_that_are_expanded(path, zipped):
    expanded = torch.zeros(10**3).expand(10**6, 10**3)
    torch.save({"w": expanded}, path, _use_new_zipfile_serialization=zipped)
    refused(path, "its contents would expand to 3.7 GiB from")


@pytest.mark.parametrize(
    "name", ["builtins\nbytearray", "torch\nTensor", "torch.storage\nUntypedStorage"]
)
def test_what_torch_would_reserve(path, name):
    archive(path, b"\x80\x02c" + name.encode() + b"\n\x8a\x05" + LARGE + b"\x85R.")
    refused(path, "its contents would expand to 64.0 GiB from")


def test_memory_that_the_file_does_not_hold(path):
    torch.save({"w": torch.zeros(1000)}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    assert content.count(b"M\xe8\x03N") == 1
    path.write_bytes(content.replace(b"M\xe8\x03N", b"\x8a\x05" + LARGE + b"N"))
    refused(path, "its tensors would expand to 32.0 GiB from")


def test_dicts_that_contain_each_other(path):
    laughs = b"\x80\x02]q\x00K\x01a" + b"".join(
        b"]q" + bytes([i + 1]) + b"(" + (b"h" + bytes([i])) * 10 + b"e" for i in range(20)
    )
    archive(path, laughs + b".")
    refused(path, "its contents would expand to")


def test_dicts_in_a_cycle_end(path):
    contents = [{}, {}, {}]
    for each in contents:
        each |= {f"key{i}{k}": other for i in range(30) for k, other in enumerate(contents)}
    torch.save(contents, path)
    refused(path, "holds no state dict")


def test_compressed_archives_are_read(path, tmp_path):
    weights = {"w": torch.arange(1000.0)}
    torch.save(weights, tmp_path / "plain.pth")
    with (
        zipfile.ZipFile(tmp_path / "plain.pth") as plain,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for member in plain.namelist():
            packed.writestr(member, plain.read(member))
    assert torch.equal(load_state_dict(path)["w"], weights["w"])
    assert read_weights(path)["w"].tolist() == weights["w"].tolist()


def test_compressed_archives_of_zeros(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", pickle.dumps({}, 2))
        file.writestr("archive/data/0", bytes(150 * 2**20))
    refused(path, "its contents would expand to 150 MiB from")


@pytest.mark.parametrize(
    "pickled",
    [
        RUNS + b".",
        RUNS,
        RUNS + b"}(X\xff\xff\x00\x00a",
        RUNS + b"K\x01b.",
        b"}" + RUNS[2:] + b"\x99.",
        b"(S'true'\niposix\nsystem\n.",
        b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x94\x93\x8c\x04true\x85R.",
        b"cposix\nsystem\n(S'true'\ntR.",
        b"\x80\x02cbuiltins\neval\nX\x01\x00\x00\x001\x85R.",
        b"\x80\x02cimportlib.util\nfind_spec\nX\x01\x00\x00\x001\x85R.",
    ],
    ids=[
        "whole",
        "no end",
        "truncated",
        "wrong state",
        "bad opcode",
        "inst",
        "protocol 4",
        "protocol 0",
        "eval",
        "package",
    ],
)
@pytest.mark.parametrize("holder", ["archive", "no version", "pickle"])
def test_damaged_files_that_would_run_code_are_called_that(path, pickled, holder):
    if holder == "pickle":
        path.write_bytes(pickled)
    elif holder == "archive":
        archive(path, pickled)
    else:
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("archive/data.pkl", pickled)
    refused(path, r"would run code: (os\.system|builtins\.eval|importlib\.util\.find_spec)$")


def test_tar_archives_of_old_torch(path):
    with tarfile.open(path, "w") as file:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            member = tarfile.TarInfo(name)
            member.size = len(RUNS) + 1
            file.addfile(member, io.BytesIO(RUNS + b"."))
    refused(path, "is a tar archive of an old torch, which cannot be read without running code")


def test_files_of_zeros_are_damaged(path):
    path.write_bytes(bytes(2048))
    refused(path, "damaged: it begins with zeros")


def test_a_pickle_changes_no_function_of_its_reader(path):
    """A state of two parts sets attributes: here the defaults of a function."""
    state = b"N}X\x0c\x00\x00\x00__defaults__K\x01s\x86b."
    archive(path, b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n" + state)
    refused(
        path, "truncated, damaged or not a file of torch.save|cannot be read without running code"
    )


@pytest.mark.parametrize("value", [1, "text", None, [1.0], {1: torch.zeros(2)}, {"a": {2: {}}}])
def test_files_without_names(path, value):
    torch.save(value, path)
    refused(path, "holds no state dict")


def test_a_function_alone(path):
    archive(path, b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n.")
    refused(path, "holds no state dict|truncated, damaged|cannot be read without running code")


# The end of an archive of two disks.
SPANNING = b"PK\x06\x07" + bytes(12) + b"\x02\0\0\0" + b"PK\x05\x06" + bytes(18)


def test_what_is_no_file_or_damaged_is_not_complete(tmp_path):
    os.mkfifo(tmp_path / "a.safetensors")
    (tmp_path / "b.pth").write_bytes(b"PK\x03\x04" + bytes(30) + SPANNING)
    (tmp_path / "c.safetensors").write_bytes((2**40).to_bytes(8, "little"))
    with (tmp_path / "c.safetensors").open("r+b") as file:
        file.truncate(2**41)
    for path in tmp_path.iterdir():
        assert not is_complete(path)


NESTED = b")" + b"\x85" * 10**6
OLD = b"".join(pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {}, {}))


@pytest.mark.parametrize(
    "pickled",
    [b"}" + NESTED + b"Ns.", b"(" + NESTED + b"Nd.", b"(" + NESTED + b"\x91.", NESTED + b"."],
)
def test_tuples_that_are_too_deep_to_be_keys(path, pickled):
    # Python crashes when it hashes such a tuple, in torch too.
    archive(path, b"\x80\x02" + pickled)
    refused(path, "nested too deeply")
    path.write_bytes(b"\x80\x02" + pickled)
    refused(path, "nested too deeply")
    path.write_bytes(OLD + b"\x80\x02" + pickled)
    refused(path, "nested too deeply")


def test_lists_that_are_too_deep(path):
    archive(path, b"\x80\x02" + b"]" * 10**4 + b"a" * (10**4 - 1) + b".")
    refused(path, "nested too deeply")


def test_integers_of_thousands_of_digits(path):
    archive(path, b"\x80\x02}\x8b" + (5000).to_bytes(4, "little") + b"\x7f" * 5000 + b"Ns.")
    refused(path, "its pickle holds an integer of 5000 bytes")


@pytest.mark.parametrize("zipped", [True, False])
def test_parameters_that_are_expanded(path, zipped):
    expanded = torch.nn.Parameter(torch.zeros(1).expand(2**31))
    contents = {"w": expanded, "args": argparse.Namespace()}
    torch.save(contents, path, _use_new_zipfile_serialization=zipped)
    refused(path, "its contents would expand to 8.0 GiB from")


def members(path):
    with zipfile.ZipFile(path) as file:
        parts = {name.partition("/")[2]: file.read(name) for name in file.namelist()}
    # `archive` writes it.
    del parts["version"]
    return parts


def test_expanded_tensors_whose_shape_is_a_size(path):
    torch.save({"w": torch.zeros(1).expand(2**31), "args": argparse.Namespace()}, path)
    parts = members(path)
    shape = b"\x8a\x05\x00\x00\x00\x80\x00\x85"
    assert parts["data.pkl"].count(shape) == 1
    pickled = parts.pop("data.pkl").replace(shape, b"ctorch\nSize\n" + shape + b"\x85R")
    archive(path, pickled, **parts)
    refused(path, "its contents would expand to 8.0 GiB from")


@pytest.mark.parametrize(
    "names", [("a/inner/data.pkl", "a/data.pkl"), ("a/DATA.PKL", "a/data.pkl")]
)
def test_archives_with_two_pickles(path, names):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a/version", b"3\n")
        for name, value in zip(names, ({}, {"w": 1}), strict=True):
            file.writestr(name, pickle.dumps(value, 2))
    refused(path, "its archive holds 2 pickles instead of one|holds no state dict")


def test_archives_that_do_not_begin_with_the_file(path):
    archive(path, pickle.dumps({}, 2))
    path.write_bytes(b"PK\x03\x04" + path.read_bytes())
    refused(path, "its archive does not begin with the file|holds no state dict")


def test_tensors_that_are_larger_than_their_members(path):
    torch.save({"w": torch.zeros(10**6)}, path)
    parts = members(path)
    pickled = parts.pop("data.pkl")
    archive(path, pickled, **{**parts, "data/0": bytes(64)})
    refused(path, "it announces 4000000 bytes for the tensor 0, but holds 64")
