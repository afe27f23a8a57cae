import csv
import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import fastrdm
from fastrdm.cli.sample import write_sample
from fastrdm.networks import WeightsError
from fastrdm.plot import best_scores
from fastrdm.scoring import COLUMNS, Store
from fastrdm.scoring.scorer import score_layers
from fastrdm.similarity import Target
from fastrdm.studies import Study, algonauts, open_studies
from models.networks import TAPS, build
from models.networks import published as pretrained
from models.study.candidates import checkpoint_candidates, count_classes
from models.study.comparison import Published, rows
from models.study.figures import Panel, draw_bars, panels
from models.study.network_scores import NetworkScores, subject_results
from models.study.replicate import STUDY, main
from models.study.tables import cell


def study(name="92", seed=0, n_subjects=(5, 5)):
    rng = np.random.default_rng(seed)
    common = rng.random(21)
    targets = {
        region: Target(rng.random((n, 21)) + common, name=region)
        for region, n in zip(("evc", "it"), n_subjects, strict=True)
    }
    return Study(name, (), targets)


def rdms(seed=1, layers=("conv", "fc")):
    rng = np.random.default_rng(seed)
    return {layer: rng.random(21) for layer in layers}


def score_rdms(name, study, layers):
    """Results of RDMs, scored here."""
    rows = []
    for region, target in study.targets.items():
        score = score_layers(target, np.stack(list(layers.values())))
        rows += [
            {"study": study.name, "arch": "", "layer": layer, "region": region, "rho": rho}
            | {column: float(getattr(score, column)[i]) for column in (*COLUMNS, "mean_rho")}
            | {"ceiling": target.ceiling}
            for i, layer in enumerate(layers)
            for rho in score.rho[i].tolist()
        ]
    return subject_results(name, rows, [study], {"": ""})


def scored(name="alexnet", sets=("92", "118"), seed=1):
    results = []
    for i, each in enumerate(sets):
        results += score_rdms(name, study(each, i), rdms(seed + i))
    return NetworkScores(name, tuple(results))


def test_a_score_is_of_each_subjects_mean_over_regions():
    own, layers = study(), rdms()
    found = NetworkScores("n", tuple(score_rdms("n", own, layers))).score("92", "fc")
    squares = np.stack([t.score(layers["fc"]).rho[0] ** 2 for t in own.targets.values()])
    values = 100 * squares.mean(0) / np.mean([t.ceiling for t in own.targets.values()])
    np.testing.assert_allclose(found, [values.mean(), values.std(), values.std(ddof=1)])
    uneven = study(n_subjects=(5, 4))
    found = NetworkScores("n", tuple(score_rdms("n", uneven, layers))).score("92", "fc")
    assert np.isfinite(found.percent) and np.isnan([found.std, found.sample_std]).all()


def test_layers_opposite_to_the_brain_are_marked():
    own = study()
    common = np.mean([t.subject_rdms.mean(axis=(0, 1)) for t in own.targets.values()], axis=0)
    layers = {"conv": rdms()["conv"], "fc": -common}
    scores = NetworkScores("n", tuple(score_rdms("n", own, layers)))
    assert scores.best == "fc" and scores.marked("fc") == "fc ‡"
    (remark,) = scores.remarks
    assert remark.startswith(
        "the best layer, fc, is opposite to the brain in EVC of 92 (mean rho -"
    )
    table = {row["layer"]: row for row in rows([scores], None, ["92"])}
    for region in ("evc", "it"):
        expected = own.targets[region].score(layers["fc"]).mean_rho[0]
        assert table["fc"][f"{region}_rho"] == expected < 0
        assert cell(expected, f"{region}_rho") == f"{expected:+.3f} ‡"
    (panel,) = panels([scores], None, [])
    assert panel.layers == {"n": "fc"}
    agreeing = NetworkScores("n", tuple(score_rdms("n", own, {"fc": common})))
    assert agreeing.marked("fc") == "fc" and agreeing.remarks == []


def test_layers_are_never_chosen_by_the_test_study():
    both = scored(sets=("92", "78"))
    alone = scored(sets=("92",))
    assert (both.best, both.mean) == (alone.best, alone.mean)
    # Whatever the scores on the test study.
    other = next(layer for layer in rdms() if layer != both.best)
    loud = tuple(
        replace(r, value=99.0) if (r.study, r.layer) == ("78", other) else r for r in both.results
    )
    assert replace(both, results=loud).best == alone.best


