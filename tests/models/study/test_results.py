import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr

from fastrdm.similarity import Target
from fastrdm.studies import Study, open_studies
from models.study import results
from models.study.checkpoints import (
    Seeds,
    after_the_papers_epochs,
    by_epoch,
    layer_rows,
    score_kept,
)
from models.study.figures import draw_bars, panels
from models.study.kept import read_kept, write_kept
from models.study.network_scores import mean_of_best
from models.study.results import main, write_results
from models.study.run_facts import facts_of
from models.study.tables import csv_table

N_PAIRS = 45
LAYERS = ("stem@32", "block1@32", "fc@48")
CONFIG = {
    "recipe": {
        "lr": 0.1,
        "momentum": 0.9,
        "weight_decay": 1e-4,
        "decay_by": 0.1,
        "decay_every": 30,
        "batch_size": 128,
        "augment": "crop",
        "amp": "off",
        "image_size": 64,
    },
    "data": {"classes": ["ant", "bee"], "train_images": 25000},
    "surroundings": {"device": "CPU (2 threads)", "torch": "2.11.0"},
}


def study(name, seed):
    rng = np.random.default_rng(seed)
    common = rng.random(N_PAIRS)
    rdms = {region: common + rng.random((5, N_PAIRS)) for region in ("evc", "it")}
    return Study(name, (), {region: Target(rdm, name=region) for region, rdm in rdms.items()})


@pytest.fixture(scope="module")
def studies():
    return [study("92", 0), study("118", 1)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, studies):
    """Two seeds of the ResNet-20, one of the ResNet-34, and a pretrained network."""
    place = tmp_path_factory.mktemp("rdms")
    rng = np.random.default_rng(3)
    runs = [("resnet34", 0), ("resnet20", 0), ("resnet20", 1)]
    names = [f"{name}-seed{seed}-epoch{epoch:03d}" for name, seed in runs for epoch in (1, 5)]
    for name in [*names, "resnet20-seed0-epoch010", "resnet20-seed1-epoch010", "b0"]:
        rdms = {s.name: {layer: rng.random(N_PAIRS) for layer in LAYERS} for s in studies}
        write_kept(place / f"{name}.npz", rdms)
    for name, seed in runs:
        rows = [f"{epoch},{10 + epoch + seed}" for epoch in range(1, 11)]
        path = place / f"{name}-seed{seed}"
        path.with_suffix(".csv").write_text("\n".join(["epoch,val_top1", *rows]) + "\n")
        path.with_suffix(".json").write_text(json.dumps(CONFIG))
    return place


@pytest.fixture(scope="module")
def checkpoints(folder, studies):
    return score_kept(read_kept(folder), studies)


def percents(rdm, target):
    """The mean squared similarity to subjects in percent of the ceiling, and the mean similarity."""
    rho = np.array([spearmanr(rdm, subject).statistic for subject in target.subject_rdms[:, 0]])
    return 100 * np.mean(rho**2) / target.ceiling, rho.mean()


def test_the_table_has_every_layer_with_the_challenges_score(folder, studies, checkpoints):
    rows = layer_rows(checkpoints)
    kept = {each.name: each for each in read_kept(folder)}
    assert len(rows) == len(kept) * len(studies) * len(LAYERS)
    of = {each.name: each for each in studies}
    for row in rows:
        run = row["network"] if row["seed"] is None else f"{row['network']}-seed{row['seed']}"
        name = run if row["epoch"] is None else f"{run}-epoch{row['epoch']:03d}"
        rdm = kept[name].rdms(row["study"])[f"{row['layer']}@{row['size']}"]
        targets = of[row["study"]].targets
        for region, target in targets.items():
            found = [row[f"{region}_percent"], row[f"{region}_rho"]]
            np.testing.assert_allclose(found, percents(rdm, target), atol=1e-4)
        ceilings = [target.ceiling for target in targets.values()]
        parts = [row[f"{region}_percent"] for region in targets]
        assert row["score"] == pytest.approx(np.average(parts, weights=ceilings), abs=1e-3)
        expected = None if row["epoch"] is None else 10 + row["epoch"] + row["seed"]
        assert row["top1"] == expected


def test_the_best_layer_has_the_best_mean_over_the_studies(checkpoints):
    rows = layer_rows(checkpoints)
    for each in checkpoints:
        key = (each.kept.network, each.kept.seed, each.kept.epoch)
        own = [r for r in rows if (r["network"], r["seed"], r["epoch"]) == key]
        means = {layer: 0.0 for layer in LAYERS}
        for row in own:
            means[f"{row['layer']}@{row['size']}"] += row["score"] / 2
        best = max(means, key=means.__getitem__)
        assert each.scores.best == best
        assert {f"{r['layer']}@{r['size']}" for r in own if r["best"]} == {best}


