"""Layers without a score: one rule in `score` and `sweep`."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import fastrdm
from fastrdm import Preprocessing, square
from fastrdm.cli import main
from fastrdm.scoring import Store, score_checkpoints

N = 7
BLACK = (1, 4)
WHY_RELU = "layer 'relu' has no score on s: its activations are constant (equal in all channels) for b/1.png, b/4.png"
WHY_SAME = "layer 'same' has no score on s: its RDM is constant (all pairs of images are equally dissimilar)"


def make_network(path, same=True, dead=False):
    torch.manual_seed(0)
    network = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(243, 5), nn.Linear(5, 4))
    if same:
        nn.init.zeros_(network[3].weight)
    if dead:
        for layer in network[2:]:
            nn.init.zeros_(layer.weight), nn.init.zeros_(layer.bias)
    blank = Preprocessing((9, 9), mean=(0.0,) * 3, std=(1.0,) * 3)
    taps = {"fc": "2", "same": "3"} if dead else {"relu": "0", "fc": "2", "same": "3"}
    return fastrdm.export_onnx(network.eval(), path, taps, preprocessing=blank)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A study in which two of seven images are black, and a network of which only one layer has a score."""
    folder = tmp_path_factory.mktemp("undefined")
    rng = np.random.default_rng(0)
    for name in "ab":
        (folder / "s" / "stimuli" / name).mkdir(parents=True)
    names = [f"{'b' if i in BLACK else 'a'}/{i}.png" for i in range(N)]
    for i, name in enumerate(names):
        pixels = rng.integers(0, 256, (9, 9, 3), np.uint8) * (i not in BLACK)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / "s" / "stimuli" / name)
    (folder / "s" / "order.txt").write_text("\n".join(names))
    subjects = np.stack([square(rng.random(N * (N - 1) // 2)) for _ in range(4)])
    np.savez(folder / "s" / "rdms.npz", it=subjects, v1=subjects[:3])
    (folder / "s" / "study.toml").write_text(
        'name = "s"\norder = "order.txt"\n'
        '[targets.it]\nfile = "rdms.npz"\nkey = "it"\n[targets.v1]\nfile = "rdms.npz"\nkey = "v1"\n'
    )
    make_network(folder / "net.onnx")
    make_network(folder / "dead.onnx", dead=True)
    return folder


def run(capsys, *arguments):
    status = main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return status, out, err


def test_score_names_layer_reason_and_images_once(capsys, place):
    arguments = ("score", place / "net.onnx", "--data", place / "s", "--quiet")
    status, out, err = run(capsys, *arguments)
    assert status == 0, err
    warnings = [line for line in err.splitlines() if "warning" in line]
    start = f"fastrdm: warning: {place / 'net.onnx'}: "
    assert sorted(warnings) == sorted([start + WHY_RELU, start + WHY_SAME])
    rows = {line.split()[0]: line for line in out.splitlines() if line.strip()}
    assert rows["relu"].count("–") == 3 and rows["same"].count("–") == 3
    assert "–" not in rows["fc"] and "* best layer: fc" in out and "nan" not in out
    rows = json.loads(run(capsys, *arguments, "--json")[1])["results"]
    assert len(rows) == 6
    for row in rows:
        is_known = row["layer"] == "fc"
        assert (row["r2"] is not None) == (row["percent_nc"] is not None) == is_known
        assert len(row["rho"]) == {"it": 4, "v1": 3}[row["region"]]
        assert (None not in row["rho"]) == is_known


def test_sweep_tells_the_same(capsys, place, tmp_path):
    store = tmp_path / "s.db"
    arguments = ("sweep", place / "net.onnx", "--data", place / "s", "--store", store)
    status, _, err = run(capsys, *arguments, "--engine", "in-process", "--quiet")
    assert status == 0, err
    start = f"fastrdm: warning: {place / 'net.onnx'}: "
    warnings = [line for line in err.splitlines() if "warning" in line]
    assert sorted(warnings) == sorted([start + WHY_RELU, start + WHY_SAME])
    with Store(store) as opened:
        columns = list(opened.columns())
        rows = [dict(zip(columns, row, strict=True)) for row in opened.rows()]
    assert {row["layer"] for row in rows if math.isnan(row["percent_nc"])} == {"relu", "same"}
    with pytest.warns(RuntimeWarning, match="has no score on s"):
        (scored,) = score_checkpoints([place / "net.onnx"], (), place / "s")
    results = scored.results
    assert sorted((r.layer, r.region) for r in results if math.isnan(r.percent_nc)) == sorted(
        (row["layer"], row["region"]) for row in rows if math.isnan(row["percent_nc"])
    )


def test_a_network_without_any_score_is_noted(capsys, place, tmp_path):
    figure = tmp_path / "f.png"
    arguments = ("score", place / "dead.onnx", "--data", place / "s", "--quiet", "--figure", figure)
    status, out, err = run(capsys, *arguments)
    assert status == 0 and "no layer has a score" in out and "best layer" not in out
    why = "layers 'fc', 'same' have no score on s: their activations are constant (equal in all channels)"
    assert err.count("warning") == 1 and f"{why} for all 7 images" in err and figure.is_file()


def test_nan_activations_are_a_failure_not_a_constant_layer(capsys, place, tmp_path):
    network = nn.Sequential(nn.Flatten(), nn.Linear(243, 5))
    nn.init.constant_(network[1].bias, math.nan)
    blank = Preprocessing((9, 9), mean=(0.0,) * 3, std=(1.0,) * 3)
    path = fastrdm.export_onnx(network, tmp_path / "nan.onnx", {"fc": "1"}, preprocessing=blank)
    status, out, err = run(capsys, "score", path, "--data", place / "s", "--quiet")
    assert status == 1 and not out and "'fc' has NaN or infinite activations" in err
    assert "a/0.png" in err and "constant" not in err


def test_the_same_warning_of_several_checkpoints_is_counted(capsys, place, tmp_path):
    for name in ("a.onnx", "b.onnx", "c.onnx"):
        make_network(tmp_path / name, dead=name != "c.onnx")
    # Other bytes, or it is the same checkpoint.
    (tmp_path / "b.onnx").write_bytes(
        (tmp_path / "b.onnx").read_bytes().replace(b"pytorch", b"PyTorch")
    )
    networks = tmp_path / "*.onnx"
    arguments = ("sweep", networks, "--data", place / "s", "--store", tmp_path / "s.db", "--quiet")
    status, _, err = run(capsys, *arguments, "--engine", "in-process")
    first, *_, count, end = [line for line in err.splitlines() if "dead" not in line]
    assert status == 0 and end.startswith("fastrdm: finished: 3 scored")
    assert first.startswith(f"fastrdm: warning: {tmp_path / 'a.onnx'}: layers 'fc', 'same'")
    assert count.startswith("fastrdm: warning: 2 checkpoints: layers 'fc', 'same'")
    assert sum("layers 'fc'" in line for line in err.splitlines()) == 2


def test_a_submission_needs_a_layer_with_a_score(place, tmp_path):
    import dataclasses

    from fastrdm.studies import open_studies

    (study,) = open_studies(place / "s")
    targets = {"evc": study.targets["it"], "it": study.targets["it"]}
    study = dataclasses.replace(study, targets=targets, test_stimuli=study.stimuli)
    (scored,) = score_checkpoints([place / "dead.onnx"], (), study, submit=tmp_path / "out")
    assert "no layer has a score, so none can be submitted" in scored.error
    assert not (tmp_path / "out").exists()
