"""Times of the time points in files and in a study.toml."""

import h5py
import numpy as np
import pytest
import scipy.io
from small_study import write_study

from fastrdm import open_studies, read_rdms, square
from fastrdm.studies import algonauts

PAIRS, TIMES = 15, [-100, 0, 50, 200]


def rdms(times=4):
    return np.random.default_rng(0).random((3, times, PAIRS)) + 1


def write_mat(path, **variables):
    scipy.io.savemat(path, {"MEG": square(rdms()), **variables})


@pytest.mark.parametrize(
    ("variables", "argument", "expected"),
    [
        ({"times": TIMES}, None, TIMES),
        ({"time_ms": TIMES}, None, TIMES),
        ({"time_ms": [1, 2, 3, 4], "times": TIMES}, None, TIMES),
        ({"latency": TIMES}, None, None),
        ({"latency": TIMES}, "latency", TIMES),
        # These are no times of these time points.
        ({"times": TIMES[:2]}, None, None),
        ({"times": TIMES[::-1]}, None, None),
        ({"times": "ms"}, None, None),
        ({}, None, None),
    ],
)
def test_a_variable_of_the_file_has_the_times(tmp_path, variables, argument, expected):
    write_mat(tmp_path / "a.mat", **variables)
    found = read_rdms(tmp_path / "a.mat", "MEG", times=argument)
    np.testing.assert_allclose(found.rdms, rdms())
    assert found.times == (None if expected is None else tuple(map(float, expected)))


def test_coordinates_of_netcdf_are_the_times(tmp_path):
    with h5py.File(tmp_path / "a.nc", "w") as file:
        file.attrs["_NCProperties"] = np.bytes_("version=2,netcdf=4.7.4,hdf5=1.12.0,")
        for name, n in (("subject", 3), ("time_bin", 4), ("presentation", 6)):
            file[name] = np.zeros(n, ">f4")
            file[name].make_scale(f"This is a netCDF dimension but not a netCDF variable.{n:10}")
        file["data"] = square(rdms())
        for i, name in enumerate(("subject", "time_bin", "presentation", "presentation")):
            file["data"].dims[i].attach_scale(file[name])
        file["start"] = np.array(TIMES, float)
        file["start"].dims[0].attach_scale(file["time_bin"])
    assert read_rdms(tmp_path / "a.nc").times == tuple(map(float, TIMES))


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("nothing", r"times = 'nothing' is not a variable of .*a\.mat"),
        ("few", r"times = 'few' of .*, does not have an increasing number for each of the 4 time"),
        ("text", "times = 'text' of .* does not have an increasing number"),
    ],
)
def test_errors_of_a_named_variable(tmp_path, argument, message):
    write_mat(tmp_path / "a.mat", few=[1, 2], text="ms")
    with pytest.raises(ValueError, match=message):
        read_rdms(tmp_path / "a.mat", "MEG", times=argument)


def test_a_named_variable_needs_several_time_points(tmp_path):
    np.savez(tmp_path / "a.npz", RDMs=square(rdms()[:, 0]), times=[1])
    with pytest.raises(ValueError, match="does not have several time points"):
        read_rdms(tmp_path / "a.npz", "RDMs", times="times")


def study_with(tmp_path, fields, **variables):
    folder = write_study(tmp_path / "s", 6)
    scipy.io.savemat(folder / "meg.mat", {"MEG": square(rdms()), **variables})
    with (folder / "study.toml").open("a") as file:
        file.write(f'[targets.meg]\nfile = "meg.mat"\nkey = "MEG"\n{fields}')
    return folder


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ('over_time = "each"', [10, 20, 30, 40]),
        ('over_time = "each"\ntimes = "other"', [1, 2, 3, 4]),
        ('over_time = "each"\ntimes = [-0.1, 0, 0.1, 0.2]', [-0.1, 0, 0.1, 0.2]),
    ],
)
def test_a_study_says_how_its_time_points_are_scored(tmp_path, fields, expected):
    folder = study_with(tmp_path, fields, times=[10, 20, 30, 40], other=[1, 2, 3, 4])
    (study,) = open_studies(folder)
    meg = study.targets["meg"]
    assert meg.over_time == "each" and study.targets["it"].over_time == "mean"
    score = meg.score(np.random.default_rng(1).random((2, PAIRS)))
    assert score.r2.shape == (2, 4) and score.times.tolist() == expected


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ('over_time = "all"', r"targets\.meg\.over_time"),
        ("over_time = 1", r"targets\.meg\.over_time = 1 is not text"),
        ("times = 5", r"targets\.meg\.times = 5 is not a list of numbers or the name"),
        ('times = ["a", "b"]', r"times of .*targets\.meg must hold real numbers"),
        ("times = [2, 1]", r"times of .*targets\.meg must increase, got 2, then 1"),
        ("times = [1, 2]", r"targets\.meg: times of MEG of .* shape \(2,\), but .* length 4"),
        ('times = "nothing"', r"targets\.meg\.times = 'nothing' is not a variable"),
    ],
)
def test_errors_of_a_study(tmp_path, fields, message):
    with pytest.raises(ValueError, match=message):
        open_studies(study_with(tmp_path, fields))


def test_the_challenges_meg_files_may_have_several_time_points(tmp_path):
    variables = {key: square(rdms()) for key in ("MEG_RDMs_early", "MEG_RDMs_late")}
    scipy.io.savemat(tmp_path / "target_meg.mat", {**variables, "times": TIMES})
    targets = algonauts.read_target(tmp_path / "target_meg.mat", "meg")
    assert targets["early"].times.tolist() == TIMES
    score = targets["late"].score(np.random.default_rng(1).random(PAIRS), over_time="each")
    assert score.rho.shape == (1, 4, 3) and score.times.tolist() == TIMES


def test_the_data_beside_the_project_hold_one_time_point(data_root):
    folder = data_root / "algonauts2019" / "Training_Data" / "92_Image_Set"
    target = algonauts.read_target(folder / "target_meg.mat", "meg")["early"]
    models = np.random.default_rng(0).random((2, target.n_pairs))
    each, mean = target.score(models, over_time="each"), target.score(models)
    np.testing.assert_array_equal(each.rho[:, 0], mean.rho)
    np.testing.assert_array_equal(each.r2[:, 0], mean.r2)
    # The published ceiling is that of averages over several time points.
    assert mean.ceiling[0] == 0.4634 and each.ceiling[0, 0] == target.noise_ceiling.upper
