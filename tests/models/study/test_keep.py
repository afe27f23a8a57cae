import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from fastrdm.cli.sample import write_sample
from fastrdm.networks import WeightsError
from fastrdm.studies import open_studies
from models.networks import build
from models.study import keep as module
from models.study.keep import Showing, keep, keep_run, main
from models.study.kept import Kept
from models.training.run import METRICS, TrainingRun

N_CLASSES = 3
LAYERS = ["V1", "V2", "V4", "IT", "decoder"]
ROW = {**dict.fromkeys(METRICS, 1.0), "val_top1": 12.5}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A study, and a run of a CORnet-Z with random weights after epochs 1 and 5."""
    folder = tmp_path_factory.mktemp("keep")
    write_sample(folder / "study", n_conditions=10)
    run = TrainingRun(folder / "run")
    run.write("config.json", json.dumps({"recipe": {"epochs": 5}}))
    run.write_metrics([ROW, {**ROW, "epoch": 5.0}])
    for epoch in (1, 5):
        run.write_checkpoint(epoch, network(epoch))
    return folder


def network(seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build("cornet_z", N_CLASSES)


@pytest.fixture
def showing(place):
    return Showing(open_studies(place / "study"), sizes=(32, 40))


def expected(seed, images, size):
    """1 − Pearson's r of each layer's activations in float64."""
    found = {}
    module = network(seed).double().eval()
    for layer, path in module.taps.items():
        module.get_submodule(path).register_forward_hook(
            lambda _, __, output, layer=layer: found.update({layer: output.flatten(1).numpy()})
        )
    preprocessing = replace(module.preprocessing, size=(size, size))
    with torch.no_grad():
        module(torch.from_numpy(preprocessing.load(images)).double())
    upper = np.triu_indices(len(images), 1)
    return {layer: 1 - np.corrcoef(found[layer])[upper] for layer in module.taps}


def test_rdms_are_those_of_plain_float64(place, showing, tmp_path):
    path = tmp_path / "cornet_z.npz"
    assert keep(path, "cornet_z", place / "run/checkpoints/epoch_001.pth", showing) == {}
    (study,) = showing.studies
    kept = Kept.at(path)
    assert kept.studies == (study.name,)
    rdms = kept.rdms(study.name)
    assert list(rdms) == [f"{layer}@{size}" for size in (32, 40) for layer in LAYERS]
    for size in (32, 40):
        for layer, rdm in expected(1, study.stimuli, size).items():
            np.testing.assert_allclose(rdms[f"{layer}@{size}"], rdm, atol=1e-3)


def test_a_second_call_computes_only_what_is_lacking(place, showing, tmp_path, monkeypatch):
    path, weights = tmp_path / "cornet_z.npz", place / "run/checkpoints/epoch_001.pth"
    keep(path, "cornet_z", weights, showing)
    (name,) = Kept.at(path).studies
    before, content = Kept.at(path).rdms(name), path.read_bytes()
    shown = []
    model_of = module.TorchModel

    def counted(*args, preprocessing, **options):
        shown.append(preprocessing.size)
        return model_of(*args, preprocessing=preprocessing, **options)

    monkeypatch.setattr(module, "TorchModel", counted)
    keep(path, "cornet_z", weights, showing)
    assert (shown, path.read_bytes()) == ([], content)
    keep(path, "cornet_z", weights, replace(showing, sizes=(32, 36)))
    assert shown == [(36, 36)]
    after = Kept.at(path).rdms(name)
    assert list(after) == [*before, *(f"{layer}@36" for layer in LAYERS)]
    for layer, rdm in before.items():
        np.testing.assert_array_equal(after[layer], rdm)
    keep(path, "cornet_z", weights, replace(showing, again=True))
    assert shown == [(36, 36), (32, 32), (40, 40)]
    assert path.read_bytes() == content, "the same RDMs to the bit"


def test_the_challenges_test_images_are_a_study_of_their_own(showing):
    (study,) = showing.studies
    assert list(showing.images) == [study.name]
    others = [replace(study, name=name, test_stimuli=study.stimuli[:3]) for name in ("92", "118")]
    images = replace(showing, studies=others).images
    assert {name: len(files) for name, files in images.items()} == {"92": 10, "118": 10, "78": 3}
    published = replace(study, name="78")
    images = replace(showing, studies=[*others, published]).images
    assert len(images["78"]) == 10


@pytest.mark.filterwarnings("ignore:.*constant")
def test_layers_that_are_left_out_have_a_reason(place, showing, tmp_path):
    dead, alike = network(1), network(1)
    with torch.no_grad():
        dead.V2.conv.weight.zero_()
        dead.V2.conv.bias.fill_(-1)
        alike.decoder.linear.weight.zero_()
        alike.decoder.linear.weight[0] = 1
        alike.decoder.linear.bias.zero_()
    torch.save(dead.state_dict(), tmp_path / "dead.pth")
    (study,) = showing.studies
    left_out = keep(tmp_path / "a.npz", "cornet_z", tmp_path / "dead.pth", showing)
    assert left_out["V2@32"].startswith(f"an image of the study {study.name} has constant")
    assert "V2@32" not in Kept.at(tmp_path / "a.npz").rdms(study.name)
    torch.save(alike.state_dict(), tmp_path / "alike.pth")
    left_out = keep(tmp_path / "b.npz", "cornet_z", tmp_path / "alike.pth", showing)
    why = "all images of the study sample are equally distant"
    assert left_out == {"decoder@32": why, "decoder@40": why}


def test_a_run_is_kept_with_its_metrics_and_recipe(place, showing, tmp_path):
    said = []
    found = keep_run(
        place / "run",
        "cornet_z-seed3",
        showing,
        (5, 1),
        tmp_path / "rdms",
        lambda path, left_out: said.append(path.name),
    )
    names = [f"cornet_z-seed3-epoch{epoch:03d}.npz" for epoch in (1, 5)]
    assert [path.name for path in found] == said == names
    for path, seed in zip(found, (1, 5), strict=True):
        kept = Kept.at(path)
        (name,) = kept.studies
        rdm = expected(seed, showing.studies[0].stimuli, 32)["V4"]
        np.testing.assert_allclose(kept.rdms(name)["V4@32"], rdm, atol=1e-3)
    assert Kept.at(path).metrics["val_top1"] == 12.5
    recipe = json.loads((tmp_path / "rdms/cornet_z-seed3.json").read_text())
    assert recipe == {"recipe": {"epochs": 5}}
    with (tmp_path / "rdms/cornet_z-seed3.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 2


def test_errors_come_before_work(place, showing, tmp_path):
    into = tmp_path / "rdms"
    for epochs, there in (((1, 5, 10), "1, 5"), ((1, 10, 7), "1, 5")):
        lacking = ", ".join(str(epoch) for epoch in sorted({*epochs} - {1, 5}))
        message = f"has no checkpoint after epoch {lacking}; there are those after {there}"
        with pytest.raises(ValueError, match=message):
            keep_run(place / "run", "cornet_z-seed3", showing, epochs, into)
    with pytest.raises(ValueError, match="NETWORK-seedN, such as resnet20-seed0, not 'cornet_z'"):
        keep_run(place / "run", "cornet_z", showing, (1,), into)
    with pytest.raises(ValueError, match="no network 'resnet21'; nearest: resnet2"):
        keep_run(place / "run", "resnet21-seed0", showing, (1,), into)
    for folder in (place / "study", place / "nowhere"):
        with pytest.raises(ValueError, match=f"{folder} is not the folder of a training run"):
            keep_run(folder, "cornet_z-seed0", showing, (1,), into)
    assert not into.exists() and not (place / "nowhere").exists()
    with pytest.raises(ValueError, match="--sizes must be at least 1, not 0"):
        Showing(showing.studies, sizes=(32, 0))
    with pytest.raises(WeightsError):
        keep(into / "a.npz", "resnet20", place / "run/checkpoints/epoch_001.pth", showing)
    assert not into.exists()
    (tmp_path / "a.npz").write_text("text")
    with pytest.raises(ValueError, match=r"a\.npz is not a file of kept RDMs"):
        keep(tmp_path / "a.npz", "cornet_z", place / "run/checkpoints/epoch_001.pth", showing)


def test_the_command_keeps_networks_and_runs(place, tmp_path, capsys, monkeypatch):
    torch.save(network(2).state_dict(), tmp_path / "cornet_z.pth")
    into = tmp_path / "rdms"
    where = ["--data", str(place / "study"), "--into", str(into), "--sizes", "32"]
    networks = ["--networks", "cornet_z", "--weights-dir", str(tmp_path)]
    run = ["--run", str(place / "run"), "--name", "cornet_z-seed0", "--epochs", "1"]
    assert main([*where, *networks, *run]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(f"{into}/cornet_z-seed0-epoch001.npz: 0.0")
    assert said[1].startswith(f"{into}/cornet_z@32.npz: 0.0")
    assert {path.name for path in into.iterdir()} == {
        "cornet_z-seed0-epoch001.npz",
        "cornet_z-seed0.csv",
        "cornet_z-seed0.json",
        "cornet_z@32.npz",
    }
    for words, message in (
        (where, "nothing to keep: use --networks or --run"),
        ([*where, *run[:2]], "--run needs --name NETWORK-seedN"),
        ([*where, "--networks", "resnet21"], "there is no network 'resnet21'; nearest: resnet2"),
        ([*where, *run, "--device", "gpu"], "--device must be auto, cpu"),
        ([*where, "--networks", "resnet20"], "no weights of resnet20 were published"),
    ):
        assert main(words) == 1
        error = capsys.readouterr().err
        assert error.startswith("keep: error: ") and message in error
    monkeypatch.setattr(module, "find_data", lambda: None)
    assert main(networks) == 1
    assert "no data: use --data DIR or set FASTRDM_DATA" in capsys.readouterr().err
