import os
import shutil
import signal
import sys
import threading

import numpy as np
import pytest
import torch
from miniature import NETWORK, write_images
from PIL import Image

import fastrdm
from fastrdm import Target
from fastrdm.cli import main as fastrdm_main
from fastrdm.live import Scorer
from fastrdm.networks import load_state_dict
from fastrdm.scoring import LayerScoring, Store, score_checkpoints
from fastrdm.studies import Study, open_studies
from models.training.network import build_network
from models.training.run import TrainingRun
from models.training.scoring import RunScorer, ScoringOptions
from models.training.train import main
from models.training.trainer import Trainer

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


@pytest.fixture
def no_export(monkeypatch):
    """Skip the export, which takes seconds."""
    monkeypatch.setattr("models.training.train.export", lambda *arguments: None)


@pytest.mark.usefixtures("no_export")
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
    assert {row["provider"] for row in rows} == {"torch:cpu"}


@pytest.mark.usefixtures("no_export")
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_scoring_does_not_change_the_training(scored, place, mode):
    """Dropout draws from torch's global generator, and batch norm keeps statistics."""
    assert main([*OPTIONS, "--out", "silent"]) == 0
    out = place / f"run-{mode}"
    assert main([*OPTIONS, "--out", str(out), "--score", "study", "--score-mode", mode]) == 0
    for path in (place / "silent/checkpoints").iterdir():
        theirs = load_state_dict(path)
        for folder in (scored, out):
            ours = load_state_dict(folder / "checkpoints" / path.name)
            for name, value in theirs.items():
                assert torch.equal(ours[name], value)
    ours, theirs = (torch.load(each / "state.pt") for each in (out, place / "silent"))
    assert torch.equal(ours["rng"], theirs["rng"])
    values = [[row["percent_nc"] for row in table(each)] for each in (out, scored)]
    assert values[0] == values[1]


@pytest.mark.usefixtures("no_export")
def test_checkpoints_without_scores_are_scored_at_the_next_start(scored, place, capsys):
    out = place / "later"
    assert main([*OPTIONS, "--out", str(out)]) == 0
    assert not (out / "scores.db").exists()
    assert main([*OPTIONS, "--out", str(out), "--score", "study"]) == 0
    assert [r["percent_nc"] for r in table(out)] == [r["percent_nc"] for r in table(scored)]
    assert (out / "scores.csv").read_text() == (scored / "scores.csv").read_text()
    assert "epoch 3 scored: best " in capsys.readouterr().err


@pytest.mark.usefixtures("no_export")
def test_a_run_that_is_stopped_continues_with_its_scores(scored, place, monkeypatch):
    out, original, steps = place / "stopped", Trainer._step, []

    def interrupted(self, *arguments):
        steps.append(1)
        # In the second epoch, while the first checkpoint may still be scored.
        if len(steps) == 6:
            os.kill(os.getpid(), signal.SIGTERM)
        original(self, *arguments)

    monkeypatch.setattr(Trainer, "_step", interrupted)
    options = [*OPTIONS, "--out", str(out), "--score", "study"]
    assert main(options) == 128 + signal.SIGTERM
    assert {row["epoch"] for row in table(out)} == {1}
    assert main(options) == 0
    assert (out / "scores.csv").read_text() == (scored / "scores.csv").read_text()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.usefixtures("no_export")
def test_scoring_does_not_change_the_training_on_a_gpu(place):
    """Scores are computed in another stream, and in float32 while the training may use TF32."""
    options = [*OPTIONS, "--device", "cuda", "--deterministic", "--out"]
    assert main([*options, "gpu"]) == 0
    theirs = load_state_dict(place / "gpu/checkpoints/epoch_003.pth")
    for name, device in (("sync", "cuda"), ("async", "cuda"), ("async", "cpu")):
        out = f"gpu-{name}-{device}"
        scoring = ["--score", "study", "--score-mode", name, "--score-device", device]
        assert main([*options, out, *scoring]) == 0
        ours = load_state_dict(place / out / "checkpoints/epoch_003.pth")
        assert all(torch.equal(ours[key], value) for key, value in theirs.items())
        assert {row["epoch"] for row in table(place / out)} == {1, 2, 3}


def test_fastrdm_score_opens_the_checkpoints_with_the_runs_graph(scored, place, capsys):
    weights, graph = scored / "checkpoints/epoch_003.pth", scored / "network-16x16.onnx"
    assert fastrdm_main(["score", str(weights), "--arch", str(graph), "--data", "study"]) == 0
    assert "fc" in capsys.readouterr().out


