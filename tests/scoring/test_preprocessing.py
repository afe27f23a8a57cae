"""Sweeps and scores with another preprocessing than the network's own: arguments, manifests, the command line."""

import json
import sys

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from scipy.stats import spearmanr

import fastrdm
from fastrdm.cli import main
from fastrdm.images import Preprocessing
from fastrdm.networks import preprocessing_for, preprocessing_of
from fastrdm.rdm import calc_rdm
from fastrdm.scoring import score_checkpoints
from fastrdm.scoring.jobs import RunOptions
from fastrdm.scoring.resolver import Resolver, sources
from fastrdm.scoring.sweeps import sweep

SOURCE = """
import torch
from fastrdm.images import Preprocessing

def build():
    n = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, 2), torch.nn.AdaptiveAvgPool2d(3))
    n.preprocessing = Preprocessing((32, 32), mean=(0.5, 0.5, 0.5))
    n.taps = {"conv": "0", "pool": "1"}
    n.pretrained_cfg = {"input_size": (3, 24, 24), "crop_pct": 0.8, "interpolation": "bilinear"}
    return n
"""
OWN = Preprocessing((32, 32), mean=(0.5, 0.5, 0.5))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("prepared")
    names = {}
    exec(SOURCE, names)
    torch.manual_seed(0)
    network = names["build"]()
    (home / "prepared_net.py").write_text(SOURCE)
    (home / "runs").mkdir()
    torch.save(network.state_dict(), home / "runs" / "a.pth")
    fastrdm.export_onnx(network, home / "net.onnx")
    rng = np.random.default_rng(0)
    (home / "study" / "stimuli").mkdir(parents=True)
    for i in range(6):
        pixels = rng.integers(0, 256, (40, 70, 3), np.uint8)
        Image.fromarray(pixels).save(home / "study" / "stimuli" / f"{i}.png")
    np.save(
        home / "study" / "it.npy", [fastrdm.square(calc_rdm(rng.random((6, 30)))) for _ in "abc"]
    )
    (home / "study" / "study.toml").write_text('order = "sorted"\n[targets.it]\nfile = "it.npy"\n')
    return home


@pytest.fixture
def here(home, monkeypatch):
    monkeypatch.chdir(home)
    monkeypatch.syspath_prepend(home)
    yield home
    sys.modules.pop("prepared_net", None)


def scores(weights, arch=(), **options):
    (found,) = score_checkpoints([weights], arch, "study", provider="cpu", n_draws=0, **options)
    assert not found.error
    return {result.layer: result.mean_rho for result in found.results}


def expected(home, preprocessing):
    """Mean Spearman correlation with the subjects of what torch computes on images of torchvision."""
    names = {}
    exec(SOURCE, names)
    network = names["build"]()
    network.load_state_dict(torch.load(home / "runs" / "a.pth"))
    images = sorted((home / "study" / "stimuli").iterdir())
    with torch.no_grad():
        conv = network[0](torch.from_numpy(preprocessing.load(images)))
        layers = {"conv": conv, "pool": network[1](conv)}
    subjects = fastrdm.condense(np.load(home / "study" / "it.npy"))
    return {
        name: pytest.approx(
            np.mean([spearmanr(1 - pearson(values), each).statistic for each in subjects]), abs=1e-4
        )
        for name, values in layers.items()
    }


def pearson(values):
    return np.corrcoef(values.flatten(1).numpy())[np.triu_indices(len(values), 1)]


@pytest.mark.parametrize(
    ("wanted", "same"),
    [
        ({"crop": 40}, Preprocessing((32, 32), mean=(0.5, 0.5, 0.5), crop=40)),
        ({"size": 24, "resize": "pil-bicubic"}, Preprocessing((24, 24), "pil-bicubic", OWN.mean)),
        ({"source": "timm", "crop": 0.8}, Preprocessing((24, 24), crop=0.8)),
        (Preprocessing((20, 28)), Preprocessing((20, 28))),
    ],
    ids=["crop", "size", "timm", "whole"],
)
def test_scores_of_an_architecture(here, wanted, same):
    got = scores("runs/a.pth", ["prepared_net:build"], preprocessing=wanted)
    assert got == expected(here, same) and got != expected(here, OWN)


def test_scores_of_an_exported_architecture_and_file(here):
    own = {"crop": 40, "std": (1, 1, 1)}
    same = expected(here, Preprocessing((32, 32), mean=OWN.mean, std=(1, 1, 1), crop=40))
    assert scores("runs/a.pth", ["net.onnx"], preprocessing=own) == same
    assert scores("net.onnx", preprocessing=own) == same
    with pytest.raises(ValueError, match=r"net.onnx takes images of 32 × 32 pixels, not of 9 × 9"):
        scores("runs/a.pth", ["net.onnx"], preprocessing={"size": 9})
    (failed,) = score_checkpoints(["net.onnx"], (), "study", preprocessing={"size": 9}, n_draws=0)
    assert "takes images of 32 × 32 pixels" in failed.error


