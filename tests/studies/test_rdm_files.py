"""RDMs in files as MATLAB, rsatoolbox, Meadows, Brain-Score, h5py and NumPy write them."""

import json
import pickle

import h5py
import numpy as np
import pytest
import rsatoolbox.rdm
import xarray
from mat73 import Cell, write_mat73
from scipy.io import savemat
from scipy.spatial.distance import squareform
from scipy.stats import spearmanr

import fastrdm
from fastrdm import StoredRdms, Target, calc_rdm, read_rdms

N = 5
PAIRS = N * (N - 1) // 2


def condensed(*shape, seed=0):
    return np.random.default_rng(seed).random((*shape, PAIRS)) + 0.1


def squares(rdms):
    return np.array([squareform(rdm) for rdm in rdms.reshape(-1, rdms.shape[-1])]).reshape(
        *rdms.shape[:-1], N, N
    )


def rsa_structs(shape, rdms):
    """`RDMs` of the RSA toolbox: a struct array with the fields RDM, name and color."""
    out = np.zeros(shape, [("RDM", object), ("name", object), ("color", object)])
    for i, index in enumerate(np.ndindex(shape)):
        out[index] = (rdms[i], f"RDM {i}", np.zeros((1, 3)))
    return out


@pytest.fixture
def kriegeskorte(data_root):
    folder = data_root / "kriegeskorte2008"
    if not folder.is_dir():
        pytest.skip(f"no data at {folder}")
    return folder


# The RSA toolbox's own files


def test_four_subjects_in_two_sessions(kriegeskorte):
    found = read_rdms(kriegeskorte / "92_brainRDMs.mat", "RDMs", axes=["subjects", "sessions"])
    assert found.rdms.shape == (4, 92 * 91 // 2)
    assert [name.split(" | ")[1] for name in found.names] == ["BE", "KO", "SN", "TI"]
    ceiling = fastrdm.Target(found.rdms, "rsatoolbox").noise_ceiling
    assert (round(ceiling.lower, 5), round(ceiling.upper, 5)) == (0.37231, 0.66572)


def test_sessions_need_to_be_named(kriegeskorte):
    message = r"RDMs of .*92_brainRDMs.mat has shape \(1, 4, 2\) .* axes = \[\"subjects\", \"sess"
    with pytest.raises(ValueError, match=message):
        read_rdms(kriegeskorte / "92_brainRDMs.mat")


def test_sessions_may_be_times(kriegeskorte):
    found = read_rdms(kriegeskorte / "92_brainRDMs.mat", axes=["subjects", "times"])
    assert found.rdms.shape == (4, 2, 4186)


def test_human_and_monkey_it(kriegeskorte):
    file = kriegeskorte / "Kriegeskorte_Neuron2008_supplementalData.mat"
    found = read_rdms(file, "RDMs_mIT_hIT_fig1")
    assert found.names == ("mIT_674neurons", "hITvisStim_316vx")
    monkey, human = found.rdms
    assert fastrdm.compare(human, monkey).item() == pytest.approx(0.439, abs=5e-4)
    assert fastrdm.compare(human, monkey).item() == pytest.approx(spearmanr(human, monkey)[0])
    (only,) = read_rdms(file, "RDMs_mIT_hIT_fig1", names="hIT*").rdms
    np.testing.assert_array_equal(only, human)


def test_the_keys_of_the_supplemental_data_are_listed(kriegeskorte):
    file = kriegeskorte / "Kriegeskorte_Neuron2008_supplementalData.mat"
    message = (
        r"key is missing, and several arrays are in Krie.*\.mat: it holds categoryLabels cell \(1, 12\),"
        r" RDMs_mIT_hIT_fig1 struct \(1, 2\)"
    )
    with pytest.raises(ValueError, match=message):
        read_rdms(file)
    for key, message in {
        "RDMs_mIT_hIT": "did you mean RDMs_mIT_hIT_fig1",
        "categoryLabels": r"categoryLabels\(1,1\) of .* is text",
        "stimuli_92objs": r"without a field RDM; its fields are category, human",
        "categoryVectors": r"categoryVectors of .* has shape \(92, 12\)",
    }.items():
        with pytest.raises(ValueError, match=message):
            read_rdms(file, key)


def test_behaviour_and_models(kriegeskorte):
    behaviour = read_rdms(kriegeskorte / "92_behavRDMs.mat")
    assert (behaviour.rdms.shape, behaviour.names[15]) == ((16, 4186), "simJudge | subject16")
    models = read_rdms(kriegeskorte / "92_modelRDMs.mat", names=["HMAX", "monkeyIT"])
    assert models.names == ("monkeyIT", "HMAX")
    with pytest.raises(
        ValueError, match="names = 'monkey' is not a name of .* did you mean monkeyIT"
    ):
        read_rdms(kriegeskorte / "92_modelRDMs.mat", names="monkey")


# MATLAB


@pytest.mark.parametrize("shape", [(1, 4), (4, 1), (1, 4, 1), (1, 1, 4)])
@pytest.mark.parametrize("form", ["square", "row", "column"])
def test_struct_arrays_of_any_shape(tmp_path, shape, form):
    rdms = condensed(4)
    members = {"square": squares(rdms), "row": rdms[:, None], "column": rdms[:, :, None]}[form]
    savemat(tmp_path / "a.mat", {"RDMs": rsa_structs(shape, members)})
    found = read_rdms(tmp_path / "a.mat")
    np.testing.assert_array_equal(found.rdms, rdms)
    assert found.names == ("RDM 0", "RDM 1", "RDM 2", "RDM 3")


def test_cells_of_square_and_condensed_rdms(tmp_path):
    rdms = condensed(3)
    cells = np.empty((1, 3), object)
    cells[0] = [squareform(rdms[0]), rdms[1], {"RDM": rdms[2], "name": "third"}]
    savemat(tmp_path / "a.mat", {"all": cells})
    np.testing.assert_array_equal(read_rdms(tmp_path / "a.mat").rdms, rdms)


def test_rdms_of_other_sizes_are_named(tmp_path):
    cells = np.empty((1, 3), object)
    cells[0] = [*condensed(2), np.ones(6)]
    savemat(tmp_path / "a.mat", {"all": cells})
    with pytest.raises(
        ValueError, match=r"all\(1,1\) of .* has 10 pairs.*all\(1,3\) of .* 6, shape"
    ):
        read_rdms(tmp_path / "a.mat")


def test_errors_name_the_element(tmp_path):
    members = squares(condensed(4))
    members[2, 1, 0] = np.nan
    savemat(tmp_path / "a.mat", {"RDMs": rsa_structs((1, 2, 2), members)})
    with pytest.raises(ValueError, match=r"RDMs\(1,2,1\) of .*a.mat .*NaN at row 1, column 0"):
        read_rdms(tmp_path / "a.mat", axes=["subjects", "sessions"])


def test_fields_of_a_struct(tmp_path):
    rdms = condensed(2, 3)
    regions = {"V1": squares(rdms[0]), "IT": rsa_structs((1, 3), rdms[1])}
    savemat(tmp_path / "a.mat", {"data": regions})
    for key, expected in (("data.V1", rdms[0]), ("data.IT", rdms[1])):
        np.testing.assert_array_equal(read_rdms(tmp_path / "a.mat", key).rdms, expected)
    with pytest.raises(
        ValueError, match=r"it holds data struct.*, data.V1 numbers \(3, 5, 5\), data"
    ):
        read_rdms(tmp_path / "a.mat")


@pytest.mark.parametrize("axes", [["subjects", "sessions"], ["sessions", "subjects"]])
def test_sessions_are_averaged(tmp_path, axes):
    rdms = condensed(3, 2)
    cells = rsa_structs((3, 2), squares(rdms).reshape(6, N, N))
    savemat(tmp_path / "a.mat", {"RDMs": cells if axes[0] == "subjects" else cells.T})
    found = read_rdms(tmp_path / "a.mat", axes=axes)
    np.testing.assert_allclose(found.rdms, rdms.mean(1), rtol=1e-15)


def test_subjects_sessions_and_times(tmp_path):
    rdms = condensed(3, 2, 4)
    np.save(tmp_path / "a.npy", squares(rdms).transpose(2, 0, 1, 3, 4))
    found = read_rdms(tmp_path / "a.npy", axes=["times", "subjects", "sessions"])
    np.testing.assert_allclose(found.rdms, rdms.mean(1), rtol=1e-15)


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        (["subject"], "axes: the name 'subject' is not one of: subjects, sessions, times"),
        (["subjects", "subjects"], "names subjects twice"),
        (["subjects", "conditions"], "must name conditions twice, pairs once"),
        (
            ["subjects"],
            r"has shape \(3, 2\), 2 axes longer than 1, but axes = \['subjects'\] names 1",
        ),
        (["conditions", "conditions", "times"], r"4 axes, but axes = .* names 3"),
    ],
)
def test_axes_that_do_not_fit(tmp_path, axes, message):
    np.save(tmp_path / "a.npy", squares(condensed(3, 2)))
    with pytest.raises(ValueError, match=message):
        read_rdms(tmp_path / "a.npy", axes=axes)


