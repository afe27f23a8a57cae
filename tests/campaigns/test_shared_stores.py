"""The short form of the campaign of sweeps that share a store."""

import sys

import pytest
from campaigns import shared_stores


@pytest.mark.skipif(sys.platform == "win32", reason="processes are not recognised")
def test_two_sweeps_share_checkpoints_and_one_takes_over_what_a_killed_one_had_claimed(
    monkeypatch,
):
    monkeypatch.setattr(shared_stores, "LATEST_KILL_S", 3.0)
    tally = shared_stores.campaign(rounds=2, sweeps=2, n=10, engine="in-process", kill=True)
    assert not +tally.problems, tally.details
