"""Responses in files: their formats, variables and axes."""

import h5py
import numpy as np
import pytest
import xarray as xr
from mat73 import Cell, write_mat73
from scipy.io import savemat

import fastrdm
from fastrdm import read_responses
from fastrdm.responses import measured


@pytest.fixture
def cube():
    """(subjects, repeats, conditions, units) with a gap."""
    values = np.random.default_rng(0).normal(size=(2, 3, 6, 4))
    values[0, 2, 1] = np.nan
    return values


def write_npy(path, array):
    np.save(path.with_suffix(".npy"), array)
    return path.with_suffix(".npy")


def write_npz(path, array):
    np.savez(path.with_suffix(".npz"), betas=array, images=np.arange(6))
    return path.with_suffix(".npz")


def write_mat5(path, array):
    savemat(path.with_suffix(".mat"), {"betas": array, "images": np.arange(6)})
    return path.with_suffix(".mat")


def write_mat7(path, array):
    write_mat73(path.with_suffix(".mat"), {"betas": array})
    return path.with_suffix(".mat")


def write_hdf5(path, array):
    with h5py.File(path.with_suffix(".h5"), "w") as file:
        file["sub/betas"] = array
    return path.with_suffix(".h5")


FORMATS = [write_npy, write_npz, write_mat5, write_mat7, write_hdf5]


@pytest.mark.parametrize("write", FORMATS)
def test_every_format_and_order_of_axes(cube, tmp_path, write):
    path = write(tmp_path / "all", cube)
    for found in (
        read_responses(path),
        read_responses(str(path), axes=["subject", "runs", "image", "voxels"]),
    ):
        assert found.n_subjects == 2
        np.testing.assert_array_equal(found.arrays, cube)
    path = write(tmp_path / "moved", cube.transpose(3, 0, 2, 1))
    found = read_responses(path, axes=["units", "subjects", "conditions", "repeats"])
    np.testing.assert_array_equal(found.arrays, cube)
    path = write(tmp_path / "one", cube[0].transpose(2, 1, 0))
    found = read_responses(path, axes=["units", "conditions", "repeats"])
    assert found.n_subjects == 1
    np.testing.assert_array_equal(found.arrays[0], cube[0])


@pytest.mark.parametrize("write", FORMATS)
def test_a_file_for_each_subject(cube, tmp_path, write):
    paths = [write(tmp_path / "anna", cube[0]), write(tmp_path / "ben", cube[1, :2, :, :3])]
    for found in (read_responses(paths), measured(paths), measured(tuple(map(str, paths)))):
        assert found.names == ("anna", "ben")
        np.testing.assert_array_equal(found.arrays[0], cube[0])
        np.testing.assert_array_equal(found.arrays[1], cube[1, :2, :, :3])
    named = read_responses(
        {"s1": paths[0], "s2": paths[1]}, axes=["repeats", "conditions", "units"]
    )
    assert named.names == ("s1", "s2")
    assert named.n_units == (4, 3)


def test_functions_take_paths(cube, tmp_path):
    paths = [write_npy(tmp_path / name, each) for name, each in zip("ab", cube, strict=True)]
    target = fastrdm.Target.from_responses(paths)
    np.testing.assert_array_equal(
        target.subject_rdms, fastrdm.Target.from_responses(cube).subject_rdms
    )
    assert fastrdm.Responses(paths).subjects == ("a", "b")
    cubes = fastrdm.split_half_reliability(cube)
    np.testing.assert_array_equal(fastrdm.split_half_reliability(paths), cubes)
    path = write_npy(tmp_path / "all", cube)
    np.testing.assert_array_equal(fastrdm.split_half_reliability(path), cubes)


def test_files_of_one_name_in_different_folders(cube, tmp_path):
    for folder in ("s1", "s2"):
        (tmp_path / folder).mkdir()
    paths = [write_npy(tmp_path / f"s{k + 1}" / "betas", cube[k]) for k in range(2)]
    assert read_responses(paths).names == tuple(map(str, paths))
    with pytest.raises(ValueError, match="betas.npy twice"):
        read_responses([paths[0], paths[0]])


def test_variables_and_cells_are_subjects(cube, tmp_path):
    path = tmp_path / "subjects.mat"
    savemat(path, {"anna": cube[0], "ben": cube[1][..., :3]})
    found = read_responses(path, ["anna", "ben"])
    assert found.names == ("anna", "ben")
    assert found.n_units == (4, 3)
    cells = np.empty((1, 2), object)
    cells[0, 0], cells[0, 1] = cube[0].T, cube[1, :, :, :3].T
    savemat(tmp_path / "cells.mat", {"Y": cells})
    write_mat73(tmp_path / "cells73.mat", {"Y": Cell((1, 2), cells.ravel())})
    for name in ("cells.mat", "cells73.mat"):
        found = read_responses(tmp_path / name, axes=["units", "conditions", "repeats"])
        assert found.names is None
        np.testing.assert_array_equal(found.arrays[1], cube[1, :, :, :3])
    labels = np.array(list("abcdef"), object)
    savemat(tmp_path / "labelled.mat", {"betas": cube, "images": labels})
    np.testing.assert_array_equal(read_responses(tmp_path / "labelled.mat").arrays, cube)