def test_v73_fields_and_rows_of_text(tmp_path):
    rdms = condensed(3)
    path = tmp_path / "a.mat"
    write_mat73(path, {"data": {"V1": squares(rdms), "more": {"IT": rdms}}, "x": np.eye(3)})
    with h5py.File(path, "r+") as file:
        letters = np.array([[ord(letter) for letter in f"im{i:<3}"] for i in range(N)], np.uint16)
        file["stimuli"] = letters.T
        file["stimuli"].attrs["MATLAB_class"] = np.bytes_("char")
        file["nothing"] = np.array([0, 0], np.uint64)
        file["nothing"].attrs.update(MATLAB_class=np.bytes_("double"), MATLAB_empty=np.uint8(1))
    for key in ("data.V1", "data.more.IT"):
        found = read_rdms(path, key)
        np.testing.assert_array_equal(found.rdms, rdms)
        assert found.conditions == ("im0", "im1", "im2", "im3", "im4")
    with pytest.raises(ValueError, match="data.IT' is not in a.mat: .* did you mean data.more.IT"):
        read_rdms(path, "data.IT")
    with pytest.raises(ValueError, match=r"nothing of .* has shape \(0, 0\)"):
        read_rdms(path, "nothing")


def test_a_row_has_one_axis(tmp_path):
    rdms = condensed(4)
    savemat(
        tmp_path / "a.mat", {"row": rsa_structs((1, 4), rdms), "column": rsa_structs((4, 1), rdms)}
    )
    with pytest.raises(
        ValueError, match=r"row of .*\(1, 4\), one axis .* names two; name that axis al"
    ):
        read_rdms(tmp_path / "a.mat", "row", axes=["subjects", "sessions"])
    assert read_rdms(tmp_path / "a.mat", "row", axes=["sessions"]).rdms.shape == (1, PAIRS)
    found = read_rdms(tmp_path / "a.mat", "column", axes=["subjects", "sessions"])
    np.testing.assert_array_equal(found.rdms, rdms)
    with pytest.raises(
        ValueError, match=r"axes = 'subjects' must be a list, such as \['subjects'\]"
    ):
        read_rdms(tmp_path / "a.mat", "row", axes="subjects")


