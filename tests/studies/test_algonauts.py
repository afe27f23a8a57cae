import contextlib
import json
import pickle
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.io import loadmat, savemat
from scipy.spatial.distance import squareform
from scipy.stats import spearmanr, ttest_1samp

from fastrdm._base import UNNAMED, read_arrays
from fastrdm.similarity import Target
from fastrdm.studies import algonauts

FMRI = ("EVC_RDMs", "IT_RDMs")
MEG = ("MEG_RDMs_early", "MEG_RDMs_late")


def rdms(seed, *shape):
    """Random square RDMs; the last entry of `shape` is n."""
    values = np.random.default_rng(seed).random((*shape, shape[-1])) + 0.1
    values = values + np.swapaxes(values, -1, -2)
    values[..., np.arange(shape[-1]), np.arange(shape[-1])] = 0
    return values


def pair(keys, *shape, seed=0):
    return {key: rdms(seed + i, *shape) for i, key in enumerate(keys)}


def write_v73(path, arrays):
    with h5py.File(path, "w", userblock_size=512) as file:
        for key, array in arrays.items():
            file[key] = np.transpose(array)
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(512))


def write_structured(path, arrays):
    record = np.zeros((), [(key, array.dtype, array.shape) for key, array in arrays.items()])
    for key, array in arrays.items():
        record[key] = array
    np.save(path, record)


WRITERS = {
    "v5.mat": savemat,
    "v7.3.mat": write_v73,
    "dict.npy": np.save,
    "structured.npy": write_structured,
    "arrays.npz": lambda path, arrays: np.savez(path, **arrays),
}


@pytest.fixture
def submission(tmp_path):
    path = tmp_path / "submission.mat"
    savemat(path, pair(FMRI, 8, seed=50))
    return path


# The published figures


def test_published_submission(challenge):
    result = algonauts.evaluate(
        challenge / "example_submission_92/submit_fmri.mat",
        challenge / "Training_Data/92_Image_Set/target_fmri.mat",
    )
    evc, it = result.regions["evc"], result.regions["it"]
    assert f"{evc.percent_nc:.4f} {it.percent_nc:.4f}" == "8.0289 4.3443"
    assert f"{result.score.percent_nc:.4f}" == "5.5996"
    assert f"{evc.p:.4e} {it.p:.4e}" == "3.7036e-03 4.9871e-04"
    assert result.set == "92"


@pytest.mark.parametrize("name", ["92", "118"])
def test_ceilings_computed_from_subjects_are_the_published_ones(challenge, name):
    path = challenge / f"Training_Data/{name}_Image_Set/target_fmri.mat"
    computed = algonauts.read_target(path, set="none")
    assert {r: round(t.ceiling, 4) for r, t in computed.items()} == {
        region: algonauts.CEILINGS[name][region] for region in ("evc", "it")
    }


def test_real_meg_targets(challenge):
    targets = algonauts.read_target(challenge / "Training_Data/118_Image_Set/target_meg.mat")
    assert [*targets] == ["early", "late"]
    assert targets["early"].ceiling == 0.3468
    assert (targets["late"].n_subjects, targets["late"].n_conditions) == (15, 118)


# Scores, against plain scipy


@settings(max_examples=10, deadline=None)
@given(st.integers(2, 6), st.integers(1, 4), st.integers(4, 9), st.integers(0, 99))
def test_meg_score_is_scipys(tmp_path_factory, n_subjects, n_times, n, seed):
    folder = tmp_path_factory.mktemp("meg")
    target = pair(MEG, n_subjects, n_times, n, seed=seed)
    model = pair(MEG, n, seed=seed + 200)
    savemat(folder / "target.mat", target)
    savemat(folder / "model.mat", model)
    result = algonauts.evaluate(folder / "model.mat", folder / "target.mat")

    def flat(rdm):
        return squareform(rdm, force="tovector", checks=False)

    for region, key in zip(("early", "late"), MEG, strict=True):
        rho = np.array(
            [
                np.mean([spearmanr(flat(model[key]), flat(time))[0] for time in subject])
                for subject in target[key]
            ]
        )
        score = result.regions[region]
        np.testing.assert_allclose(score.rho, rho, atol=1e-12)
        np.testing.assert_allclose(score.r2, np.mean(rho**2), atol=1e-12)
        # Subjects that differ by rounding alone have a t of rounding errors, in SciPy as here.
        assume(np.ptp(rho**2) > 1e-9)
        np.testing.assert_allclose(score.p, ttest_1samp(rho**2, 0).pvalue, rtol=1e-8)
        np.testing.assert_allclose(score.std, np.std(rho**2), atol=1e-12)
        np.testing.assert_allclose(score.sample_std, np.std(rho**2, ddof=1), atol=1e-12)
        np.testing.assert_allclose(score.percent_nc, 100 * score.r2 / score.ceiling)


