"""A short form of bench/experiments/held_out_choice.py: bias of layers chosen on the same data, not held out."""

import numpy as np
import pytest

from bench.experiments.held_out_choice import Case, draw_data, run, run_studies
from fastrdm import SelectedRdm, cross_validate


@pytest.fixture(scope="module")
def rates():
    return run(Case(30, 8, 12, 5), 60)


def test_the_held_out_score_of_a_chosen_layer_has_no_bias(rates):
    assert abs(rates.held_out - rates.truth) < 3 * np.hypot(rates.held_out_error, rates.truth_error)


def test_the_score_on_the_data_of_the_choice_is_biased(rates):
    assert rates.same_data - rates.truth > 5 * rates.held_out_error


def test_intervals_cover_the_score(rates):
    # 60 runs; the many of the experiment are within 0.92 and 0.97.
    assert rates.coverage >= 0.85


def test_a_layer_chosen_on_one_study_has_no_bias_on_another():
    rates = run_studies(12, n_layers=8)
    assert abs(rates.held_out - rates.truth) < 4 * rates.held_out_error
    assert rates.same_data - rates.truth > 5 * rates.held_out_error


def test_a_known_layer_is_found_in_every_fold():
    rng = np.random.default_rng(0)
    layers, subjects = draw_data(rng, 40, 8, 6)
    subjects = 0.7 * layers[4] / layers[4].std() + subjects / subjects.std(axis=1, keepdims=True)
    result = cross_validate(SelectedRdm(), layers, subjects)
    assert result.chosen == {"4": 40}
