"""Sweeps whose networks run as modules of torch: built once, with the weights of each file loaded into them."""

import sys

import numpy as np
import pytest
import torch
from small_study import write_study

from fastrdm.scoring import score_checkpoints

NETWORK = """
import torch
from fastrdm.images import Preprocessing

built = 0

class Sampled(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3, 2)
        self.norm = torch.nn.BatchNorm2d(4)
        self.fc = torch.nn.Linear(4, 10)
        self.preprocessing = Preprocessing((16, 16))
        self.taps = {"conv": "conv", "norm": "norm"}

    def forward(self, images):
        values = self.norm(self.conv(images))
        return self.fc(values.mean((2, 3)))

def build():
    global built
    built += 1
    return Sampled()

def unexportable():
    # Its control flow depends on values.
    network = Sampled()
    forward = network.norm.forward
    network.norm.forward = lambda x: forward(x) if x.mean() < 1e6 else x
    return network

def random():
    network = Sampled()
    network.noise = torch.rand(4)
    return network
"""
ARCH = "torch_engine_net:build"


def module():
    names = {}
    exec(NETWORK, names)
    return names["build"]()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder: torch_engine_net.py, runs/ with checkpoints of several formats, study/."""
    (tmp_path / "torch_engine_net.py").write_text(NETWORK)
    write_study(tmp_path / "study", regions=("evc", "it"), size=(20, 20))
    runs = tmp_path / "runs"
    runs.mkdir()
    for i in range(5):
        torch.manual_seed(i)
        network = module()
        network.norm.running_mean.uniform_(-1, 1)
        network.norm.running_var.uniform_(0.5, 2)
        torch.save({"state_dict": network.state_dict(), "epoch": i}, runs / f"epoch{i}.pth")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("torch_engine_net", None)
    yield tmp_path
    sys.modules.pop("torch_engine_net", None)


def scores_of(provider, weights="runs", arch=ARCH, **options):
    weights = [weights] if isinstance(weights, str) else weights
    found = list(
        score_checkpoints(weights, [arch], "study", provider=provider, n_draws=0, **options)
    )
    assert not [scored.error for scored in found if scored.error]
    return found


def values(scores):
    return np.array([[r.percent_nc for r in scored.results] for scored in scores])


def test_scores_by_torch_are_those_by_onnx_runtime(folder):
    ours, theirs = scores_of("torch"), scores_of("cpu")
    assert [s.sha256 for s in ours] == [s.sha256 for s in theirs]
    names = [[(r.layer, r.region, r.study) for r in s.results] for s in (ours[0], theirs[0])]
    assert names[0] == names[1]
    np.testing.assert_allclose(values(ours), values(theirs), rtol=1e-3, atol=1e-3)
    assert len(np.unique(values(ours)[:, 0])) == 5


@pytest.mark.parametrize("where", ["host", "device"])
def test_a_network_is_built_once_for_all_checkpoints(folder, where, monkeypatch):
    expected = values(scores_of("cpu"))
    from fastrdm.scoring import local_pool, worker

    monkeypatch.setattr(local_pool, "Worker", lambda setup: worker.Worker(setup, where))
    monkeypatch.setattr(worker, "has_device", lambda provider: where == "device")
    # The first call inspects the network, as the start of the sweep does.
    scores_of("torch", "runs/epoch0.pth")
    import torch_engine_net

    before = torch_engine_net.built
    found = scores_of("torch:cpu")
    np.testing.assert_allclose(values(found), expected, rtol=1e-3, atol=1e-3)
    # Two of the inspection, one of the worker.
    assert torch_engine_net.built - before == 3
