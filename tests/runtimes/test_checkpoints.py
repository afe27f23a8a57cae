import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
import torchvision
from safetensors.torch import save_file

from fastrdm.networks import WeightsError, export, export_onnx, load_weights
from fastrdm.runtimes import (
    Architecture,
    OnnxModel,
    import_arch,
    open_checkpoint,
)
from models.networks import TAPS, cornet_s, efficientnet_lite0, efficientnet_lite0_weights, resnet20

nn = torch.nn

SOURCE = """
import torch
from fastrdm.images import Preprocessing

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

def broken():
    raise RuntimeError("no\\nluck")

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


@pytest.fixture(scope="module")
def architecture():
    """The architecture of that network, exported once."""
    names = {}
    exec(SOURCE, names)
    return Architecture.export(names["network"])


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
        ("my_nets", "is not module:callable"),
        (":network", "is not module:callable"),
        ("my_nets:", "is not module:callable"),
        ("my_nest:network", "module 'my_nest' does not exist"),
        ("torchvision.modls:resnet18", r"module 'torchvision\.modls' does not exist"),
        ("my_nets:netwrok", "my_nets has no 'netwrok'; nearest: network"),
        ("my_nets:constant", "is a int, which cannot be called"),
    ],
)
def test_import_arch_errors(folder, arch, match):
    with pytest.raises(ValueError, match=match) as caught:
        import_arch(arch)
    assert arch in str(caught.value)


def test_the_callable_must_return_a_network(folder):
    with pytest.raises(
        ValueError, match=r"'my_nets:number' returns a int, not a torch\.nn\.Module"
    ):
        import_arch("my_nets:number")()


def test_an_error_of_the_callable_is_one_line(folder):
    with pytest.raises(
        ValueError, match="'my_nets:broken' does not build a network: RuntimeError: no luck$"
    ):
        import_arch("my_nets:broken")()


def test_an_import_that_fails_inside_the_module_names_its_own_package(folder):
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        import_arch("my_broken:network")


@pytest.fixture
def temporary(tmp_path_factory, monkeypatch):
    """The folder of temporary files, to check that none remain."""
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
    torch.save({"0.weight": torch.zeros(4, 3, 5, 5)}, folder / "c.pth")
    with pytest.raises(WeightsError) as caught:
        open_checkpoint(folder / "c.pth", "my_nets:network")
    assert str(caught.value) == (
        f"{folder / 'c.pth'} does not fit my_nets:network; missing: 0.bias, 1.weight, 1.bias and 4 more; "
        "of another shape: 0.weight (4, 3, 5, 5) for (4, 3, 3, 3)"
    )
    assert not list(temporary.iterdir())


def normalised(model, n=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, 3, *model.preprocessing.size), dtype=np.float32)


def assert_equal(model, other):
    """Assert that activations are bit-identical."""
    batch = normalised(model)
    got, expected = model.run(batch), other.run(batch)
    assert list(got) == list(expected)
    for layer, values in expected.items():
        np.testing.assert_array_equal(got[layer], values, err_msg=layer)
        assert np.isfinite(values).all() and values.std() > 0, layer


def trained(network):
    """Weights as after training: none is one or zero."""
    generator = torch.Generator().manual_seed(3)
    weights = network.state_dict()
    for value in weights.values():
        if value.is_floating_point():
            noise = torch.rand(value.shape, generator=generator)
            value.mul_(0.9 + 0.2 * noise).add_(0.01 * noise)
    return weights


def small_densenet():
    """One layer per block instead of up to 24: exporting the complete network twice takes 15 seconds."""
    return torchvision.models.DenseNet(32, (1, 1, 1, 1), 64)


# What builds the network, and the file of its trained weights where there is one.
NETWORKS = {
    "resnet20": (resnet20, None),
    "densenet121": (small_densenet, None),
    "cornet_s": (cornet_s, None),
    "efficientnet_lite0": (efficientnet_lite0, efficientnet_lite0_weights),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_swapped_weights_equal_a_new_export(name, tmp_path):
    if name == "efficientnet_lite0":
        pytest.importorskip("efficientnet_lite_pytorch")
    build, find = NETWORKS[name]
    path = find() if find else tmp_path / "weights.pth"
    if find is None:
        torch.save(trained(build()), path)
    architecture = Architecture.export(build, TAPS[name], 32)
    network = build()
    load_weights(network, path)
    fresh = export_onnx(network, tmp_path / "fresh.onnx", TAPS[name], 32)
    expected = OnnxModel(fresh, "cpu", n_threads=1)
    assert_equal(architecture.open(path, provider="cpu", n_threads=1), expected)
    again = Architecture.read(fresh)
    assert_equal(again.open(path, provider="cpu", n_threads=1), expected)
    assert again.fingerprint == architecture.fingerprint
    assert len(architecture.graph) < 200_000 < fresh.stat().st_size


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_checkpoints_of_another_floating_type(network, architecture, folder, dtype):
    weights = {k: v.to(dtype) if v.is_floating_point() else v for k, v in trained(network).items()}
    torch.save(weights, folder / "a.pth")
    save_file(weights, folder / "a.safetensors")
    network.load_state_dict(weights)
    torch.save(network.state_dict(), folder / "converted.pth")
    expected = architecture.open(folder / "converted.pth", provider="cpu")
    for name in ("a.pth", "a.safetensors"):
        assert_equal(architecture.open(folder / name, provider="cpu"), expected)


@pytest.mark.parametrize("beside", [False, True])
def test_an_exported_file_is_the_architecture_of_other_weights(
    network, folder, monkeypatch, beside
):
    class Shifted(nn.Module):
        """With a constant that is no weight, and lies beside the file too where that is large."""

        def __init__(self):
            super().__init__()
            self.network = network
            self.register_buffer("shift", torch.rand(3, 8, 8), persistent=False)

        def forward(self, x):
            return self.network(x + self.shift)

    if beside:
        monkeypatch.setattr(export, "_LARGEST_FILE", 0)
    taps = {"fc": "network.3"}
    shifted = Shifted()
    path = export_onnx(shifted, folder / "net.onnx", taps, 8)
    assert (folder / "net.onnx.data").is_file() == beside
    torch.save(trained(shifted), folder / "a.pth")
    expected = OnnxModel(export_onnx(shifted, folder / "fresh.onnx", taps, 8), "cpu")
    assert_equal(open_checkpoint(folder / "a.pth", str(path), provider="cpu"), expected)
    assert Architecture.read(path).fingerprint == Architecture.export(shifted, taps, 8).fingerprint


def test_an_exported_file_needs_no_torch(network, folder):
    path = export_onnx(network, folder / "net.onnx")
    save_file(trained(network), folder / "a.safetensors")
    code = (
        "import sys\nsys.modules['torch'] = None\n"
        "from fastrdm.runtimes import open_checkpoint\n"
        "print(open_checkpoint('a.safetensors', 'net.onnx').layers)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == str(OnnxModel(path).layers)


def test_fingerprints_of_different_graphs_differ(network, architecture):
    def fingerprint(network, taps):
        return Architecture.export(network, taps, 8).fingerprint

    expected_fingerprint = architecture.fingerprint
    assert len(expected_fingerprint) == 64
    assert expected_fingerprint == fingerprint(network, {"bn": "1", "fc": "3"})
    assert expected_fingerprint != fingerprint(network, {"bn": "0", "fc": "3"})
    unused = nn.Sequential(*network)
    unused.register_buffer("unused", torch.zeros(2))
    assert expected_fingerprint != fingerprint(unused, {"bn": "1", "fc": "3"})


def test_an_open_model_keeps_and_needs_no_weight_file(network, architecture, folder):
    weights = trained(network)
    for value in onnx.load_model_from_string(architecture.graph).graph.initializer:
        assert not value.raw_data and value.data_location == onnx.TensorProto.EXTERNAL
    for name, save in (("a.pth", torch.save), ("a.safetensors", save_file)):
        save(weights, folder / name)
        model = architecture.open(folder / name, provider="cpu")
        before = model.run(normalised(model))["fc"]
        size = (folder / name).stat().st_size
        with (folder / name).open("r+b") as file:
            file.write(bytes(size))
        np.testing.assert_array_equal(model.run(normalised(model))["fc"], before)


def test_max_memory_of_a_model_with_swapped_weights(network, architecture, folder):
    torch.save(network.state_dict(), folder / "a.pth")
    model = open_checkpoint(folder / "a.pth", architecture, provider="cpu")
    pictures = list(np.random.default_rng(0).integers(0, 256, (5, 9, 9, 3), dtype=np.uint8))
    expected = model.rdms(pictures)
    for layer, rdm in model.rdms(pictures, max_memory="1MiB").items():
        np.testing.assert_allclose(rdm, expected[layer], rtol=0, atol=1e-6)


def test_files_that_are_not_architectures(network, folder):
    torch.save(network.state_dict(), folder / "a.pth")
    path = export_onnx(network, folder / "net.onnx")
    with pytest.raises(ValueError, match=r"net\.onnx already has layers; remove the taps"):
        open_checkpoint(folder / "a.pth", "net.onnx", ["3"])
    with pytest.raises(FileNotFoundError, match=r"none\.onnx: no such ONNX file"):
        open_checkpoint(folder / "a.pth", "none.onnx")
    (folder / "text.onnx").write_text("epoch,loss\n" * 100)
    with pytest.raises(ValueError, match=r"text\.onnx cannot be read as an ONNX model"):
        open_checkpoint(folder / "a.pth", "text.onnx")
    model = onnx.load(path)
    kept = [entry for entry in model.metadata_props if entry.key != "fastrdm.state_dict"]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    onnx.save(model, folder / "old.onnx")
    with pytest.raises(ValueError, match=r"the metadata of old\.onnx do not describe its weights"):
        open_checkpoint(folder / "a.pth", "old.onnx")
    for arch in ("none.onnx", "my_nets:netwrok"):
        with pytest.raises((ValueError, FileNotFoundError), match=arch.partition(":")[0]):
            open_checkpoint(folder / "a.pth", arch)


def test_checkpoints_without_their_architecture(network, folder):
    torch.save(trained(network), folder / "0.pth")
    with pytest.raises(ValueError, match=r"0\.pth: weights need arch"):
        open_checkpoint(folder / "0.pth")
