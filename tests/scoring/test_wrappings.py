"""Checkpoints as people save them are scored as the plain weights are."""

import argparse
import json
import sys
from collections import OrderedDict

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.optim.swa_utils import AveragedModel

from fastrdm.cli import main
from fastrdm.networks import export_onnx, hash_file, is_complete
from fastrdm.scoring import Store, score_checkpoints, sweep
from fastrdm.scoring.jobs import Stamp
from fastrdm.scoring.listing import Listing

nn = torch.nn
SOURCE = """
import torch
from fastrdm.images import Preprocessing

class Net(torch.nn.Module):
    preprocessing = Preprocessing((16, 16))
    taps = ["conv", "bn"]

    def __init__(self, n_classes=1000):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3, 2)
        self.bn = torch.nn.BatchNorm2d(4)
        self.fc = torch.nn.Linear(4, n_classes)

    def forward(self, x):
        return self.fc(self.bn(self.conv(x)).mean((2, 3)))
"""
# Exported once: a sweep of an .onnx file has no network to export.
ARCH = "net.onnx"


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return export_onnx(network(99), tmp_path_factory.mktemp("arch") / ARCH).read_bytes()


@pytest.fixture
def here(tmp_path, monkeypatch, exported):
    """A current folder with a network and a study."""
    (tmp_path / "wrapped_net.py").write_text(SOURCE)
    (tmp_path / ARCH).write_bytes(exported)
    rng = np.random.default_rng(0)
    (tmp_path / "study" / "stimuli").mkdir(parents=True)
    for i in range(6):
        pixels = rng.integers(0, 256, (20, 20, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "study" / "stimuli" / f"image{i}.png")
    rdms = rng.random((3, 6, 6)) + rng.random((6, 6))
    rdms = (rdms + rdms.transpose(0, 2, 1)) * (1 - np.eye(6))
    np.save(tmp_path / "study" / "it.npy", rdms)
    (tmp_path / "study" / "study.toml").write_text(
        'order = "sorted"\n[targets.it]\nfile = "it.npy"\n'
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("wrapped_net", None)


def network(seed, **options):
    names = {}
    exec(SOURCE, names)
    torch.manual_seed(seed)
    net = names["Net"](**options)
    net.bn.running_mean.uniform_(-1, 1)
    return net


def rhos(scored):
    """Scores of a checkpoint by layer."""
    assert not scored.error
    return {result.layer: result.mean_rho for result in scored.results}


def rows_of(store):
    columns = list(store.columns())
    return [dict(zip(columns, row, strict=True)) for row in store.rows()]


def prefixed(weights, prefix):
    return OrderedDict((f"{prefix}{name}", value) for name, value in weights.items())


def write_shards(weights, folder, *, suffix="safetensors", save=save_file):
    """Weights in two files with an index, as transformers writes them."""
    folder.mkdir(parents=True)
    stem = "model" if suffix == "safetensors" else "pytorch_model"
    files = {name: f"{stem}-0000{i % 2 + 1}-of-00002.{suffix}" for i, name in enumerate(weights)}
    for file in set(files.values()):
        save({name: weights[name] for name in weights if files[name] == file}, folder / file)
    index = {"metadata": {"total_size": 1}, "weight_map": files}
    (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps(index))


def write_lightning(net, path):
    lightning = pytest.importorskip("lightning.pytorch")

    class Task(lightning.LightningModule):
        def __init__(self, width=4, args=None):
            super().__init__()
            self.save_hyperparameters()
            self.model = net

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1, momentum=0.9)

        def training_step(self, batch, index):
            return self.model(batch).sum() * 0

    trainer = lightning.Trainer(
        max_steps=1, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=path.parent / "logs", barebones=False,
    )  # fmt: skip
    task = Task(args=argparse.Namespace(lr=0.1))
    trainer.fit(task, torch.utils.data.DataLoader(torch.zeros(2, 3, 16, 16), batch_size=2))
    trainer.save_checkpoint(path)
    return {name: value.clone() for name, value in net.state_dict().items()}


def wrapped(folder):
    """Write twelve checkpoints as training scripts do; yield the name of each with its plain weights."""
    nets = [network(seed) for seed in range(12)]
    plain = [net.state_dict() for net in nets]
    sgd = torch.optim.SGD(nets[7].parameters(), 0.1, momentum=0.9).state_dict()
    torch.save(plain[0], folder / "00-plain.pth")
    torch.save({"epoch": 3, "state_dict": plain[1], "best_acc1": 71.2}, folder / "01.pth.tar")
    torch.save({"model_state_dict": plain[2], "loss": torch.tensor(0.5)}, folder / "02.pt")
    torch.save(nn.DataParallel(nets[3]).state_dict(), folder / "03-parallel.pth")
    torch.save(torch.compile(nets[4]).state_dict(), folder / "04-compiled.pth")
    plain[5] = write_lightning(nets[5], folder / "05-lightning.ckpt")
    timm = {"arch": "net", "state_dict": plain[6], "state_dict_ema": network(60).state_dict()}
    torch.save(timm | {"args": argparse.Namespace(lr=0.1), "version": 2}, folder / "06-timm.pth")
    facts = {"args": argparse.Namespace(lr=0.1, folder=folder), "best": np.float64(0.5)}
    torch.save(
        {"net": plain[7], "optimizer": sgd, "epoch": np.int64(3), **facts}, folder / "07.pth"
    )
    torch.save(AveragedModel(nets[8]).state_dict(), folder / "08-averaged.pth")
    save_file(plain[9], folder / "09.safetensors")
    write_shards(plain[10], folder / "10-shards")
    trunk = {name: value for name, value in plain[11].items() if not name.startswith("fc")}
    head = {"projector.0.weight": torch.ones(8, 4), "projector.0.bias": torch.ones(8)}
    torch.save({"model": prefixed(trunk, "module.backbone.") | head}, folder / "11-other-head.pth")
    names = sorted(p.name for p in folder.iterdir() if p.name not in ("logs", "checkpoints"))
    assert len(names) == 12
    return dict(zip(names, plain, strict=True))


@pytest.mark.filterwarnings("ignore")
def test_twelve_wrappings_of_one_run_have_the_scores_of_the_plain_weights(here):
    (here / "runs").mkdir()
    (here / "plain").mkdir()
    for name, weights in wrapped(here / "runs").items():
        torch.save(weights, here / "plain" / f"{name}.pth")
    summary = sweep("runs", ARCH, "study", store="scores.db", engine="in-process")
    assert (summary.scored, summary.failed) == (12, 0)
    with Store("scores.db") as store:
        rows = [(row["checkpoint"], row["layer"], row["mean_rho"]) for row in rows_of(store)]
    assert len(rows) == 12 * 2
    expected = score_checkpoints(["plain"], [ARCH], ["study"], n_draws=0)
    expected = {
        (each.checkpoint.removeprefix("plain/").removesuffix(".pth"), result.layer): result.mean_rho
        for each in expected
        for result in each.results
    }
    assert {(path.removeprefix("runs/"), layer): rho for path, layer, rho in rows} == expected
    assert len(set(expected.values())) > 12


def test_what_was_taken_is_kept_with_the_result(here):
    weights, ema = network(0).state_dict(), network(1).state_dict()
    torch.save({"net": prefixed(weights, "module."), "net_ema": ema}, "a.pth")
    with pytest.warns(
        RuntimeWarning, match=r"a\.pth: took the weights under net with the prefix 'module\.'"
    ):
        (raw,) = score_checkpoints(["a.pth"], [ARCH], ["study"], n_draws=0)
    assert raw.taken == {"key": "net", "prefix": "module.", "ema": "no"}
    (averaged,) = score_checkpoints(["a.pth"], [ARCH], ["study"], n_draws=0, ema=True)
    assert averaged.taken == {"key": "net_ema", "ema": "yes"}
    torch.save(ema, "b.pth")
    (expected,) = score_checkpoints(["b.pth"], [ARCH], ["study"], n_draws=0)
    assert expected.taken == {}
    assert rhos(averaged) == rhos(expected)


def test_warnings_are_those_of_their_own_checkpoint(here):
    for name in ("a", "b"):
        torch.save({name: network(0).state_dict(), "ema": network(1).state_dict()}, f"{name}.pth")
    torch.save(network(2).state_dict(), "c.pth")
    events = []
    options = {"store": "scores.db", "engine": "in-process", "on_event": events.append}
    sweep(["a.pth", "b.pth", "c.pth"], ARCH, "study", **options)
    remarks = {e["checkpoint"]: e["warnings"] for e in events if e["event"] == "scored"}
    assert [len(remarks[f"{name}.pth"]) for name in "abc"] == [1, 1, 0]
    assert all(remarks[f"{name}.pth"][0].startswith(f"{name}.pth: took") for name in "ab")


@pytest.mark.filterwarnings("default")
def test_the_command_line_chooses_weights(here, capsys):
    first, second, ema = (network(seed).state_dict() for seed in range(3))
    torch.save({"net": first, "teacher": second, "ema": {"module": ema}}, "a.pth")
    score = ["score", "a.pth", "--arch", ARCH, "--data", "study", "--json", "--bootstrap", "0"]
    assert main(score) == 1
    assert (
        "several state dicts fit net.onnx: net, teacher; choose one with --key NAME"
        in capsys.readouterr().err
    )
    found = []
    for arguments, weights in (
        (["--key", "teacher"], second), (["--key", "ema.module"], ema), (["--ema"], ema)
    ):  # fmt: skip
        assert main([*score, *arguments]) == 0
        found.append([row["mean_rho"] for row in json.loads(capsys.readouterr().out)["results"]])
        torch.save(weights, "b.pth")
        main(["score", "b.pth", *score[2:]])
        assert found[-1] == [
            row["mean_rho"] for row in json.loads(capsys.readouterr().out)["results"]
        ]
    assert found[0] != found[1] == found[2]


@pytest.mark.filterwarnings("default")
def test_a_sweep_prints_each_kind_of_warning_once(here, capsys):
    for i in range(3):
        content = {"net": network(i).state_dict(), "ema": network(i + 3).state_dict()}
        torch.save(content, f"{i}.pth")
    sweep_it = ["sweep", "0.pth", "1.pth", "2.pth", "--arch", ARCH, "--data", "study"]
    assert main([*sweep_it, "--store", "scores.db", "--engine", "in-process"]) == 0
    err = capsys.readouterr().err
    assert err.count("fastrdm: warning: ") == 2
    assert "fastrdm: warning: 3 checkpoints: took the weights under net, not" in err
    assert (
        "warning: 0.pth: took the weights under net, not the averaged (EMA) ones under ema" in err
    )


@pytest.mark.filterwarnings("default")
def test_other_choices_have_other_results_in_a_store(here):
    torch.save({"net": network(0).state_dict(), "teacher": network(1).state_dict()}, "a.pth")
    options = {"store": "scores.db", "engine": "in-process"}
    for key in ("net", "teacher", "teacher"):
        summary = sweep("a.pth", ARCH, "study", key=key, **options)
        assert summary.scored == (key != "teacher" or not summary.before.done)
    assert summary.before.done == 1
    with Store("scores.db") as store:
        assert len({row["mean_rho"] for row in rows_of(store)}) > 2


@pytest.mark.filterwarnings("default")
def test_a_manifest_chooses_weights_of_each_network(here):
    first, second = network(0).state_dict(), network(1).state_dict()
    head = {"head.weight": torch.ones(2)}
    content = {"net": prefixed(first, "m."), "other": prefixed(second, "m."), "ema": second}
    torch.save(content | {"extra": prefixed(first, "x.") | head}, "a.pth")
    (here / "m.toml").write_text(
        f'[[network]]\narch = "{ARCH}"\nweights = "a.pth"\nkey = "other"\nprefix = "m."\n'
        f'[[network]]\narch = "{ARCH}"\nweights = "a.pth"\nema = true\n'
        f'[[network]]\narch = "{ARCH}"\nweights = "a.pth"\nkey = "net"\nallow_missing = ["fc*"]\n'
    )
    scores = list(score_checkpoints(["m.toml"], [], ["study"], n_draws=0))
    found = list(map(rhos, scores))
    assert found[0] == found[1] != found[2]
    (here / "m.toml").write_text(f'[[network]]\narch = "{ARCH}"\nweights = "a.pth"\nema = "yes"\n')
    with pytest.raises(ValueError, match="network 1: ema = 'yes' has the wrong type"):
        list(score_checkpoints(["m.toml"], [], ["study"]))
    (here / "m.toml").write_text('[[network]]\nweights = "a.onnx"\nkey = "net"\n')
    with pytest.raises(ValueError, match="network 1: key is for weights with an architecture"):
        list(score_checkpoints(["m.toml"], [], ["study"]))


def test_a_folder_with_an_index_is_one_checkpoint(here):
    write_shards(network(0).state_dict(), here / "runs" / "a")
    write_shards(network(1).state_dict(), here / "runs" / "b", suffix="bin", save=torch.save)
    torch.save(network(2).state_dict(), "runs/c.pth")
    index = "runs/a/model.safetensors.index.json"

    def listed(name):
        listing = Listing()
        listing.add(name)
        return [each.path for each in listing.found]

    assert listed("runs") == ["runs/a", "runs/b", "runs/c.pth"]
    assert listed("runs/*") == ["runs/a", "runs/b", "runs/c.pth"]
    assert listed("runs/**") == ["runs/a", "runs/b", "runs/c.pth"]
    assert listed("runs/a") == listed("runs/a/*.safetensors") == ["runs/a"]
    assert listed(index) == [index]
    (here / "runs" / "readme").mkdir()
    (here / "runs" / "model-00001-of-00002.safetensors").touch()
    (here / "torn").mkdir()
    (here / "torn" / "model-00001-of-00002.safetensors").touch()
    torn = Listing()
    torn.add("torn")
    assert [each.reason for each in torn.left_out] == ["parts of weights without their index"]
    assert listed("runs") == ["runs/a", "runs/b", "runs/c.pth"]
    for name, seed in (("runs/a", 0), (index, 0), ("runs/b", 1)):
        (scored,) = score_checkpoints([name], [ARCH], ["study"], n_draws=0)
        torch.save(network(seed).state_dict(), "plain.pth")
        (plain,) = score_checkpoints(["plain.pth"], [ARCH], ["study"], n_draws=0)
        assert rhos(scored) == rhos(plain)


def test_stamps_and_hashes_cover_all_shards(here):
    write_shards(network(0).state_dict(), here / "a")
    stamp, sha256 = Stamp.of("a"), hash_file("a")
    assert Stamp.of("a/model.safetensors.index.json") == stamp
    assert stamp.size == sum(path.stat().st_size for path in (here / "a").iterdir())
    (here / "a" / "trainer_state.json").write_text("{}")
    assert (Stamp.of("a"), hash_file("a")) == (stamp, sha256)
    shard = here / "a" / "model-00002-of-00002.safetensors"
    content = shard.read_bytes()
    shard.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert Stamp.of("a") != stamp
    assert hash_file("a") != sha256
    assert is_complete("a")
    shard.write_bytes(content[:-1])
    assert not is_complete("a")
    shard.unlink()
    assert not is_complete("a")
    assert Stamp.of("a").size < stamp.size
    (failed,) = score_checkpoints(["a"], [ARCH], ["study"], n_draws=0)
    assert failed.error == "a: the file model-00002-of-00002.safetensors is missing"


@pytest.mark.filterwarnings("default")
def test_export_takes_the_same_choices(here, capsys):
    build = "wrapped_net:Net"
    first, second = network(0).state_dict(), network(1, n_classes=10).state_dict()
    torch.save({"net": first, "teacher": second}, "a.pth")
    assert main(["export", "a.pth", "a.onnx", "--arch", build, "--key", "net"]) == 0
    assert main(["export", "a.pth", "b.onnx", "--arch", build, "--key", "teacher"]) == 0
    assert "left out fc.weight, fc.bias" in capsys.readouterr().err
    torch.save(second, "b.pth")
    scores = list(score_checkpoints(["b.onnx", "b.pth"], [ARCH], ["study"], n_draws=0))
    assert rhos(scores[0]) == rhos(scores[1])
    tapped = ["export", "a.pth", "c.onnx", "--arch", build, "--key", "teacher", "--taps", "fc"]
    assert main([*tapped, "--allow-missing", "fc*"]) == 1
    assert "of another shape: fc.weight (10, 4) for (1000, 4)" in capsys.readouterr().err
