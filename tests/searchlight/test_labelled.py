"""Results of labelled data have the labels of places, windows, pairs and models."""

import numpy as np
import pytest

import fastrdm
from fastrdm.searchlight import sensor_neighbours, time_windows

pd = pytest.importorskip("pandas")
xr = pytest.importorskip("xarray")

RNG = np.random.default_rng(0)
NAMES, SENSORS = list("abcdef"), ["MEG1", "MEG2", "MEG3", "MEG4"]
TIMES = np.arange(12) / 100 - 0.02
VALUES = RNG.random((6, 4, 12))
DATA = xr.DataArray(
    VALUES,
    {"condition": NAMES, "sensor": SENSORS, "time": TIMES},
    ("condition", "sensor", "time"),
)
TABLE = pd.DataFrame(VALUES[..., 0], NAMES, pd.Index(SENSORS, name="sensor"))
NEIGHBOURS = sensor_neighbours(RNG.random((4, 3)), k=3)
WINDOWS = time_windows(12, 4, 3)
MODELS = fastrdm.calc_rdm([TABLE, TABLE**2]).set_axis(["conv1", "fc"])


def test_xarray_objects_keep_places_times_and_conditions():
    rdms = fastrdm.calc_rdm_searchlight(DATA, NEIGHBOURS, windows=WINDOWS)
    assert rdms.dims == ("sensor", "time", "pair")
    assert list(rdms.sensor.values) == SENSORS
    np.testing.assert_allclose(rdms.time, [-0.005, 0.025, 0.055])
    plain = fastrdm.calc_rdm_searchlight(VALUES, NEIGHBOURS, windows=WINDOWS)
    np.testing.assert_array_equal(rdms, plain)
    one = rdms.sel(sensor="MEG3").isel(time=1).drop_vars(["sensor", "time"])
    own = fastrdm.calc_rdm(DATA.isel(sensor=NEIGHBOURS[2], time=WINDOWS[1]))
    xr.testing.assert_allclose(one, own)
    assert fastrdm.square(rdms).dims == ("sensor", "time", "condition_1", "condition_2")
    movie = fastrdm.calc_rdm_movie(DATA, WINDOWS)
    assert movie.dims == ("time", "pair") and movie.attrs == {"method": "correlation"}
    scores = fastrdm.score_searchlight(DATA, NEIGHBOURS, MODELS, windows=WINDOWS)
    assert scores.dims == ("sensor", "time", "model")
    assert list(scores.model.values) == ["conv1", "fc"]
    assert fastrdm.score_movie(DATA, WINDOWS, MODELS).dims == ("time", "model")


def test_tables_keep_places_and_conditions():
    rdms = fastrdm.calc_rdm_searchlight(TABLE, NEIGHBOURS)
    assert list(rdms.index) == SENSORS and rdms.index.name == "sensor"
    assert rdms.columns.equals(MODELS.columns)
    scores = fastrdm.score_searchlight(TABLE, NEIGHBOURS, MODELS)
    assert list(scores.index) == SENSORS and list(scores.columns) == ["conv1", "fc"]
    scores = fastrdm.score_searchlight(VALUES[..., 0], NEIGHBOURS, MODELS)
    assert list(scores.index) == [0, 1, 2, 3] and list(scores.columns) == ["conv1", "fc"]
    times = pd.DataFrame(VALUES[:, 0], NAMES, pd.Index(TIMES, name="time"))
    movie = fastrdm.calc_rdm_movie(times, WINDOWS)
    np.testing.assert_allclose(movie.index, [-0.005, 0.025, 0.055])


def test_places_without_known_centres_or_times_have_numbers():
    found = fastrdm.calc_rdm_searchlight(DATA.drop_vars("time"), [[0, 1]], windows=WINDOWS)
    assert found.dims == ("place", "window", "pair") and set(found.coords) == {
        "condition_1",
        "condition_2",
    }
    assert list(fastrdm.calc_rdm_searchlight(TABLE, [[0, 1], [2, 3]]).index) == [0, 1]


def test_arrays_out_and_data_without_labels_give_arrays():
    out = np.empty((4, 15))
    assert fastrdm.calc_rdm_searchlight(TABLE, NEIGHBOURS, out=out) is out
    assert type(fastrdm.calc_rdm_searchlight(DATA.values[..., 0], NEIGHBOURS)) is np.ndarray
    unlabelled = DATA.drop_vars(["condition", "sensor", "time"])
    assert type(fastrdm.calc_rdm_searchlight(unlabelled, NEIGHBOURS)) is np.ndarray
    scores = np.empty((4, 2))
    assert fastrdm.score_searchlight(TABLE, NEIGHBOURS, MODELS, out=scores) is scores
    assert (
        type(fastrdm.score_searchlight(VALUES, NEIGHBOURS, MODELS, windows=WINDOWS)) is np.ndarray
    )
