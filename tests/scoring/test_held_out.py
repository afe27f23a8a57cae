"""Layers chosen or weighted on some studies and judged on another: results, `fastrdm score`, tables of stores."""

import json
import math

import numpy as np
import pytest
import torch
from small_study import write_study

from fastrdm import Target, WeightedRdm
from fastrdm.cli import main
from fastrdm.cli.held_out import held_out_lines
from fastrdm.scoring import Result, score_checkpoints
from fastrdm.scoring.held_out import held_out_layers
from fastrdm.scoring.held_out_weights import weighted_scores
from fastrdm.studies import Study, open_studies

PERCENTS = {
    ("92", "evc"): {"a": 10.0, "b": 30.0, "c": 20.0},
    ("118", "evc"): {"a": 6.0, "b": 2.0, "c": 4.0},
    ("92", "it"): {"a": 60.0, "b": 10.0, "c": 40.0},
    ("118", "it"): {"a": 1.0, "b": 3.0, "c": 9.0},
}


def result(study, region, layer, percent, *, ceiling=0.5, mean_rho=0.1, measure="rsa"):
    value = percent * ceiling / 100
    return Result(
        *("net.pth", study, layer, region, value, 0.1, 0.1, percent, 0.5, value, ceiling),
        mean_rho=mean_rho,
        measure=measure,
    )


def make(percents=PERCENTS, **facts):
    return [
        result(study, region, layer, percent, **facts)
        for (study, region), layers in percents.items()
        for layer, percent in layers.items()
    ]


def facts_of(scores):
    return {
        (s.region or s.modality, s.judged_on): (
            s.layer,
            s.percent_nc,
            s.same_data_layer,
            s.same_data,
        )
        for s in scores
    }


def test_the_layer_of_one_study_is_scored_on_the_other():
    scores = held_out_layers(make())
    found = facts_of(scores)
    assert found["evc", "118"] == ("b", 2.0, "a", 6.0)
    assert found["evc", "92"] == ("a", 10.0, "b", 30.0)
    assert found["it", "118"] == ("a", 1.0, "c", 9.0)
    assert found["it", "92"] == ("c", 40.0, "a", 60.0)
    # The challenge's score: mean value of EVC and IT ÷ mean ceiling.
    assert found["fmri", "118"] == pytest.approx(("a", 3.5, "c", 6.5))
    assert [s.fitted_on for s in scores if s.judged_on == "118"] == [("92",)] * 3


def test_the_mean_over_all_other_studies_chooses():
    percents = {
        ("x", "v4"): {"a": 9.0, "b": 5.0, "c": math.nan},
        ("y", "v4"): {"a": 1.0, "b": 6.0, "c": 99.0},
        ("z", "v4"): {"a": 3.0, "b": 2.0, "c": 99.0},
        ("z", "it"): {"a": 1.0, "b": 2.0, "c": 3.0},
    }
    (score,) = (s for s in held_out_layers(make(percents)) if s.judged_on == "z")
    assert (score.region, score.fitted_on) == ("v4", ("x", "y"))
    assert facts_of([score])["v4", "z"] == ("b", 2.0, "c", 99.0)


def test_regions_of_one_study_and_layers_without_a_score():
    assert held_out_layers(make({("x", "it"): {"a": 1.0}, ("y", "v4"): {"a": 1.0}})) == ()
    nothing = {("x", "it"): {"a": math.nan}, ("y", "it"): {"a": 1.0}}
    on_y, on_x = sorted(held_out_layers(make(nothing)), key=lambda s: s.judged_on, reverse=True)
    assert (on_y.layer, math.isnan(on_y.percent_nc), on_y.same_data) == ("", True, 1.0)
    assert (on_x.layer, math.isnan(on_x.percent_nc)) == ("a", True)


def test_measures_are_apart_and_opposite_layers_marked():
    results = make() + make(mean_rho=-0.1, measure="cka")
    scores = held_out_layers(results)
    assert [s.is_opposite for s in scores] == [False] * 6 + [True] * 6
    lines = list(held_out_lines(scores))
    assert sum("chosen on 92, judged on 118" in line for line in lines) == 2
    assert [line.split()[0] for line in lines if "EVC" in line] == ["rsa", "cka"]
    assert "2.00 b ‡" in lines[-2]


