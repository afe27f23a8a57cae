import hashlib
import json
import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from fastrdm.networks import (
    Layout,
    WeightsError,
    check_unchanged,
    fit_weights,
    hash_file,
    load_state_dict,
    load_weights,
    read_weights,
)
from fastrdm.networks.weights import check_fit

nn = torch.nn


def build():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 5))


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = build()
    network[1].running_mean.uniform_(-1, 1)
    return network


def variants(network, folder):
    """The same weights in every supported file format."""
    weights = network.state_dict()
    parallel = {f"module.{name}": value for name, value in weights.items()}
    contents = {
        "plain.pth": weights,
        "plain.pt": weights,
        "parallel.pth": parallel,
        "nested.pth.tar": {"state_dict": parallel, "epoch": 3, "best": 0.5},
        "model.pth": {"model": weights, "optimizer": {"state": {}}},
        "long.pth": {"model_state_dict": weights},
        "parameters.pth": dict(network.named_parameters()) | dict(network.named_buffers()),
    }
    for name, content in contents.items():
        torch.save(content, folder / name)
    torch.save(weights, folder / "legacy.pth", _use_new_zipfile_serialization=False)
    save_file(weights, folder / "weights.safetensors")
    save_file(parallel, folder / "parallel.safetensors")
    return [*contents, "legacy.pth", "weights.safetensors", "parallel.safetensors"]


def test_every_file_format_gives_the_same_weights(network, tmp_path):
    for name in variants(network, tmp_path):
        tensors, arrays = load_state_dict(tmp_path / name), read_weights(tmp_path / name)
        assert set(tensors) == set(arrays) == set(network.state_dict()), name
        for key, value in network.state_dict().items():
            assert torch.equal(tensors[key], value), (name, key)
            assert tensors[key].device.type == "cpu"
            np.testing.assert_array_equal(arrays[key], value.numpy(), strict=True)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_files_are_mapped_not_read(tmp_path, name):
    weights = {"w": torch.arange(1 << 20, dtype=torch.float32)}
    save = save_file if name.endswith("safetensors") else torch.save
    save(weights, tmp_path / name)
    array = read_weights(tmp_path / name)["w"]
    places = [
        line.split() for line in Path("/proc/self/maps").read_text().splitlines() if name in line
    ]
    spans = [[int(end, 16) for end in place[0].split("-")] for place in places]
    address = array.ctypes.data
    assert any(begin <= address and address + array.nbytes <= end for begin, end in spans)


def test_16_and_8_bit_floats_keep_their_values(tmp_path):
    values = torch.linspace(-3, 3, 11)
    weights = {
        "half": values.half(),
        "bfloat": values.bfloat16(),
        "e4m3": values.to(torch.float8_e4m3fn),
        "e5m2": values.to(torch.float8_e5m2),
    }
    torch.save(weights, tmp_path / "a.pth")
    save_file(weights, tmp_path / "a.safetensors")
    types = [np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2]
    for name in ("a.pth", "a.safetensors"):
        arrays = read_weights(tmp_path / name)
        for (key, tensor), dtype in zip(weights.items(), types, strict=True):
            assert arrays[key].dtype == dtype
            np.testing.assert_array_equal(arrays[key].astype(np.float32), tensor.float().numpy())


def test_scalars_empty_and_strided_tensors(tmp_path):
    weights = {
        "scalar": torch.tensor(3.0),
        "empty": torch.zeros(0, 3),
        "last": torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last),
    }
    torch.save(weights, tmp_path / "a.pth")
    arrays = read_weights(tmp_path / "a.pth")
    for name, tensor in weights.items():
        np.testing.assert_array_equal(arrays[name], tensor.numpy(), strict=True)
    layout = Layout({n: ("float32", tuple(t.shape)) for n, t in weights.items()})
    fitted = fit_weights(arrays, layout, "a.pth", "a network")
    assert not arrays["last"].flags.c_contiguous
    assert all(array.flags.c_contiguous for array in fitted.values())
    for name, tensor in weights.items():
        np.testing.assert_array_equal(fitted[name], tensor.numpy(), strict=True)


def write_safetensors(path, entries, data):
    header = json.dumps(entries).encode()
    header += b" " * (-len(header) % 8)
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)