def test_a_mean_over_seeds_is_of_each_seeds_best_layer(checkpoints):
    pair = [c.scores for c in checkpoints if (c.kept.network, c.kept.epoch) == ("resnet20", 5)]
    mean = mean_of_best("both", pair)
    counts = {each.best for each in pair}
    assert mean.best == (f"{pair[0].best}, {pair[1].best}" if len(counts) > 1 else pair[0].best)
    for r in mean.results:
        own = [
            each
            for scores in pair
            for each in scores.results
            if (each.study, each.region, each.layer) == (r.study, r.region, scores.best)
        ]
        expected = np.mean([each.percent_nc for each in own])
        assert (len(own), r.percent_nc) == (2, pytest.approx(expected))
        subjects = np.mean([each.subjects for each in own], axis=0)
        np.testing.assert_allclose(r.subjects, subjects)
        np.testing.assert_allclose(np.square(r.rho), subjects)
        assert r.mean_rho == pytest.approx(np.mean([each.mean_rho for each in own]))
        assert r.std == pytest.approx(np.std(subjects))
    twice = mean_of_best("twice", [pair[0], pair[0]])
    assert twice.best == pair[0].best
    assert twice.mean == pytest.approx(pair[0].mean)
    three = [pair[0], *(replace(each) for each in pair)]
    assert " ×2, " in mean_of_best("three", three).best or len(counts) == 1


def test_networks_are_shown_after_the_last_of_the_papers_epochs(checkpoints):
    groups = by_epoch(checkpoints)
    order = [(each.network, each.epoch, len(each.checkpoints)) for each in groups]
    assert order == [
        ("resnet20", 1, 2),
        ("resnet20", 5, 2),
        ("resnet20", 10, 2),
        ("resnet34", 1, 1),
        ("resnet34", 5, 1),
        ("b0", None, 1),
    ]
    shown = after_the_papers_epochs(groups)
    assert [(each.network, each.epoch) for each in shown] == [
        ("resnet20", 10),
        ("resnet34", 5),
        ("b0", None),
    ]
    late = replace(groups[0].checkpoints[0].kept, epoch=30)
    only = Seeds((replace(groups[0].checkpoints[0], kept=late),))
    assert after_the_papers_epochs([only]) == [only]
    both = after_the_papers_epochs([only, groups[1]])
    assert [each.epoch for each in both] == [5]


def test_the_report_has_means_and_deviations_over_seeds(tmp_path, folder, studies, checkpoints):
    path = tmp_path / "new/R.md"
    write_results(path, read_kept(folder), studies)
    lines = [line.strip("| ").split(" | ") for line in path.read_text().splitlines()]
    table = {(line[0], line[1]): line for line in lines if len(line) == 12}
    pair = [c for c in checkpoints if (c.kept.network, c.kept.epoch) == ("resnet20", 10)]
    row = table["resnet20", "10"]
    assert row[2:4] == ["2", "20.5 ± 0.7"]
    means = [each.scores.mean for each in pair]
    assert row[-1] == f"{np.mean(means):.2f} ± {np.std(means, ddof=1):.2f}"
    own = [
        r
        for each in pair
        for r in each.scores.results
        if (r.study, r.region, r.layer) == ("92", "it", each.scores.best)
    ]
    parts = [r.percent_nc for r in own]
    rho = np.mean([r.mean_rho for r in own])
    assert row[6] == f"{np.mean(parts):.2f} ± {np.std(parts, ddof=1):.2f} ({rho:+.3f})"
    assert table["b0", "ImageNet"][2:4] == ["1", ""]
    assert "±" not in table["resnet34", "5"][-1]
    assert (tmp_path / "new/R-table.csv").read_text() == csv_table(
        layer_rows([c for group in by_epoch(checkpoints) for c in group.checkpoints])
    )
    for picture in ("figure4", "figure5", "curves"):
        assert f"(R-{picture}.png)" in path.read_text()
        assert (tmp_path / f"new/R-{picture}.png").stat().st_size > 10_000