def test_lines_show_both_directions_beside_the_biased_choice():
    lines = list(held_out_lines(held_out_layers(make())))
    rows = [line.split("  ") for line in lines[1:]]
    cells = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    assert cells[0] == ["EVC", "IT", "score"]
    assert cells[1] == ["chosen on 118, judged on 92", "10.00 a", "40.00 c", "30.00 c"]
    assert cells[2] == ["chosen on 92 itself, biased upwards", "30.00 b", "60.00 a", "35.00 a"]
    assert cells[3] == ["chosen on 92, judged on 118", "2.00 b", "1.00 a", "3.50 a"]
    assert list(held_out_lines(())) == []


def make_study(name, rng, n, regions=("evc", "it")):
    """A study of n conditions whose subjects mix three layers, and the layers' RDMs; the fourth layer is constant."""
    layers = rng.random((4, n * (n - 1) // 2))
    layers[3] = 1
    weights = {"evc": (0.8, 0.2, 0), "it": (0, 0.5, 0.5)}
    targets = {
        region: Target(weights[region] @ layers[:3] + 0.3 * rng.random((5, layers.shape[1])))
        for region in regions
    }
    return Study(name, (), targets), layers.astype(np.float32)


def test_weighted_layers_are_fitted_on_one_study_and_judged_on_the_other():
    rng = np.random.default_rng(0)
    (first, one), (second, other) = make_study("92", rng, 20), make_study("118", rng, 25)
    names = ("conv", "block", "head", "dead")
    scores = weighted_scores(names, {"92": one, "118": other}, [first, second])
    found = {(s.region or s.modality, s.judged_on): s for s in scores}
    assert list(found) == [(r, s) for r in ("evc", "it", "fmri") for s in ("92", "118")]
    values = []
    for region in ("evc", "it"):
        fitted = WeightedRdm().fit(one[:3], first.targets[region])
        expected = second.targets[region].score(fitted.predict(other[:3]))
        score = found[region, "118"]
        assert score.percent_nc == pytest.approx(expected.percent_nc[0])
        assert score.weights == pytest.approx(
            {n: w for n, w in zip(names, fitted.weights, strict=False) if w > 0}
        )
        assert score.layer == names[int(fitted.weights.argmax())]
        values.append((expected.value[0], second.targets[region].ceiling))
        same = WeightedRdm().fit(other[:3], second.targets[region]).same_data
        assert score.same_data == pytest.approx(100 * same / second.targets[region].ceiling)
    value, ceiling = np.mean(values, axis=0)
    assert found["fmri", "118"].percent_nc == pytest.approx(100 * value / ceiling)
    lines = "\n".join(held_out_lines(scores))
    assert "weighted on 92, judged on 118" in lines
    assert "weights of EVC on 92: conv 0.9" in lines


def test_weights_of_several_studies_are_fitted_together():
    rng = np.random.default_rng(1)
    made = [make_study(name, rng, 12 + k, ("it",)) for k, name in enumerate("abc")]
    studies = [study for study, _ in made]
    rdms = {study.name: layers for study, layers in made}
    scores = weighted_scores(list("wxyz"), rdms, studies)
    assert [s.fitted_on for s in scores] == [("b", "c"), ("a", "c"), ("a", "b")]
    fitted = WeightedRdm().fit(
        [rdms["a"][:3], rdms["b"][:3]], [s.targets["it"] for s in studies[:2]]
    )
    expected = studies[2].targets["it"].score(fitted.predict(rdms["c"][:3])).percent_nc[0]
    assert scores[2].percent_nc == pytest.approx(expected)


def test_layers_unlike_the_brain_have_no_weighted_score():
    rng = np.random.default_rng(2)
    rdm = rng.random((1, 66))
    opposite = Study("a", (), {"it": Target(-rdm + 0.01 * rng.random((3, 66)))})
    alike = Study("b", (), {"it": Target(rdm + 0.01 * rng.random((3, 66)))})
    on_a, on_b = weighted_scores(["fc"], {"a": rdm, "b": rdm}, [opposite, alike])
    assert on_a.is_opposite
    assert math.isnan(on_b.percent_nc)
    assert on_b.layer == ""
    assert any("–" in line for line in held_out_lines([on_a, on_b]))
    assert weighted_scores(["fc"], {"a": 0 * rdm, "b": rdm}, [opposite, alike]) == ()


def test_targets_of_each_time_point_are_left_out():
    rng = np.random.default_rng(0)
    rdms = rng.random((2, 66))
    over_time = {"it": Target(rng.random((3, 2, 66)) + rdms[0], over_time="each")}
    averaged = {"it": Target(rng.random((3, 66)) + rdms[0])}
    both = {"a": rdms, "b": rdms}
    studies = [Study("a", (), over_time), Study("b", (), averaged)]
    assert weighted_scores(["conv", "fc"], both, studies) == ()
    fitted = WeightedRdm().fit(rdms, over_time["it"])
    assert fitted.score(rdms, over_time["it"]).value.shape == (1,)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A network, weights.pth, and studies 92 and 118, below the current folder."""
    (tmp_path / "test_held_out_network.py").write_text(
        "import torch\n"
        "from fastrdm.images import Preprocessing\n"
        "def build():\n"
        "    n = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, 2), torch.nn.ReLU(),\n"
        "                            torch.nn.Flatten(), torch.nn.Linear(196, 10))\n"
        "    n.preprocessing = Preprocessing((16, 16))\n"
        "    n.taps = {'conv': '1', 'fc': '3'}\n"
        "    return n\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    import test_held_out_network

    torch.manual_seed(0)
    torch.save(test_held_out_network.build().state_dict(), "weights.pth")
    for name, n in (("92", 8), ("118", 9)):
        write_study(tmp_path / "data" / name, n, regions=("evc", "it"))
    return tmp_path


ARGUMENTS = ("score", "weights.pth", "--arch", "test_held_out_network:build", "--data", "data")


def test_score_shows_layers_chosen_and_weighted_on_the_other_study(capsys, folder):
    assert main([*ARGUMENTS, "--quiet"]) == 0
    out = capsys.readouterr().out
    assert out.index("* best layer") < out.index("chosen on 92, judged on 118")
    assert "chosen on 118, judged on 92" in out
    assert "weighted" not in out
    assert main([*ARGUMENTS, "--quiet", "--weighted"]) == 0
    out = capsys.readouterr().out
    assert "weighted on 92, judged on 118" in out
    assert "weights of EVC on 92:" in out or "–" in out


def test_score_gives_held_out_scores_as_json(capsys, folder):
    assert main([*ARGUMENTS, "--quiet", "--json", "--weighted"]) == 0
    document = json.loads(capsys.readouterr().out)
    results, held_out = document["results"], document["held_out"]
    assert len(results) == 2 * 2 * 2
    assert len(held_out) == 2 * 3 * 2
    for row in held_out:
        assert row["checkpoint"] == "weights.pth"
        if row["kind"] == "chosen" and row["region"]:
            (same,) = (
                r["percent_nc"]
                for r in results
                if (r["study"], r["region"], r["layer"])
                == (row["judged_on"], row["region"], row["layer"])
            )
            assert row["percent_nc"] == pytest.approx(same)


def test_weighted_scores_do_not_depend_on_where_workers_run(folder):
    studies = open_studies("data")
    arguments = (["weights.pth"], ["test_held_out_network:build"], studies)
    (here,) = score_checkpoints(*arguments, weighted=True, n_draws=0)
    (there,) = score_checkpoints(*arguments, weighted=True, n_draws=0, workers=1)
    # NaN differs from itself, but not its text.
    assert repr(here.held_out) == repr(there.held_out)
    (plain,) = score_checkpoints(*arguments, n_draws=0)
    chosen = tuple(s for s in here.held_out if s.kind == "chosen")
    assert repr(plain.held_out) == repr(chosen)


def test_weights_need_a_region_in_two_studies(capsys, folder):
    assert main([*ARGUMENTS, "--sets", "92", "--weighted"]) == 1
    assert "no region is in two studies (92)" in capsys.readouterr().err


def test_one_study_shows_no_held_out_scores(capsys, folder):
    assert main([*ARGUMENTS, "--sets", "92", "--quiet"]) == 0
    assert "judged on" not in capsys.readouterr().out