def test_safetensors_that_no_current_writer_would_write(tmp_path):
    values = np.array([1, 2], np.float32)
    entries = {
        "byte": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
        "floats": {"dtype": "F32", "shape": [2], "data_offsets": [1, 9]},
        "__metadata__": {"format": "pt"},
    }
    write_safetensors(tmp_path / "a.safetensors", entries, b"\x07" + values.tobytes())
    arrays = read_weights(tmp_path / "a.safetensors")
    assert not arrays["floats"].flags.aligned
    layout = Layout({"byte": ("uint8", (1,)), "floats": ("float32", (2,))})
    fitted = fit_weights(arrays, layout, "a.safetensors", "a network")
    assert fitted["floats"].flags.aligned and fitted["byte"] == 7
    np.testing.assert_array_equal(fitted["floats"], values)

    entries = {"odd": {"dtype": "F8_E8M0", "shape": [1], "data_offsets": [0, 1]}}
    write_safetensors(tmp_path / "b.safetensors", entries, b"\x07")
    with pytest.raises(WeightsError, match=r"b\.safetensors: odd has the type F8_E8M0"):
        read_weights(tmp_path / "b.safetensors")


def test_safetensors_need_no_torch(network, tmp_path):
    save_file(network.state_dict(), tmp_path / "a.safetensors")
    code = (
        "import sys\nsys.modules['torch'] = None\n"
        "from fastrdm.networks import read_weights\n"
        "print(sum(a.size for a in read_weights(sys.argv[1]).values()))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.safetensors")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(result.stdout) == sum(value.numel() for value in network.state_dict().values())


@pytest.mark.filterwarnings("ignore:Validating sparse tensor invariants")
def test_tensors_that_are_not_arrays_are_named(tmp_path):
    torch.save({"a": torch.zeros(3), "s": torch.eye(3).to_sparse()}, tmp_path / "a.pth")
    with pytest.raises(
        WeightsError, match=r"a\.pth: s is sparse_coo float32, which is not supported"
    ):
        read_weights(tmp_path / "a.pth")


class Malicious:
    def __reduce__(self):
        return (open, ("executed", "w"))