def test_preprocessing_is_part_of_a_results_key(here, tmp_path):
    store = tmp_path / "scores.db"
    wanted = [None, {"crop": 40}, {"crop": 0.8}, {"crop": 40}]
    for weights, arch in (("runs/a.pth", "net.onnx"), ("net.onnx", ())):
        counts = [
            sweep(
                weights, arch, "study", store=store, preprocessing=each, engine="in-process"
            ).scored
            for each in wanted
        ]
        assert counts == [1, 1, 1, 0]


def test_keys_of_results_without_a_request_are_those_of_before(here):
    (pipeline,) = {
        network.pipeline(network.setup, RunOptions()).preprocessing
        for network in Resolver(["net.onnx"]).networks
    }
    assert pipeline == "the file's"
    resolver = Resolver(["runs/a.pth"], ["net.onnx"])
    network = resolver.networks[0]
    text = network.pipeline(network.setup, RunOptions()).preprocessing
    assert text == json.dumps(json.loads(OWN.to_json())) and "crop" not in text


def test_two_networks_of_one_size_with_other_crops_get_their_own_pixels(here):
    (here / "two.toml").write_text(
        '[[network]]\narch = "net.onnx"\nweights = "runs/a.pth"\n'
        '[[network]]\narch = "net.onnx"\nweights = "runs/a.pth"\npreprocessing = {crop = 40}\n'
    )
    plain, cropped = score_checkpoints(["two.toml"], (), "study", provider="cpu", n_draws=0)
    assert [r.mean_rho for r in plain.results] == list(expected(here, OWN).values())
    same = expected(here, Preprocessing((32, 32), mean=OWN.mean, crop=40))
    assert [r.mean_rho for r in cropped.results] == list(same.values())


def test_manifests_name_sources_files_and_fields(here):
    processor = transformers.CLIPImageProcessor()
    processor.save_pretrained(here / "runs")
    (here / "own.json").write_text('{"size": [20, 20], "crop": 0.5}')
    (here / "all.toml").write_text(
        "".join(
            f'[[network]]\narch = "prepared_net:build"\nweights = "runs/a.pth"\npreprocessing = {each}\n'
            for each in (
                '"timm"',
                '"transformers"',
                '"own.json"',
                '{source = "timm", crop = 0.9}',
                "{size = 28}",
            )
        )
    )
    try:
        with pytest.warns(RuntimeWarning, match="crop of .* is left out"):
            resolver = Resolver(["all.toml"])
    finally:
        (here / "runs" / "preprocessor_config.json").unlink()
    from prepared_net import build

    wanted = [network.preprocessing for network in resolver.networks if network.arch]
    assert [preprocessing_for(build(), each) for each in wanted] == [
        Preprocessing((24, 24)),
        preprocessing_of(processor, crop=False),
        Preprocessing((20, 20), mean=OWN.mean, crop=0.5),
        Preprocessing((24, 24), crop=0.9),
        Preprocessing((28, 28), mean=OWN.mean),
    ]


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ('preprocessing = "tim"', r"m.toml: network 1: preprocessing '.*tim' is neither a file"),
        ('preprocessing = "transformers"', "m.toml: network 1: there is no preprocessor_config"),
        ("preprocessing = {crop = 2.5}", "m.toml: network 1: preprocessing: crop must be"),
        ("preprocessing = 3", "preprocessing = 3 has the wrong type"),
    ],
)
def test_bad_manifests(here, line, match):
    (here / "m.toml").write_text(f'[[network]]\narch = "net.onnx"\nweights = "runs"\n{line}\n')
    with pytest.raises(ValueError, match=match):
        Resolver(["m.toml"])


def test_preprocessing_for_manifests_alone_is_an_error(here):
    (here / "m.toml").write_text('[[network]]\nweights = "net.onnx"\n')
    with pytest.raises(ValueError, match="preprocessing cannot be given for manifests alone"):
        sources(["m.toml"], preprocessing=OWN)


def test_the_command_line(here, capsys):
    options = ["--data", "study", "--size", "24", "--crop", "0.8", "--mean", "0.5,0.4,0.3"]
    same = Preprocessing((24, 24), mean=(0.5, 0.4, 0.3), crop=0.8)
    command = ["score", "runs/a.pth", "--arch", "prepared_net:build", *options]
    assert main([*command, "--json", "--bootstrap", "0", "--provider", "cpu"]) == 0
    rows = json.loads(capsys.readouterr().out)["results"]
    assert {row["layer"]: row["mean_rho"] for row in rows} == expected(here, same)
    command = ["score", "runs/a.pth", "--arch", "prepared_net:build", "--data", "study"]
    assert main([*command, "--preprocessing", "timm", "--bootstrap", "0", "--json"]) == 0
    out, err = capsys.readouterr()
    assert "the crop of Sequential is left out" in err and "--crop 0.8" in err
    got = {row["layer"]: row["mean_rho"] for row in json.loads(out)["results"]}
    assert got == expected(here, Preprocessing((24, 24)))
