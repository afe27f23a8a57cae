"""Short forms of the campaigns of full disks, clocks that jump and files that change."""

import sys

import pytest
from campaigns import changed_files, clock_jumps, full_disks


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.skipif(sys.platform == "win32", reason="needs the limits of POSIX")
def test_sweeps_go_on_after_a_full_disk(monkeypatch):
    monkeypatch.setattr(full_disks, "MAX_ATTEMPTS", 1)
    # With this seed, the first limit is half the size of the store or less.
    tally = full_disks.campaign(rounds=1, n=3, seed=32, disk=full_disks.LimitedFiles)
    assert tally.done["full"] and not tally.details


@pytest.mark.skipif(sys.platform == "win32", reason="processes are not recognised")
def test_sweeps_share_a_store_while_clocks_jump():
    assert not clock_jumps.run(rounds=1, n=4, library=clock_jumps.libfaketime()).details


@pytest.mark.skipif(sys.platform == "win32", reason="open files are not replaced")
def test_sweeps_find_the_last_contents_of_files_that_change():
    tally = changed_files.campaign(rounds=1, n=4, watch=False)
    assert tally.done["changes"] and not tally.details
