"""A study reads only files in its folder."""

import numpy as np
import pytest
from PIL import Image

from fastrdm.studies import check_studies, open_studies

BASIC = 'order = "sorted"\n[targets.it]\nfile = "it.npy"\n'


@pytest.fixture
def study(tmp_path):
    folder = tmp_path / "study"
    (folder / "stimuli").mkdir(parents=True)
    for i, name in enumerate("abcd"):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(folder / "stimuli" / f"{name}.png")
    values = np.random.default_rng(0).random((3, 6))
    np.save(folder / "it.npy", values)
    np.save(tmp_path / "secret.npy", values)
    (tmp_path / "order.txt").write_text("a.png\nb.png\nc.png\nd.png\n")
    return folder


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("it.npy", "../secret.npy", r"targets\.it\.file"),
        ("it.npy", "stimuli/../../secret.npy", r"targets\.it\.file"),
        ("it.npy", "{}/secret.npy", r"targets\.it\.file"),
        ("it.npy", "..\\\\secret.npy", r"targets\.it\.file"),
        ("it.npy", "C:/secret.npy", r"targets\.it\.file"),
        ("it.npy", "a\\u0000b.npy", r"targets\.it\.file"),
        ("sorted", "../order.txt", "order"),
        ("order =", 'stimuli = "../study/stimuli"\norder =', "stimuli"),
        ("order =", 'test_stimuli = "/"\norder =', "test_stimuli"),
    ],
)
def test_paths_that_leave_the_folder_are_refused(study, old, new, field):
    new = new.replace("{}", study.parent.as_posix())
    (study / "study.toml").write_text(BASIC.replace(old, new))
    with pytest.raises(
        ValueError, match=rf"study\.toml: {field} = .* is not a path inside the study"
    ):
        open_studies(study)
    (checked,) = check_studies(study)
    assert "is not a path inside the study" in str(checked)


def test_paths_inside_the_folder_are_read(study):
    (study / "deep").mkdir()
    (study / "it.npy").rename(study / "deep" / "it.npy")
    (study / "study.toml").write_text(BASIC.replace("it.npy", "./deep/it.npy"))
    assert [*open_studies(study)[0].targets] == ["it"]


def test_a_damaged_list_of_stimuli(study):
    (study / "study.toml").write_text(BASIC.replace("sorted", "order.csv"))
    (study / "order.csv").write_text('stimulus\n"' + "a" * 200_000)
    with pytest.raises(
        ValueError, match=r"order = 'order\.csv' is not valid CSV: field larger than"
    ):
        open_studies(study)
