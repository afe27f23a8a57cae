"""Levels and coverages by simulation. They take about a minute, so only `pytest -m slow` runs them."""

import pytest

from bench.experiments import calibration

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", calibration.LEVELS)
def test_false_positives(name):
    low, high = calibration.FALSE_POSITIVES
    assert low <= calibration.LEVELS[name]() <= high


@pytest.mark.parametrize("name", calibration.COVERAGES)
def test_coverage(name):
    low, high = calibration.COVERAGE
    assert low <= calibration.COVERAGES[name]() <= high
