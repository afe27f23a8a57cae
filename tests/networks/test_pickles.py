"""Objects beside the weights are read by an allow-list, and code in a file is never run."""

import argparse
import builtins
import collections
import datetime
import decimal
import enum
import functools
import os
import pathlib
import random
import subprocess
import sys
import types
import uuid

import numpy as np
import pytest
import torch

from fastrdm.networks import WeightsError, load_state_dict, read_weights

nn = torch.nn


@pytest.fixture
def weights():
    torch.manual_seed(0)
    return nn.Linear(2, 3).state_dict()


@pytest.fixture
def package(monkeypatch):
    """A package that exists where the files are written, and not where they are read."""

    class Config:
        def __init__(self):
            self.width = 3

    class Colour(enum.Enum):
        RED = "red"

    class Net(nn.Linear):
        pass

    def choose(value):
        return value

    module = types.ModuleType("mypackage")
    for each in (Config, Colour, Net, choose):
        each.__module__, each.__qualname__ = "mypackage", each.__name__
        setattr(module, each.__name__, each)
    monkeypatch.setitem(sys.modules, "mypackage", module)
    return module


BESIDE = {
    "numpy float": np.float64(0.1),
    "numpy integer": np.int64(3),
    "numpy boolean": np.bool_(True),
    "numpy text": np.str_("x"),
    "numpy date": np.datetime64("2020-01-01"),
    "array": np.arange(3),
    "array of text": np.array(["a", "bc"]),
    "array of objects": np.array([1, "x"], object),
    "numpy type": np.dtype("float32"),
    "numpy generator": np.random.default_rng(0),
    "state of numpy": np.random.RandomState(0).get_state(),
    "state of random": random.Random(0).getstate(),
    "Namespace": argparse.Namespace(lr=0.1, folder=pathlib.Path("/x")),
    "SimpleNamespace": types.SimpleNamespace(lr=0.1),
    "path": pathlib.Path("/x/y"),
    "path of Windows": pathlib.PureWindowsPath("x"),
    "datetime": datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC),
    "date": datetime.date(2020, 1, 1),
    "duration": datetime.timedelta(3),
    "OrderedDict": collections.OrderedDict(a=1),
    "defaultdict": collections.defaultdict(list, a=[1]),
    "Counter": collections.Counter("ab"),
    "deque": collections.deque([1, 2], 5),
    "set": {1, 2},
    "frozenset": frozenset([1]),
    "range": range(3),
    "slice": slice(1, 2),
    "complex": 1j,
    "bytes": b"abc",
    "Decimal": decimal.Decimal("1.5"),
    "UUID": uuid.UUID(int=3),
    "type": float,
    "version of torch": torch.__version__,
    "type of torch": torch.float16,
    "device": torch.device("cpu"),
}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_harmless_objects_beside_the_weights_are_read(weights, tmp_path, zipped):
    path = tmp_path / "a.pth"
    for name, value in BESIDE.items():
        content = {"state_dict": weights, name: value, "args": argparse.Namespace(value=[value])}
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
        found = read_weights(path)
        assert found.keys() == weights.keys(), name
        np.testing.assert_array_equal(found["bias"], weights["bias"].numpy())
    torch.save({"state_dict": weights, **BESIDE}, path, _use_new_zipfile_serialization=zipped)
    assert load_state_dict(path).keys() == weights.keys()


def test_reading_leaves_torchs_allow_list_as_it_is(weights, tmp_path):
    torch.save({"net": weights, **BESIDE}, tmp_path / "a.pth")
    with torch.serialization.safe_globals([argparse.Namespace]):
        before = set(torch.serialization.get_safe_globals())
        load_state_dict(tmp_path / "a.pth")
        assert set(torch.serialization.get_safe_globals()) == before


def test_objects_of_lightning_and_of_image_transforms(weights, tmp_path):
    data = pytest.importorskip("lightning.fabric.utilities.data")
    callbacks = pytest.importorskip("lightning.pytorch.callbacks")
    transforms = pytest.importorskip("torchvision.transforms")
    parameters = data.AttributeDict(lr=0.1, inner=data.AttributeDict(width=3))
    content = {
        "state_dict": weights,
        "hyper_parameters": parameters,
        "callbacks": {callbacks.ModelCheckpoint: {"best": torch.tensor(0.5)}},
        "interpolation": transforms.InterpolationMode.BICUBIC,
    }
    torch.save(content, tmp_path / "a.ckpt")
    assert load_state_dict(tmp_path / "a.ckpt").keys() == weights.keys()


