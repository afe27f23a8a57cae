import csv
import json
import math
import os
import runpy
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from miniature import N_TRAIN, NETWORK, write_images

from fastrdm.networks import load_state_dict
from models.training import train as training
from models.training.augment import AUGMENTATIONS
from models.training.batches import Batches
from models.training.data import find_images, training_pixels
from models.training.devices import check_precision, choose_device
from models.training.network import build_network
from models.training.recipe import Recipe
from models.training.report import TrainingReport
from models.training.run import METRICS, TrainingRun
from models.training.signals import Signals, Stopped
from models.training.train import fit, main, train
from models.training.trainer import DivergedError, Trainer

CPU = torch.device("cpu")
ARCH = "tiny_network:build"
BATCH = 6
OPTIONS = {
    "arch": ARCH,
    "epochs": 4,
    "batch_size": BATCH,
    "image_size": 16,
    "augment": "crop",
    "decay_every": 2,
    "checkpoint_every": 2,
}
STEPS = -(-3 * N_TRAIN // BATCH)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with decoded images and the network."""
    folder = tmp_path_factory.mktemp("training")
    write_images(folder / "set")
    (folder / "tiny_network.py").write_text(NETWORK)
    images = find_images(folder / "set")
    for split in (images.train, images.val):
        training_pixels(split, 16, folder=folder / "cache")
    return folder


@pytest.fixture(autouse=True)
def _here(place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(place)


@pytest.fixture(autouse=True)
def _no_export(monkeypatch):
    """Skip the export, which takes seconds and has other tests."""
    monkeypatch.setattr(training, "export", lambda *args, **kwargs: None)


def arguments(out, **changes):
    words = ["--data", "set", "--out", str(out), "--cache", "cache", "--device", "cpu"]
    for name, value in (OPTIONS | changes).items():
        flag = f"--{name.replace('_', '-')}"
        words += [flag] if value is True else [flag, str(value)]
    return words


def run(out, **changes):
    return main(arguments(out, **changes))


def weights(folder):
    return {path.name: load_state_dict(path) for path in (folder / "checkpoints").glob("*.pth")}


def assert_same_weights(ours, theirs):
    ours, theirs = weights(ours), weights(theirs)
    assert ours.keys() == theirs.keys()
    for name, state in theirs.items():
        assert ours[name].keys() == state.keys()
        for key, value in state.items():
            assert torch.equal(ours[name][key], value), f"{name}: {key}"


def metrics(folder):
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def whole(place, tmp_path_factory):
    """An uninterrupted run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.syspath_prepend(place)
        patch.setattr(training, "export", lambda *args, **kwargs: None)
        out = tmp_path_factory.mktemp("whole") / "run"
        assert run(out) == 0
    return out


def test_files_of_a_run(whole):
    names = {path.name for path in whole.iterdir()}
    assert names == {"config.json", "checkpoints", "state.pt", "metrics.csv", "tensorboard", "lock"}
    assert set(weights(whole)) == {"epoch_001.pth", "epoch_002.pth", "epoch_004.pth"}
    config = json.loads((whole / "config.json").read_text())
    assert config["recipe"] == {**vars(Recipe()), **OPTIONS}
    assert config["data"]["classes"] == ["ant", "bee", "cat"]
    assert config["surroundings"]["torch"] == torch.__version__
    rows = metrics(whole)
    assert list(rows[0]) == list(METRICS)
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert [float(row["lr"]) for row in rows] == pytest.approx([0.1, 0.1, 0.01, 0.01])
    for row in rows:
        assert 0 <= float(row["val_top1"]) <= float(row["val_top5"]) == 100
        assert float(row["images_per_s"]) > 0 and math.isfinite(float(row["val_loss"]))


def test_tensorboard_reads_each_epoch_once(whole):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(whole / "tensorboard"))
    events.Reload()
    rows = metrics(whole)
    for tag, name in (("loss/train", "train_loss"), ("top1/val", "val_top1"), ("lr", "lr")):
        scalars = events.Scalars(tag)
        assert [each.step for each in scalars] == [1, 2, 3, 4]
        expected = [float(row[name]) for row in rows]
        assert [each.value for each in scalars] == pytest.approx(expected, rel=1e-6)


def test_the_defaults_are_the_papers():
    recipe = Recipe()
    assert (recipe.lr, recipe.momentum, recipe.weight_decay) == (0.1, 0.9, 1e-4)
    assert (recipe.epochs, recipe.decay_every, recipe.decay_by) == (120, 30, 0.1)
    assert (recipe.augment, recipe.image_size) == ("none", 224)
    assert recipe.arch == "models.networks:resnet20"
    due = [epoch for epoch in range(1, 121) if recipe.due(epoch)]
    assert due == [1, *range(5, 121, 5)]


def test_a_run_agrees_with_a_plain_loop(whole, place):
    """The oracle is a plain torch loop with the same random numbers."""
    images = find_images(place / "set")
    pixels = {
        split.name: np.array(training_pixels(split, 16, folder=place / "cache"))
        for split in (images.train, images.val)
    }
    network = build_network(ARCH, 3)
    torch.manual_seed(0)
    optimiser = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
    mean, std = (
        torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    labels = torch.from_numpy(images.train.labels)
    for epoch in range(4):
        optimiser.param_groups[0]["lr"] = 0.1 if epoch < 2 else 0.1 * 0.1
        order = np.random.default_rng([0, 0, epoch, 0]).permutation(len(labels))
        network.train()
        for step in range(STEPS):
            part = order[step * BATCH : step * BATCH + BATCH]
            x = torch.from_numpy(pixels["train"][part])
            x = AUGMENTATIONS["crop"](x, np.random.default_rng([0, 1, epoch, step]))
            optimiser.zero_grad()
            output = network((x / 255 - mean) / std)
            torch.nn.functional.cross_entropy(output, labels[part]).backward()
            optimiser.step()
    for name, value in weights(whole)["epoch_004.pth"].items():
        torch.testing.assert_close(value, network.state_dict()[name], rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        x = (torch.from_numpy(pixels["val"]) / 255 - mean) / std
        output, truth = network.eval()(x), torch.from_numpy(images.val.labels)
    last = metrics(whole)[-1]
    assert float(last["val_top1"]) == pytest.approx(
        100 * (output.argmax(1) == truth).float().mean()
    )
    loss = torch.nn.functional.cross_entropy(output, truth)
    assert float(last["val_loss"]) == pytest.approx(float(loss), rel=1e-4)


def test_weights_depend_on_the_seed_only(whole, tmp_path):
    assert run(tmp_path / "again", where="device") == 0
    assert_same_weights(tmp_path / "again", whole)
    assert run(tmp_path / "other", seed=1, epochs=1) == 0
    ours, theirs = (weights(folder)["epoch_001.pth"] for folder in (tmp_path / "other", whole))
    assert not torch.equal(ours["0.weight"], theirs["0.weight"])


# Sends SIGKILL to itself at a given event.
CHILD = """
import io, os, signal, sys
import torch
from models.training import train as training
from models.training.train import main
from models.training.trainer import Trainer

how, number = sys.argv[1], int(sys.argv[2])
training.export = lambda *args, **kwargs: None
count = 0

def counted(event):
    global count
    count += event == how
    return event == how and count == number

def kill():
    os.kill(os.getpid(), signal.SIGKILL)

step = Trainer._step
def killing_step(self, *args):
    step(self, *args)
    if counted("step"):
        kill()
Trainer._step = killing_step

save = torch.save
def killing_save(content, file):
    buffer = io.BytesIO()
    save(content, buffer)
    whole = buffer.getvalue()
    if counted("state" if "optimiser" in content else "checkpoint"):
        file.write(whole[: len(whole) // 2])
        file.flush()
        kill()
    file.write(whole)
torch.save = killing_save
sys.exit(main(sys.argv[3:]))
"""


def killed(how, number, out):
    root = Path(training.__file__).resolve().parents[2]
    child = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CHILD), how, str(number), *arguments(out)],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )
    assert child.returncode == -signal.SIGKILL, child.stderr


@pytest.mark.parametrize(
    ("how", "number", "done"),
    [("step", STEPS + 2, 1), ("checkpoint", 2, 1), ("state", 2, 1)],
)
def test_a_killed_run_ends_with_the_same_weights(whole, tmp_path, how, number, done):
    out = tmp_path / "run"
    killed(how, number, out)
    assert [row["epoch"] for row in metrics(out)] == [str(i + 1) for i in range(done)]
    # Existing checkpoints are complete.
    for name, state in weights(out).items():
        for key, value in weights(whole)[name].items():
            assert torch.equal(state[key], value)
    assert run(out) == 0
    assert_same_weights(out, whole)
    assert [row["epoch"] for row in metrics(out)] == ["1", "2", "3", "4"]
    assert not list(out.rglob("*.part"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [1, STEPS, STEPS + 3])
def test_a_signal_ends_the_step_and_a_rerun_continues(
    whole, tmp_path, monkeypatch, capsys, number, step
):
    out, original, steps = tmp_path / "run", Trainer._step, []

    def interrupted(self, *args):
        steps.append(1)
        if len(steps) == step:
            os.kill(os.getpid(), number)
        original(self, *args)

    monkeypatch.setattr(Trainer, "_step", interrupted)
    assert run(out) == 128 + number
    assert len(steps) == step
    assert f"to continue: python -m models.train --data set --out {out}" in capsys.readouterr().err
    assert run(out) == 0
    # No step is repeated.
    assert len(steps) == 4 * STEPS
    assert_same_weights(out, whole)
    assert [row["epoch"] for row in metrics(out)] == ["1", "2", "3", "4"]
    same = ("lr", "train_loss", "train_top1", "val_loss", "val_top1")
    for ours, theirs in zip(metrics(out), metrics(whole), strict=True):
        assert [ours[name] for name in same] == [theirs[name] for name in same]


def test_a_signal_before_training_stops_immediately(tmp_path, monkeypatch):
    def interrupted(*args):
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("the signal was not raised")

    monkeypatch.setattr(training, "find_images", interrupted)
    before = signal.getsignal(signal.SIGTERM)
    assert run(tmp_path / "run") == 143
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_second_signal_does_not_wait():
    with Signals() as signals, signals.deferred() as stopping:
        os.kill(os.getpid(), signal.SIGINT)
        assert stopping()
        with pytest.raises(Stopped):
            os.kill(os.getpid(), signal.SIGINT)


def test_epochs_may_be_raised_and_done_epochs_are_kept(whole, tmp_path, capsys):
    out = tmp_path / "run"
    assert run(out, epochs=2) == 0
    assert run(out, epochs=4) == 0
    assert_same_weights(out, whole)
    before = (out / "state.pt").read_bytes()
    assert run(out, epochs=4) == 0
    assert (out / "state.pt").read_bytes() == before
    assert "4 epochs are done; use --epochs to train longer" in capsys.readouterr().err
    assert json.loads((out / "config.json").read_text())["recipe"]["epochs"] == 4


def test_another_recipe_in_the_same_folder_is_refused(tmp_path, capsys):
    out = tmp_path / "run"
    assert run(out, epochs=1) == 0
    assert run(out, epochs=2, lr=0.2, augment="flip") == 1
    error = capsys.readouterr().err
    assert "another recipe: augment was 'crop' and is 'flip'; lr was 0.1 and is 0.2;" in error
    other = write_images(tmp_path / "set", seed=1)
    assert main([*arguments(out), "--data", str(other)]) == 1
    assert "train_sha256 was" in capsys.readouterr().err


def test_another_environment_is_reported(tmp_path, capsys):
    out = tmp_path / "run"
    assert run(out, epochs=1) == 0
    config = json.loads((out / "config.json").read_text())
    config["surroundings"]["torch"] = "1.0"
    (out / "config.json").write_text(json.dumps(config))
    assert run(out, epochs=2) == 0
    assert f"began with torch 1.0 and continues with {torch.__version__}" in capsys.readouterr().err


def test_a_loss_of_nan_stops_and_keeps_earlier_files(whole, tmp_path, monkeypatch, capsys):
    out, original = tmp_path / "run", Trainer._step

    def exploding(self, pixels, labels):
        if self.epoch == 1 and self.step == 2:
            with torch.no_grad():
                self.network[0].weight.mul_(float("inf"))
        original(self, pixels, labels)

    monkeypatch.setattr(Trainer, "_step", exploding)
    assert run(out) == 1
    error = capsys.readouterr().err
    assert "the loss is nan in epoch 2, by step 4" in error and "lower --lr than 0.1" in error
    assert set(weights(out)) == {"epoch_001.pth"}
    monkeypatch.setattr(Trainer, "_step", original)
    assert run(out) == 0
    assert_same_weights(out, whole)


def trainer_of(place, **changes):
    recipe = Recipe(**(OPTIONS | changes))
    images = find_images(place / "set")
    splits = [
        Batches(
            training_pixels(split, recipe.image_size, folder=place / "cache"), split.labels, CPU
        )
        for split in (images.train, images.val)
    ]
    return Trainer(recipe, build_network(recipe.arch, 3, recipe.seed), *splits, 3, CPU)


def test_fit_works_without_signals_and_returns_whether_it_was_stopped(place, tmp_path, whole):
    folder, report, seen = TrainingRun(tmp_path / "run"), TrainingReport(), []
    trainer = trainer_of(place)
    steps = iter(range(100))
    stopping = lambda: next(steps) >= STEPS  # noqa: E731
    assert not fit(trainer, folder, report, stopping=stopping)
    again = trainer_of(place)
    again.restore(folder.load())
    assert (again.epoch, again.step) == (0, STEPS)
    assert fit(again, folder, report, on_checkpoint=lambda *args: seen.append(args))
    assert seen == [(epoch, folder.checkpoint(epoch)) for epoch in (1, 2, 4)]
    assert_same_weights(tmp_path / "run", whole)


@pytest.mark.parametrize(
    "option", [{"amp": "bf16"}, {"channels_last": True}, {"compile": True}], ids=str
)
def test_options_are_reported_and_recorded_and_checkpoints_stay_plain(
    tmp_path, monkeypatch, capsys, option
):
    compiled = torch.compile
    # Without code generation, which takes a compiler and half a minute.
    monkeypatch.setattr(torch, "compile", lambda module: compiled(module, backend="eager"))
    out, arch = tmp_path / "run", {"arch": "tiny_network:certain"}
    assert run(out, epochs=1, **arch, **option) == 0
    (name,) = option
    assert f"--{name.replace('_', '-')}" in capsys.readouterr().err
    assert json.loads((out / "config.json").read_text())["recipe"][name] == option[name]
    assert run(tmp_path / "plain", epochs=1, **arch) == 0
    ours, theirs = (weights(each)["epoch_001.pth"] for each in (out, tmp_path / "plain"))
    tolerance = 0.05 if name == "amp" else 1e-4
    for key, value in theirs.items():
        assert ours[key].is_contiguous() and ours[key].dtype == value.dtype
        torch.testing.assert_close(ours[key], value, rtol=tolerance, atol=tolerance)
    assert run(out, epochs=2, **arch, **option) == 0


def test_without_plots_neither_tensorboard_nor_matplotlib_is_needed(tmp_path, monkeypatch, whole):
    for package in ("tensorboard", "matplotlib"):
        monkeypatch.setitem(sys.modules, package, None)
    assert main([*arguments(tmp_path / "run"), "--no-plots"]) == 0
    assert not (tmp_path / "run/tensorboard").exists()
    assert_same_weights(tmp_path / "run", whole)


def test_a_channels_last_run_resumes_to_the_bit(tmp_path):
    assert run(tmp_path / "whole", channels_last=True) == 0
    assert run(tmp_path / "parts", channels_last=True, epochs=3) == 0
    assert run(tmp_path / "parts", channels_last=True) == 0
    ours, theirs = (weights(tmp_path / name)["epoch_004.pth"] for name in ("parts", "whole"))
    for key, value in theirs.items():
        assert torch.equal(ours[key], value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"arch": "tiny_network"}, "is not module:callable"),
        ({"arch": "nowhere:build"}, "module 'nowhere' does not exist"),
        ({"arch": "tiny_network:no_classes"}, "builds no network with num_classes=3: TypeError"),
        ({"arch": "tiny_network:no_network"}, "returns a dict, not a torch.nn.Module"),
        (
            {"arch": "tiny_network:auxiliary"},
            "returns a tuple in training; networks with auxiliary",
        ),
        ({"arch": "tiny_network:silent"}, r"returns \(2, 4\) for two images and 3 classes"),
        ({"image_size": 2}, "does not run on images of --image-size 2"),
        ({"batch_size": 4}, "last batch of one image of 21"),
        ({"amp": "fp16"}, "--amp fp16 needs a GPU"),
        ({"epochs": 0}, "--epochs must be at least 1, not 0"),
        ({"lr": "nan"}, "--lr must be a finite number of at least 0, not nan"),
        ({"seed": -1}, "--seed must be at least 0, not -1"),
    ],
)
def test_invalid_options_are_refused_before_work_starts(tmp_path, capsys, changes, words):
    import re

    assert run(tmp_path / "run", **changes) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("models.train: error: ") and re.search(words, error)
    assert not (tmp_path / "run" / "state.pt").exists()


def test_recipes_check_their_fields():
    for changes, words in (
        ({"augment": "mix"}, "--augment 'mix' is not one of: none, flip, crop"),
        ({"amp": "fp8"}, "--amp 'fp8' is not one of: off, bf16, fp16"),
        ({"weight_decay": -1}, "--weight-decay must be a finite number of at least 0"),
        ({"decay_by": math.inf}, "--decay-by must be a finite number of at least 0"),
    ):
        with pytest.raises(ValueError, match=words):
            Recipe(**changes)


def test_torchvisions_networks_are_built_without_changing_generators():
    before = torch.get_rng_state()
    network = build_network("torchvision.models:resnet18", 7, seed=3)
    assert network.fc.out_features == 7
    assert torch.equal(before, torch.get_rng_state())
    again = build_network("torchvision.models:resnet18", 7, seed=3)
    assert torch.equal(network.fc.weight, again.fc.weight)


@pytest.mark.parametrize(
    ("word", "hip", "cuda", "gpus", "found"),
    [
        ("auto", None, None, 0, "cpu"),
        ("auto", None, "12.8", 1, "cuda:0"),
        ("auto", "6.4", None, 1, "cuda:0"),
        ("cpu", None, "12.8", 1, "cpu"),
        ("cuda", None, "12.8", 1, "cuda:0"),
        ("cuda:1", None, "12.8", 2, "cuda:1"),
        ("rocm:1", "6.4", None, 2, "cuda:1"),
        (
            "cuda",
            None,
            None,
            0,
            "--device cuda is unavailable: torch .* is built for cpu and finds 0",
        ),
        ("cuda:2", None, "12.8", 2, "--device cuda:2 is unavailable: .* for cuda and finds 2 GPUs"),
        ("cuda", "6.4", None, 1, "--device cuda is unavailable: .* for rocm and finds 1 GPUs"),
        ("rocm", None, "12.8", 1, "--device rocm is unavailable: .* for cuda"),
        ("tpu", None, None, 0, "--device must be auto, cpu"),
        ("cuda:x", None, "12.8", 1, "--device must be auto, cpu"),
    ],
)
def test_devices(monkeypatch, word, hip, cuda, gpus, found):
    monkeypatch.setattr(torch.version, "hip", hip)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(gpus))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    if found.startswith("--"):
        with pytest.raises(ValueError, match=found):
            choose_device(word)
    else:
        assert choose_device(word) == torch.device(found)


def test_effects_of_a_gpu():
    gpu = torch.device("cuda:0")
    assert any("--deterministic prevents that" in text for text in Recipe().effects(gpu))
    assert not any("prevents" in t for t in Recipe(deterministic=True).effects(gpu))
    assert Recipe().effects(CPU) == []


def test_a_gpu_without_bfloat16_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Old GPU")
    with pytest.raises(ValueError, match="Old GPU has no bfloat16; use --amp fp16"):
        check_precision("bf16", torch.device("cuda:0"))


def test_the_function_agrees_with_the_command(whole, place, tmp_path):
    assert train("set", tmp_path / "run", Recipe(**OPTIONS), device="cpu", cache="cache")
    assert_same_weights(tmp_path / "run", whole)


def test_divergence_has_its_own_error(place):
    trainer = trainer_of(place, lr=1e30)
    with pytest.raises(DivergedError, match="in epoch 1"):
        trainer.run_epoch(lambda: False, TrainingReport())


def test_models_train_is_the_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["models.train", "--help"])
    with pytest.raises(SystemExit) as end:
        runpy.run_module("models.train", run_name="__main__")
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith("usage: python -m models.train ")