def test_names_choose_subjects_with_their_sessions(tmp_path):
    rdms = condensed(3, 2)
    cells = rsa_structs((1, 3, 2), rdms.reshape(6, PAIRS))
    for i, index in enumerate(np.ndindex(3, 2)):
        cells[0][index]["name"] = f"S{i // 2} session {i % 2}"
    savemat(tmp_path / "a.mat", {"RDMs": cells})
    axes = ["subjects", "sessions"]
    found = read_rdms(tmp_path / "a.mat", axes=axes, names=["S0*", "S2*"])
    np.testing.assert_allclose(found.rdms, rdms[[0, 2]].mean(1), rtol=1e-15)
    assert found.names == ("S0 session", "S2 session")
    second = read_rdms(tmp_path / "a.mat", axes=axes, names="*session 1")
    np.testing.assert_array_equal(second.rdms, rdms[:, 1])
    with pytest.raises(ValueError, match="names = 'S0 session 0' selects neither whole"):
        read_rdms(tmp_path / "a.mat", axes=axes, names="S0 session 0")


def test_v73_structs_and_cells(tmp_path):
    rdms = condensed(4, 2)
    members = squares(rdms).reshape(8, N, N)
    structs = [
        {
            "RDM": rdm.astype(np.float32),
            "name": f"S{i // 2} | session {i % 2}",
            "color": np.zeros(3),
        }
        for i, rdm in enumerate(members)
    ]
    write_mat73(
        tmp_path / "a.mat",
        {
            "RDMs": Cell((1, 4, 2), structs, ["RDM", "name", "color"]),
            "cells": Cell((1, 8), rdms.reshape(8, 1, PAIRS)),
            "one": {"RDM": members[0], "name": "one"},
            "labels": Cell((5, 1), ["a", "bb", "ccc", "d", "é"]),
        },
    )
    found = read_rdms(tmp_path / "a.mat", "RDMs", axes=["subjects", "sessions"])
    np.testing.assert_allclose(found.rdms, rdms.mean(1), rtol=1e-6)
    assert found.names == ("S0 | session", "S1 | session", "S2 | session", "S3 | session")
    assert found.conditions == ("a", "bb", "ccc", "d", "é")
    np.testing.assert_array_equal(read_rdms(tmp_path / "a.mat", "cells").rdms, rdms.reshape(8, -1))
    assert read_rdms(tmp_path / "a.mat", "one").names == ("one",)
    with pytest.raises(ValueError, match=r"it holds RDMs struct \(1, 4, 2\), cells cell \(1, 8\)"):
        read_rdms(tmp_path / "a.mat")


# Condensed or square


def test_condensed_rdms_in_any_file(tmp_path):
    rdms = condensed(4)
    savemat(tmp_path / "a.mat", {"x": rdms})
    write_mat73(tmp_path / "b.mat", {"x": rdms})
    np.save(tmp_path / "c.npy", rdms)
    np.savez(tmp_path / "d.npz", x=rdms)
    with h5py.File(tmp_path / "e.h5", "w") as file:
        file["x"] = rdms
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(ValueError, match="has 5 conditions, but n_conditions = 92"):
            read_rdms(path, n_conditions=92)
        np.testing.assert_array_equal(read_rdms(path).rdms, rdms, err_msg=str(path))
    np.save(tmp_path / "one.npy", rdms[0])
    np.testing.assert_array_equal(read_rdms(tmp_path / "one.npy").rdms, rdms[:1])


def test_a_square_array_is_told_from_a_stack(tmp_path):
    rng = np.random.default_rng(0)
    stack = rng.random((6, 6))
    square = squareform(rng.random(15))
    np.savez(tmp_path / "a.npz", stack=stack, square=square)
    assert read_rdms(tmp_path / "a.npz", "stack").rdms.shape == (6, 6)
    assert read_rdms(tmp_path / "a.npz", "square").rdms.shape == (1, 15)


@pytest.mark.parametrize("kind", ["similarities", "asymmetric"])
def test_ambiguous_arrays_are_refused(tmp_path, kind):
    values = np.random.default_rng(0).random((6, 6))
    values = values + values.T if kind == "similarities" else values * (1 - np.eye(6))
    np.save(tmp_path / "a.npy", values)
    message = (
        r"a.npy with shape \(6, 6\) .*may be square RDMs of 6 conditions, or 6 condensed RDMs of 4"
    )
    with pytest.raises(ValueError, match=message):
        read_rdms(tmp_path / "a.npy")
    assert read_rdms(tmp_path / "a.npy", n_conditions=4).rdms.shape == (6, 6)
    assert read_rdms(tmp_path / "a.npy", axes=["subjects", "pairs"]).rdms.shape == (6, 6)


