"""Bias of chosen layers and coverage of intervals by simulation; minutes, so only `pytest -m slow` runs them."""

import numpy as np
import pytest

from bench.experiments import held_out_choice as experiment

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", experiment.CASES)
def test_held_out_scores_have_no_bias_and_intervals_cover(name):
    rates = experiment.run(experiment.CASES[name], 1000)
    error = np.hypot(rates.truth_error, rates.held_out_error)
    assert abs(rates.held_out - rates.truth) < 3 * error
    assert rates.same_data - rates.truth > 5 * error
    low, high = experiment.COVERAGE
    assert low <= rates.coverage <= high