def test_a_sweep_with_torch_knows_the_scores(scored, tmp_path):
    """Its key of the network is the same, so that it computes nothing."""
    store = shutil.copy(scored / "scores.db", tmp_path / "scores.db")
    weights = [
        "scored/checkpoints/epoch_001.pth",
        shutil.copy("scored/checkpoints/epoch_002.pth", tmp_path),
    ]
    options = {"provider": "torch", "engine": "in-process", "measures": ["rsa"]}
    done = fastrdm.sweep(weights, "tiny_network:no_classes", "study", store=store, **options)
    assert (done.before.done, done.known, done.scored, done.failed) == (1, 1, 0, 0)


def test_stimuli_may_have_another_size(place, capsys):
    out = place / "larger"
    options = [*OPTIONS, "--epochs", "1", "--out", str(out), "--score", "study"]
    assert main([*options, "--score-size", "24"]) == 0
    assert (out / "network-24x24.onnx").is_file()
    assert {row["preprocessing"] for row in table(out)} == {"24×24 pil-bilinear"}
    assert main(options) == 0
    rows = table(out)
    # The store holds both sizes.
    assert len(rows) == 8 and len({row["preprocessing"] for row in rows}) == 2
    assert {row["arch"] for row in rows} == {ARCH}


class Silent:
    """A run whose network is not trained, and what was reported."""

    def __init__(self, place, folder):
        self.said = []
        self.run = TrainingRun(folder)
        self.network = build_network(ARCH, 3)
        self.studies = open_studies(place / "study")

    def scorer(self, studies=None, **options):
        options = ScoringOptions(studies or self.studies, "cpu", **{"curve": False, **options})
        return RunScorer(self.run, self.network, ARCH, options, self.said.append)

    def write(self, epoch, seed):
        self.network.load_state_dict(build_network(ARCH, 3, seed).state_dict())
        return self.run.write_checkpoint(epoch, self.network)


@pytest.fixture
def silent(place, tmp_path):
    return Silent(place, tmp_path / "run")


@pytest.fixture
def calls(monkeypatch):
    """An entry for each scoring of a network."""
    calls, original = [], LayerScoring.scores

    def scores(self, model, *arguments, **options):
        calls.append(model)
        return original(self, model, *arguments, **options)

    monkeypatch.setattr(LayerScoring, "scores", scores)
    return calls


MODES = pytest.mark.parametrize("mode", ["sync", "async"])


@MODES
def test_scores_are_reused_unless_the_weights_change(silent, calls, mode):
    with silent.scorer(mode=mode) as scorer:
        for epoch in (1, 5):
            scorer.submit(epoch, silent.write(epoch, epoch))
        scorer.finish()
    assert len(calls) == 2
    first = table(silent.run.folder, current=True)
    with silent.scorer(mode=mode) as scorer:
        scorer.catch_up(silent.run.written())
        scorer.finish()
        assert len(calls) == len(silent.said) == 2
        scorer.submit(1, silent.write(1, 1))
        scorer.submit(5, silent.write(5, 99))
        scorer.finish()
    assert len(calls) == 3
    second = table(silent.run.folder, current=True)
    assert second[:4] == first[:4] and len(second) == 8
    assert {r["sha256"] for r in first[4:]}.isdisjoint(r["sha256"] for r in second[4:])
    another = Study("more", silent.studies[0].stimuli, silent.studies[0].targets)
    with silent.scorer([*silent.studies, another], mode=mode) as scorer:
        scorer.submit(5, silent.run.checkpoint(5))
        scorer.finish()
    assert len(calls) == 4
    assert len(table(silent.run.folder, current=True)) == 12


@MODES
def test_scores_are_those_of_the_weights_at_the_checkpoint(silent, mode):
    """The training goes on while a copy of the weights is scored."""
    expected = []
    for seed in (1, 2):
        silent.write(9, seed)
        found = Scorer(silent.studies).results(silent.network)
        expected += [
            each.percent_nc for region in ("it", "v1") for each in found if each.region == region
        ]
    with silent.scorer(mode=mode) as scorer:
        for epoch in (1, 2):
            scorer.submit(epoch, silent.write(epoch, epoch))
            with torch.no_grad():
                silent.network[0].weight.normal_()
        scorer.finish()
    rows = table(silent.run.folder)
    assert [row["percent_nc"] for row in rows] == pytest.approx(expected, rel=1e-6)