def test_score_is_of_means_not_the_mean_of_percentages(tmp_path, submission):
    savemat(tmp_path / "target.mat", pair(FMRI, 5, 8))
    result = algonauts.evaluate(submission, tmp_path / "target.mat")
    evc, it = result.regions.values()
    assert result.score.r2 == pytest.approx((evc.r2 + it.r2) / 2)
    assert result.score.percent_nc == pytest.approx(
        100 * (evc.r2 + it.r2) / (evc.ceiling + it.ceiling)
    )


def test_json_and_server_text(tmp_path, submission):
    savemat(tmp_path / "target.mat", pair(FMRI, 5, 8))
    result = algonauts.evaluate(submission, tmp_path / "target.mat")
    content = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert {"r2", "percent_nc", "p", "std", "rho"} <= content["evc"].keys() & content["it"].keys()
    assert len(content["evc"]["rho"]) == 5
    assert content["score"] == {"r2": result.score.r2, "percent_nc": result.score.percent_nc}
    assert content["set"] is None
    names = ["evc", "it", "score", "evc_percentNC", "it_percentNC", "score_percentNC"]
    lines = dict(line.split(": ") for line in result.scores_txt().splitlines())
    assert [*lines] == names
    assert float(lines["it_percentNC"]) == result.regions["it"].percent_nc


@pytest.mark.parametrize("n_subjects", [2, 4, 23])
def test_any_number_of_subjects(tmp_path, submission, n_subjects):
    savemat(tmp_path / "target.mat", pair(FMRI, n_subjects, 8))
    result = algonauts.evaluate(submission, tmp_path / "target.mat")
    assert len(result.regions["it"].rho) == n_subjects


@pytest.mark.parametrize("shape", [(78,), (1, 78), (1, 3, 78)])
def test_one_subject_has_scores_but_no_p(tmp_path, shape):
    savemat(tmp_path / "target.mat", pair(FMRI, *shape))
    savemat(tmp_path / "model.mat", pair(FMRI, 78, seed=9))
    result = algonauts.evaluate(tmp_path / "model.mat", tmp_path / "target.mat")
    assert len(result.regions["evc"].rho) == 1
    assert result.to_dict()["evc"]["p"] is None


def test_one_subject_has_no_computed_ceiling(tmp_path):
    savemat(tmp_path / "target.mat", pair(FMRI, 8))
    with pytest.raises(ValueError, match=r"EVC_RDMs of .*target.mat: .*one subject"):
        algonauts.read_target(tmp_path / "target.mat")


# Files


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("keys", [FMRI, MEG], ids=["fmri", "meg"])
@pytest.mark.parametrize("shape", [(3, 7), (3, 4, 7)], ids=["no times", "times"])
def test_every_format_gives_the_same_target(tmp_path, kind, keys, shape):
    arrays = pair(keys, *shape)
    WRITERS[kind](tmp_path / kind, arrays)
    targets = algonauts.read_target(tmp_path / kind)
    model = rdms(3, 7)
    for target, array in zip(targets.values(), arrays.values(), strict=True):
        np.testing.assert_array_equal(target.score(model).rho, Target(array).score(model).rho)


@pytest.mark.parametrize("kind", WRITERS)
def test_every_format_gives_the_same_submission(tmp_path, kind):
    arrays = pair(MEG, 7)
    WRITERS[kind](tmp_path / kind, arrays)
    read = algonauts.read_submission(tmp_path / kind)
    for region, key in algonauts.REGIONS["meg"].items():
        np.testing.assert_array_equal(read[region], squareform(arrays[key], checks=False))


def test_targets_in_other_forms(tmp_path, submission):
    arrays = pair(FMRI, 3, 8)
    savemat(tmp_path / "square.mat", arrays)
    condensed = {key: np.array([squareform(rdm) for rdm in rdms]) for key, rdms in arrays.items()}
    np.savez(tmp_path / "condensed.npz", **condensed)
    structs = {key: np.zeros((1, 3), [("RDM", object), ("name", object)]) for key in FMRI}
    for key, members in structs.items():
        members[0] = [(rdm, f"subject {i}") for i, rdm in enumerate(arrays[key])]
    savemat(tmp_path / "structs.mat", structs)
    with h5py.File(tmp_path / "python.h5", "w") as file:
        file.update(arrays)
    expected = algonauts.evaluate(submission, tmp_path / "square.mat").to_dict()
    for name in ("condensed.npz", "structs.mat", "python.h5"):
        assert algonauts.evaluate(submission, tmp_path / name).to_dict() == expected