def test_a_cube_with_its_conditions_in_front(tmp_path):
    rdms = condensed(N)
    np.save(tmp_path / "a.npy", squares(rdms).transpose(1, 2, 0))
    with pytest.raises(ValueError, match='axes = ."conditions", "conditions", "subjects".'):
        read_rdms(tmp_path / "a.npy")
    found = read_rdms(tmp_path / "a.npy", axes=["conditions", "conditions", "subjects"])
    np.testing.assert_array_equal(found.rdms, rdms)


def test_pairs_or_conditions_in_front(tmp_path):
    rdms = condensed(4)
    np.savez(
        tmp_path / "a.npz",
        pairs=rdms.T,
        square=np.moveaxis(squares(rdms), 0, 2),
        many=np.ones((28, 6)),
    )
    for key, axes, message in (
        ("pairs", ["pairs", "subjects"], r"shape \(10, 4\).*the pairs seem to come first: axes = "),
        ("square", ["conditions", "conditions", "subjects"], r"\(5, 5, 4\); .* seem to come first"),
    ):
        with pytest.raises(ValueError, match=message):
            read_rdms(tmp_path / "a.npz", key)
        np.testing.assert_array_equal(read_rdms(tmp_path / "a.npz", key, axes=axes).rdms, rdms)
    with pytest.raises(
        ValueError, match="may be 28 RDMs of 4 conditions, or 6 RDMs of 8 conditions"
    ):
        read_rdms(tmp_path / "a.npz", "many")
    assert read_rdms(tmp_path / "a.npz", "many", n_conditions=4).rdms.shape == (28, 6)


# HDF5


def test_hdf5_of_python_has_its_axes_as_they_are_and_groups_as_paths(tmp_path):
    rdms = condensed(4)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["subjects/it/rdms"] = squares(rdms)
        file["subjects/it/stimuli"] = list("abcde")
        file["subjects/v1/rdms"] = rdms[::-1]
        file["subjects/v1/stimuli"] = list("edcba")
    found = read_rdms(tmp_path / "a.h5", "subjects/it/rdms")
    np.testing.assert_array_equal(found.rdms, rdms)
    assert found.labels == {"stimuli": tuple("abcde")}
    np.testing.assert_array_equal(read_rdms(tmp_path / "a.h5", "subjects/v1/rdms").rdms, rdms[::-1])
    with pytest.raises(
        ValueError, match="it holds subjects/it/rdms numbers .*, subjects/v1/rdms numb"
    ):
        read_rdms(tmp_path / "a.h5")


def test_hdf5_of_matlab_has_its_axes_reversed(tmp_path):
    rdms = condensed(3)
    for name, signed in (("header", True), ("attribute", False)):
        path = tmp_path / f"{name}.h5"
        with h5py.File(path, "w", userblock_size=512) as file:
            file["x"] = rdms.T
            if not signed:
                file["x"].attrs["MATLAB_class"] = np.bytes_("double")
        if signed:
            with path.open("r+b") as file:
                file.write(b"MATLAB 7.3 MAT-file".ljust(512))
        np.testing.assert_array_equal(read_rdms(path).rdms, rdms)


def test_the_challenges_own_files(challenge):
    folder = challenge / "Training_Data" / "92_Image_Set"
    # MATLAB wrote the first; the second has MATLAB's axes without its signature.
    fmri = read_rdms(folder / "target_fmri.mat", "IT_RDMs")
    meg = read_rdms(folder / "target_meg.mat", "MEG_RDMs_late")
    assert (fmri.rdms.shape, meg.rdms.shape) == ((15, 4186), (15, 1, 4186))


# Several keys


def test_keys_are_subjects(tmp_path):
    rdms = condensed(3)
    savemat(
        tmp_path / "a.mat", {"s1": rdms[0], "s2": squareform(rdms[1]), "s10": rdms[2], "age": 3.0}
    )
    for key in (["s1", "s2", "s10"], "s*", ["s1*", "s2"]):
        found = read_rdms(tmp_path / "a.mat", key)
        order = [int(name == "s2") + 2 * int(name == "s10") for name in found.names]
        np.testing.assert_array_equal(found.rdms, rdms[order])
    assert read_rdms(tmp_path / "a.mat", "s1").rdms.shape == (1, PAIRS)
    for key, message in (
        (["s1", "s3"], "key = 's3' is not in a.mat: it holds s1, s2, s10, age"),
        ("t*", r"key = 't\*' is not in a.mat"),
        (["s*", "s1"], "names s1 twice"),
        (["s1", "age"], "age of .* has shape"),
    ):
        with pytest.raises(ValueError, match=message):
            read_rdms(tmp_path / "a.mat", key)


def test_groups_of_subjects_with_conditions_in_other_orders(tmp_path):
    rdms = condensed(2)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["s1/rdm"] = rdms[0]
        file["s1/stimuli"] = list("abcde")
        file["s2/rdm"] = squareform(squareform(rdms[1])[::-1, ::-1])
        file["s2/stimuli"] = list("edcba")
    found = read_rdms(tmp_path / "a.h5", "*/rdm")
    np.testing.assert_array_equal(found.rdms, rdms)
    assert found.conditions == tuple("abcde")


def test_a_list_of_one_key(tmp_path):
    rdms = condensed(3)
    np.savez(tmp_path / "a.npz", x=rdms, y=rdms)
    np.testing.assert_array_equal(read_rdms(tmp_path / "a.npz", ["x"]).rdms, rdms)
    found = read_rdms(tmp_path / "a.npz", ["x"], axes=["subjects", "sessions"])
    np.testing.assert_allclose(found.rdms, rdms.mean(0)[None], rtol=1e-15)


