"""The entries that tapped layers depend on, held against the initialisers of the exported graph."""

import pytest
import torch
import torchvision
from torch import nn

from fastrdm.networks import choose_taps, inspect_module, needed_entries
from fastrdm.runtimes import Architecture


class Indexed(nn.Module):
    """Weights by in-place operations, indices, a view, and a tied entry; some entries are without effect."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3, 2), nn.Linear(4, 10)
        self.scale, self.shift = nn.Parameter(torch.ones(8)), nn.Parameter(torch.ones(4))
        self.unused = nn.Parameter(torch.ones(4))
        self.register_buffer("index", torch.arange(4))
        self.tied = nn.Linear(4, 10)
        self.tied.weight = self.head.weight
        self.act = nn.Identity()

    def forward(self, images):
        values = self.conv(images) * self.scale[:4].view(4, 1, 1)
        values.mul_(self.shift[self.index].view(4, 1, 1))
        return self.head(self.act(values).mean((2, 3)))


def needed(module, taps, size):
    chosen = choose_taps(module, inspect_module(module, size), taps)
    return needed_entries(module, chosen, size)


@pytest.mark.parametrize("taps", [["act"], ["conv"], ["head"]])
def test_entries_are_followed_through_views_indices_and_writing(taps):
    found = needed(Indexed(), taps, (16, 16))
    expected = {"conv.weight", "conv.bias"}
    # Written in place after it was tapped.
    if taps != ["conv"]:
        expected |= {"scale", "shift", "index"}
    if taps == ["head"]:
        expected |= {"head.weight", "head.bias", "tied.weight"}
    assert set(found) == expected


def test_entries_are_the_initialisers_of_the_exported_graph():
    module = torchvision.models.resnet18()
    found = needed(module, ["layer2.1"], (64, 64))
    exported = Architecture.export(module, ["layer2.1"], 64)
    assert set(found) == set(exported.initialisers)
    assert len(found) < len(module.state_dict()) / 2


def test_a_weight_that_becomes_a_number_is_needed():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.scale = nn.Conv2d(3, 4, 3), nn.Parameter(torch.ones(()))

        def forward(self, images):
            return self.conv(images) * self.scale.item()

    assert "scale" in needed(Scaled(), ["conv"], (8, 8))