def test_a_constant_layer_is_never_best():
    constant = rdms() | {"constant": np.full(21, np.nan)}
    scores = NetworkScores("n", tuple(score_rdms("n", study(), constant)))
    assert np.isnan(scores.score("92", "constant").percent) and scores.best != "constant"


def test_published_table(tmp_path, data_root):
    table = Published.read(data_root / "published/replication_fmri.csv")
    assert table.values["alexnet", "92", "conv5"] == (8.028892, 4.344320, 5.599634)
    assert table.best("alexnet", ("92", "118")) == "conv2"
    assert table.best("resnet18", ("92", "118")) == "block1"
    assert table.best("cornet_s", ("92",)) == table.best("alexnet", ("92", "78")) == ""
    assert {key[0] for key in table.values} | {"cornet_s", "cornet_z", "resnet20"} == {*STUDY}
    (tmp_path / "other.csv").write_text("network,layer\na,b\n")
    with pytest.raises(
        ValueError, match=r"other\.csv is not a table of published scores: .*image_set"
    ):
        Published.read(tmp_path / "other.csv")


def test_rows_have_the_published_values_and_errors():
    scores = scored()
    published = Published({("alexnet", "92", "conv"): (1.0, 2.0, 3.0)})
    table = rows([scores, NetworkScores("vgg11", error="is nowhere")], published, ("92", "118"))
    assert [(r["network"], r["study"], r["layer"]) for r in table] == [
        *(("alexnet", each, layer) for each in ("92", "118") for layer in ("conv", "fc")),
        ("vgg11", None, None),
    ]
    first, *others, missing = table
    evc, it = scores.results[:2]
    assert (first["evc"], first["it"]) == (evc.percent_nc, it.percent_nc)
    assert (first["evc_p"], first["it_p"]) == (evc.p, it.p)
    assert first["evc_difference"] == evc.percent_nc - 1
    assert first["score_difference"] == scores.score("92", "conv").percent - 3
    assert all(row["evc_published"] is None for row in others)
    assert [row["layer"] for row in table if row["best"]] == [scores.best] * 2
    assert missing["note"] == "is nowhere"


def test_bars_are_drawn(tmp_path):
    scores = scored()
    panel = Panel("92", scores.results[:4], {scores.name: scores.best}, 45.0, "the baseline")
    path = draw_bars([panel], tmp_path / "new/a.svg", "a title")
    text = path.read_text()
    for each in ("a title", "the baseline", scores.name, scores.best, "noise ceiling"):
        assert each in text
    with pytest.raises(ValueError, match="at least one panel"):
        draw_bars([], tmp_path / "a.png")


def test_panels_show_only_the_test_study_if_scored():
    networks = [scored(), scored("resnet18", seed=5), NetworkScores("vgg11", error="is nowhere")]
    drawn = panels(networks, None, networks)
    assert [panel.study for panel in drawn] == ["92", "118"]
    assert list(drawn[0].layers) == ["alexnet", "resnet18"]
    for panel in drawn:
        for score in best_scores(panel.results, panel.layers):
            (of_network,) = [each for each in networks if each.name == score.network]
            expected = of_network.score(panel.study, of_network.best)
            assert (score.layer, score.percent) == (
                of_network.best,
                pytest.approx(expected.percent),
            )
    assert drawn[1].baseline == networks[0].score("118", networks[0].best).percent

    others = [scored("resnet18", sets=("92", "78"))]
    (panel,) = panels(others, None, others)
    assert (panel.study, panel.baseline) == ("78", 7.4066)
    assert {r.study for r in panel.results} == {"78"}

    published = Published({("alexnet", each, "conv2"): (0.0, 0.0, 9.0) for each in ("92", "118")})
    drawn = panels([scored("resnet18")], published, [])
    assert [panel.baseline for panel in drawn] == [9.0, 9.0]
    assert panels(networks[2:], None, networks) == []


@pytest.mark.parametrize("name", ["cornet_z", "sqnet1_1", "googlenet", "resnet20"])
def test_the_number_of_classes_is_read_from_the_weights(name, tmp_path):
    torch.save(build(name, 7).state_dict(), tmp_path / "w.pth")
    assert count_classes(name, tmp_path / "w.pth") == 7


