"""The short form of the campaign of readers: each kind of file as it was written, and a few mutations of it."""

import pytest
from campaigns.fuzz_readers import FINE, fuzz, report
from reader_seeds import READERS


def test_mutated_files_are_read_or_refused_in_one_sentence(tmp_path):
    counts, findings = fuzz([*READERS], 10 * len(READERS), seed=0, keep=tmp_path)
    assert not findings, report(counts)
    assert sum(found[outcome] for found in counts.values() for outcome in FINE) == 10 * len(READERS)


@pytest.mark.slow
def test_many_mutated_files(tmp_path):
    _, findings = fuzz([*READERS], 1000 * len(READERS), n_workers=2, seed=1, keep=tmp_path)
    assert not findings
