"""Files of `torch.save` read without torch have the values that torch reads."""

import argparse
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch

from fastrdm.networks.torch_archives import NotPlainError, map_torch
from models.networks import resnet20

DTYPES = [
    *(torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32),
    *(torch.int16, torch.int8, torch.uint8, torch.bool, torch.complex64, torch.complex128),
]


def assert_equal(mapped, tensor):
    assert type(mapped) is np.ndarray and not mapped.flags.writeable
    assert mapped.shape == tuple(tensor.shape)
    assert str(mapped.dtype) == str(tensor.dtype).removeprefix("torch.")
    bits = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
    assert np.ascontiguousarray(mapped).tobytes() == bits.tobytes()


def test_a_checkpoint_has_the_same_contents(tmp_path):
    torch.manual_seed(0)
    network = resnet20()
    optimiser = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)
    saved = {
        "epoch": 3, "loss": 0.25, "name": "net", "history": [1, 2.5, None, (True, "a")],
        "state_dict": network.state_dict(), "optimiser": optimiser.state_dict(),
        "parameter": network.fc.weight, "size": network.fc.weight.shape,
    }  # fmt: skip
    torch.save(saved, tmp_path / "a.pth")
    found, expected = map_torch(tmp_path / "a.pth"), torch.load(tmp_path / "a.pth")
    assert list(found) == list(expected)
    assert list(found["state_dict"]) == list(expected["state_dict"])
    for name, tensor in expected["state_dict"].items():
        assert_equal(found["state_dict"][name], tensor)
    assert_equal(found["parameter"], expected["parameter"])
    for name in ("epoch", "loss", "name", "history", "size", "optimiser"):
        assert found[name] == expected[name]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_types_and_views(tmp_path, dtype):
    numbers = torch.arange(24).reshape(2, 3, 4).to(dtype)
    saved = {
        "all": numbers, "transposed": numbers.transpose(0, 2), "part": numbers[1:, 1],
        "repeated": numbers[:1].expand(5, 3, 4), "scalar": numbers[1, 2, 3], "empty": numbers[:0],
    }  # fmt: skip
    torch.save(saved, tmp_path / "a.pth")
    found = map_torch(tmp_path / "a.pth")
    assert found.keys() == saved.keys()
    for name, tensor in saved.items():
        assert found[name].shape == tuple(tensor.shape)
        if tensor.numel():
            assert_equal(found[name], tensor)


@pytest.mark.parametrize(
    "saved",
    [
        {"options": argparse.Namespace(a=1)},
        {"number": np.float64(1)},
        {"sparse": torch.eye(3).to_sparse()},
        {"quantised": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)},
        {"conjugate": torch.ones(3, dtype=torch.complex64).conj()},
        torch.nn.Linear(2, 2),
    ],
    ids=["namespace", "scalar", "sparse", "quantised", "conjugate", "module"],
)
def test_other_objects_are_left_to_torch(tmp_path, saved):
    torch.save(saved, tmp_path / "a.pth")
    with pytest.raises(NotPlainError):
        map_torch(tmp_path / "a.pth")


def test_damaged_and_other_files_are_left_to_torch(tmp_path):
    torch.save({"a": torch.ones(1000)}, tmp_path / "a.pth")
    content = (tmp_path / "a.pth").read_bytes()
    (tmp_path / "truncated.pth").write_bytes(content[:-100])
    torch.save({"a": torch.ones(3)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "script.pth")
    with (
        zipfile.ZipFile(tmp_path / "a.pth") as archive,
        zipfile.ZipFile(tmp_path / "compressed.pth", "w", zipfile.ZIP_DEFLATED) as compressed,
    ):
        for name in archive.namelist():
            compressed.writestr(name, archive.read(name))
    for name in ("truncated", "old", "script", "compressed"):
        with pytest.raises(NotPlainError):
            map_torch(tmp_path / f"{name}.pth")
    assert map_torch(tmp_path / "a.pth")["a"].sum() == 1000


def test_a_tensor_beyond_its_memory_is_left_to_torch(tmp_path):
    """Such a file would show other parts of the process's memory."""
    torch.save({"a": torch.ones(1000)}, tmp_path / "a.pth")
    damaged = (tmp_path / "a.pth").read_bytes().replace(b"M\xe8\x03\x85", b"M\xe9\x03\x85")
    (tmp_path / "a.pth").write_bytes(damaged)
    with pytest.raises(NotPlainError):
        map_torch(tmp_path / "a.pth")


def test_no_code_in_a_file_runs(tmp_path):
    class Runs:
        def __reduce__(self):
            return exec, ("print('it ran')",)

    torch.save({"a": Runs()}, tmp_path / "a.pth")
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from fastrdm.networks.torch_archives import NotPlainError, map_torch\n"
        f"try:\n    map_torch(Path({str(tmp_path / 'a.pth')!r}))\n"
        "except NotPlainError as error:\n    print(error, 'torch' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert answer.stdout == b"__builtin__.exec False\n"
