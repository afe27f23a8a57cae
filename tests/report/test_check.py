"""The report of a checked study: every picture beside its name and row, in one file."""

import base64
import io
import re
from html import unescape

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.distance import squareform
from scipy.stats import rankdata

from fastrdm import Preprocessing, check_study
from fastrdm.report import check_output, check_tables, write_check
from fastrdm.report.check_pictures import colours, rdm_pictures, thumbnails

NAMES = ["faces/ä & <b>.png", "faces/b.png", "houses/b.png", "houses/c.gif", "d.png"]
PREPROCESSING = Preprocessing(size=(20, 30))
SETTINGS = 'order = "order.txt"\n[targets.it]\nfile = "it.npy"\n'


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "mine"
    rng = np.random.default_rng(0)
    for name in NAMES:
        path = folder / "stimuli" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(path)
    transparent = Image.new("RGBA", (60, 40))
    transparent.save(folder / "stimuli/d.png")
    common = 3 * rng.random(10)
    np.save(folder / "it.npy", [squareform(1 + common + rng.random(10)) for _ in range(5)])
    (folder / "order.txt").write_text("\n".join(NAMES), "utf-8")
    (folder / "study.toml").write_text(SETTINGS)
    return folder


@pytest.fixture(scope="module")
def checked(study):
    return check_study(study, preprocessing=PREPROCESSING)


def images_of(page):
    return [
        Image.open(io.BytesIO(base64.b64decode(text)))
        for text in re.findall(r'src="data:image/\w+;base64,([^"]+)"', page)
    ]


def test_thumbnails_are_what_the_network_sees(checked):
    pictures = thumbnails(checked, checked.stimuli)
    assert pictures[4] is None
    expected = PREPROCESSING.pixels([each.path for each in checked.stimuli[:4]])
    np.testing.assert_array_equal(np.stack([np.asarray(p) for p in pictures[:4]]), expected)


@pytest.mark.parametrize(
    ("crop", "text"),
    [
        (None, "20 × 20, pil-bilinear, not cropped, RGB"),
        (24, "shorter edge resized to 24 and centre cropped"),
        (0.875, "centre crop of 0.875"),
    ],
)
def test_thumbnails_are_cropped_like_the_input(study, crop, text):
    preprocessing = Preprocessing(size=(20, 20), crop=crop)
    checked = check_study(study, preprocessing=preprocessing)
    (picture, *_) = thumbnails(checked, checked.stimuli)
    np.testing.assert_array_equal(
        np.asarray(picture), preprocessing.pixels([checked.stimuli[0].path])[0]
    )
    assert text in dict(check_tables(checked).facts)["seen as"]


def test_a_page_needs_no_other_file(checked, tmp_path):
    path = write_check(checked, tmp_path / "check.html")
    page = path.read_text("utf-8")
    assert [*tmp_path.iterdir()] == [path]
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    rdm, *pictures = images_of(page)
    assert [picture.size for picture in pictures] == [(30, 20)] * 4
    assert rdm.size == (5, 5)
    # Small pictures are stored without loss.
    expected = PREPROCESSING.pixels([checked.stimuli[1].path])[0]
    np.testing.assert_array_equal(np.asarray(pictures[1]), expected)


def test_names_stand_beside_rows(checked, tmp_path):
    page = write_check(checked, tmp_path / "check.html").read_text("utf-8")
    captions = re.findall(r'<span class="row">(\d+)</span>([^<]*(?:&lt;b&gt;)?[^<]*)<br>', page)
    assert [(int(row), unescape(name)) for row, name in captions] == list(enumerate(NAMES))
    assert "<b>" not in page
    assert "refused: some of its pixels are transparent" in page


def test_a_page_has_every_suspicion_and_fact(checked, tmp_path):
    page = unescape(write_check(checked, tmp_path / "check.htm").read_text("utf-8"))
    assert "transparency" in {each.kind for each in checked.suspicions}
    tables = check_tables(checked)
    texts = [each.text for each in checked.suspicions] + list(tables.notes)
    texts += [text for row in (*tables.facts, *tables.regions) for text in row]
    assert not [text for text in texts if text not in page]
    assert page.count("<title>subject ") == 5


