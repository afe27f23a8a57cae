import json

import pytest
from miniature import write_images

from fastrdm.algonauts import read_submission
from fastrdm.sample import write_sample
from models import miniature
from models.miniature import DEFAULT, RECIPE, main, recipe_of
from models.run import Run
from models.train import Recipe


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("miniature")
    write_images(folder / "set")
    write_sample(folder / "brains")
    return folder


def arguments(place, *more):
    pairs = {"--data": "set", "--brains": "brains", "--out": "out", "--cache": "cache"}
    words = [word for flag, name in pairs.items() for word in (flag, str(place / name))]
    results = ["--results", str(place / "report/RESULTS.md"), "--device", "cpu"]
    return [*words, *results, "--networks", "resnet20", "--epochs", "2", *more]


@pytest.fixture(scope="module")
def done(place):
    assert main(arguments(place)) == 0
    return place


def test_the_recipe_is_the_papers_but_for_what_a_small_set_asks_for():
    paper = vars(Recipe())
    small = vars(recipe_of("resnet18", 10, 0))
    assert {name for name in small if small[name] != paper[name]} == {
        "arch",
        "epochs",
        "batch_size",
        "image_size",
        "augment",
        "decay_every",
    }
    assert {epoch for epoch in range(1, 11) if RECIPE.due(epoch)} == {1, 5, 10}
    assert DEFAULT == ("resnet20", "resnet18", "resnet34", "densenet121")


def test_each_checkpoint_is_in_the_report_with_its_scores(done):
    report = (done / "report/RESULTS.md").read_text()
    assert "SYNTHETIC DATA (sample): simulated" in report.replace("**", "")
    rows = [line.split(" | ") for line in report.splitlines() if line.startswith("| resnet20")]
    assert [row[1] for row in rows] == ["1", "2"]
    top1 = [row["val_top1"] for row in Run(done / "out/resnet20").metrics()]
    assert [float(row[2]) for row in rows] == pytest.approx(top1, abs=0.005)
    for epoch, row in zip((1, 2), rows, strict=True):
        file = done / f"out/resnet20/scored/checkpoints/epoch_{epoch:03d}/scores.json"
        results = json.loads(file.read_text())["scores"]["results"]
        best = {r["region"]: r["percent_nc"] for r in results if r["layer"] == row[4]}
        assert [float(row[5]), float(row[6])] == pytest.approx(list(best.values()), abs=0.005)
        assert read_submission(file.with_name("submit_fmri.mat")).keys() == {"evc", "it"}
    for picture in ("curves", "figure5"):
        assert f"(RESULTS-{picture}.png)" in report
        assert (done / f"report/RESULTS-{picture}.png").stat().st_size > 10_000


def test_a_second_call_does_nothing_again(done, monkeypatch, capsys):
    report = (done / "report/RESULTS.md").read_bytes()
    monkeypatch.setattr(miniature.Recipe, "due", None)
    assert main(arguments(done)) == 0
    assert (done / "report/RESULTS.md").read_bytes() == report


def test_what_is_wrong_is_one_sentence(place, monkeypatch, capsys):
    monkeypatch.setattr(miniature, "find_data", lambda: None)
    assert main(["--out", str(place / "other")]) == 1
    assert "no data: set FASTRDM_DATA" in capsys.readouterr().err
    assert main(arguments(place, "--networks", "resnet21")) == 1
    assert "there is no network 'resnet21'; nearest: resnet2" in capsys.readouterr().err
    assert not (place / "other").exists()