def damaged(folder):
    """Write unreadable files; return their names and errors."""
    weights = {"a": torch.zeros(1000)}
    torch.save(weights, folder / "zip.pth")
    torch.save(weights, folder / "old.pth", _use_new_zipfile_serialization=False)
    save_file(weights, folder / "safe.safetensors")
    cases = {}
    for name in ("zip.pth", "old.pth", "safe.safetensors"):
        content = (folder / name).read_bytes()
        for size in (10, len(content) // 2, len(content) - 7):
            torn = f"torn_{size}_{name}"
            (folder / torn).write_bytes(content[:size])
            cases[torn] = ""
    for name in ("empty.pth", "empty.safetensors"):
        (folder / name).touch()
        cases[name] = "the file is empty"
    (folder / "text.pth").write_text("epoch,loss\n1,2.5\n")
    (folder / "text.safetensors").write_text("epoch,loss\n1,2.5\n")
    torch.save({"state_dict": {}}, folder / "none.pth")
    torch.save({"epoch": 3}, folder / "number.pth")
    torch.save([torch.zeros(2)], folder / "list.pth")
    torch.save({"model": Malicious()}, folder / "evil.pth")
    (folder / "evil_raw.pth").write_bytes(pickle.dumps(Malicious()))
    (folder / "folder.pth").mkdir()
    return cases | {
        "text.pth": "not a file of torch.save",
        "text.safetensors": "cannot be read as safetensors",
        "none.pth": "holds no state dict",
        "number.pth": "holds no state dict",
        "list.pth": "holds no state dict",
        "evil.pth": "refused without running it",
        "evil_raw.pth": "refused without running it",
        "folder.pth": "is a folder",
        "absent.pth": "no such file",
        "absent.safetensors": "no such file",
    }


def test_errors_of_unreadable_files_are_one_line_with_the_name(network, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in damaged(tmp_path).items():
        for read in (load_state_dict, read_weights, lambda path: load_weights(network, path)):
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                warnings.filterwarnings("ignore", "Detected pickle protocol")
                with pytest.raises(WeightsError) as caught:
                    read(tmp_path / name)
            message = str(caught.value)
            assert name in message
            assert text in message, message
            assert "\n" not in message
            assert len(message) < 500, message
    assert not (tmp_path / "executed").exists()
    assert issubclass(WeightsError, ValueError)


def test_load_weights_fills_the_network(network, tmp_path):
    torch.save(network.state_dict(), tmp_path / "a.pth")
    other = build()
    load_weights(other, tmp_path / "a.pth")
    for key, value in network.state_dict().items():
        assert torch.equal(other.state_dict()[key], value)


@pytest.mark.parametrize("counter", [None, torch.tensor(3.5)])
def test_num_batches_tracked_may_differ(network, tmp_path, counter):
    weights = {k: v for k, v in network.state_dict().items() if "num_batches" not in k}
    if counter is not None:
        weights["1.num_batches_tracked"] = counter
    torch.save(weights, tmp_path / "a.pth")
    load_weights(network, tmp_path / "a.pth")
    fit_weights(read_weights(tmp_path / "a.pth"), Layout.of(network), "a.pth", "a network")


def test_other_networks_weights_name_the_first_keys_that_differ(network, tmp_path):
    before = {key: value.clone() for key, value in network.state_dict().items()}
    other = {f"layer{i}": torch.ones(2) for i in range(5)} | {"0.weight": torch.ones(4, 3, 5, 5)}
    torch.save(other, tmp_path / "other.pth")
    with pytest.raises(WeightsError) as caught:
        load_weights(network, tmp_path / "other.pth")
    assert str(caught.value) == (
        f"{tmp_path / 'other.pth'} does not fit Sequential; "
        "missing: 0.bias, 1.weight, 1.bias and 4 more; "
        "unexpected: layer0, layer1, layer2 and 2 more; "
        "of another shape: 0.weight (4, 3, 5, 5) for (4, 3, 3, 3)"
    )
    for key, value in before.items():
        assert torch.equal(network.state_dict()[key], value)


def test_older_names_of_a_densenets_layers_fit(tmp_path):
    layer = nn.ModuleDict({"norm1": nn.BatchNorm2d(3), "conv2": nn.Conv2d(3, 4, 3)})
    network = nn.ModuleDict({"block": nn.ModuleDict({"denselayer12": layer})})
    new = network.state_dict()
    old = {k.replace("norm1", "norm.1").replace("conv2", "conv.2"): v for k, v in new.items()}
    assert not old.keys() & new.keys()
    torch.save(old, tmp_path / "old.pth")
    load_weights(network, tmp_path / "old.pth")
    fitted = fit_weights(read_weights(tmp_path / "old.pth"), Layout.of(network), "old.pth", "it")
    assert list(fitted) == list(new)
    for name, value in new.items():
        np.testing.assert_array_equal(fitted[name], value)

    both = old | {name: new[name] for name in new if "norm1.weight" in name}
    torch.save(both, tmp_path / "both.pth")
    with pytest.raises(WeightsError, match=r"unexpected: block\.denselayer12\.norm\.1\.weight$"):
        load_weights(network, tmp_path / "both.pth")
    torch.save(new, tmp_path / "new.pth")
    network["block"]["denselayer12"] = nn.ModuleDict({"norm": nn.ModuleDict({"1": layer["norm1"]})})
    with pytest.raises(WeightsError, match=r"missing: block\.denselayer12\.norm\.1\.weight"):
        load_weights(network, tmp_path / "new.pth")


def test_integers_do_not_fit_floats(network, tmp_path):
    weights = network.state_dict() | {"3.bias": torch.zeros(5, dtype=torch.int8)}
    torch.save(weights, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"of another type: 3\.bias int8 for float32$"):
        load_weights(network, tmp_path / "a.pth")


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn]
)
@pytest.mark.parametrize("own", [torch.float32, torch.float16, torch.bfloat16])
def test_floats_are_rounded_as_torch_does(dtype, own):
    values = torch.randn(1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values = torch.cat([values, torch.tensor([0.0, 1e-7, 7e4, 1e30, float("nan"), float("inf")])])
    weights = {"w": values.to(dtype)}
    module = nn.Module()
    module.w = nn.Parameter(torch.zeros(len(values), dtype=own))
    module.load_state_dict(weights)
    bits = weights["w"].view({1: torch.uint8, 2: torch.uint16, 8: torch.float64}[dtype.itemsize])
    name = str(dtype).removeprefix("torch.")
    array = bits.numpy().view(getattr(ml_dtypes, name, None) or name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted = fit_weights({"w": array}, Layout.of(module), "a.pth", "a network")["w"]
    assert str(fitted.dtype) == str(own).removeprefix("torch.")
    np.testing.assert_array_equal(fitted.astype(np.float64), module.w.detach().double().numpy())


def test_arrays_that_fit_are_not_copied(network, tmp_path):
    save_file(network.state_dict(), tmp_path / "a.safetensors")
    arrays = read_weights(tmp_path / "a.safetensors")
    fitted = fit_weights(arrays, Layout.of(network), "a.safetensors", "a network")
    assert all(np.shares_memory(fitted[name], arrays[name]) for name in arrays)


def tied():
    network = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3))
    network[2].weight = network[0].weight
    return network


