"""rsatoolbox's files: it reads what is written here, and its own files have the same contents here."""

import pickle
import sys

import h5py
import numpy as np
import pytest

from fastrdm import read_rdms
from fastrdm._base import MissingExtraError
from fastrdm.interop.rsatoolbox import read, read_contents, write


@pytest.fixture(scope="module")
def rsatoolbox():
    return pytest.importorskip("rsatoolbox")


def rdms_contents():
    return {
        "dissimilarities": np.arange(6.0).reshape(2, 3),
        "descriptors": {"task": "naming", "session": 2, "note": None},
        "rdm_descriptors": {"subject": ["s1", "s2"], "index": [0, 1]},
        "pattern_descriptors": {"conds": ["cat", "dog", "owl"], "mixed": [1, "two", None]},
        "dissimilarity_measure": "correlation",
    }


def dataset_contents(times):
    return {
        "measurements": np.arange(24.0).reshape(4, 3, 2)
        if times
        else np.arange(12.0).reshape(4, 3),
        "descriptors": {"subject": "s1"},
        "obs_descriptors": {"conds": np.array(["a", "b", "a", "b"]), "run": [0, 0, 1, 1]},
        "channel_descriptors": {"voxel": np.arange(3)},
        **({"time_descriptors": {"time": [0.0, 0.5]}} if times else {}),
        "type": "TemporalDataset" if times else "Dataset",
    }


def as_lists(value):
    """Values of any container as lists, with groups of numbered entries as lists."""
    if isinstance(value, dict):
        if value and all(str(key).isdigit() for key in value):
            return [as_lists(value[key]) for key in sorted(value, key=int)]
        return {key: as_lists(each) for key, each in value.items()}
    return np.asarray(value).tolist() if isinstance(value, (np.ndarray, np.generic)) else value


def without_version(contents):
    return {key: as_lists(value) for key, value in contents.items() if key != "rsatoolbox_version"}


@pytest.mark.parametrize("suffix", [".hdf5", ".h5", ".pkl"])
@pytest.mark.parametrize("kind", ["rdms", "dataset", "temporal"])
def test_contents_are_read_as_they_were_written(tmp_path, suffix, kind):
    contents = rdms_contents() if kind == "rdms" else dataset_contents(kind == "temporal")
    path = tmp_path / f"file{suffix}"
    write(path, contents)
    found = read_contents(path)
    assert without_version(found) == without_version(contents)
    assert found["rsatoolbox_version"] == "0.3.2"
    if kind == "rdms":
        stored = read_rdms(path, labels="conds")
        assert stored.conditions == ("cat", "dog", "owl")
        np.testing.assert_array_equal(stored.rdms, contents["dissimilarities"])


@pytest.mark.parametrize("suffix", ["hdf5", "pkl"])
def test_rsatoolbox_reads_what_is_written(rsatoolbox, tmp_path, suffix):
    contents = rdms_contents()
    del contents["pattern_descriptors"]["mixed"]
    rdms = rsatoolbox.rdm.rdms_from_dict(contents)
    path = tmp_path / f"rdms.{suffix}"
    write(path, rdms)
    found = rsatoolbox.rdm.load_rdm(str(path))
    assert without_version(found.to_dict()) == without_version(rdms.to_dict())
    assert without_version(read(path).to_dict()) == without_version(rdms.to_dict())
    for times in (False, True):
        data = rsatoolbox.data.dataset.dataset_from_dict(dataset_contents(times))
        path = tmp_path / f"data{times}.{suffix}"
        write(path, data)
        for loaded in (rsatoolbox.data.load_dataset(str(path)), read(path)):
            assert type(loaded) is type(data)
            assert without_version(loaded.to_dict()) == without_version(data.to_dict())


@pytest.mark.parametrize("suffix", ["hdf5", "pkl"])
def test_files_of_rsatoolbox_are_read(rsatoolbox, tmp_path, suffix):
    contents = rdms_contents()
    del contents["pattern_descriptors"]["mixed"]
    rdms = rsatoolbox.rdm.rdms_from_dict(contents)
    path = tmp_path / f"rdms.{suffix}"
    rdms.save(str(path), file_type=suffix)
    assert without_version(read(path).to_dict()) == without_version(rdms.to_dict())
    for times in (False, True):
        data = rsatoolbox.data.dataset.dataset_from_dict(dataset_contents(times))
        path = tmp_path / f"data{times}.{suffix}"
        data.save(str(path), file_type=suffix)
        assert without_version(read(path).to_dict()) == without_version(data.to_dict())


