import csv
from dataclasses import replace

import numpy as np
import pytest
from miniature import write_images

from fastrdm.cli.sample import write_sample
from fastrdm.runtimes import Architecture
from fastrdm.studies import open_studies
from models.networks import build
from models.study import miniature
from models.study.kept import read_kept
from models.study.miniature import DEFAULT, RECIPE, recipe_of, runs_of
from models.training.recipe import Recipe
from models.training.run import TrainingRun
from models.training.train import train


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("miniature")
    write_images(folder / "set")
    write_sample(folder / "brains")
    return folder


def run(place, out, *more):
    """Run the command on images of 32 pixels, without the graphs of runs, which take longest and nothing here reads."""
    pairs = {"--data": "set", "--brains": "brains", "--out": out, "--cache": "cache"}
    words = [word for flag, name in pairs.items() for word in (flag, str(place / name))]
    words += ["--device", "cpu", "--networks", "resnet20", "--epochs", "2", "--seeds", "2"]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(miniature, "SIZES", (32,))
        patched.setattr(miniature, "RECIPE", replace(RECIPE, image_size=32))
        patched.setitem(train.__globals__, "export", lambda *_: None)
        return miniature.main([*words, *more])


@pytest.fixture(scope="module")
def done(place):
    assert run(place, "out") == 0
    return place / "out"


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
    assert small == vars(RECIPE) | {"arch": "models.networks:resnet18"}
    assert {epoch for epoch in range(1, 11) if RECIPE.due(epoch)} == {1, 5, 10}


@pytest.mark.parametrize(("epochs", "decay_every"), [(1, 1), (4, 1), (5, 2), (10, 3), (120, 30)])
def test_the_schedule_scales_with_the_epochs(epochs, decay_every):
    assert recipe_of("resnet20", epochs, 1).decay_every == decay_every


def test_only_the_papers_question_has_several_seeds():
    assert runs_of(DEFAULT, 3) == [
        *((name, 0) for name in ("resnet20", "resnet18", "resnet34", "densenet121")),
        *((name, seed) for seed in (1, 2) for name in ("resnet20", "resnet18")),
    ]
    assert runs_of(["resnet34", "resnet34"], 3) == [("resnet34", 0)]


def test_the_rdms_of_each_checkpoint_are_kept_and_in_the_report(place, done):
    kept = read_kept(done / "rdms")
    names = [f"resnet20-seed{seed}-epoch{epoch:03d}" for seed in (0, 1) for epoch in (1, 2)]
    assert [each.name for each in kept] == names
    (study,) = open_studies(place / "brains", modality="fmri")
    last = kept[-1]
    weights = done / "resnet20-seed1/checkpoints/epoch_002.pth"
    found = last.rdms(study.name)
    graph = Architecture.export(build("resnet20", 3), input_size=32)
    rdms = graph.open(weights, provider="cpu").rdms(list(study.stimuli))
    for layer, rdm in rdms.items():
        np.testing.assert_allclose(found[f"{layer}@32"], rdm, atol=1e-3)
    top1 = TrainingRun(done / "resnet20-seed1").metrics()[-1]["val_top1"]
    assert last.metrics["val_top1"] == top1
    report = (done / "RESULTS.md").read_text()
    assert "SYNTHETIC DATA (sample): simulated" in report.replace("**", "")
    assert "**resnet20, seeds 0, 1:** SGD 0.1" in report and "threads)" in report
    assert [line[:18] for line in report.splitlines() if line.startswith("| resnet20")] == [
        "| resnet20 | 1 | 2",
        "| resnet20 | 2 | 2",
    ]
    with (done / "RESULTS-table.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["size"] for row in rows} == {"32"}
    assert {(row["seed"], row["epoch"]) for row in rows} == {
        (seed, epoch) for seed in "01" for epoch in "12"
    }


def results_of(folder):
    """The arrays of kept RDMs, and the bytes of tables and figures."""
    arrays = {}
    for path in sorted((folder / "rdms").glob("*.npz")):
        with np.load(path) as file:
            arrays |= {(path.name, key): rdm.tobytes() for key, rdm in file.items()}
    return arrays, {path.name: path.read_bytes() for path in sorted(folder.glob("RESULTS*"))}


class KilledError(OSError):
    pass


def test_a_repeated_run_gives_the_same_tables_even_if_killed(place, done, monkeypatch, capsys):
    save, n_saved = TrainingRun.save, 0

    def killed(run, state):
        nonlocal n_saved
        n_saved += 1
        if n_saved == 2:
            raise KilledError("killed")
        save(run, state)

    with monkeypatch.context() as patched:
        patched.setattr(TrainingRun, "save", killed)
        assert run(place, "again") == 1
    assert "killed" in capsys.readouterr().err
    assert not (place / "again/RESULTS.md").exists()
    assert run(place, "again") == 0
    assert "continuing after epoch 1" in capsys.readouterr().err
    arrays, files = results_of(place / "again")
    assert (arrays, files) == results_of(done)
    assert len(arrays) == 4 * 11 and "RESULTS-table.csv" in files


def test_a_second_call_repeats_nothing(place, done, monkeypatch):
    before = results_of(done)
    times = {path: path.stat().st_mtime_ns for path in (done / "rdms").glob("*.npz")}
    monkeypatch.setattr(Recipe, "due", None)
    assert run(place, "out", "--results", str(place / "other/R.md")) == 0
    assert results_of(done) == before
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert (place / "other/R-table.csv").read_bytes() == before[1]["RESULTS-table.csv"]


def test_images_have_several_sizes():
    assert miniature.SIZES == (32, 48, 64) and RECIPE.image_size == miniature.SIZE == 64


def test_errors_are_one_sentence(place, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(miniature, "find_data", lambda: None)
    assert miniature.main(["--out", str(tmp_path / "other")]) == 1
    assert "no data: set FASTRDM_DATA" in capsys.readouterr().err
    for more, message in (
        (["--networks", "resnet21"], "there is no network 'resnet21'; nearest: resnet2"),
        (["--seeds", "0"], "--seeds must be"),
        (["--epochs", "0"], "--epochs must be"),
    ):
        assert run(place, "other", *more) == 1
        assert message in capsys.readouterr().err
    assert not (place / "other/rdms").exists()
