"""The short form of the campaign of interruptions."""

import sys

import pytest
from campaigns import interruptions


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_interrupted_sweeps_lose_double_and_change_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(interruptions, "MAX_DISTURBED", 1)
    tally = interruptions.run(tmp_path / "home", ["local"], count=2, seed=0)
    assert tally.interruptions.total() >= 2
    assert tally.details == []
