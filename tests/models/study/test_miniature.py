import numpy as np
import pytest
from miniature import write_images

from fastrdm.cli.sample import write_sample
from fastrdm.runtimes import Architecture
from fastrdm.scoring import Store
from fastrdm.studies import open_studies
from fastrdm.studies.algonauts import read_submission
from models.networks import build
from models.study import miniature
from models.study.miniature import DEFAULT, RECIPE, main, recipe_of
from models.training.recipe import Recipe
from models.training.run import TrainingRun


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


def test_the_recipe_differs_from_the_papers_only_for_few_images():
    paper = vars(Recipe())
    small = vars(recipe_of("resnet18", 10, 0))
    assert {name for name in small if small[name] != paper[name]} == {
        "arch",
        "epochs",
        "batch_size",
        "image_size",
        "augment",
        "decay_every",
        "channels_last",
    }
    assert {epoch for epoch in range(1, 11) if RECIPE.due(epoch)} == {1, 5, 10}
    assert DEFAULT == ("resnet20", "resnet18", "resnet34", "densenet121")


def layer_rows(path, weights):
    with Store(path) as store:
        rows = [dict(zip(store.columns(), row, strict=True)) for row in store.rows()]
    return [
        row | {"layer": f"{row['layer']}@{row['arch'].partition('@')[2]}"}
        for row in rows
        if row["checkpoint"] == str(weights)
    ]


def test_each_checkpoint_is_in_the_report_with_its_scores(done):
    report = (done / "report/RESULTS.md").read_text()
    assert "SYNTHETIC DATA (sample): simulated" in report.replace("**", "")
    rows = [
        line.strip("| ").split(" | ")
        for line in report.splitlines()
        if line.startswith("| resnet20")
    ]
    assert [row[1] for row in rows] == ["1", "2"] * 2
    rows, by_region = rows[:2], rows[2:]
    top1 = [row["val_top1"] for row in TrainingRun(done / "out/resnet20").metrics()]
    assert [float(row[2]) for row in rows] == pytest.approx(top1, abs=0.005)
    for epoch, row, own in zip((1, 2), rows, by_region, strict=True):
        weights = done / f"out/resnet20/checkpoints/epoch_{epoch:03d}.pth"
        results = layer_rows(done / "out/scores.db", weights)
        best = {r["region"]: r["percent_nc"] for r in results if r["layer"] == row[4]}
        assert [float(row[5]), float(row[6])] == pytest.approx(list(best.values()), abs=0.005)
        assert {r["layer"].partition("@")[2] for r in results} == {"32", "48", "64"}
        folder = done / f"out/resnet20/scored/checkpoints/epoch_{epoch:03d}"
        submitted = read_submission(folder / "submit_fmri.mat")
        images = list(open_studies(done / "brains")[0].test_stimuli)
        for region, name, value in zip(("evc", "it"), own[2:4], own[4:6], strict=True):
            most = max(r["percent_nc"] for r in results if r["region"] == region)
            assert float(value) == pytest.approx(most, abs=0.005)
            layer, _, size = name.partition("@")
            graph = Architecture.export(build("resnet20", 3), input_size=int(size))
            expected = graph.open(weights, provider="cpu").rdms(images)[layer]
            np.testing.assert_allclose(submitted[region], expected, atol=1e-6)
    for picture in ("curves", "figure5"):
        assert f"(RESULTS-{picture}.png)" in report
        assert (done / f"report/RESULTS-{picture}.png").stat().st_size > 10_000


def test_a_second_call_repeats_nothing(done, monkeypatch, capsys):
    report = (done / "report/RESULTS.md").read_bytes()
    monkeypatch.setattr(Recipe, "due", None)
    assert main(arguments(done)) == 0
    assert (done / "report/RESULTS.md").read_bytes() == report


def test_errors_are_one_sentence(place, monkeypatch, capsys):
    monkeypatch.setattr(miniature, "find_data", lambda: None)
    assert main(["--out", str(place / "other")]) == 1
    assert "no data: set FASTRDM_DATA" in capsys.readouterr().err
    assert main(arguments(place, "--networks", "resnet21")) == 1
    assert "there is no network 'resnet21'; nearest: resnet2" in capsys.readouterr().err
    assert not (place / "other").exists()
