"""Networks inside what frameworks put around them."""

import copy

import pytest
import torch
from torch import nn

from fastrdm.live.wrappers import plain


@pytest.fixture
def accelerate():
    """The package, without the state that it keeps for the process."""
    package = pytest.importorskip("accelerate")
    package.state.AcceleratorState._reset_state(reset_partial_state=True)
    yield package
    package.state.AcceleratorState._reset_state(reset_partial_state=True)


def test_mixed_precision_of_accelerate_does_not_apply(accelerate):
    class Doubled(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(20, 20)

        def forward(self, x):
            return 2 * self.linear(x)

    network, images = Doubled(), torch.rand(3, 20)
    before = copy.deepcopy(network)(images)
    prepared = accelerate.Accelerator(mixed_precision="bf16", cpu=True).prepare(network)
    rounded = prepared(images)
    assert not torch.equal(rounded, before)
    with plain(prepared) as whole:
        assert torch.equal(whole(images), before)
    assert torch.equal(prepared(images), rounded)
