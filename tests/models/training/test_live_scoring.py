import shutil
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from miniature import NETWORK, write_images
from PIL import Image

import fastrdm
from fastrdm import Target
from fastrdm.cli import main as fastrdm_main
from fastrdm.networks import load_state_dict
from fastrdm.scoring import Store, score_checkpoints
from fastrdm.scoring.jobs import Scored
from fastrdm.scoring.worker import Worker
from fastrdm.studies import Study, open_studies
from models.training.network import build_network
from models.training.run import TrainingRun
from models.training.scoring import RunScorer
from models.training.train import main

ARCH = "tiny_network:build"
OPTIONS = ["--arch", ARCH, "--epochs", "3", "--batch-size", "6", "--image-size", "16"]
OPTIONS += ["--checkpoint-every", "2", "--device", "cpu", "--data", "set", "--cache", "cache"]


def write_study(folder, n=8):
    rng = np.random.default_rng(1)
    (folder / "stimuli").mkdir(parents=True)
    for i in range(n):
        path = folder / "stimuli" / f"{i}.png"
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), np.uint8)).save(path)
    subjects = np.stack([fastrdm.square(rng.random(n * (n - 1) // 2)) for _ in range(5)])
    np.savez(folder / "targets.npz", it=subjects)
    (folder / "study.toml").write_text(
        'order = "sorted"\n[targets.it]\nfile = "targets.npz"\n[targets.v1]\nfile = "targets.npz"\n'
    )
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scoring")
    write_images(folder / "set")
    write_study(folder / "study")
    (folder / "tiny_network.py").write_text(NETWORK)
    return folder


@pytest.fixture(autouse=True)
def _here(place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(place)


@pytest.fixture(scope="module")
def scored(place):
    """A run that was scored during training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.syspath_prepend(place)
        assert main([*OPTIONS, "--out", "scored", "--score", "study"]) == 0
    return place / "scored"


def table(folder, current=False):
    """Rows of the store; `current` leaves out weights that a file held before."""
    with Store(folder / "scores.db") as store:
        options = {"pipelines": range(99), "targets": range(99)} if current else {}
        columns = list(store.columns())
        return [dict(zip(columns, row, strict=True)) for row in store.rows(**options)]


def test_without_plots_scores_need_no_matplotlib(scored, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    out = tmp_path / "run"
    assert main([*OPTIONS, "--out", str(out), "--score", "study", "--no-plots"]) == 0
    assert (out / "scores.csv").read_text() == (scored / "scores.csv").read_text()
    assert not (out / "curve.png").exists()


def test_scores_agree_with_fastrdm_score(scored, place):
    rows = table(scored)
    assert [(row["epoch"], row["region"], row["layer"]) for row in rows] == [
        (epoch, region, layer)
        for epoch in (1, 2, 3)
        for region in ("it", "v1")
        for layer in ("conv", "fc")
    ]
    paths = sorted((scored / "checkpoints").iterdir())
    assert [path.name for path in paths] == ["epoch_001.pth", "epoch_002.pth", "epoch_003.pth"]
    graph = str(scored / "network-16x16.onnx")
    studies = open_studies(place / "study")
    expected = [
        result for each in score_checkpoints(paths, [graph], studies) for result in each.results
    ]
    assert len(rows) == len(expected) == 12
    expected = {(r.checkpoint, r.study, r.layer, r.region): r for r in expected}
    for row in rows:
        key = (str(place / row["checkpoint"]), row["study"], row["layer"], row["region"])
        assert row["percent_nc"] == pytest.approx(expected[key].percent_nc, rel=1e-6)
    assert Image.open(scored / "curve.png").size[0] > 100


def test_scoring_does_not_change_the_weights(scored, place):
    assert main([*OPTIONS, "--out", "silent"]) == 0
    for path in (place / "silent/checkpoints").iterdir():
        ours, theirs = (
            load_state_dict(each / "checkpoints" / path.name) for each in (scored, place / "silent")
        )
        for name, value in theirs.items():
            assert torch.equal(ours[name], value)
    # Checkpoints trained without scoring are scored at the next start.
    assert main([*OPTIONS, "--out", "silent", "--score", "study"]) == 0
    assert [r["percent_nc"] for r in table(place / "silent")] == [
        r["percent_nc"] for r in table(scored)
    ]


def test_fastrdm_score_opens_the_checkpoints_with_the_runs_graph(scored, place, capsys):
    weights, graph = scored / "checkpoints/epoch_003.pth", scored / "network-16x16.onnx"
    assert fastrdm_main(["score", str(weights), "--arch", str(graph), "--data", "study"]) == 0
    assert "fc" in capsys.readouterr().out


def test_stimuli_may_have_another_size(place, capsys):
    out = place / "larger"
    options = [*OPTIONS, "--epochs", "1", "--out", str(out), "--score", "study"]
    assert main([*options, "--score-size", "24"]) == 0
    assert (out / "network-24x24.onnx").is_file()
    assert {row["arch"] for row in table(out)} == {str(out / "network-24x24.onnx")}
    assert main(options) == 0
    rows = table(out)
    # The store holds both sizes, as two networks.
    assert len(rows) == 8 and len({row["arch"] for row in rows}) == 2


class Silent:
    """What was said, and studies of noise that can be told to wait or to fail."""

    def __init__(self, place, folder):
        self.said = []
        self.run = TrainingRun(folder)
        self.graph = place / "scored/network-16x16.onnx"
        self.studies = open_studies(place / "study")

    def scorer(self, studies=None):
        return RunScorer(self.run, self.graph, studies or self.studies, self.said.append)

    def write(self, epoch, seed):
        return self.run.write_checkpoint(epoch, build_network(ARCH, 3, seed))


@pytest.fixture
def silent(scored, place, tmp_path):
    return Silent(place, tmp_path / "run")


def counted_scores(monkeypatch):
    """The files that a worker scores from now on."""
    calls, original = [], Worker.score

    def score(self, job, *arguments):
        outcome = original(self, job, *arguments)
        if isinstance(outcome, Scored):
            calls.append(Path(job.path).name)
        return outcome

    monkeypatch.setattr(Worker, "score", score)
    return calls


def test_scores_are_reused_unless_the_weights_change(silent, monkeypatch):
    calls = counted_scores(monkeypatch)
    with silent.scorer() as scorer:
        for epoch in (1, 5):
            scorer.submit(epoch, silent.write(epoch, epoch))
        scorer.finish()
    assert calls == ["epoch_001.pth", "epoch_005.pth"]
    first = table(silent.run.folder, current=True)
    with silent.scorer() as scorer:
        scorer.submit(1, silent.run.checkpoint(1))
        scorer.submit(5, silent.write(5, 99))
        scorer.finish()
    assert calls[2:] == ["epoch_005.pth"]
    second = table(silent.run.folder, current=True)
    assert second[:4] == first[:4] and len(second) == 8
    assert {r["sha256"] for r in first[4:]}.isdisjoint(r["sha256"] for r in second[4:])
    another = Study("more", silent.studies[0].stimuli, silent.studies[0].targets)
    with silent.scorer([*silent.studies, another]) as scorer:
        scorer.submit(5, silent.run.checkpoint(5))
        scorer.finish()
    assert calls[3:] == ["epoch_005.pth"]
    assert len(table(silent.run.folder, current=True)) == 12


def test_a_failure_is_reported_and_the_next_checkpoint_is_scored(silent):
    damaged = silent.write(1, 1)
    damaged.write_bytes(damaged.read_bytes()[:100])
    with silent.scorer() as scorer:
        scorer.submit(1, damaged)
        scorer.submit(2, silent.write(2, 2))
        scorer.finish()
    assert silent.said[0].startswith("epoch 1 could not be scored: ")
    assert "epoch_001.pth" in silent.said[0]
    assert silent.said[1].startswith("epoch 2 scored: best ")
    assert {row["epoch"] for row in table(silent.run.folder)} == {2}


def test_waiting_checkpoints_are_dropped_at_the_end(silent, monkeypatch):
    begun, go = threading.Event(), threading.Event()
    original = Worker.score

    def waiting(self, job, *arguments):
        begun.set()
        go.wait()
        return original(self, job, *arguments)

    monkeypatch.setattr(Worker, "score", waiting)
    with silent.scorer() as scorer:
        for epoch in (1, 2, 3):
            scorer.submit(epoch, silent.write(epoch, epoch))
        begun.wait()
        go.set()
    assert not [t for t in threading.enumerate() if t.name.startswith("scoring")]
    assert len(silent.said) <= 3


def test_a_file_that_is_not_a_store_is_refused(silent):
    (silent.run.folder / "scores.db").write_text("epoch,sha256\n1,abc\n")
    with pytest.raises(
        ValueError,
        match=r"scores\.db is not an SQLite file: it is damaged, or not a store of fastrdm",
    ):
        silent.scorer()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_layer_without_a_score_is_stored_as_nan(silent):
    """Identical stimuli result in constant RDMs, whose scores are NaN."""
    images = [silent.studies[0].stimuli[0]] * 4
    rdms = np.random.default_rng(0).random((5, 6))
    study = Study("flat", tuple(images), {"it": Target(rdms, name="it")})
    with silent.scorer([study]) as scorer:
        scorer.submit(1, silent.write(1, 1))
        scorer.finish()
    rows = table(silent.run.folder)
    assert silent.said == ["epoch 1 scored: no layer has a score, their RDMs are constant"]
    assert len(rows) == 2 and all(np.isnan(row["percent_nc"]) for row in rows)
    assert (silent.run.folder / "curve.png").is_file()


def test_a_network_that_cannot_be_exported_is_trained_but_not_scored(place, capsys):
    shutil.copy(place / "tiny_network.py", place / "odd_network.py")
    with (place / "odd_network.py").open("a") as file:
        file.write(
            "class Odd(torch.nn.Module):\n"
            "    def __init__(self, n):\n"
            "        super().__init__()\n"
            "        self.inner = build(n)\n"
            "        self.taps = {'never': 'nowhere'}\n"
            "    def forward(self, x):\n"
            "        return self.inner(x)\n"
            "def odd(num_classes=3):\n"
            "    return Odd(num_classes)\n"
        )
    options = [*OPTIONS, "--arch", "odd_network:odd", "--epochs", "1", "--out"]
    assert main([*options, "odd"]) == 0
    assert "cannot be exported, so --score is unavailable" in capsys.readouterr().err
    assert main([*options, "odd2", "--score", "study"]) == 1
    assert "nowhere" in capsys.readouterr().err
    assert not (place / "odd2/state.pt").exists()


def test_a_folder_without_studies_is_refused_before_training(place, capsys, tmp_path):
    assert main([*OPTIONS, "--out", "none", "--score", str(tmp_path)]) == 1
    assert "no study in" in capsys.readouterr().err
    assert not (place / "none").exists()