def test_the_same_input_gives_the_same_bytes(tmp_path, folder, studies):
    contents = []
    for name in ("a", "b"):
        write_results(tmp_path / name / "RESULTS.md", read_kept(folder), studies)
        files = sorted((tmp_path / name).iterdir())
        contents.append({file.name: file.read_bytes() for file in files})
    assert contents[0] == contents[1]
    names = {"RESULTS.md", "RESULTS-table.csv", "RESULTS-claim.csv", "RESULTS-curves.png"}
    assert names < contents[0].keys()


def test_pretrained_networks_alone_have_a_report(tmp_path, folder, studies):
    kept = [each for each in read_kept(folder) if each.epoch is None]
    write_results(tmp_path / "R.md", kept, studies)
    own = {file.name for file in tmp_path.glob("R-*")}
    assert own == {"R-table.csv", "R-figure4.png"} and (tmp_path / "R.md").is_file()


def test_sections_of_other_modules_are_in_the_report(tmp_path, folder, studies, monkeypatch):
    def section(kept, studies, folder):
        (folder / "RESULTS-other.csv").write_text("a\n")
        return f"## Other\n\n{len(kept)} checkpoints, {len(studies)} studies"

    monkeypatch.setattr(results, "SECTIONS", (section,))
    write_results(tmp_path / "RESULTS.md", read_kept(folder), studies)
    text = (tmp_path / "RESULTS.md").read_text()
    assert "\n\n## Other\n\n9 checkpoints, 2 studies\n\n## What it shows" in text
    assert (tmp_path / "RESULTS-other.csv").is_file()


def test_seeds_are_marked_on_the_bars(tmp_path, checkpoints):
    scores = [each.scores for each in checkpoints[:3]]
    (panel, *_) = panels(scores, None, ())
    marked = replace(panel, marks={scores[1].name: [1.0, 2.0]})
    text = draw_bars([marked], tmp_path / "a.svg").read_text()
    assert "seeds" in text and all(each.name in text and each.best in text for each in scores)
    assert "seeds" not in draw_bars([panel], tmp_path / "b.svg").read_text()


def test_facts_name_recipe_and_device_of_each_run(tmp_path, folder, studies):
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    other = {**CONFIG, "surroundings": {"device": "a GPU", "torch": "2"}}
    (tmp_path / "resnet34-seed0.json").write_text(json.dumps(other))
    first, second, third, *rest = facts_of(read_kept(tmp_path), studies)
    assert first == "**b0:** pretrained on ImageNet"
    assert second == (
        "**resnet20, seeds 0, 1:** SGD 0.1, momentum 0.9, weight decay 0.0001, 0.1 of the rate after every 30 epochs,"
        " batches of 128, random crops, fp32, 64 × 64 pixels, 25,000 images of 2 classes, CPU (2 threads), torch 2.11.0"
    )
    assert third.startswith("**resnet34, seed 0:** ") and third.endswith("a GPU, torch 2")
    assert len(rest) == 1 and "against 92 (0 images), 118 (0 images)" in rest[0]
    (tmp_path / "resnet34-seed0.json").unlink()
    assert "**resnet34, seed 0:** recipe unknown" in facts_of(read_kept(tmp_path), studies)
    (tmp_path / "resnet34-seed0.json").write_text("{}")
    with pytest.raises(ValueError, match="resnet34-seed0.json is not the description of a run"):
        facts_of(read_kept(tmp_path), studies)


def test_errors_are_one_sentence(tmp_path, folder, monkeypatch, capsys, studies):
    monkeypatch.setattr(results, "find_data", lambda: None)
    assert main(["--rdms", str(folder)]) == 1
    assert "results: error: no data: use --data DIR" in capsys.readouterr().err
    assert main(["--data", str(tmp_path), "--rdms", str(tmp_path)]) == 1
    assert "has no kept RDMs" in capsys.readouterr().err
    with pytest.raises(ValueError, match="has no RDMs of the study 'other'"):
        write_results(tmp_path / "R.md", read_kept(folder), [*studies, study("other", 2)])
    assert list(tmp_path.iterdir()) == []


def test_kept_rdms_of_the_repository_have_their_known_scores(data_root):
    studies = open_studies(data_root, modality="fmri")
    kept = next(each for each in read_kept() if each.name == "resnet20-seed0-epoch005")
    (found,) = score_kept([kept], [each for each in studies if each.name in ("92", "118")])
    scores = found.scores
    assert scores.best == "block1@48" and scores.mean == pytest.approx(15.70, abs=0.005)
    of_studies = [scores.score(name, scores.best).percent for name in ("92", "118")]
    assert of_studies == pytest.approx([16.76, 14.64], abs=0.005)
