"""The short form of the campaign of sweeps that share a store."""

import sys

import pytest
from campaigns.shared_stores import campaign


@pytest.mark.skipif(sys.platform == "win32", reason="processes are not recognised")
def test_two_sweeps_share_checkpoints_and_one_takes_over_what_a_killed_one_had_claimed():
    tally = campaign(rounds=2, sweeps=2, n=10, kill=True)
    assert not +tally.problems, tally.details
