"""Responses simulated from a known layer: a short run of bench/experiments/known_layer.py."""

import pytest

from bench.experiments.known_layer import RELIABILITY, winners


def test_every_measure_finds_the_layer_and_repeats_their_reliability():
    found, reliabilities = winners(2, n_subjects=4)
    assert set(found) == {"rsa", "cka", "cka debiased", "angular", "ridge", "pls"}
    assert all(share == 1 for share in found.values())
    assert reliabilities.mean() == pytest.approx(RELIABILITY, abs=0.02)