def test_the_format_is_recognised_by_content(tmp_path):
    write_v73(tmp_path / "target.npy", pair(FMRI, 3, 7))
    assert [*algonauts.read_target(tmp_path / "target.npy")] == ["evc", "it"]


def test_matlab_4(tmp_path):
    arrays = pair(FMRI, 7)
    savemat(tmp_path / "old.mat", arrays, format="4")
    read = algonauts.read_submission(tmp_path / "old.mat")
    np.testing.assert_array_equal(read["it"], squareform(arrays["IT_RDMs"], checks=False))


def test_h5py_is_named_if_it_is_needed_and_missing(tmp_path, monkeypatch):
    write_v73(tmp_path / "target.mat", pair(FMRI, 3, 7))
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r"h5py is needed to read MATLAB v7.3 files; install it"):
        algonauts.read_target(tmp_path / "target.mat")


def test_both_modalities_in_a_target(tmp_path, submission):
    path = tmp_path / "target.mat"
    savemat(path, pair(FMRI, 3, 8) | pair(MEG, 3, 2, 8))
    assert [*algonauts.read_target(path)] == ["evc", "it", "early", "late"]
    assert [*algonauts.read_target(path, "meg")] == ["early", "late"]
    assert [*algonauts.evaluate(submission, path).regions] == ["evc", "it"]


def test_integers_and_a_nan_diagonal_are_fine(tmp_path):
    array = np.round(rdms(0, 3, 8) * 100)
    with_nan = array.copy()
    with_nan[:, np.arange(8), np.arange(8)] = np.nan
    savemat(tmp_path / "target.mat", {"EVC_RDMs": array.astype(np.uint8), "IT_RDMs": with_nan})
    evc, it = algonauts.read_target(tmp_path / "target.mat").values()
    np.testing.assert_array_equal(evc.score(rdms(1, 8)).rho, it.score(rdms(1, 8)).rho)


def test_a_single_array_is_unnamed(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(3))
    assert [*read_arrays(tmp_path / "a.npy")] == [UNNAMED]


def test_pickles_of_older_numpy_and_python_are_read(tmp_path):
    content = {"a": np.arange(3.0), "b": np.float64(2), "c": "text"}
    header = b"\x93NUMPY\x01\x00\x46\x00{'descr': '|O', 'fortran_order': False, 'shape': (), }"
    for protocol in (2, 3, 4):
        body = pickle.dumps(np.array(content, object), protocol)
        if protocol < 4:
            body = body.replace(b"numpy._core.", b"numpy.core.")
        path = tmp_path / f"{protocol}.npy"
        path.write_bytes(header.ljust(79) + b"\n" + body)
        np.testing.assert_array_equal(read_arrays(path)["a"], [0, 1, 2])


class Malicious:
    def __init__(self, witness):
        self.witness = witness

    def __reduce__(self):
        return Path.touch, (self.witness,)


@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_a_pickle_runs_nothing(tmp_path, kind):
    path, witness = tmp_path / f"evil.{kind}", tmp_path / "ran"
    value = np.array({"EVC_RDMs": Malicious(witness)}, object)
    if kind == "npy":
        np.save(path, value)
    else:
        np.savez(path, EVC_RDMs=value)
    with pytest.raises(ValueError, match=r"evil\.np[yz] .*pathlib.*not part of an array"):
        algonauts.read_submission(path)
    assert not witness.exists()


# Writing


@pytest.mark.parametrize("modality", ["fmri", "meg"])
def test_submission_round_trip(tmp_path, modality):
    model = {region: rdms(i, 6) for i, region in enumerate(algonauts.REGIONS[modality])}
    mat, packed = algonauts.write_submission(tmp_path / "new" / "folder", model, modality)
    assert (mat.name, packed.name) == (f"submit_{modality}.mat", f"submit_{modality}.zip")
    read = algonauts.read_submission(mat)
    for region, rdm in model.items():
        np.testing.assert_array_equal(read[region], squareform(rdm, checks=False))
    content = {k: v for k, v in loadmat(mat).items() if not k.startswith("__")}
    assert {k: (v.shape, v.dtype) for k, v in content.items()} == {
        key: ((6, 6), np.float64) for key in algonauts.REGIONS[modality].values()
    }
    with zipfile.ZipFile(packed) as archive:
        assert archive.namelist() == [mat.name]
        assert archive.read(mat.name) == mat.read_bytes()