def test_keys_of_subjects_with_sessions(tmp_path):
    rdms = condensed(3, 2)
    np.savez(tmp_path / "a.npz", s1=rdms[0], s2=rdms[1], s3=squares(rdms[2]))
    with pytest.raises(
        ValueError, match=r"each key of .* holds RDMs of shape \(2,\); name the axes"
    ):
        read_rdms(tmp_path / "a.npz", "s*")
    found = read_rdms(tmp_path / "a.npz", "s*", axes=["subjects", "sessions"])
    np.testing.assert_allclose(found.rdms, rdms.mean(1), rtol=1e-15)
    assert found.names == ("s1", "s2", "s3")


# rsatoolbox


def rsatoolbox_rdms(rdms, **descriptors):
    return rsatoolbox.rdm.RDMs(
        rdms,
        dissimilarity_measure="correlation",
        descriptors={"roi": "IT", "session": 1},
        pattern_descriptors={"stimulus": ["a.png", "b.png", "c.png", "d.png", "e.png"]},
        rdm_descriptors=descriptors,
    )


@pytest.mark.parametrize("kind", ["hdf5", "pkl", "object"])
def test_files_of_rsatoolbox(tmp_path, kind):
    rdms = condensed(3)
    made = rsatoolbox_rdms(rdms, subject=["x", "y", "z"])
    if kind == "object":
        (tmp_path / "a").write_bytes(pickle.dumps(made))
    else:
        made.save(str(tmp_path / "a"), file_type=kind)
    found = read_rdms(tmp_path / "a")
    np.testing.assert_array_equal(found.rdms, rdms)
    assert found.names == ("x", "y", "z")
    assert found.conditions == ("a.png", "b.png", "c.png", "d.png", "e.png")
    assert found.labels == {"stimulus": found.conditions}


@pytest.mark.parametrize("kind", ["hdf5", "pkl"])
def test_rsatoolbox_rdms_of_subjects_with_sessions(tmp_path, kind):
    rdms = condensed(6)
    made = rsatoolbox_rdms(rdms, subject=["x", "y", "z"] * 2, session=[1, 1, 1, 2, 2, 2])
    made.save(str(tmp_path / "a"), file_type=kind)
    with pytest.raises(
        ValueError, match=r"holds 6 RDMs of 3 subjects; axes = \[\"subjects\", \"sess"
    ):
        read_rdms(tmp_path / "a")
    found = read_rdms(tmp_path / "a", axes=["subjects", "sessions"])
    np.testing.assert_allclose(found.rdms, rdms.reshape(2, 3, -1).mean(0), rtol=1e-15)
    assert found.names == ("x", "y", "z")


@pytest.mark.parametrize("name", ["roi", "session", "time"])
def test_rsatoolbox_rdms_that_are_not_those_of_subjects(tmp_path, name):
    rsatoolbox_rdms(condensed(3), **{name: ["a", "b", "c"]}).save(str(tmp_path / "a"))
    with pytest.raises(
        ValueError, match=f"holds RDMs that differ in {name}, shape .3,., which may not be"
    ):
        read_rdms(tmp_path / "a")
    assert read_rdms(tmp_path / "a", names="b").names == ("b",)
    assert read_rdms(tmp_path / "a", axes=["subjects"]).rdms.shape == (3, PAIRS)
    assert read_rdms(tmp_path / "a", axes=["times"]).rdms.shape == (1, 3, PAIRS)


@pytest.mark.parametrize("kind", ["hdf5", "pkl"])
def test_sessions_and_subjects_of_rsatoolbox_in_any_order(tmp_path, kind):
    rdms = condensed(6)
    saved = rsatoolbox_rdms(rdms, subject=["x", "y", "z"] * 2)
    saved.save(str(tmp_path / "a"), file_type=kind)
    for axes in (["subjects", "sessions"], ["sessions", "subjects"]):
        found = read_rdms(tmp_path / "a", axes=axes)
        np.testing.assert_allclose(found.rdms, rdms.reshape(2, 3, -1).mean(0), rtol=1e-15)
        assert found.names == ("x", "y", "z")


@pytest.mark.parametrize("kind", ["hdf5", "pkl"])
def test_rsatoolbox_rdms_of_one_region_are_chosen(tmp_path, kind):
    rdms = condensed(6)
    subjects, regions = ["x", "y", "z"] * 2, ["V1"] * 3 + ["IT"] * 3
    saved = rsatoolbox_rdms(rdms, subject=subjects, roi=regions)
    saved.save(str(tmp_path / "a"), file_type=kind)
    for axes in ([], ["subjects", "sessions"]):
        with pytest.raises(
            ValueError, match=r"6 RDMs of 3 subjects that differ in roi \(V1, IT\); choose those of"
        ):
            read_rdms(tmp_path / "a", axes=axes)
    found = read_rdms(tmp_path / "a", names="IT")
    np.testing.assert_array_equal(found.rdms, rdms[3:])
    assert found.names == ("x", "y", "z")
    with pytest.raises(ValueError, match="names = 'MT' is not a name of"):
        read_rdms(tmp_path / "a", names="MT")


