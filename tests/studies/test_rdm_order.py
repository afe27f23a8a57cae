"""Targets in a `study.toml` from files of other tools: sessions, several keys, and labels that give the order."""

import h5py
import numpy as np
import pytest
import rsatoolbox.rdm
from mat73 import Cell, write_mat73
from PIL import Image
from scipy.io import savemat
from scipy.spatial.distance import squareform

import fastrdm
from fastrdm.studies import open_studies

NAMES = ["zebra.png", "ant.png", "mole.png", "cat.png"]
TARGETS = 'order = "targets"\n[targets.it]\nfile = "it.hdf5"\n'


def condensed(*shape, seed=0):
    return np.random.default_rng(seed).random((*shape, 6)) + 0.1


def permuted(rdms, order):
    return np.array([squareform(squareform(rdm)[np.ix_(order, order)]) for rdm in rdms])


def images(folder, names=NAMES):
    for name in names:
        (folder / "stimuli" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(folder / "stimuli" / name)


def rsatoolbox_file(path, rdms, **labels):
    rsatoolbox.rdm.RDMs(rdms, pattern_descriptors=labels).save(str(path))


def opened(folder, settings):
    (folder / "study.toml").write_text(settings)
    (study,) = open_studies(folder)
    return study


def stimuli_of(study):
    return [path.name for path in study.stimuli]


# The must-show


def test_sessions_of_the_kriegeskorte_subjects(tmp_path, data_root, challenge):
    file = data_root / "kriegeskorte2008" / "92_brainRDMs.mat"
    if not file.is_file():
        pytest.skip(f"no {file}")
    (tmp_path / "92_brainRDMs.mat").symlink_to(file)
    (tmp_path / "stimuli").symlink_to(challenge / "Training_Data" / "92_Image_Set" / "92images")
    settings = (
        'order = "sorted"\n[targets.it]\nfile = "92_brainRDMs.mat"\nprotocol = "rsatoolbox"\n'
        'key = "RDMs"\naxes = ["subjects", "sessions"]\n'
    )
    target = opened(tmp_path, settings).targets["it"]
    assert (target.n_subjects, target.n_times, target.n_conditions) == (4, 1, 92)
    ceiling = target.noise_ceiling
    assert (round(ceiling.lower, 5), round(ceiling.upper, 5)) == (0.37231, 0.66572)


# Fields


def test_keys_patterns_and_names(tmp_path):
    images(tmp_path)
    rdms = condensed(3)
    cells = np.empty((1, 3), object)
    cells[0] = [{"RDM": rdm, "name": f"S{i}"} for i, rdm in enumerate(rdms)]
    savemat(tmp_path / "a.mat", {f"s{i}": rdm for i, rdm in enumerate(rdms)} | {"all": cells})
    tables = {
        "list": 'key = ["s0", "s1", "s2"]',
        "pattern": 'key = "s*"',
        "cells": 'key = "all"',
        "chosen": 'key = "all"\nnames = ["S0", "S2"]',
        "one": 'key = "all"\nnames = "S1"\nceiling = 0.5',
    }
    settings = 'order = "sorted"\n' + "".join(
        f'[targets.{name}]\nfile = "a.mat"\n{table}\n' for name, table in tables.items()
    )
    targets = opened(tmp_path, settings).targets
    rows = {"chosen": [0, 2], "one": [1]}
    for name, target in targets.items():
        np.testing.assert_array_equal(target.subject_rdms[:, 0], rdms[rows.get(name, [0, 1, 2])])


def test_times_are_kept_and_sessions_averaged(tmp_path):
    images(tmp_path)
    rdms = condensed(3, 2, 4)
    np.save(tmp_path / "a.npy", rdms.reshape(3, 2, 4, 6).transpose(0, 1, 2, 3))
    settings = 'order = "sorted"\n[targets.it]\nfile = "a.npy"\naxes = ["subjects", "sessions", "times", "pairs"]'
    np.testing.assert_allclose(
        opened(tmp_path, settings).targets["it"].subject_rdms, rdms.mean(1), rtol=1e-15
    )


def test_the_number_of_stimuli_tells_condensed_from_square(tmp_path):
    images(tmp_path)
    stack = condensed(6)
    np.save(tmp_path / "a.npy", stack + stack.T)
    target = opened(tmp_path, 'order = "sorted"\n[targets.it]\nfile = "a.npy"').targets["it"]
    assert (target.n_subjects, target.n_conditions) == (6, 4)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("key = 3", "targets.it.key = 3 is not text or a list of text"),
        ('key = ["a", 3]', r"targets.it.key = \['a', 3\] is not a list of text"),
        ("key = []", "targets.it.key is an empty list"),
        ('axes = "subjects"', "targets.it.axes = 'subjects' is not a list"),
        ('axes = ["session"]', "targets.it.axes: the name 'session' is not one of: subjects, sess"),
        ('key = "RDM"', "targets.it.key = 'RDM' is not in a.mat: it holds RDMs; did you mean RDMs"),
        ("", r"RDMs of .*shape \(2, 3\) .*name them in their order, such as axes = "),
        (
            'axes = ["subjects", "sessions"]\nnames = "x"',
            "targets.it.names = 'x': the RDMs .* no names",
        ),
        ('axes = ["subjects", "sessions"]\nlabels = "x"', "targets.it.labels = 'x' is neither"),
    ],
)
def test_bad_fields(tmp_path, table, message):
    images(tmp_path)
    cells = np.empty((2, 3), object)
    for index, rdm in zip(np.ndindex(2, 3), condensed(6), strict=True):
        cells[index] = rdm
    savemat(tmp_path / "a.mat", {"RDMs": cells})
    with pytest.raises(ValueError, match=message):
        opened(tmp_path, f'order = "sorted"\n[targets.it]\nfile = "a.mat"\n{table}\n')