def test_one_rdm_for_both_regions_square_or_condensed(tmp_path):
    rdm = rdms(0, 6).astype(np.float32)
    mat, packed = algonauts.write_submission(tmp_path / "mine.mat", squareform(rdm, checks=False))
    assert (mat, packed) == (tmp_path / "mine.mat", tmp_path / "mine.zip")
    content = loadmat(mat)
    np.testing.assert_array_equal(content["EVC_RDMs"], rdm)
    np.testing.assert_array_equal(content["IT_RDMs"], rdm)


@pytest.mark.parametrize(
    ("model", "modality", "message"),
    [
        ({"evc": rdms(0, 6)}, "fmri", "for fmri has an RDM for each of evc, it; got evc"),
        ({"evc": rdms(0, 6), "it": rdms(0, 7)}, "fmri", r"differ in shape: .*\(6, 6\).*\(7, 7\)"),
        (rdms(0, 2, 6), "fmri", r"EVC_RDMs has shape \(2, 6, 6\)"),
        (np.ones(7), "fmri", "EVC_RDMs: 7 pairs"),
        (rdms(0, 6), "eeg", "'eeg' is not one of: fmri, meg"),
        (np.full(15, np.nan), "meg", "MEG_RDMs_early has .*NaN at subject 0, row 0, column 1"),
    ],
)
def test_invalid_submissions_are_not_written(tmp_path, model, modality, message):
    with pytest.raises(ValueError, match=message):
        algonauts.write_submission(tmp_path / "out", model, modality)
    assert not (tmp_path / "out").exists()


# Errors


def spoil(index, value):
    arrays = pair(FMRI, 3, 8)
    arrays["IT_RDMs"][index] = value
    return arrays


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"EVC_RDMs": rdms(0, 3, 8)}, "target.mat lacks EVC_RDMs and IT_RDMs; it holds EVC_RDMs"),
        ({"foo": np.ones(3)}, "lacks EVC_RDMs and IT_RDMs or MEG_RDMs_early .*; it holds foo"),
        (spoil((2, [1, 5], [5, 1]), np.nan), "IT_RDMs of .* NaN at subject 2, row 1, column 5"),
        (spoil((0, [1, 5], [5, 1]), np.inf), "IT_RDMs of .* infinity at subject 0, row 1"),
        (spoil((1, 2, 3), 9), "IT_RDMs of .*target.mat .*not symmetric"),
        (spoil(1, 1), "IT_RDMs of .*target.mat.*constant"),
        (pair(FMRI, 3, 8) | {"IT_RDMs": np.ones((3, 8, 7))}, r"IT_RDMs .*shape \(3, 8, 7\); exp"),
        ({key: np.ones((8, 8, 3)) for key in FMRI}, r"shape \(8, 8, 3\).*conditions.* come first"),
        ({key: np.ones((2, 2, 2, 8, 8)) for key in FMRI}, r"shape \(2, 2, 2, 8, 8\)"),
        ({key: np.ones((3, 2, 2)) for key in FMRI}, "n >= 3"),
        ({key: np.ones((0, 8, 8)) for key in FMRI}, r"shape \(0, 8, 8\)"),
        ({key: rdms(0, 3, 8) * 1j for key in FMRI}, "EVC_RDMs .* real numbers.*complex"),
        ({key: "text" for key in FMRI}, "lacks EVC_RDMs and IT_RDMs .*; it holds no array"),
    ],
)
def test_bad_targets(tmp_path, arrays, message):
    savemat(tmp_path / "target.mat", arrays)
    with pytest.raises(ValueError, match=message):
        algonauts.read_target(tmp_path / "target.mat")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (pair(FMRI, 3, 8), r"EVC_RDMs of .* has shape \(3, 8, 8\); a submitted RDM is \(n, n\)"),
        (pair(FMRI, 8) | pair(MEG, 8), "holds fMRI and MEG RDMs"),
        ({key: np.ones((8, 8)) for key in FMRI}, "EVC_RDMs of .* is constant, 1 for every pair"),
        (pair(FMRI, 8) | {"IT_RDMs": rdms(0, 9)}, r"differ in shape: .*\(8, 8\), .*\(9, 9\)"),
    ],
)
def test_bad_submissions(tmp_path, arrays, message):
    savemat(tmp_path / "model.mat", arrays)
    with pytest.raises(ValueError, match=message):
        algonauts.read_submission(tmp_path / "model.mat")