def test_structs_with_the_rdms_of_all_subjects(tmp_path):
    rdms = condensed(2, 3)
    structs = rsa_structs((1, 2), squares(rdms))
    structs["name"] = [["EVC", "IT"]]
    savemat(tmp_path / "a.mat", {"RDMs": structs})
    for axes in ([], ["sessions", "subjects"]):
        found = read_rdms(tmp_path / "a.mat", names="IT", axes=axes)
        np.testing.assert_array_equal(found.rdms, rdms[1])
        assert found.names is None
    found = read_rdms(tmp_path / "a.mat", axes=["sessions", "subjects"])
    np.testing.assert_allclose(found.rdms, rdms.mean(0), rtol=1e-15)
    with pytest.raises(ValueError, match=r"choose RDMs by their names \(EVC, IT\)"):
        read_rdms(tmp_path / "a.mat")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((0, PAIRS)), r"shape \(0, 10\), without an RDM"),
        (np.float64(3), r"shape \(\); expected"),
    ],
)
def test_a_single_array_without_rdms(tmp_path, array, message):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(ValueError, match=message):
        read_rdms(tmp_path / "a.npy")


@pytest.mark.parametrize("form", [squares, np.asarray])
def test_sessions_of_an_array_are_no_times(tmp_path, form):
    rdms = condensed(3, 2)
    np.save(tmp_path / "a.npy", form(rdms))
    found = read_rdms(tmp_path / "a.npy", axes=["subjects", "sessions"])
    np.testing.assert_allclose(found.rdms, rdms.mean(1), rtol=1e-15)


def test_regions_of_a_struct_array_are_chosen_by_name(tmp_path):
    rdms = condensed(3, 2)
    structs = rsa_structs((3, 2), rdms.reshape(6, PAIRS))
    for i, index in enumerate(np.ndindex(3, 2)):
        structs[index]["name"] = f"{('EVC', 'IT')[i % 2]} | S{i // 2}"
    savemat(tmp_path / "a.mat", {"RDMs": structs})
    with pytest.raises(ValueError, match=r"choose RDMs by their names \(EVC \| S0, IT \| S0, "):
        read_rdms(tmp_path / "a.mat")
    np.testing.assert_array_equal(read_rdms(tmp_path / "a.mat", names="IT*").rdms, rdms[:, 1])


def test_pickles_of_dicts_in_dicts(tmp_path):
    rdms = condensed(2)
    values = {f"s{i}": {"it": rdm, "labels": np.array(list("abcde"))} for i, rdm in enumerate(rdms)}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(values))
    found = read_rdms(tmp_path / "a.pkl", "s*/it")
    np.testing.assert_array_equal(found.rdms, rdms)
    assert found.conditions == tuple("abcde")
    with pytest.raises(ValueError, match=r"it holds s0/it numbers \(10,\), s1/it numbers"):
        read_rdms(tmp_path / "a.pkl")


def test_a_pickle_of_other_objects_is_not_run(tmp_path):
    witness = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return type(witness).touch, (witness,)

    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"dissimilarities": Evil()}))
    with pytest.raises(ValueError, match=r"a.pkl cannot be read as a pickle: .*was not run"):
        read_rdms(tmp_path / "a.pkl")
    assert not witness.exists()


# Meadows


def meadows_mat(folder, participants=("able_fly", "clean_koi", "cuddly_bunny")):
    rdms = condensed(len(participants))
    stimuli = np.array(["stim5.png", "stim40.png", "stim3.png", "stim2.png", "stim1.png"])
    content = {}
    for who, rdm in zip(participants, rdms, strict=True):
        content[f"rdmutv_{who}"] = rdm
        content[f"stimuli_{who}"] = stimuli
    savemat(folder / "Meadows_myExp_v_v1_arrangement_1D.mat", content)
    return folder / "Meadows_myExp_v_v1_arrangement_1D.mat", rdms


def test_meadows_one_variable_a_participant(tmp_path):
    path, rdms = meadows_mat(tmp_path)
    for key in (None, "rdmutv_*"):
        found = read_rdms(path, key)
        np.testing.assert_array_equal(found.rdms, rdms)
        assert found.names == ("able-fly", "clean-koi", "cuddly-bunny")
        assert found.conditions == (
            "stim5.png",
            "stim40.png",
            "stim3.png",
            "stim2.png",
            "stim1.png",
        )
    assert read_rdms(path, "rdmutv_clean_koi").names == ("clean-koi",)


def test_meadows_participants_with_stimuli_in_other_orders(tmp_path):
    rdms = condensed(2)
    flipped = squareform(squareform(rdms[1])[::-1, ::-1])
    content = {
        "rdmutv_a_b": rdms[0],
        "stimuli_a_b": np.array(list("abcde")),
        "rdmutv_c_d": flipped,
        "stimuli_c_d": np.array(list("edcba")),
    }
    savemat(tmp_path / "a.mat", content)
    np.testing.assert_array_equal(read_rdms(tmp_path / "a.mat").rdms, rdms)
    savemat(tmp_path / "a.mat", content | {"stimuli_c_d": np.array(list("edcbx"))})
    with pytest.raises(ValueError, match="stimuli of rdmutv_c_d and rdmutv_a_b of .* only in one"):
        read_rdms(tmp_path / "a.mat")


def test_meadows_rows_of_several_participants(tmp_path):
    rdms = condensed(3)
    savemat(tmp_path / "a.mat", {"rdmutv": rdms, "stimuli": np.array(list("abcde"))})
    np.testing.assert_array_equal(read_rdms(tmp_path / "a.mat").rdms, rdms)