# Order from labels


@pytest.mark.parametrize("with_suffix", [True, False])
@pytest.mark.parametrize("kind", ["hdf5", "pkl"])
def test_labels_of_rsatoolbox_are_the_order(tmp_path, with_suffix, kind):
    images(tmp_path, [*NAMES, "unseen.png"])
    labels = [name if with_suffix else name[:-4] for name in NAMES]
    made = rsatoolbox.rdm.RDMs(
        condensed(3), pattern_descriptors={"stimulus": labels, "kind": list("aabb")}
    )
    made.save(str(tmp_path / "it.hdf5"), file_type=kind)
    study = opened(tmp_path, TARGETS)
    assert stimuli_of(study) == NAMES
    assert (study.order, study.unlisted) == ("targets", ("unseen.png",))


def test_labels_of_meadows_are_the_order(tmp_path):
    images(tmp_path)
    content = {}
    for who, rdm in zip(("able_fly", "clean_koi"), condensed(2), strict=True):
        content |= {f"rdmutv_{who}": rdm, f"stimuli_{who}": np.array(NAMES)}
    savemat(tmp_path / "it.mat", content)
    study = opened(tmp_path, TARGETS.replace("it.hdf5", "it.mat"))
    assert stimuli_of(study) == NAMES
    np.testing.assert_array_equal(study.targets["it"].subject_rdms[:, 0], condensed(2))


def test_identifiers_of_netcdf_are_the_order(tmp_path):
    images(tmp_path)
    with h5py.File(tmp_path / "it.nc", "w") as file:
        file["presentation"] = np.zeros(4, ">f4")
        file["presentation"].make_scale(
            f"This is a netCDF dimension but not a netCDF variable.{4:10}"
        )
        file["subject"] = np.arange(2)
        file["subject"].make_scale("subject")
        file["image_id"] = [name[:-4] for name in NAMES]
        file["image_id"].dims[0].attach_scale(file["presentation"])
        file["rdms"] = np.array([squareform(rdm) for rdm in condensed(2)])
        for i, name in enumerate(("subject", "presentation", "presentation")):
            file["rdms"].dims[i].attach_scale(file[name])
    assert stimuli_of(opened(tmp_path, TARGETS.replace("it.hdf5", "it.nc"))) == NAMES


def test_a_variable_of_text_is_the_order(tmp_path):
    images(tmp_path)
    cells = Cell((1, 2), [{"RDM": rdm} for rdm in condensed(2)], ["RDM"])
    write_mat73(tmp_path / "it.mat", {"RDMs": cells, "images": Cell((4, 1), NAMES)})
    assert stimuli_of(opened(tmp_path, TARGETS.replace("it.hdf5", "it.mat"))) == NAMES


def test_paths_as_labels(tmp_path):
    images(tmp_path, ["a/1.png", "b/1.png", "a/2.png", "b/3.png"])
    labels = ["/data/stimuli/2.png", "a/1", "b\\1.png", "3"]
    rsatoolbox_file(tmp_path / "it.hdf5", condensed(2), stimulus=labels)
    assert opened(tmp_path, TARGETS).names == ("a/2.png", "a/1.png", "b/1.png", "b/3.png")


