import pickle
import sys
import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from fastrdm.checkpoints import import_arch, open_checkpoint
from fastrdm.export import export_onnx
from fastrdm.weights import WeightsError, load_state_dict, load_weights

nn = torch.nn

SOURCE = """
import torch
from fastrdm.stimuli import Preprocessing

def network(seed=0):
    torch.manual_seed(seed)
    layers = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3),
        torch.nn.BatchNorm2d(4),
        torch.nn.Flatten(),
        torch.nn.Linear(144, 5),
    )
    layers.preprocessing = Preprocessing((8, 8))
    layers.taps = {"bn": "1", "fc": "3"}
    return layers

class Holder:
    network = staticmethod(network)

def number():
    return 3

constant = 3
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A current folder with modules that are not installed, and a network's weights."""
    (tmp_path / "my_nets.py").write_text(SOURCE)
    (tmp_path / "my_broken.py").write_text("import no_such_package\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    yield tmp_path
    for name in ("my_nets", "my_broken"):
        sys.modules.pop(name, None)


@pytest.fixture
def network(folder):
    network = import_arch("my_nets:network")()
    network[1].running_mean.uniform_(-1, 1)
    return network


def test_import_arch_finds_the_current_folder(folder):
    assert str(folder) not in sys.path
    assert isinstance(import_arch("my_nets:network")(), nn.Sequential)
    assert sys.path.count(str(folder)) == 1
    import_arch("my_nets:Holder.network")
    assert sys.path.count(str(folder)) == 1


def test_import_arch_finds_what_is_installed():
    assert type(import_arch("torchvision.models:squeezenet1_1")()).__name__ == "SqueezeNet"


@pytest.mark.parametrize(
    ("arch", "match"),
    [
        ("my_nets", "must have the form module:callable"),
        (":network", "must have the form module:callable"),
        ("my_nets:", "must have the form module:callable"),
        ("my_nest:network", "there is no module 'my_nest'"),
        ("torchvision.modls:resnet18", r"there is no module 'torchvision\.modls'"),
        ("my_nets:netwrok", "my_nets has no 'netwrok'; nearest: network"),
        ("my_nets:constant", "is a int, which cannot be called"),
    ],
)
def test_import_arch_errors(folder, arch, match):
    with pytest.raises(ValueError, match=match) as caught:
        import_arch(arch)
    assert arch in str(caught.value)


def test_what_arch_gives_must_be_a_network(folder):
    with pytest.raises(ValueError, match=r"'my_nets:number' gives a int, not a torch\.nn\.Module"):
        import_arch("my_nets:number")()


def test_an_import_that_fails_inside_the_module_names_its_own_package(folder):
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        import_arch("my_broken:network")


def variants(network, folder):
    """The same weights in every form of file that is read."""
    weights = network.state_dict()
    parallel = {f"module.{name}": value for name, value in weights.items()}
    contents = {
        "plain.pth": weights,
        "plain.pt": weights,
        "parallel.pth": parallel,
        "nested.pth.tar": {"state_dict": parallel, "epoch": 3, "best": 0.5},
        "model.pth": {"model": weights, "optimizer": {"state": {}}},
        "long.pth": {"model_state_dict": weights},
    }
    for name, content in contents.items():
        torch.save(content, folder / name)
    torch.save(weights, folder / "legacy.pth", _use_new_zipfile_serialization=False)
    save_file(weights, folder / "weights.safetensors")
    save_file(parallel, folder / "parallel.safetensors")
    return [*contents, "legacy.pth", "weights.safetensors", "parallel.safetensors"]


def test_every_form_of_file_gives_the_same_weights(network, folder):
    for name in variants(network, folder):
        loaded = load_state_dict(folder / name)
        assert set(loaded) == set(network.state_dict()), name
        for key, value in network.state_dict().items():
            assert torch.equal(loaded[key], value), (name, key)
            assert loaded[key].device.type == "cpu"


def test_load_weights_fills_the_network(network, folder):
    torch.save(network.state_dict(), folder / "a.pth")
    other = import_arch("my_nets:network")()
    other[0].weight.data.zero_()
    load_weights(other, folder / "a.pth")
    for key, value in network.state_dict().items():
        assert torch.equal(other.state_dict()[key], value)


def test_a_missing_num_batches_tracked_is_no_difference(network, folder):
    weights = {k: v for k, v in network.state_dict().items() if "num_batches" not in k}
    torch.save(weights, folder / "a.pth")
    load_weights(network, folder / "a.pth")


class Malicious:
    def __reduce__(self):
        return (open, ("executed", "w"))


def damaged(folder):
    """Name of each unreadable file and what its error says."""
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
        "text.pth": "no file of torch.save",
        "text.safetensors": "cannot be read as safetensors",
        "none.pth": "holds no state dict",
        "number.pth": "holds no state dict",
        "list.pth": "holds no state dict",
        "evil.pth": "refused without running it",
        "evil_raw.pth": "refused without running it",
        "folder.pth": "is a folder",
        "absent.pth": "no such file",
    }