def test_complex_in_a_v73_file(tmp_path):
    write_v73(tmp_path / "target.mat", {key: rdms(0, 3, 8) * 1j for key in FMRI})
    with pytest.raises(ValueError, match="EVC_RDMs .* real numbers"):
        algonauts.read_target(tmp_path / "target.mat")


def test_submission_and_target_of_different_images(tmp_path, submission):
    savemat(tmp_path / "target.mat", pair(FMRI, 3, 9))
    message = r"EVC_RDMs is \(8, 8\) in .*submission.mat but \(9, 9\) in .*target.mat"
    with pytest.raises(ValueError, match=message):
        algonauts.evaluate(submission, tmp_path / "target.mat")


def test_submission_and_target_of_different_modalities(tmp_path, submission):
    savemat(tmp_path / "target.mat", pair(MEG, 3, 8))
    with pytest.raises(ValueError, match="target.mat lacks EVC_RDMs and IT_RDMs"):
        algonauts.evaluate(submission, tmp_path / "target.mat")


@pytest.mark.parametrize(
    ("name", "message"),
    [("92", "has 118 conditions, but set 92"), ("93", "set '93' is not one of: infer, 92")],
)
def test_contradicting_or_unknown_set(tmp_path, name, message):
    savemat(tmp_path / "target.mat", pair(FMRI, 2, 118))
    with pytest.raises(ValueError, match=message):
        algonauts.read_target(tmp_path / "target.mat", set=name)
    assert algonauts.read_target(tmp_path / "target.mat", set="118")["it"].ceiling == 0.0728


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
def test_truncated_files(tmp_path, kind, share):
    path = tmp_path / kind
    WRITERS[kind](path, pair(FMRI, 3, 12))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=f"{kind} (cannot be read as|lacks)"):
        algonauts.read_target(path)


@pytest.mark.parametrize("content", [b"not a mat file at all" * 99, bytes(range(256)) * 9])
def test_garbage(tmp_path, content):
    (tmp_path / "target.mat").write_bytes(content)
    with pytest.raises(ValueError, match=r"target.mat cannot be read as"):
        algonauts.read_target(tmp_path / "target.mat")


@pytest.mark.parametrize("compressed", [False, True])
def test_damaged_matlab_files_are_errors_not_crashes(tmp_path, compressed):
    path = tmp_path / "target.mat"
    savemat(path, pair(FMRI, 3, 6), do_compression=compressed)
    content = path.read_bytes()
    algonauts.read_target(path)
    for start in range(128, len(content) - 64, 8):
        path.write_bytes(content[:start] + bytes(64) + content[start + 64 :])
        with contextlib.suppress(ValueError):
            algonauts.read_target(path)


def test_missing_empty_and_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.mat does not exist"):
        algonauts.read_target(tmp_path / "none.mat")
    (tmp_path / "empty.mat").touch()
    with pytest.raises(ValueError, match="empty.mat is empty"):
        algonauts.read_target(tmp_path / "empty.mat")
    with pytest.raises(ValueError, match="is a folder"):
        algonauts.read_target(tmp_path)


# The download


def test_image_sets_of_the_challenge(challenge, data_root):
    sets = algonauts.image_sets(challenge)
    assert {name: len(s.images) for name, s in sets.items()} == {"92": 92, "118": 118, "78": 78}
    assert sets == algonauts.image_sets(data_root)
    assert [*sets["92"].targets] == ["fmri", "meg"]
    assert sets["92"].images[9].name == "image_10.jpg"
    assert sets["92"].read_targets("fmri")["evc"].n_conditions == 92


def test_a_folder_without_the_challenge(tmp_path):
    assert algonauts.image_sets(tmp_path) == {}


def test_image_count_and_missing_targets(tmp_path):
    images = tmp_path / "Training_Data/92_Image_Set/92images"
    images.mkdir(parents=True)
    for i in range(7):
        (images / f"{i}.png").touch()
    savemat(images.parent / "target_fmri.mat", pair(FMRI, 3, 8))
    image_set = algonauts.image_sets(tmp_path)["92"]
    with pytest.raises(ValueError, match=r"target_fmri.mat has 8 conditions .* 7 images"):
        image_set.read_targets("fmri")
    with pytest.raises(ValueError, match=r"92_Image_Set has no target_meg.mat"):
        image_set.read_targets("meg")


def test_other_arrays_of_a_submission_are_not_read(tmp_path):
    rdm = squareform(np.random.default_rng(0).random(15))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("other", (10**5, 10**5), chunks=(1000, 1000), compression="gzip")
        file["EVC_RDMs"] = file["IT_RDMs"] = rdm
    assert [*algonauts.read_submission(tmp_path / "a.h5")] == ["evc", "it"]