def test_a_page_of_a_study_without_suspicions(study, tmp_path):
    (study / "plain.txt").write_text("\n".join(NAMES[:4]), "utf-8")
    checked = check_study(study, preprocessing=PREPROCESSING)
    bare = type(checked)("bare")
    page = write_check([bare, checked], tmp_path / "check.html").read_text("utf-8")
    assert '<li class="fine">' in page
    assert page.count('<section class="study">') == 2


def test_rdms_are_drawn_in_percentiles(checked, study):
    mean = np.load(study / "it.npy").mean(axis=0)
    ranks = squareform((rankdata(squareform(mean)) - 1) / 9)
    (picture,) = rdm_pictures(checked).values()
    np.testing.assert_array_equal(np.asarray(picture), np.round(254 * ranks))
    np.testing.assert_array_equal(
        np.asarray(picture.convert("RGB")), colours()[np.round(254 * ranks).astype(int)]
    )


def test_missing_values_are_grey(study, tmp_path):
    rdms = np.load(study / "it.npy")
    rdms[:, [0, 1], [1, 0]] = np.nan
    np.save(study / "gap.npy", rdms)
    settings = 'nan_policy = "omit"\n' + SETTINGS.replace("it.npy", "gap.npy")
    (study / "study.toml").write_text(settings)
    try:
        picture = rdm_pictures(check_study(study, preprocessing=PREPROCESSING))["it"]
    finally:
        (study / "study.toml").write_text(SETTINGS)
    assert picture.convert("RGB").getpixel((0, 1)) == (221, 221, 221)


def test_a_picture_holds_all_stimuli(checked, tmp_path):
    path = write_check(checked, tmp_path / "check.png")
    with Image.open(path) as sheet:
        pixels = np.asarray(sheet)
    assert pixels.shape[2] == 3
    # Stimuli are enlarged by repetition, four times here.
    for picture in thumbnails(checked, checked.stimuli)[:4]:
        wanted = np.asarray(picture).repeat(4, 0).repeat(4, 1)
        first = np.argwhere((pixels[:-79, :-119] == wanted[0, 0]).all(axis=2))
        assert any(np.array_equal(pixels[y : y + 80, x : x + 120], wanted) for y, x in first)


def test_a_picture_of_several_studies(checked, tmp_path):
    one = Image.open(write_check(checked, tmp_path / "one.png"))
    two = Image.open(write_check([checked, checked], tmp_path / "two.png"))
    assert two.height > 1.8 * one.height


def test_outputs_are_checked(checked, tmp_path):
    with pytest.raises(ValueError, match=r"check\.pdf must end in one of: \.html, \.htm, \.png"):
        write_check(checked, tmp_path / "check.pdf")
    with pytest.raises(FileNotFoundError, match="none: no such folder; cannot write check.html"):
        check_output(tmp_path / "none/check.html")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ValueError, match="is a folder"):
        check_output(tmp_path / "folder.png")


def test_test_stimuli_have_pictures_without_rows(study, tmp_path):
    (study / "study.toml").write_text('test_stimuli = "stimuli/faces"\n' + SETTINGS)
    (study / "order.txt").write_text("houses/b.png\nhouses/c.gif\nd.png")
    np.save(study / "three.npy", np.load(study / "it.npy")[:, :3, :3])
    (study / "study.toml").write_text(
        'test_stimuli = "stimuli/faces"\n' + SETTINGS.replace("it.npy", "three.npy")
    )
    try:
        checked = check_study(study, preprocessing=PREPROCESSING)
    finally:
        (study / "study.toml").write_text(SETTINGS)
        (study / "order.txt").write_text("\n".join(NAMES), "utf-8")
    page = write_check(checked, tmp_path / "check.html").read_text("utf-8")
    assert "Test stimuli (2)" in page
    assert len(images_of(page)) == 1 + 2 + 2