def test_unreadable_files_are_one_line_that_names_them(network, folder):
    for name, text in damaged(folder).items():
        for read in (load_state_dict, lambda path: load_weights(network, path)):
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                warnings.filterwarnings("ignore", "Detected pickle protocol")
                with pytest.raises(WeightsError) as caught:
                    read(folder / name)
            message = str(caught.value)
            assert name in message
            assert text in message, message
            assert "\n" not in message
            assert len(message) < 500, message
    assert not (folder / "executed").exists()
    assert issubclass(WeightsError, ValueError)


def test_other_networks_weights_name_the_first_keys_that_differ(network, folder):
    before = {key: value.clone() for key, value in network.state_dict().items()}
    other = {f"layer{i}": torch.ones(2) for i in range(5)} | {"0.weight": torch.ones(4, 3, 5, 5)}
    torch.save(other, folder / "other.pth")
    with pytest.raises(WeightsError) as caught:
        load_weights(network, folder / "other.pth")
    assert str(caught.value) == (
        f"{folder / 'other.pth'} does not fit Sequential; "
        "missing: 0.bias, 1.weight, 1.bias and 4 more; "
        "unexpected: layer0, layer1, layer2 and 2 more; "
        "of another shape: 0.weight (4, 3, 5, 5) for (4, 3, 3, 3)"
    )
    for key, value in before.items():
        assert torch.equal(network.state_dict()[key], value)


@pytest.fixture
def temporary(tmp_path_factory, monkeypatch):
    """The folder of temporary files, to see that nothing stays there."""
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def test_open_checkpoint_runs_the_weights_of_the_file(network, folder, temporary):
    torch.save(network.state_dict(), folder / "a.pth")
    model = open_checkpoint(folder / "a.pth", "my_nets:network", batch_size=2, provider="cpu")
    assert not list(temporary.iterdir())
    assert (model.architecture, model.layers) == ("my_nets:network", ("bn", "fc"))
    assert (model.provider, model.batch_size) == ("cpu", 2)
    batch = np.random.default_rng(0).standard_normal((3, 3, 8, 8), dtype=np.float32)
    with torch.no_grad():
        expected = network.eval()(torch.from_numpy(batch)).numpy()
    np.testing.assert_allclose(model.run(batch)["fc"], expected, rtol=1e-4, atol=1e-5)


def test_open_checkpoint_with_other_taps(network, folder, temporary):
    save_file(network.state_dict(), folder / "a.safetensors")
    model = open_checkpoint(folder / "a.safetensors", "my_nets:network", {"conv": "0"})
    assert model.layers == ("conv",)


def test_open_checkpoint_opens_onnx_directly(network, folder):
    path = export_onnx(network, folder / "a.onnx")
    assert open_checkpoint(path, None).architecture == "Sequential"


def test_open_checkpoint_errors(network, folder, temporary):
    torch.save(network.state_dict(), folder / "a.pth")
    with pytest.raises(ValueError, match=r"a\.pth: weights need arch"):
        open_checkpoint(folder / "a.pth", None)
    with pytest.raises(WeightsError, match=r"b\.pth: no such file"):
        open_checkpoint(folder / "b.pth", "my_nets:network")
    with pytest.raises(FileNotFoundError, match=r"b\.onnx"):
        open_checkpoint(folder / "b.onnx", None)
    with pytest.raises(ValueError, match="no module 'conv'"):
        open_checkpoint(folder / "a.pth", "my_nets:network", {"x": "conv"})
    assert not list(temporary.iterdir())
