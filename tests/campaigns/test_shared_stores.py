"""The short form of the campaign of sweeps that share a store."""

import sys

import pytest
from campaigns.shared_stores import campaign


def test_two_sweeps_on_a_store_share_its_checkpoints():
    total, most = campaign(rounds=1, sweeps=2, n=10)
    assert not +total and most == 0


@pytest.mark.skipif(sys.platform == "win32", reason="processes are not recognised")
def test_a_sweep_takes_over_what_a_killed_one_had_claimed():
    total, _ = campaign(rounds=1, sweeps=2, n=10, kill=True)
    assert not +total