def test_a_failure_is_reported_and_the_next_checkpoint_is_scored(silent):
    damaged = silent.write(1, 1)
    damaged.write_bytes(damaged.read_bytes()[:100])
    silent.write(2, 2)
    with silent.scorer() as scorer:
        scorer.catch_up(silent.run.written())
        scorer.finish()
    assert silent.said[0].startswith("epoch 1 could not be scored: ")
    assert "epoch_001.pth" in silent.said[0]
    assert silent.said[1].startswith("epoch 2 scored: best ")
    assert {row["epoch"] for row in table(silent.run.folder)} == {2}
    with Store(silent.run.folder / "scores.db") as store:
        (failure,) = store.failures()
    assert failure["checkpoint"] == str(damaged)


@MODES
def test_weights_of_nan_are_reported(silent, mode):
    with torch.no_grad():
        silent.network[0].weight.fill_(float("nan"))
    path = silent.run.write_checkpoint(1, silent.network)
    silent.network = build_network(ARCH, 3)
    with silent.scorer(mode=mode) as scorer:
        scorer.catch_up({1: path})
        scorer.submit(2, silent.write(2, 2))
    assert "epoch 1 could not be scored: " in silent.said[0] and "NaN" in silent.said[0]
    assert silent.said[1].startswith("epoch 2 scored: ")


def test_what_has_begun_is_scored_at_the_end(silent):
    # Threads of scorers that other tests did not close may still be there.
    before = set(threading.enumerate())
    with silent.scorer() as scorer:
        for epoch in (1, 2, 3):
            scorer.submit(epoch, silent.write(epoch, epoch))
    names = {thread.name.partition("_")[0] for thread in set(threading.enumerate()) - before}
    assert not names & {"scoring", "fastrdm-scorer"}
    assert {row["epoch"] for row in table(silent.run.folder)} == {1, 2, 3}


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
    with silent.scorer([study], curve=True) as scorer:
        scorer.submit(1, silent.write(1, 1))
    rows = table(silent.run.folder)
    assert silent.said == ["epoch 1 scored: no layer has a score, their RDMs are constant"]
    assert len(rows) == 2 and all(np.isnan(row["percent_nc"]) for row in rows)
    assert (silent.run.folder / "curve.png").is_file()


ODD = """
class Odd(torch.nn.Module):
    def __init__(self, n, taps):
        super().__init__()
        self.inner = build(n)
        self.preprocessing, self.taps = self.inner.preprocessing, taps
    def forward(self, x):
        # Depends on values, which no graph can.
        return self.inner(x) if x.abs().sum().item() >= 0 else x

def odd(num_classes=3):
    return Odd(num_classes, {"fc": "inner.6"})

def lost(num_classes=3):
    return Odd(num_classes, {"never": "nowhere"})
"""


def test_a_network_that_cannot_be_exported_is_trained_and_scored(place, capsys):
    (place / "odd_network.py").write_text(NETWORK + ODD)
    options = [*OPTIONS, "--arch", "odd_network:odd", "--epochs", "1", "--score", "study"]
    assert main([*options, "--out", "odd"]) == 0
    printed = capsys.readouterr().err
    assert "there is no network-16x16.onnx, because the network cannot be exported: " in printed
    assert {row["layer"] for row in table(place / "odd")} == {"fc"}


def test_a_layer_that_does_not_exist_is_refused_before_images_are_decoded(
    place, capsys, monkeypatch
):
    (place / "lost_network.py").write_text(NETWORK + ODD)
    monkeypatch.setattr("models.training.train.training_pixels", None)
    options = [*OPTIONS, "--arch", "lost_network:lost", "--score", "study", "--out", "lost"]
    assert main(options) == 1
    assert "nowhere" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--score-device", "cpu"], "--score-device needs --score DIR"),
        (["--score-mode", "sync"], "--score-mode needs --score DIR"),
        (["--score-modality", "meg"], "--score-modality needs --score DIR"),
        (
            ["--score", "study", "--score-device", "cuda:99"],
            "--score-device cuda:99 is unavailable",
        ),
        (["--score", "study", "--score-device", "tpu"], "--score-device must be auto, cpu"),
    ],
)
def test_options_of_scoring_are_checked_before_work_starts(place, capsys, options, words):
    assert main([*OPTIONS, "--out", "unmade", *options]) == 1
    assert words in capsys.readouterr().err
    assert not (place / "unmade").exists()


def test_a_folder_without_studies_is_refused_before_training(place, capsys, tmp_path):
    assert main([*OPTIONS, "--out", "none", "--score", str(tmp_path)]) == 1
    assert "no study in" in capsys.readouterr().err
    assert not (place / "none").exists()