def test_a_runs_epochs_are_in_order(tmp_path):
    folder = tmp_path / "run" / "checkpoints"
    folder.mkdir(parents=True)
    for name in ("epoch_10.pth", "epoch_001.pth", "epoch_5.safetensors", "last.pth", "notes.txt"):
        (folder / name).write_bytes(b"x")
    for path in (tmp_path / "run", folder):
        candidates = checkpoint_candidates([path], tmp_path)
        assert [candidate.name for candidate in candidates] == ["epoch_001", "epoch_5", "epoch_10"]
    with pytest.raises(ValueError, match="several checkpoints are called epoch_001"):
        checkpoint_candidates([folder, folder / "epoch_001.pth"], tmp_path)
    with pytest.raises(ValueError, match="has no checkpoints whose names end in a number"):
        checkpoint_candidates([tmp_path], tmp_path)
    with pytest.raises(WeightsError, match="no such file"):
        checkpoint_candidates([tmp_path / "a.pth"], tmp_path)


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    return write_sample(tmp_path_factory.mktemp("sample"), n_conditions=12, n_subjects=8)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A folder of weights; one file has a published name, with the file's actual hash."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    torch.save({"state_dict": build("cornet_z").state_dict()}, folder / "made")
    sha256 = hashlib.sha256((folder / "made").read_bytes()).hexdigest()
    (folder / "made").rename(folder / f"cornet_z-{sha256[:8]}.pth")
    torch.save(build("sqnet1_1").state_dict(), folder / "sqnet1_1.pth")
    (folder / "run").mkdir()
    for epoch in (1, 5):
        torch.save(build("resnet20", 6).state_dict(), folder / f"run/epoch_{epoch:03d}.pth")
    return folder


def arguments(sample, weights, out, *more):
    return [
        *("--data", str(sample), "--out", str(out), "--weights-dir", str(weights)),
        *("--networks", "cornet_z,alexnet", "sqnet1_1", "--offline", *more),
    ]


def test_a_study_from_weights_to_figures_and_again(sample, weights, tmp_path, monkeypatch, capsys):
    (official,) = weights.glob("cornet_z-*.pth")
    urls = {"cornet_z": f"https://nowhere.invalid/{official.name}"}
    monkeypatch.setattr(
        pretrained, "url_of", lambda name: urls.get(name, "https://x/alexnet-owt.pth")
    )
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    (name,) = [each.name for each in open_studies(sample)]
    (tmp_path / "published.csv").write_text(
        "network,image_set,layer,evc_percent_nc,it_percent_nc,score_percent_nc\n"
        + "".join(f"sqnet1_1,{name},{layer},1,2,3\n" for layer in TAPS["sqnet1_1"])
    )
    out = tmp_path / "out"
    more = ("--checkpoints", str(weights / "run"), "--published", str(tmp_path / "published.csv"))
    assert main(arguments(sample, weights, out, *more)) == 1
    printed = capsys.readouterr()
    assert "alexnet: not scored: alexnet-owt.pth is not in" in printed.out
    assert "replicate: 1 of 5 not scored: alexnet" in printed.err
    assert "SYNTHETIC DATA" in printed.out

    with (out / "table.csv").open() as file:
        table = list(csv.DictReader(file))
    by_network = {}
    for row in table:
        by_network.setdefault(row["network"], []).append(row)
    assert by_network.keys() == {"cornet_z", "sqnet1_1", "alexnet", "epoch_001", "epoch_005"}
    assert "downloads are not allowed" in by_network["alexnet"][0]["note"]
    for network, taps in (("cornet_z", "cornet_z"), ("epoch_005", "resnet20")):
        assert [row["layer"] for row in by_network[network]] == list(TAPS[taps])
    for row in by_network["sqnet1_1"]:
        assert float(row["it_difference"]) == pytest.approx(float(row["it"]) - 2)
    assert "| alexnet |" in (out / "table.md").read_text()

    # The best layer's RDM of the test images is what was submitted, from the network that was scored.
    (best,) = [row["layer"] for row in by_network["sqnet1_1"] if row["best"] == "True"]
    folder = out / "networks/sqnet1_1"
    (one,) = open_studies(sample)
    model = fastrdm.OnnxModel(folder / "network.onnx", provider="cpu")
    expected = model.rdms(list(one.test_stimuli), layers=[best])[best]
    submitted = algonauts.read_submission(folder / "submit_fmri.mat")
    for rdm in submitted.values():
        np.testing.assert_allclose(rdm, expected, atol=1e-7)
    assert (folder / "submit_fmri.zip").is_file()
    assert (out / "checkpoints/epoch_001/submit_fmri.mat").is_file()
    for figure in ("figure4.png", "figure5.png"):
        pixels = np.asarray(Image.open(out / figure).convert("RGB")).reshape(-1, 3)
        blue = (pixels[:, 2] > pixels[:, 0] + 80).sum()
        assert blue > 1000, "bars"

    # Nothing is repeated except for missing files.
    before = {path: path.stat().st_mtime_ns for path in out.rglob("submit_fmri.mat")}
    table_before = (out / "table.csv").read_bytes()
    network = (folder / "network.onnx").stat().st_mtime_ns
    (folder / "submit_fmri.mat").unlink()
    assert main(arguments(sample, weights, out, *more, "--quiet")) == 1
    again = {path for path, time in before.items() if path.stat().st_mtime_ns != time}
    assert again == {folder / "submit_fmri.mat"}
    assert (folder / "network.onnx").stat().st_mtime_ns == network
    with Store(out / "scores.db") as store:
        assert store.counts() == {
            "checkpoints": 4,
            "results": len(list(store.rows())),
            "failures": 0,
        }
        assert len({row[0] for row in store.rows()}) == 4
    assert (out / "table.csv").read_bytes() == table_before
    assert capsys.readouterr().err == "replicate: 1 of 5 not scored: alexnet\n"