def refusal(content, path, **options):
    torch.save(content, path, **options)
    with pytest.raises(WeightsError) as caught:
        read_weights(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_other_objects_are_named_with_the_line_that_saves_the_weights(
    weights, package, tmp_path, zipped
):
    path = tmp_path / "a.pth"
    content = {"epoch": 3, "args": [1, package.Config()], "run": {"net": weights}}
    message = refusal(content, path, _use_new_zipfile_serialization=zipped)
    assert message == (
        "refused without running it, because it holds objects other than tensors and plain values: "
        'mypackage.Config in ["args"][1]; if you trust the file, save the weights alone: '
        f'torch.save(torch.load("{path}", weights_only=False)["run"]["net"], "weights.pth")'
    )
    saves = message.rpartition(": ")[2].replace("weights.pth", str(tmp_path / "b.pth"))
    exec(saves, {"torch": torch})
    assert read_weights(tmp_path / "b.pth").keys() == weights.keys()


def test_each_kind_of_object_is_named(weights, package, tmp_path):
    path = tmp_path / "a.pth"
    message = refusal({"net": weights, "colour": package.Colour.RED}, path)
    assert 'mypackage.Colour in ["colour"]' in message
    message = refusal({"net": weights, "norm": functools.partial(package.choose, 3)}, path)
    assert "functools.partial" in message
    inner = argparse.Namespace(config=package.Config(), colours=[package.Colour.RED])
    message = refusal({"net": weights, "args": inner}, path)
    assert 'mypackage.Config in ["args"].config' in message
    assert 'mypackage.Colour in ["args"].colours[0]' in message


class AttributeOf:
    """Is pickled as the attribute of a class, as members of enums are by Python 3.11.0 to 3.11.3."""

    def __init__(self, owner, name):
        self.call = getattr, (owner, name)

    def __reduce__(self):
        return self.call


def test_members_of_enums_that_are_pickled_as_attributes(weights, package, tmp_path):
    transforms = pytest.importorskip("torchvision.transforms")
    path = tmp_path / "a.pth"
    member = AttributeOf(transforms.InterpolationMode, "BICUBIC")
    torch.save({"net": weights, "interpolation": member}, path)
    assert load_state_dict(path).keys() == weights.keys()
    message = refusal({"net": weights, "colour": AttributeOf(package.Colour, "RED")}, path)
    assert 'mypackage.Colour in ["colour"]' in message
    message = refusal({"net": weights, "name": AttributeOf(AttributeOf(str, "join"), "x")}, path)
    assert "it would run code: builtins.getattr" in message


class Running:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("call", "name"),
    [
        ((os.system, "touch executed"), "os.system"),
        ((builtins.eval, "open('executed', 'w')"), "builtins.eval"),
        ((builtins.exec, "open('executed', 'w')"), "builtins.exec"),
        ((builtins.getattr, "a", "upper"), "builtins.getattr"),
        ((subprocess.check_output, ["touch", "executed"]), "subprocess.check_output"),
        ((os.remove, "a.pth"), "os.remove"),
    ],
)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_files_that_would_run_code_are_refused_and_called_that(
    weights, tmp_path, monkeypatch, call, name, zipped
):
    monkeypatch.chdir(tmp_path)
    running = Running(*call)
    for content in (running, {"net": weights, "x": argparse.Namespace(inner=[running])}):
        message = refusal(content, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
        assert message == (f"refused without running it, because reading it would run code: {name}")
    assert not (tmp_path / "executed").exists()
    assert (tmp_path / "a.pth").exists()


def test_whole_networks_are_refused_with_the_line_that_saves_their_weights(package, tmp_path):
    path = tmp_path / "a.pth"
    network = nn.Sequential(package.Net(2, 3), nn.ReLU())
    for content, place in ((network, ""), ({"epoch": 3, "ema": network}, '["ema"]')):
        message = refusal(content, path)
        assert "holds a whole pickled network (torch.nn.modules.container.Sequential)" in message
        load = f'model = torch.load("{path}", weights_only=False){place}'
        assert message.endswith(f'{load}; torch.save(model.state_dict(), "weights.pth")')
    assert "whole pickled network (mypackage.Net)" in refusal(package.Net(2, 3), path)


@pytest.mark.filterwarnings("ignore")
def test_torchscript_archives_are_called_that(tmp_path):
    torch.jit.script(nn.Linear(2, 3)).save(tmp_path / "a.pt")
    with pytest.raises(WeightsError, match="is a TorchScript archive, not weights; save its"):
        read_weights(tmp_path / "a.pt")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_other_protocols_of_pickle_are_called_that(weights, tmp_path):
    message = refusal({"net": weights}, tmp_path / "a.pth", pickle_protocol=4)
    assert message.startswith("is pickled with a protocol that torch does not read safely")
    assert message.endswith('weights_only=False)["net"], "weights.pth")')