def test_targets_are_brought_into_one_order(tmp_path):
    images(tmp_path)
    rdms, order = condensed(3), [2, 0, 3, 1]
    rsatoolbox_file(tmp_path / "it.hdf5", rdms, stimulus=NAMES)
    rsatoolbox_file(
        tmp_path / "v1.hdf5", permuted(rdms, order), image=[NAMES[i][:-4] for i in order]
    )
    study = opened(tmp_path, f'{TARGETS}[targets.v1]\nfile = "v1.hdf5"\n')
    assert stimuli_of(study) == NAMES
    it, v1 = study.targets.values()
    np.testing.assert_array_equal(it.subject_rdms, v1.subject_rdms)
    model = squareform(squareform(condensed(seed=9)))
    assert fastrdm.compare(model, it.subject_rdms[0]) == fastrdm.compare(model, v1.subject_rdms[0])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({}, 'order = "targets": .* has no labels of its 4 conditions'),
        ({"s": ["zebra", "ant", "mole", "dog"]}, r"label 'dog' \(s\) is not an image in .*stimuli"),
        ({"s": ["zebra", "ant", "mole", "cats.png"]}, "did you mean cat.png"),
        (
            {"s": ["zebra", "ant", "mole", "ant.png"]},
            r"labels 'ant' and 'ant.png' \(s\) are both ant",
        ),
        ({"s": ["zebra", "ant", "mole", "owl"]}, r"label 'owl' \(s\) may be owl.jpg or owl.png"),
        ({"s": NAMES, "t": NAMES[::-1]}, "the labels s and t .* different orders"),
    ],
)
def test_labels_that_give_no_order(tmp_path, labels, message):
    images(tmp_path, [*NAMES, "owl.jpg", "owl.png"])
    rsatoolbox_file(tmp_path / "it.hdf5", condensed(3), **labels)
    with pytest.raises(ValueError, match=f"study.toml: targets.it: .*{message}"):
        opened(tmp_path, TARGETS)


def test_one_of_several_sets_of_labels(tmp_path):
    images(tmp_path)
    rsatoolbox_file(tmp_path / "it.hdf5", condensed(3), s=NAMES, t=NAMES[::-1], u=list("wxyz"))
    assert stimuli_of(opened(tmp_path, TARGETS + 'labels = "t"')) == NAMES[::-1]


def test_targets_of_other_stimuli(tmp_path):
    images(tmp_path, [*NAMES, "owl.png"])
    rsatoolbox_file(tmp_path / "it.hdf5", condensed(3), stimulus=NAMES)
    rsatoolbox_file(tmp_path / "v1.hdf5", condensed(3), stimulus=[*NAMES[:3], "owl"])
    with pytest.raises(ValueError, match=r"targets.v1: the stimuli of .*v1.hdf5 .* only in one"):
        opened(tmp_path, f'{TARGETS}[targets.v1]\nfile = "v1.hdf5"\n')


# Labels beside another order


@pytest.mark.parametrize("order", ["order.txt", "sorted"])
def test_labels_that_contradict_the_order_are_an_error(tmp_path, order):
    images(tmp_path)
    listed = NAMES if order == "order.txt" else sorted(NAMES)
    (tmp_path / "order.txt").write_text("\n".join(NAMES))
    settings = TARGETS.replace("targets", order, 1)
    rsatoolbox_file(tmp_path / "it.hdf5", condensed(3), stimulus=[name[:-4] for name in listed])
    assert stimuli_of(opened(tmp_path, settings)) == listed
    other = [listed[0], listed[2], listed[1], listed[3]]
    (tmp_path / "it.hdf5").unlink()
    rsatoolbox_file(tmp_path / "it.hdf5", condensed(3), stimulus=other)
    message = rf"row 1 of .* has the label '{other[1]}' \(stimulus\), but order = '{order}' has {listed[1]}"
    with pytest.raises(ValueError, match=message):
        opened(tmp_path, settings)


def test_labels_of_other_things_do_not_matter(tmp_path):
    images(tmp_path)
    rsatoolbox_file(tmp_path / "it.hdf5", condensed(3), name=list("dcba"), number=[3, 2, 1, 0])
    assert stimuli_of(opened(tmp_path, TARGETS.replace("targets", "sorted", 1))) == sorted(NAMES)
