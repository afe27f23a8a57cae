"""Checkpoints as people save them are opened as the plain weights are, and say what was taken."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from fastrdm.images import Preprocessing
from fastrdm.networks import WeightsError, export_onnx, hash_file
from fastrdm.runtimes import Architecture, open_checkpoint

nn = torch.nn


class Wrapped(nn.Module):
    preprocessing = Preprocessing((8, 8))
    taps = ("conv",)

    def __init__(self, n_classes=5):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.fc = nn.Linear(4, n_classes)

    def forward(self, x):
        return self.fc(self.conv(x).mean((2, 3)))


@pytest.fixture(scope="module")
def architecture():
    return Architecture.export(Wrapped)


def weights_of(seed=0, **options):
    torch.manual_seed(seed)
    return Wrapped(**options).state_dict()


def run(model):
    rng = np.random.default_rng(0)
    size = (2, 3, *model.preprocessing.size)
    return next(iter(model.run(rng.standard_normal(size, dtype=np.float32)).values()))


def test_the_entries_that_the_taps_need_are_those_of_the_graph(architecture):
    assert architecture.initialisers == ("conv.weight", "conv.bias")


def test_a_model_has_what_was_taken(architecture, tmp_path):
    path = tmp_path / "a.pth"
    torch.save(weights_of(), path)
    plain = open_checkpoint(path, architecture)
    assert plain.taken == {}
    expected = run(plain)
    content = {"epoch": 3, "net": {f"module.{k}": v for k, v in weights_of(n_classes=7).items()}}
    torch.save(content, path)
    with pytest.warns(RuntimeWarning, match=r"a\.pth: left out fc\.weight, fc\.bias, ") as caught:
        model = open_checkpoint(path, architecture)
    assert len(caught) == 1
    missing = "fc.weight, fc.bias"
    assert model.taken == {"key": "net", "prefix": "module.", "missing": missing}
    np.testing.assert_array_equal(run(model), expected)
    model = open_checkpoint(path, architecture, allow_missing=["fc*"])
    np.testing.assert_array_equal(run(model), expected)
    remarks = []
    open_checkpoint(path, architecture, on_remark=remarks.append)
    assert len(remarks) == 1


def test_averaged_weights_are_taken_when_asked_for(architecture, tmp_path):
    raw, averaged = weights_of(0), weights_of(1)
    torch.save(averaged, tmp_path / "ema.pth")
    expected = run(open_checkpoint(tmp_path / "ema.pth", architecture))
    torch.save({"model": raw, "ema": {"module": averaged}}, tmp_path / "a.pth")
    with pytest.warns(RuntimeWarning, match=r"not the averaged \(EMA\) ones under ema\.module"):
        model = architecture.open(tmp_path / "a.pth")
    assert model.taken == {"key": "model", "ema": "no"}
    for choice in ({"ema": True}, {"key": "ema.module"}, {"key": "ema"}):
        model = open_checkpoint(tmp_path / "a.pth", architecture, **choice)
        assert model.taken == {"key": "ema.module", "ema": "yes"}
        np.testing.assert_array_equal(run(model), expected)


def test_onnx_files_have_nothing_to_choose(tmp_path):
    path = export_onnx(Wrapped(), tmp_path / "a.onnx")
    with pytest.raises(
        ValueError, match=r"a\.onnx: an \.onnx file has its own weights; leave out key$"
    ):
        open_checkpoint(path, key="net")
    assert open_checkpoint(path).taken == {}


def test_an_exported_file_knows_what_its_taps_need(tmp_path):
    export_onnx(Wrapped(), tmp_path / "a.onnx")
    torch.save(weights_of(n_classes=7), tmp_path / "a.pth")
    with pytest.warns(RuntimeWarning, match="left out fc"):
        model = open_checkpoint(tmp_path / "a.pth", tmp_path / "a.onnx")
    assert model.taken == {"missing": "fc.weight, fc.bias"}
    tapped = Architecture.export(Wrapped, ["conv", "fc"])
    with pytest.raises(WeightsError, match=r"of another shape: fc\.weight \(7, 4\) for \(5, 4\)"):
        tapped.open(tmp_path / "a.pth", allow_missing=["fc*"])


@pytest.mark.filterwarnings("ignore:Validating sparse")
def test_entries_that_no_tap_needs_are_not_read(architecture, tmp_path):
    """Their type may be one that cannot be read."""
    sparse = weights_of() | {"fc.weight": torch.eye(5, 4).to_sparse()}
    torch.save(sparse, tmp_path / "a.pth")
    open_checkpoint(tmp_path / "a.pth", architecture)


def test_networks_of_timm_with_another_head(tmp_path):
    timm = pytest.importorskip("timm")

    def build():
        network = timm.create_model("test_vit", num_classes=1000)
        network.preprocessing = Preprocessing((160, 160))
        return network

    architecture = Architecture.export(build, ["blocks.0@cls"])
    torch.manual_seed(0)
    other = timm.create_model("test_vit", num_classes=10)
    bare = {k: v for k, v in other.state_dict().items() if not k.startswith("head.")}
    torch.save({"state_dict": other.state_dict(), "arch": "test_vit"}, tmp_path / "a.pth")
    save_file(bare, tmp_path / "b.safetensors")
    answers = []
    for name in ("a.pth", "b.safetensors"):
        with pytest.warns(RuntimeWarning, match=r"left out head\.weight, head\.bias, "):
            answers.append(run(architecture.open(tmp_path / name)))
    np.testing.assert_array_equal(*answers)
    assert hash_file(tmp_path / "a.pth") != hash_file(tmp_path / "b.safetensors")
