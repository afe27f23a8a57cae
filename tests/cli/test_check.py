"""`fastrdm check`."""

import json

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.distance import squareform

from fastrdm.cli import main

N = 6
SETTINGS = 'order = "sorted"\n[targets.it]\nfile = "it.npy"\n'


def write(folder, settings=SETTINGS):
    rng = np.random.default_rng(0)
    (folder / "stimuli/set").mkdir(parents=True)
    for i in range(N):
        pixels = rng.integers(0, 256, (200, 200, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"stimuli/set/{i}.png")
    common = 2 * rng.random(15)
    np.save(folder / "it.npy", [squareform(1 + common + rng.random(15)) for _ in range(8)])
    (folder / "study.toml").write_text(settings)
    return folder


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_study(tmp_path, capsys):
    write(tmp_path / "my study")
    assert main(["check", "my study"]) == 0
    out, err = capsys.readouterr()
    assert err == "wrote check-my-study.html\n"
    assert (tmp_path / "check-my-study.html").stat().st_size > 1000
    lines = out.splitlines()
    assert lines[0] == "study my study"
    assert "  stimuli      6 images in my study/stimuli" in lines
    assert "  sizes        200 × 200 (6)" in lines
    assert "  nothing looks wrong" in lines
    (row,) = [line.split() for line in lines if line.startswith("  it  ")][:1]
    assert row[1:6] == ["8", "1", "6", "algonauts2019", "raise"]
    assert "r of each subject with the mean RDM of the others" in out


def test_suspicions_are_warnings(tmp_path, capsys):
    write(tmp_path / "mine", "synthetic = true\n" + SETTINGS)
    Image.new("RGBA", (200, 200)).save(tmp_path / "mine/stimuli/set/3.png")
    assert main(["check", "mine/study.toml", "--output", "page.png"]) == 0
    out, err = capsys.readouterr()
    assert (
        "  warning: transparency: 1 of 6 stimuli have transparent pixels (set/3.png (row 3)" in out
    )
    assert "  warning: synthetic: " in out
    assert err == "wrote page.png\n"


def test_errors_do_not_end_the_check(tmp_path, capsys):
    write(tmp_path / "a", SETTINGS + "ceiling = 30.75\n")
    write(tmp_path / "b", SETTINGS.replace("sorted", "none.txt"))
    write(tmp_path / "c")
    write(tmp_path / "d", "stimulus = 1\n" + SETTINGS)
    assert main(["check", "."]) == 1
    out, err = capsys.readouterr()
    assert "error: a/study.toml: targets.it: the ceiling of it is 30.75" in out
    assert "error: b/study.toml: order = 'none.txt' is neither a file" in out
    assert "error: d/study.toml: unknown field stimulus; the nearest is stimuli" in out
    assert err.splitlines() == ["wrote check-a.html", "wrote check-c.html"]


def test_json(tmp_path, capsys):
    for name in "ab":
        write(tmp_path / name)
    assert main(["check", "a", "b", "--sets", "b", "--json", "--output", "all.html"]) == 0
    (record,) = json.loads(capsys.readouterr().out)
    assert (record["name"], record["regions"][0]["n_subjects"]) == ("b", 8)
    assert [each["name"] for each in record["stimuli"]] == [f"set/{i}.png" for i in range(N)]


def test_the_preprocessing_of_a_network(tmp_path, capsys):
    write(tmp_path / "mine")
    main(["sample", "sample"])
    assert main(["check", "mine", "--network", "sample/network.onnx"]) == 0
    assert "seen as      96 × 96, pil-bilinear" in capsys.readouterr().out
    options = ["--size", "64", "--crop", "0.875", "--resize", "pil-bicubic"]
    assert main(["check", "mine", "--network", "sample/network.onnx", *options]) == 0
    seen = "seen as      64 × 64, pil-bicubic, centre crop of 0.875, RGB"
    assert seen in capsys.readouterr().out
    assert main(["check", "mine", "--size", "32,48", "--output", "page.html"]) == 0
    assert "seen as      48 × 32, pil-bilinear, not cropped" in capsys.readouterr().out


def test_the_preprocessing_of_a_file(tmp_path, capsys):
    write(tmp_path / "mine")
    (tmp_path / "config.json").write_text('{"size": [40, 40], "crop": 46}')
    assert main(["check", "mine", "--preprocessing", "config.json"]) == 0
    assert "40 × 40, pil-bilinear, shorter edge resized to 46" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none"], "none is not a folder"),
        (["mine", "--sets", "x"], "no study named 'x'"),
        (["mine", "--output", "page.pdf"], "page.pdf must end in one of: .html, .htm, .png"),
        (["mine", "--output", "none/page.html"], "none: no such folder"),
        (["mine", "--network", "none.onnx"], "none.onnx"),
        (["mine", "--preprocessing", "timm"], "has no pretrained_cfg of timm; name a file or the"),
    ],
)
def test_usage_errors(tmp_path, capsys, arguments, message):
    write(tmp_path / "mine")
    assert main(["check", *arguments]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
