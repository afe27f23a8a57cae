import copy
import inspect

import pytest
import torch

from fastrdm.networks import choose_taps, inspect_module
from fastrdm.runtimes import module_fingerprint


class Scaled(torch.nn.Module):
    def __init__(self, scale=2.0):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3)
        self.norm = torch.nn.BatchNorm2d(4)
        self.scale = scale
        self.register_buffer("table", torch.arange(3.0), persistent=False)

    def forward(self, x):
        return self.norm(self.conv(x)) * self.scale


class Shifted(Scaled):
    def forward(self, x):
        return self.norm(self.conv(x)) + self.scale


def fingerprint(module, taps=("conv", "norm")):
    return module_fingerprint(module, choose_taps(module, inspect_module(module, (8, 8)), taps))


def test_weights_mode_and_statistics_do_not_matter():
    module = Scaled()
    before = fingerprint(module)
    other = Scaled().eval()
    other(torch.rand(2, 3, 8, 8))
    trained = copy.deepcopy(module).train()
    trained(torch.rand(2, 3, 8, 8))
    assert fingerprint(other) == fingerprint(trained) == before
    assert len(before) == 64


def _table(module):
    module.table += 1


def _stride(module):
    module.conv.stride = (2, 2)


def _wider(module):
    module.conv = torch.nn.Conv2d(3, 4, 5)


def _activation(module):
    module.norm = torch.nn.Sequential(module.norm, torch.nn.ReLU())


@pytest.mark.parametrize("change", [_table, _stride, _wider, _activation])
def test_what_changes_the_layers_changes_the_fingerprint(change):
    module = Scaled()
    before = fingerprint(module, ["conv"])
    change(module)
    assert fingerprint(module, ["conv"]) != before


def test_numbers_code_and_taps_change_the_fingerprint():
    kinds = [Scaled(), Scaled(3.0), Shifted()]
    prints = [fingerprint(module) for module in kinds]
    prints += [fingerprint(kinds[0], taps) for taps in (["norm"], {"a": "conv", "b": "norm"})]
    assert len(set(prints)) == 5


def test_a_class_without_source_code_has_a_fingerprint():
    kind = type("Made", (Scaled,), {})
    assert fingerprint(kind()) == fingerprint(kind()) != fingerprint(Scaled())


def test_the_code_of_torch_does_not_matter(monkeypatch):
    before, original = fingerprint(Scaled()), inspect.getsource

    def newer(kind):
        return original(kind) + "# newer" * kind.__module__.startswith("torch.")

    monkeypatch.setattr(inspect, "getsource", newer)
    assert fingerprint(Scaled()) == before
    monkeypatch.setattr(inspect, "getsource", lambda kind: original(kind) + "# newer")
    assert fingerprint(Scaled()) != before