def test_tied_names_are_one_tensor():
    network = tied()
    layout = Layout.of(network)
    assert layout.tied == (("0.weight", "2.weight"),)
    arrays = {name: value.numpy().copy() for name, value in network.state_dict().items()}
    del arrays["0.weight"]
    fitted = fit_weights(arrays, layout, "a.pth", "a network")
    assert fitted["0.weight"] is fitted["2.weight"]
    del arrays["2.weight"]
    with pytest.raises(WeightsError, match=r"missing: 0\.weight, 2\.weight$"):
        check_fit(arrays, layout, "a.pth", "a network")


def test_tied_names_with_different_values_do_not_fit(tmp_path):
    network = tied()
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    weights["0.weight"][0, 0] = weights["2.weight"][0, 0] = torch.nan
    torch.save(weights, tmp_path / "a.pth")
    load_weights(network, tmp_path / "a.pth")
    weights["2.weight"][1, 1] += 1
    torch.save(weights, tmp_path / "a.pth")
    text = r"different, but one tensor in the network: 2\.weight and 0\.weight$"
    with pytest.raises(WeightsError, match=text):
        load_weights(network, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=text):
        fit_weights(read_weights(tmp_path / "a.pth"), Layout.of(network), "a.pth", "a network")


def test_a_layout_as_text(network):
    layout = Layout.of(network)
    assert layout.entries["0.weight"] == ("float32", (4, 3, 3, 3))
    assert layout.entries["1.num_batches_tracked"] == ("int64", ())
    again = Layout.from_json(layout.to_json())
    assert again == layout and list(again.entries) == list(network.state_dict())
    for text in ("", "[]", "{}", '{"entries": 1, "tied": []}', '{"entries": {"a": 1}, "tied": []}'):
        with pytest.raises(ValueError, match="not a layout of a state dict"):
            Layout.from_json(text)


def test_the_hash_is_sha256_of_the_file(tmp_path):
    (tmp_path / "a.pth").write_bytes(b"weights")
    (tmp_path / "a.pth.data").write_bytes(b"others")
    assert hash_file(tmp_path / "a.pth") == hashlib.sha256(b"weights").hexdigest()
    (tmp_path / "a.onnx").write_bytes(b"graph")
    assert hash_file(tmp_path / "a.onnx") == hashlib.sha256(b"graph").hexdigest()
    (tmp_path / "a.onnx.data").write_bytes(b"weights")
    assert hash_file(tmp_path / "a.onnx") == hashlib.sha256(b"graphweights").hexdigest()


def test_a_file_that_is_written_to_while_it_is_read(tmp_path):
    path = tmp_path / "a.pth"
    path.write_bytes(b"weights")
    with check_unchanged(path):
        assert path.read_bytes() == b"weights"
    with (
        pytest.raises(WeightsError, match=r"a\.pth: was written to while it was read"),
        check_unchanged(path),
    ):
        os.utime(path, ns=(0, 0))
    with (
        pytest.raises(WeightsError, match=r"b\.pth: no such file"),
        check_unchanged(tmp_path / "b.pth"),
    ):
        pytest.fail("entered")
