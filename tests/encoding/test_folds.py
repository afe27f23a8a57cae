"""Folds: seeded, by labels, grouped and stratified."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import KFold

from fastrdm.encoding import folds_of


@given(st.integers(4, 40), st.integers(2, 4), st.none() | st.integers(0, 2**32 - 1))
def test_folds_by_number_are_those_of_scikit_learn(n, n_folds, seed):
    folds = folds_of(n_folds, n, seed=seed)
    peers = KFold(n_folds, shuffle=seed is not None, random_state=seed).split(np.empty(n))
    for (_, train, test), (expected_train, expected_test) in zip(
        folds.splits(np.arange(n)), peers, strict=True
    ):
        assert (train == expected_train).all()
        assert (test == expected_test).all()


def test_labels_are_folds_in_sorted_order():
    folds = folds_of(["b", "a", "b", "c", "a"], 5)
    assert folds.names == ("a", "b", "c")
    assert folds.numbers.tolist() == [1, 0, 1, 2, 0]
    assert folds_of(np.array([3, 1, 3, 1]), 4).names == ("1", "3")


@given(st.lists(st.integers(0, 9), min_size=8, max_size=40), st.integers(0, 99))
def test_groups_are_not_divided(groups, seed):
    n_groups = len(set(groups))
    if n_groups < 3 or len(groups) - max(map(groups.count, groups)) < 4:
        return
    folds = folds_of(3, len(groups), groups=groups, seed=seed)
    assert len({(g, f) for g, f in zip(groups, folds.numbers.tolist(), strict=True)}) == n_groups
    assert len(set(folds.numbers.tolist())) == 3
    again = folds_of(3, len(groups), groups=groups, seed=seed)
    assert (again.numbers == folds.numbers).all()


@given(st.lists(st.sampled_from("abc"), min_size=6, max_size=40), st.integers(0, 99))
def test_strata_are_spread_evenly(strata, seed):
    folds = folds_of(3, len(strata), strata=strata, seed=seed).numbers
    for labels in ([""] * len(strata), strata):
        for label in set(labels):
            sizes = np.bincount(folds[np.array(labels) == label], minlength=3)
            assert np.ptp(sizes) <= 1


def test_seeds_differ():
    assert (folds_of(5, 50, seed=0).numbers != folds_of(5, 50, seed=1).numbers).any()
    groups = np.arange(50) // 2
    first, second = (folds_of(5, 50, seed=s, groups=groups).numbers for s in (0, 1))
    assert (first != second).any()


@pytest.mark.parametrize(
    ("folds", "options", "words"),
    [
        (1, {}, "folds must be at least 2, not 1"),
        (11, {}, "folds is 11, but there are 10 conditions"),
        (2.0, {}, "folds must be a number or the label of each condition, not 2.0"),
        (True, {}, "not True"),
        (None, {}, "not None"),
        ("5", {}, "not '5'"),
        ([0, 1], {}, r"folds has shape \(2,\); it must have a label for each of 10 conditions"),
        ([0] * 10, {}, "folds has one label, '0'"),
        ([np.nan] * 10, {}, "folds has a label that is NaN"),
        ([0] * 9 + [1], {}, "fold 0 holds out 9 of 10 conditions, which leaves 1 for training"),
        (2, {"seed": -1}, "seed must be at least 0"),
        (2, {"seed": 2**32}, "seed must be at most"),
        (2, {"groups": [0] * 10}, "folds is 2, but groups has 1"),
        (2, {"groups": [0] * 9}, r"groups has shape \(9,\)"),
        (2, {"groups": [0, 1] * 5, "strata": [0, 1] * 5}, "groups and strata were both passed"),
        ([0, 1] * 5, {"groups": [0, 1] * 5}, "so groups cannot be used"),
        ([0, 1] * 5, {"strata": [0, 1] * 5}, "so strata cannot be used"),
        (np.array([0, "a"] * 5, object), {}, "cannot be sorted"),
    ],
)
def test_wrong_folds_are_refused(folds, options, words):
    with pytest.raises(ValueError, match=words):
        folds_of(folds, 10, **options)


def test_conditions_that_are_never_held_out():
    folds = folds_of([-1, 3, -1, 2, 3, -1], 6)
    assert folds.names == ("2", "3")
    assert folds.numbers.tolist() == [-1, 1, -1, 0, 1, -1]
    (first, second) = folds.splits(np.arange(6))
    assert first[1].tolist() == [0, 1, 2, 4, 5]
    assert second[2].tolist() == [1, 4]
    assert folds_of([-1, -1, 0, 0], 4).names == ("0",)


def test_folds_without_conditions_of_a_unit_are_left_out():
    folds = folds_of([0, 0, 1, 1, 2, 2], 6)
    assert [fold for fold, _, _ in folds.splits(np.array([0, 1, 2, 3]))] == [0, 1]
    assert [fold for fold, _, _ in folds.splits(np.array([0, 1, 2]))] == [1]
