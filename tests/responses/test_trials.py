"""Trials sorted by condition and repeat."""

import doctest

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastrdm
from fastrdm.responses import trials


def plain(rows, conditions, runs):
    """Lists of repeats: for each run, as many as its most frequent condition."""
    names, out = sorted(set(conditions)), []
    for run in sorted(set(runs)):
        mine = [
            [row for row, c, r in zip(rows, conditions, runs, strict=True) if (c, r) == (name, run)]
            for name in names
        ]
        for k in range(max(map(len, mine))):
            out.append([each[k] if k < len(each) else [np.nan] * len(rows[0]) for each in mine])
    return np.array(out)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=20))
def test_every_trial_has_its_place(labels):
    conditions, runs = map(list, zip(*labels, strict=True))
    rows = np.random.default_rng(0).normal(size=(len(labels), 2))
    found = fastrdm.stack_trials(rows, conditions, runs)
    np.testing.assert_array_equal(found, plain(rows.tolist(), conditions, runs))
    found = fastrdm.stack_trials(rows, conditions)
    np.testing.assert_array_equal(found, plain(rows.tolist(), conditions, [0] * len(labels)))


def test_conditions_in_a_given_order():
    rows = np.arange(10, dtype=np.float32).reshape(5, 2)
    found = fastrdm.stack_trials(rows, list("cabac"), order=["c", "x", "a"])
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[:, 0], rows[[0, 4]])
    np.testing.assert_array_equal(found[:, 2], rows[[1, 3]])
    assert np.isnan(found[:, 1]).all()


def test_columns_of_matlab_are_labels():
    rows = np.arange(4.0).reshape(4, 1)
    found = fastrdm.stack_trials(
        rows, np.array([[1], [2], [1], [2]]), np.array([[2], [2], [1], [1]])
    )
    np.testing.assert_array_equal(found[:, :, 0], [[2, 3], [0, 1]])


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((np.ones(3), [1, 2, 3]), {}, r"trials have shape \(3,\); expected \(trials, units\)"),
        ((np.ones((3, 2)), [1, 2]), {}, r"conditions have shape \(2,\); there are 3 trials"),
        ((np.ones((3, 2)), [1, 2, 3], [1]), {}, r"runs have shape \(1,\); there are 3 trials"),
        ((np.ones((2, 2)), [1, np.nan]), {}, "conditions hold NaN"),
        ((np.ones((2, 2)), np.array([1, "a"], object)), {}, "types that cannot be sorted"),
        ((np.ones((2, 2)), [1, 2]), {"order": [1, 1]}, "order names the condition 1 twice"),
        ((np.ones((2, 2)), [1, 2]), {"order": [3]}, "order has none of the .*, which are 1, 2"),
    ],
)
def test_impossible_trials(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        fastrdm.stack_trials(*arguments, **options)


def test_labels_of_tables_must_agree():
    table = pd.DataFrame(np.ones((2, 2)), index=["t1", "t2"])
    with pytest.raises(ValueError, match="trials and conditions have the same trial labels"):
        fastrdm.stack_trials(table, pd.Series([1, 2], index=["t2", "t1"]))


def test_examples():
    assert doctest.testmod(trials).failed == 0