def test_meadows_single_participant(tmp_path):
    rdm = condensed()
    savemat(tmp_path / "a.mat", {"rdmutv": rdm, "stimuli": np.array(list("abcde"))})
    found = read_rdms(tmp_path / "a.mat")
    np.testing.assert_array_equal(found.rdms, rdm[None])
    assert found.conditions == tuple("abcde")


def task(name, rdm, stimuli="abcde"):
    listed = [{"id": f"id{each}", "name": each, "type": "png"} for each in stimuli]
    return {"status": "finished", "task": {"name": name, "task_type": "multiarrange"}, "stimuli": listed,
            "rdm": list(rdm)}  # fmt: skip


def test_meadows_json(tmp_path):
    rdms = condensed(2)
    info = {"task": {"name": "info", "task_type": "info"}, "stimuli": []}
    (tmp_path / "one.json").write_text(json.dumps(task("ma", rdms[0])))
    flipped = squareform(squareform(rdms[1])[::-1, ::-1])
    tasks = {"token": None, "tasks": [info, task("ma1", rdms[0]), task("ma2", flipped, "edcba")]}
    (tmp_path / "two.json").write_text(json.dumps(tasks))
    several = {who: {"tasks": [info, task("ma", rdm)]} for who, rdm in zip("xy", rdms, strict=True)}
    (tmp_path / "several.json").write_text(json.dumps(several))
    np.testing.assert_array_equal(read_rdms(tmp_path / "one.json").rdms, rdms[:1])
    found = read_rdms(tmp_path / "several.json")
    np.testing.assert_array_equal(found.rdms, rdms)
    assert (found.names, found.conditions) == (("x", "y"), tuple("abcde"))
    with pytest.raises(
        ValueError, match=r"several arrays are in two.json: it holds ma1 numb.* ma2"
    ):
        read_rdms(tmp_path / "two.json")
    np.testing.assert_array_equal(read_rdms(tmp_path / "two.json", "ma1").rdms, rdms[:1])
    both = read_rdms(tmp_path / "two.json", ["ma1", "ma2"], axes=["sessions"])
    np.testing.assert_allclose(both.rdms, rdms.mean(0)[None], rtol=1e-15)


@pytest.mark.parametrize(
    ("rdm", "message"),
    [
        ([1.0] * 9, r"ma of .*a.json has shape \(9,\); a condensed RDM has n \(n - 1\) / 2"),
        (["x"] * 10, "the rdm of ma of .*a.json is not a list of numbers"),
        ([None, *[1.0] * 9], "NaN at"),
    ],
)
def test_damaged_meadows_json(tmp_path, rdm, message):
    (tmp_path / "a.json").write_text(json.dumps(task("ma", rdm)))
    with pytest.raises(ValueError, match=message):
        read_rdms(tmp_path / "a.json")


def test_json_of_other_things(tmp_path):
    for content in ([], {}, {"tasks": 3}, {"tasks": [{"rdm": [1], "stimuli": ["a"]}]}):
        (tmp_path / "a.json").write_text(json.dumps(content))
        with pytest.raises(ValueError, match="key is missing, and no array is in a.json"):
            read_rdms(tmp_path / "a.json")


# netCDF


def test_responses_of_brain_score_are_not_rdms(data_root):
    folder = data_root / "responses" / "brainio_nc"
    if not folder.is_dir():
        pytest.skip(f"no data at {folder}")
    for path in sorted(folder.glob("*.nc")):
        with pytest.raises(
            ValueError, match=rf"{path.name} with axes \(presentation \d+, .*responses"
        ):
            read_rdms(path)


def brain_score_rdms(path, rdms, coordinates):
    """An assembly with two axes of presentations, with dimensions and flat coordinates as netCDF 4 stores them."""
    with h5py.File(path, "w") as file:
        file.attrs["_NCProperties"] = np.bytes_("version=2,netcdf=4.7.4,hdf5=1.12.0,")
        for name, n in (("presentation", N), ("subject", len(rdms))):
            file[name] = np.zeros(n, ">f4")
            file[name].make_scale(f"This is a netCDF dimension but not a netCDF variable.{n:10}")
        file["data"] = squares(rdms)
        for i, name in enumerate(("subject", "presentation", "presentation")):
            file["data"].dims[i].attach_scale(file[name])
        for name, values in coordinates.items():
            file[name] = values
            file[name].dims[0].attach_scale(file["presentation"])


def test_rdms_of_brain_score(tmp_path):
    rdms = condensed(3)
    coordinates = {"stimulus_id": [f"{i}-id" for i in range(N)], "object": ["cat"] * N}
    brain_score_rdms(tmp_path / "a.nc", rdms, coordinates)
    found = read_rdms(tmp_path / "a.nc")
    np.testing.assert_array_equal(found.rdms, rdms)
    assert found.labels == {"stimulus_id": tuple(coordinates["stimulus_id"])}


@pytest.mark.parametrize(
    ("leading", "shape"),
    [
        (("subject", "time_bin"), (3, 2, PAIRS)),
        (("time", "participant_id"), (2, 3, PAIRS)),
        (("subject", "session"), (3, PAIRS)),
        (("dim_0", "dim_1"), (3, 2, PAIRS)),
    ],
)
def test_named_axes(tmp_path, leading, shape):
    dims = (*leading, "cond_a", "cond_b")
    array = xarray.DataArray(squares(condensed(3, 2)), dims=dims, name="rdms")
    array.to_netcdf(tmp_path / "a.nc", engine="scipy")
    assert read_rdms(tmp_path / "a.nc").rdms.shape == shape