@pytest.mark.parametrize("suffix", [".hdf5", ".pkl"])
def test_rdms_without_a_measure_are_read_without_one(tmp_path, suffix):
    path = tmp_path / f"file{suffix}"
    write(path, rdms_contents() | {"dissimilarity_measure": None})
    assert read_contents(path)["dissimilarity_measure"] is None


@pytest.mark.parametrize("protocol", [4, 5])
def test_arrays_of_pickles_are_plain_arrays(tmp_path, protocol):
    contents = dataset_contents(False)
    contents["descriptors"] = {
        "noise": [np.eye(2)],
        "pair": (np.arange(2), "a"),
        "one": np.array(3),
    }
    contents["channel_descriptors"]["name"] = np.array(["a", None, 1], object)
    path = tmp_path / "data.pkl"
    path.write_bytes(pickle.dumps(contents, protocol))
    found = read_contents(path)
    assert repr(found) == repr(contents)
    assert b"fastrdm" not in pickle.dumps(found)


def test_files_are_replaced_only_when_asked(tmp_path):
    path = tmp_path / "rdms.pkl"
    write(path, rdms_contents())
    with pytest.raises(ValueError, match=r"rdms\.pkl exists; pass overwrite=True"):
        write(path, rdms_contents())
    write(path, dataset_contents(False), overwrite=True)
    assert "measurements" in read_contents(path)


def test_values_that_cannot_be_written(tmp_path):
    with pytest.raises(ValueError, match=r"ends? with|should end with"):
        write(tmp_path / "rdms.npy", rdms_contents())
    for value in (np.ones(3), {"dissimilarities": 1}, 3):
        with pytest.raises(ValueError, match="value holds neither RDMs"):
            write(tmp_path / "rdms.pkl", value)
    contents = rdms_contents()
    contents["pattern_descriptors"]["conds"] = ["Käfer", "dog", "owl"]
    with pytest.raises(ValueError, match=r"^descriptor 'conds' has text that is not ASCII"):
        write(tmp_path / "rdms.hdf5", contents)
    assert list(tmp_path.iterdir()) == []
    write(tmp_path / "rdms.pkl", contents)
    names = read_contents(tmp_path / "rdms.pkl")["pattern_descriptors"]["conds"]
    assert list(names) == ["Käfer", "dog", "owl"]


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_contents(tmp_path / "none.pkl")
    path = tmp_path / "other.hdf5"
    with h5py.File(path, "w") as file:
        file["dissimilarities"] = np.ones((1, 3))
    with pytest.raises(ValueError, match=r"other\.hdf5 holds neither RDMs .* nor a dataset"):
        read_contents(path)
    path = tmp_path / "later.pkl"
    path.write_bytes(pickle.dumps({**rdms_contents(), "rsatoolbox_version": "2.0.1"}))
    with pytest.raises(ValueError, match=r"later\.pkl is of rsatoolbox 2\.0\.1, whose files"):
        read_contents(path)


def test_hdf5_that_is_cut_off_is_said_in_one_sentence(tmp_path):
    path = tmp_path / "cut.hdf5"
    write(path, rdms_contents())
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"cut\.hdf5 cannot be read as HDF5"):
        read_contents(path)


def test_objects_need_rsatoolbox_and_contents_do_not(tmp_path, monkeypatch):
    path = tmp_path / "rdms.hdf5"
    monkeypatch.setitem(sys.modules, "rsatoolbox", None)
    write(path, rdms_contents())
    assert read_contents(path)["dissimilarity_measure"] == "correlation"
    with pytest.raises(MissingExtraError, match=r"fastrdm\[rsatoolbox\]"):
        read(path)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingExtraError, match=r"h5py is needed .*fastrdm\[data\]"):
        read_contents(path)
    with pytest.raises(MissingExtraError, match=r"h5py is needed .*fastrdm\[data\]"):
        write(tmp_path / "more.h5", rdms_contents())
