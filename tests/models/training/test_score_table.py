import csv
import io
import math

import numpy as np
import pytest
import torch
from miniature import NETWORK, write_images
from PIL import Image

import fastrdm
from fastrdm import Target
from fastrdm.scoring import Store, layer_scores
from fastrdm.studies import Study
from models.training.score_table import ScoreTable, results_by_epoch
from models.training.train import main

NAME = "challenge score: mean R² of EVC and IT ÷ mean ceiling"


def study(name, *regions):
    rng = np.random.default_rng(0)
    rdms = rng.random((4, 21)) + rng.random(21)
    return Study(name, (), {r: Target(rdms, name=r) for r in regions})


def row(epoch, study, layer, region, value, ceiling, rho=0.1):
    numbers = dict.fromkeys(("r2", "std", "sample_std", "p"), 0.0)
    numbers |= {"value": value, "percent_nc": 100 * value / ceiling, "ceiling": ceiling}
    return {
        "checkpoint": "x", "epoch": epoch, "study": study, "layer": layer, "region": region, "mean_rho": rho,
    } | numbers  # fmt: skip


def rows(*studies, regions=("evc", "it")):
    values = {"conv": 0.1, "fc": 0.2}
    return [
        row(epoch, name, layer, region, values[layer] * int(epoch) / 10 * (k + 1), 0.4 - 0.1 * k)
        for epoch in ("010", "002")
        for name in studies
        for layer in values
        for k, region in enumerate(regions)
    ]


def test_a_row_for_each_epoch_has_the_challenge_score_beside_the_regions():
    table = ScoreTable(results_by_epoch(rows("92")), [study("92", "evc", "it")])
    name, header, *lines = table.lines()
    assert name == f"{NAME} (%)"
    cells = [" ".join(line.split()) for line in (header, *lines)]
    # (0.2 + 0.4) / (0.4 + 0.3) at epoch 10.
    assert cells == [
        "epoch best layer 92 EVC 92 IT 92 challenge score",
        "2 fc 10.00 26.67 17.14",
        "10 fc 50.00 133.33 85.71",
    ]
    assert len({len(line) for line in (header, *lines)}) == 1
    found = list(csv.DictReader(io.StringIO(table.csv())))
    assert [each["epoch"] for each in found] == ["2", "10"]
    assert float(found[1]["92 challenge score"]) == pytest.approx(600 / 7)
    assert table.sentence(2) == (
        "best layer fc, 92 EVC 10.00 %, 92 IT 26.67 %, 92 challenge score 17.14 %"
    )


def test_several_studies_have_their_mean():
    results = results_by_epoch(rows("92", "118"))
    table = ScoreTable(results, [study("92", "evc", "it"), study("118", "evc", "it")])
    name, header, line, _ = table.lines()
    assert name == f"{NAME} (%), mean over 92 and 118"
    assert header.endswith("118 challenge score  mean challenge score")
    assert float(line.split()[-1]) == pytest.approx(
        layer_scores(results[2])["fmri"]["fc"], abs=5e-3
    )


def test_modalities_have_a_best_layer_each_and_other_studies_a_score():
    regions = ("evc", "it", "early", "late")
    found = results_by_epoch(rows("92", regions=regions[:2]) + rows("92", regions=regions[2:]))
    table = ScoreTable(found, [study("92", *regions)])
    *names, header, _, _ = table.lines()
    assert names[0] == f"fmri, {NAME} (%)" and names[1].startswith("meg, challenge score: ")
    assert "best layer (fmri)" in header and "92 challenge score (meg)" in header
    own = ScoreTable(
        results_by_epoch(rows("own", regions=["v1", "v2"])), [study("own", "v1", "v2")]
    )
    assert next(own.lines()) == "score: mean R² of V1 and V2 ÷ mean ceiling (%)"
    assert "own score 17.14 %" in own.sentence(2)


def test_epochs_without_a_score_and_layers_opposite_to_the_brain():
    nothing = row("1", "92", "fc", "evc", math.nan, 0.4), row("1", "92", "fc", "it", math.nan, 0.4)
    opposite = [row("2", "92", "fc", region, 0.1, 0.4, rho=-0.3) for region in ("evc", "it")]
    table = ScoreTable(results_by_epoch([*nothing, *opposite]), [study("92", "evc", "it")])
    assert table.sentence(1) == "no layer has a score, their RDMs are constant"
    assert "the best layer, fc, is opposite to the brain in EVC of 92" in table.sentence(2)
    assert list(table.lines())[2].split() == ["1", "–", "–", "–", "–"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("score-options")
    write_images(folder / "set")
    (folder / "tiny_network.py").write_text(NETWORK)
    rng = np.random.default_rng(1)
    for name in ("one", "two"):
        (folder / "studies" / name / "stimuli").mkdir(parents=True)
        for i in range(6):
            pixels = rng.integers(0, 256, (20, 20, 3), np.uint8)
            Image.fromarray(pixels).save(folder / "studies" / name / "stimuli" / f"{i}.png")
        rdms = {
            key: np.stack([fastrdm.square(rng.random(15)) for _ in range(4)])
            for key in ("evc", "it")
        }
        text = 'order = "sorted"\n'
        for key, values in rdms.items():
            np.savez(folder / "studies" / name / f"{key}.npz", it=values)
            text += f'[targets.{key}]\nfile = "{key}.npz"\n'
        (folder / "studies" / name / "study.toml").write_text(text)
    return folder


def test_training_chooses_sets_regions_and_taps(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(place)
    options = [
        "--arch",
        "tiny_network:build",
        "--epochs",
        "1",
        "--batch-size",
        "6",
        "--image-size",
        "16",
    ]
    options += ["--device", "cpu", "--data", "set", "--cache", "cache", "--score", "studies"]
    options += ["--out", "run", "--score-size", "16"]
    assert main([*options, "--score-taps", "no"]) == 1
    assert "no" in capsys.readouterr().err and not list((place / "run").glob("*.onnx"))
    assert main([*options, "--score-sets", "three"]) == 1
    assert "no study named 'three'" in capsys.readouterr().err
    assert main([*options, "--score-regions", "v4"]) == 1
    assert "no region 'v4'" in capsys.readouterr().err
    assert main([*options, "--score-sets", "two", "--score-taps", "first=0,1"]) == 0
    err = capsys.readouterr().err
    assert f"{NAME} (%)" in err and "two challenge score" in err and "epoch 1 scored: best" in err
    with Store(place / "run" / "scores.db") as store:
        columns = list(store.columns())
        found = [dict(zip(columns, each, strict=True)) for each in store.rows()]
    assert {each["study"] for each in found} == {"two"}
    assert {each["layer"] for each in found} == {"first", "1"}
    (line,) = csv.DictReader((place / "run" / "scores.csv").open())
    assert list(line) == ["epoch", "best layer", "two EVC", "two IT", "two challenge score"]
    # Other taps are another graph in the same run.
    assert main([*options, "--score-regions", "it"]) == 0
    assert len(list((place / "run").glob("network-16x16*.onnx"))) == 2


def test_options_of_scoring_need_studies(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    assert main(["--data", "set", "--out", "other", "--score-taps", "fc"]) == 1
    assert "--score-taps needs --score DIR" in capsys.readouterr().err
    assert torch.is_grad_enabled() and not (place / "other").exists()