def test_named_conditions_may_precede_other_axes(tmp_path):
    rdms = condensed(3, 2)
    dims = ("subject", "time", "image", "image_2")
    labels = [f"{i}.png" for i in range(N)]
    array = xarray.DataArray(
        squares(rdms), dims=dims, coords={"image": labels, "image_2": labels}, name="rdms"
    )
    array.transpose("image", "subject", "image_2", "time").to_netcdf(
        tmp_path / "a.nc", engine="scipy"
    )
    for axes in ([], ["conditions", "subjects", "conditions", "times"]):
        found = read_rdms(tmp_path / "a.nc", axes=axes)
        np.testing.assert_array_equal(found.rdms, rdms)
        assert found.conditions == tuple(labels)


def test_axes_of_other_things_need_to_be_named(tmp_path):
    array = xarray.DataArray(squares(condensed(3)), dims=("roi", "cond_a", "cond_b"), name="rdms")
    array.to_netcdf(tmp_path / "a.nc", engine="scipy")
    with pytest.raises(ValueError, match=r"holds an axis roi, shape \(3,\), which may not be"):
        read_rdms(tmp_path / "a.nc")
    assert read_rdms(tmp_path / "a.nc", axes=["subjects"]).rdms.shape == (3, PAIRS)


def test_classic_netcdf(tmp_path):
    rdms = condensed(3)
    xarray.DataArray(
        squares(rdms),
        dims=("subject", "presentation_a", "presentation_b"),
        coords={"image_id": ("presentation_a", [f"im{i:02}" for i in range(N)])},
        name="rdms",
    ).to_netcdf(tmp_path / "a.nc", engine="scipy")
    assert (tmp_path / "a.nc").read_bytes().startswith(b"CDF")
    found = read_rdms(tmp_path / "a.nc")
    np.testing.assert_array_equal(found.rdms, rdms)
    assert found.conditions == ("im00", "im01", "im02", "im03", "im04")
    xarray.DataArray(np.ones((6, 3)), dims=("presentation", "neuroid"), name="x").to_netcdf(
        tmp_path / "b.nc", engine="scipy"
    )
    with pytest.raises(ValueError, match=r"axes \(presentation 6, neuroid 3\) holds responses"):
        read_rdms(tmp_path / "b.nc")


# Labels


def test_labels_are_chosen(tmp_path):
    rdms = condensed(2)
    names = np.array(list("abcde"))
    np.savez(
        tmp_path / "a.npz", rdms=rdms, files=names, other=names[::-1], kinds=np.array(list("aabbc"))
    )
    found = read_rdms(tmp_path / "a.npz", "rdms")
    assert found.labels == {"files": tuple("abcde"), "other": tuple("edcba")}
    assert found.conditions is None
    assert read_rdms(tmp_path / "a.npz", "rdms", labels="other").conditions == tuple("edcba")
    for labels, message in (
        ("file", "labels = 'file' is neither .*did you mean files"),
        ("kinds", "labels = 'kinds' of .* has 5 labels, 3 different ones"),
        ("rdms", "labels = 'rdms' of .* is not a list of text"),
    ):
        with pytest.raises(ValueError, match=message):
            read_rdms(tmp_path / "a.npz", "rdms", labels=labels)


def test_what_is_returned_prints_in_short(tmp_path):
    np.save(tmp_path / "a.npy", condensed(2))
    found = read_rdms(tmp_path / "a.npy")
    assert isinstance(found, StoredRdms)
    assert repr(found) == f"StoredRdms({tmp_path / 'a.npy'}: shape (2, 10), 5 conditions)"


def test_stored_rdms_are_matched_by_their_conditions():
    pd, _ = pytest.importorskip("pandas"), pytest.importorskip("xarray")
    rng = np.random.default_rng(0)
    names = ["cat", "dog", "egg", "fig"]
    stored = StoredRdms(rng.random((3, 6)), ("anna", "bert", "cleo"), tuple(names))
    table = stored.to_xarray()
    assert table.dims == ("subject", "pair") and list(table.subject.values) == list(stored.names)
    np.testing.assert_array_equal(table, stored.rdms)
    layer = pd.DataFrame(rng.random((4, 9)), names)
    expected = Target(stored.rdms).score(calc_rdm(layer.to_numpy())).rho
    with pytest.warns(RuntimeWarning, match="another order than the target"):
        found = Target(table).score(calc_rdm(layer[::-1])).rho
    np.testing.assert_allclose(found, expected)
    over_time = StoredRdms(rng.random((3, 2, 6)), None, tuple(names), times=(0.1, 0.2))
    assert over_time.to_xarray().dims == ("subject", "time", "pair")
    assert list(over_time.to_xarray().time.values) == [0.1, 0.2]
    with pytest.raises(ValueError, match="conditions of the RDMs have no labels .*: none; read_rd"):
        StoredRdms(stored.rdms).to_xarray()
    several = StoredRdms(stored.rdms, labels={"a": (), "b": ()}, source="x.mat")
    with pytest.raises(
        ValueError, match=r"conditions of x.mat .*: several sets of labels \(a, b\)"
    ):
        several.to_xarray()
