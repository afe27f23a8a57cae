"""Responses in every accepted form become one array (repeats, conditions, units) for each subject."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from scipy.stats import zscore

from fastrdm.responses import measured

IMAGES = [f"image {k}" for k in range(6)]


@pytest.fixture
def cube():
    """(subjects, repeats, conditions, units) with gaps."""
    values = np.random.default_rng(0).normal(size=(2, 4, 6, 5))
    values[0, 3] = np.nan
    values[1, 1:, 2, 3] = np.nan
    values[1, :, 4] = np.nan
    return values


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_array_is_split_into_subjects_without_a_copy(cube, dtype):
    cube = cube.astype(dtype)
    found = measured(cube)
    assert [a.shape for a in found.arrays] == [(4, 6, 5)] * 2
    assert all(np.shares_memory(a, cube) for a in found.arrays)
    assert all(a.dtype == dtype and not a.flags.writeable for a in found.arrays)
    assert cube.flags.writeable
    single = measured(cube[:, 0])
    assert single.n_repeats == (1, 1)
    assert np.shares_memory(single.means()[0], cube)
    np.testing.assert_array_equal(single.arrays[1][0], cube[1, 0])


def test_measured_responses_stay_as_they_are(cube):
    found = measured(cube)
    assert measured(found) is found
    assert repr(found) == "MeasuredResponses(2 subjects, 6 conditions, 5 units, 4 repeats)"


@pytest.mark.parametrize("kind", [list, tuple, lambda s: {f"sub-{k}": a for k, a in enumerate(s)}])
def test_subjects_may_differ_in_units_and_repeats(cube, kind):
    subjects = [cube[0, 0], cube[1, :2, :, :3]]
    found = measured(kind(subjects))
    assert found.n_units == (5, 3)
    assert found.n_repeats == (1, 2)
    assert found.n_conditions == 6
    named = ("sub-0", "sub-1") if not isinstance(kind, type) else None
    assert found.names == named
    assert (
        repr(found) == "MeasuredResponses(2 subjects, 6 conditions, 3 to 5 units, 1 to 2 repeats)"
    )
    for array, subject in zip(found.arrays, subjects, strict=True):
        np.testing.assert_array_equal(array.reshape(subject.shape), subject)


def test_two_axes_are_one_subject(cube):
    found = measured(cube[0, 0])
    assert found.n_subjects == 1
    assert found.n_conditions == 6
    assert measured(cube[0, 0].tolist()).arrays[0].shape == (1, 6, 5)
    assert measured([cube[0, :3]]).arrays[0].shape == (3, 6, 5)


def test_tables_keep_their_labels(cube):
    tables = {
        "anna": pd.DataFrame(cube[0, 0], index=IMAGES, columns=list("abcde")),
        "ben": pd.DataFrame(cube[1, 0, :, :2], index=IMAGES, columns=["x", "y"]),
    }
    found = measured(tables)
    assert found.conditions.values == tuple(IMAGES)
    assert [u.values for u in found.units] == [tuple("abcde"), ("x", "y")]
    assert found.of_units({"anna": [True, False, True, False, False], "ben": [1]}).units[
        0
    ].values == ("a", "c")
    tables["ben"] = tables["ben"].iloc[::-1]
    with pytest.warns(
        RuntimeWarning, match=r"responses\['ben'\] has its .* order of responses\['anna"
    ):
        moved = measured(tables)
    np.testing.assert_array_equal(moved.arrays[1], found.arrays[1])
    tables["ben"] = tables["ben"].rename({"image 0": "image 9"})
    with pytest.raises(ValueError, match=r"only in responses\['ben'\]: 'image 9'; only in resp"):
        measured(tables)
    one = measured(pd.DataFrame(cube[0, 0], index=IMAGES))
    assert one.conditions.name == "responses"
    assert one.units == (None,)


def test_axes_of_xarray_are_recognised_by_name(cube):
    array = xr.DataArray(
        cube.transpose(3, 2, 0, 1),
        dims=("neuroid", "stimulus", "subject", "repetition"),
        coords={"stimulus": IMAGES, "subject": ["anna", "ben"]},
    )
    found = measured(array)
    assert found.names == ("anna", "ben")
    assert found.conditions.values == tuple(IMAGES)
    for k in range(2):
        np.testing.assert_array_equal(found.arrays[k], cube[k])
        assert np.shares_memory(found.arrays[k], cube)
    one = measured(array[:, :, 0])
    assert one.n_subjects == 1
    np.testing.assert_array_equal(one.arrays[0], cube[0])
    listed = measured([array[:, :, 0], array[:2, :, 1]])
    assert listed.n_units == (5, 2)
    with pytest.raises(ValueError, match=r"the axes \(neuroid 5, stimulus 6, voxel 4\)"):
        measured(array[:, :, 0].rename(repetition="voxel"))
    # Some names are known: they must be where the order has them.
    some = xr.DataArray(cube, dims=["subject", "b", "c", "d"])
    np.testing.assert_array_equal(measured(some).arrays, cube)
    timed = xr.DataArray(cube[0], dims=["presentation", "neuroid", "time_bin"])
    with pytest.raises(ValueError, match=r"the axes \(presentation 4, neuroid 6, time_bin 5\)"):
        measured(timed)
    assert measured(timed[..., :1]).arrays[0].shape == (1, 4, 6)
    unnamed = measured(xr.DataArray(cube, dims=["a", "b", "c", "d"]))
    assert [a.shape for a in unnamed.arrays] == [(4, 6, 5)] * 2


def test_masked_values_and_integers(cube):
    masked = np.ma.masked_invalid(cube)
    np.testing.assert_array_equal(measured(masked).arrays[1], cube[1])
    counts = np.ma.masked_equal(np.arange(24).reshape(1, 2, 4, 3), 5)
    (array,) = measured(counts).arrays
    assert array.dtype == np.float64
    assert np.isnan(array).sum() == 1
    assert measured([counts[0, 0]]).arrays[0].shape == (1, 4, 3)


def test_tensors_share_memory(cube):
    tensor = torch.from_numpy(cube)
    assert np.shares_memory(measured(tensor).arrays[0], cube)
    assert measured([tensor[0], tensor[1, :2]]).n_repeats == (4, 2)
    assert measured(tensor.to(torch.bfloat16)).arrays[0].dtype == np.float32


def test_means_and_counts_ignore_missing_repeats(cube):
    found = measured(cube)
    assert found.counts()[0].tolist() == np.full((6, 5), 3).tolist()
    assert found.counts()[1][2, 3] == 1
    with warnings.catch_warnings(action="ignore"):
        expected = np.nanmean(cube, axis=1)
    for mean, right in zip(found.means(), expected, strict=True):
        np.testing.assert_allclose(mean, right, rtol=1e-13)
    assert np.isnan(found.means()[1][4]).all()


def test_zscores_within_sessions(cube):
    cube[1, :, 4] = 1 + np.arange(20).reshape(4, 5)
    sessions = ["b", "a", "b", "a"]
    scored = measured(cube).zscored(sessions)
    for k in range(2):
        for repeats in ([1, 3], [0, 2]):
            rows = cube[k, repeats].reshape(-1, 5)
            right = zscore(rows, axis=0, nan_policy="omit").reshape(2, 6, 5)
            np.testing.assert_allclose(scored.arrays[k][repeats], right, rtol=1e-9)
    each = np.add.outer(np.arange(4), np.arange(6)) % 2
    by_measurement = measured(cube).zscored([None, each]).arrays
    np.testing.assert_allclose(
        by_measurement[1][each == 1], zscore(cube[1][each == 1], axis=0, nan_policy="omit")
    )
    whole = zscore(cube[0].reshape(-1, 5), axis=0, nan_policy="omit").reshape(4, 6, 5)
    np.testing.assert_allclose(by_measurement[0], whole)


def test_a_constant_unit_has_no_zscores():
    values = np.random.default_rng(0).normal(size=(1, 2, 6, 3))
    values[0, 1, :, 2] = 0.1
    with pytest.warns(RuntimeWarning, match=r"responses: 1 unit of 3 are constant .* unit 2"):
        (array,) = measured(values).zscored([1, 2]).arrays
    assert np.isnan(array[1, :, 2]).all()
    assert np.isfinite(array[0]).all()


def test_units_are_chosen_by_mask_or_index(cube):
    found = measured(cube)
    mask = np.array([True, False, False, True, False])
    np.testing.assert_array_equal(found.of_units(mask).arrays[1], cube[1][..., [0, 3]])
    np.testing.assert_array_equal(found.of_units([mask, [4, 0]]).arrays[1], cube[1][..., [4, 0]])


@pytest.mark.parametrize(
    ("units", "message"),
    [
        ([True, False], r"units of responses\[0\]: the mask has shape \(2,\), but there are 5"),
        ([0, 7], r"units of responses\[0\]: index 7 is out of range for 5 units"),
        ([0.5], r"units of responses\[0\] must be a mask or indices, got dtype float64"),
        ([False] * 5, r"units of responses\[0\]: none of 5 units is chosen"),
        ([[0], [1], [2]], "units is a list of 3, but responses has 2 subjects"),
        ({"anna": [0]}, "units is a dict of anna, but the subjects of responses are not named"),
    ],
)
def test_impossible_choices_of_units(cube, units, message):
    with pytest.raises(ValueError, match=message):
        measured(cube).of_units(units)


@pytest.mark.parametrize(
    ("sessions", "message"),
    [
        ([1, 2], r"sessions of responses\[0\] have shape \(2,\); they must be \(4,\)"),
        ([1, 2, 3, np.nan], r"sessions of responses\[0\] hold NaN"),
        (np.array([1, "a", 2, 3], object), "types that cannot be sorted"),
    ],
)
def test_impossible_sessions(cube, sessions, message):
    with pytest.raises(ValueError, match=message):
        measured(cube).zscored(sessions)


@pytest.mark.parametrize(
    ("responses", "message"),
    [
        (np.ones(4), r"v4 has shape \(4,\); expected \(subjects, conditions, units\)"),
        (np.ones((1, 1, 1, 1, 1)), r"v4 has shape \(1, 1, 1, 1, 1\)"),
        (3.0, "v4 has 0 axes"),
        (np.ones((0, 4, 2)), r"v4 has shape \(0, 4, 2\), which holds no subject"),
        (np.ones((1, 4, 0)), r"v4\[0\] has shape \(4, 0\), which is empty"),
        ([], "v4 is an empty list"),
        ({}, "v4 is an empty dict"),
        ({"anna": np.ones(3)}, r"v4\['anna'\] has shape \(3,\); a subject is"),
        ([np.ones((2, 2, 2, 2))], r"v4\[0\] has shape \(2, 2, 2, 2\); a subject is"),
        ([np.ones((4, 2)), np.ones((5, 2))], r"v4\[1\] has 5 conditions and v4\[0\] 4; all"),
        ([np.ones((4, 2)), np.full((4, 2), np.nan)], r"v4\[1\] with shape \(4, 2\) is NaN through"),
        (np.array([["a", "b"]]), "v4 must hold real numbers"),
        (np.ones((2, 3, 4), complex), "v4 must hold real numbers"),
    ],
)
def test_what_cannot_be_responses(responses, message):
    with pytest.raises(ValueError, match=message):
        measured(responses, "v4")


def test_infinity_is_refused_with_its_place(cube):
    cube[1, 2, 3, 4] = np.inf
    with pytest.raises(
        ValueError, match=r"responses\[1\] has a value .* repeat 2, condition 3, unit 4"
    ):
        measured(cube)
    with pytest.raises(ValueError, match=r"responses has a value .* condition 3, unit 4"):
        measured(cube[1, 2])