def test_sessions_are_repeats(cube, tmp_path):
    array = np.stack([cube[0], cube[1]])
    path = write_npy(tmp_path / "one", array.transpose(1, 0, 2, 3))
    (found,) = read_responses(path, axes=["repeats", "sessions", "conditions", "units"]).arrays
    np.testing.assert_array_equal(found, np.concatenate([cube[0], cube[1]]))


def test_netcdf_names_its_axes(cube, tmp_path):
    array = xr.DataArray(
        cube.transpose(2, 3, 0, 1), dims=["stimulus", "neuroid", "subject", "repetition"]
    )
    array.to_netcdf(tmp_path / "a.nc", engine="scipy")
    np.testing.assert_array_equal(read_responses(tmp_path / "a.nc").arrays, cube)
    array[:, :, 0].to_netcdf(tmp_path / "b.nc", engine="scipy")
    np.testing.assert_array_equal(read_responses(tmp_path / "b.nc").arrays, cube[:1])
    array[:, :, :1].to_netcdf(tmp_path / "c.nc", engine="scipy")
    found = read_responses([tmp_path / "b.nc", tmp_path / "c.nc"])
    np.testing.assert_array_equal(found.arrays, cube[[0, 0]])


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        (
            ["units", "conditions"],
            r"one.npy has shape \(3, 6, 4\), 3 axes, but axes names 2: units, co",
        ),
        (["units", "conditions", "voxels"], "axes = .* names units twice"),
        (["units", "repeats", "sessions"], "must name conditions and units"),
        (["units", "conditions", "time"], "axes: 'time' is not the name of an axis; known are"),
    ],
)
def test_impossible_axes(cube, tmp_path, axes, message):
    path = write_npy(tmp_path / "one", cube[0])
    with pytest.raises(ValueError, match=message):
        read_responses(path, axes=axes)


def test_impossible_files(cube, tmp_path):
    savemat(tmp_path / "two.mat", {"anna": cube[0], "ben": cube[1], "name": "text"})
    with pytest.raises(
        ValueError, match="key is missing, and not clear for .*: it holds anna numbers"
    ):
        read_responses(tmp_path / "two.mat")
    with pytest.raises(ValueError, match="key 'bem' is not an array of numbers in .* ben"):
        read_responses(tmp_path / "two.mat", "bem")
    with pytest.raises(ValueError, match="key 'name' is not an array of numbers"):
        read_responses(tmp_path / "two.mat", "name")
    with pytest.raises(ValueError, match="two.mat holds 2 subjects, but of several files each is"):
        read_responses([tmp_path / "two.mat"], ["anna", "ben"])
    with pytest.raises(ValueError, match="paths is empty"):
        read_responses([])
    with pytest.raises(FileNotFoundError, match="nothing.npy does not exist"):
        read_responses(tmp_path / "nothing.npy")
    (tmp_path / "text.npy").write_text("text")
    with pytest.raises(ValueError, match="text.npy cannot be read"):
        read_responses(tmp_path / "text.npy")
    path = write_npy(tmp_path / "all", cube)
    with pytest.raises(
        ValueError, match="all.npy holds 2 subjects, but it should be one of several"
    ):
        read_responses([path], axes=["subjects", "repeats", "conditions", "units"])
    np.save(tmp_path / "flat.npy", np.ones(4))
    with pytest.raises(ValueError, match="not clear for .*flat.npy"):
        read_responses(tmp_path / "flat.npy")


def test_assemblies_of_brainscore(data_root, tmp_path):
    folder = data_root / "responses" / "brainio_nc"
    if not folder.is_dir():
        pytest.skip(f"no assemblies at {folder}")
    # (presentation, neuroid, time_bin) with one time.
    found = read_responses(folder / "assy_test_package_assembly.nc")
    assert repr(found) == "MeasuredResponses(1 subject, 6 conditions, 3 units, 1 repeat)"
    array = xr.DataArray(np.ones((6, 3, 2)), dims=["presentation", "neuroid", "time_bin"])
    array.to_netcdf(tmp_path / "times.nc", engine="scipy")
    with pytest.raises(ValueError, match=r"has the axes \(presentation 6, neuroid 3, time_bin 2\)"):
        read_responses(tmp_path / "times.nc")


def test_v4_neurons(data_root):
    path = data_root / "responses" / "cowley2023_v4" / "responses_210325.npy"
    if not path.exists():
        pytest.skip(f"no V4 responses at {path}")
    found = read_responses(path, axes=["units", "conditions", "repeats"])
    assert repr(found) == "MeasuredResponses(1 subject, 640 conditions, 50 units, 10 repeats)"
    assert np.unique(found.counts()[0]).tolist() == [6, 7, 8, 9, 10]


def test_fingers(data_root):
    path = data_root / "responses" / "pcm_finger7t" / "data_recipe_finger7T.mat"
    if not path.exists():
        pytest.skip(f"no finger patterns at {path}")
    with pytest.raises(ValueError, match=r"Y.* cell \(1, 7\)"):
        read_responses(path)
    with pytest.raises(ValueError, match="has 35 conditions and .* 40; all subjects need the same"):
        read_responses(path, "Y")