def test_real_scores_are_compared_with_the_published_ones(data_root, challenge, weights, tmp_path):
    out = tmp_path / "out"
    command = ["--data", str(data_root), "--out", str(out), "--networks", "sqnet1_1", "--quiet"]
    assert main([*command, "--weights", str(weights / "sqnet1_1.pth")]) == 0
    with (out / "table.csv").open() as file:
        table = list(csv.DictReader(file))
    assert {(row["study"], row["layer"]) for row in table} == {
        (each, layer) for each in ("92", "118") for layer in TAPS["sqnet1_1"]
    }
    for row in table:
        for quantity in ("evc", "it", "score"):
            own, theirs, difference = (
                float(row[f"{quantity}{part}"]) for part in ("", "_published", "_difference")
            )
            assert difference == pytest.approx(own - theirs)
    assert [row["layer"] for row in table if row["published_best"] == "True"] == ["fire7"] * 2
    rdm = algonauts.read_submission(out / "networks/sqnet1_1/submit_fmri.mat")["evc"]
    assert len(rdm) == 78 * 77 // 2
    assert not (out / "figure5.png").exists()


@pytest.mark.parametrize(
    "more, message",
    [
        (["--networks", "alexnett"], "no network 'alexnett'; nearest: alexnet"),
        (["--weights", "w.pth"], "does not name its network"),
        (["--weights", "resnet18=nowhere.pth"], "nowhere.pth: no such file"),
        (["--networks", "vgg11", "--weights", "resnet18=W"], "that is not in --networks"),
        (["--weights-dir", "nowhere"], "--weights-dir nowhere is not a folder"),
        (["--batch-size", "0"], "--batch-size must be at least 1, not 0"),
        (["--data", "nowhere"], "nowhere is not a folder"),
        (["--published", "nowhere.csv"], "nowhere.csv"),
        (["--checkpoints", "nowhere.pth"], "nowhere.pth: no such file"),
    ],
)
def test_invalid_arguments_are_refused_before_work_starts(
    sample, weights, tmp_path, capsys, more, message
):
    more = [each.replace("=W", f"={weights / 'sqnet1_1.pth'}") for each in more]
    out = tmp_path / "out"
    assert main(["--data", str(sample), "--out", str(out), *more]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not out.exists()


def test_a_failure_does_not_stop_the_others(sample, weights, tmp_path, capsys):
    out = tmp_path / "out"
    wrong = f"cornet_z={weights / 'sqnet1_1.pth'}"
    right = f"sqnet1_1={weights / 'sqnet1_1.pth'}"
    command = ["--data", str(sample), "--out", str(out), "--networks", "cornet_z,sqnet1_1"]
    assert main([*command, "--weights", wrong, "--weights", right, "--quiet"]) == 1
    assert "cornet_z: not scored" in capsys.readouterr().out
    assert "does not fit" in (out / "table.md").read_text()
    assert (out / "networks/sqnet1_1/submit_fmri.mat").is_file()
    assert not (out / "networks/cornet_z/submit_fmri.mat").exists()
