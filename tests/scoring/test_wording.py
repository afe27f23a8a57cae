import dataclasses

import numpy as np
import pytest

from fastrdm import Target
from fastrdm.scoring import Result, best_layers, layer_scores, score_name, score_names
from fastrdm.similarity import PROTOCOLS
from fastrdm.studies import Study

CHALLENGE = "challenge score: mean R² of EVC and IT ÷ mean ceiling"


def study(name, *regions, protocol="algonauts2019"):
    rng = np.random.default_rng(0)
    rdms = rng.random((4, 21)) + rng.random(21)
    return Study(name, (), {r: Target(rdms, protocol=protocol, name=r) for r in regions})


def results(*studies):
    return [
        Result("x", s.name, layer, region, value, 0, 0, 0, 0, value, 0.5)
        for s in studies
        for layer, value in (("conv", 0.1), ("fc", 0.2))
        for region in s.targets
    ]


def names(*studies):
    return score_names(results(*studies), studies)


def test_the_challenges_score():
    assert score_name(["evc", "it"]) == CHALLENGE
    assert score_name(["early", "late"]) == CHALLENGE.replace("EVC", "EARLY").replace("IT", "LATE")
    assert names(study("92", "evc", "it")) == {"fmri": f"{CHALLENGE} (%)"}
    both = (study("92", "evc", "it"), study("118", "evc", "it"))
    assert names(*both) == {"fmri": f"{CHALLENGE} (%), mean over 92 and 118"}
    mixed = names(study("92", "evc", "it", "early", "late"))
    assert mixed["fmri"] == f"{CHALLENGE} (%)" and "EARLY and LATE" in mixed["meg"]


@pytest.mark.parametrize(
    ("regions", "protocol", "name"),
    [
        (["it"], "algonauts2019", "score: R² of IT ÷ ceiling"),
        (["v1", "v2", "it"], "algonauts2019", "score: mean R² of V1, V2 and IT ÷ mean ceiling"),
        (["evc", "it"], "rsatoolbox", "score: mean ρ of EVC and IT ÷ mean ceiling"),
        (["evc", "it"], "net2brain", "score: mean R² of EVC and IT ÷ mean ceiling"),
        (list("abcdef"), "brainscore", "score: mean ρ of A, B, C and 3 more ÷ mean ceiling"),
    ],
)
def test_scores_of_other_regions_and_protocols(regions, protocol, name):
    assert score_name(regions, [PROTOCOLS[protocol]]) == name
    (found,) = names(study("own", *regions, protocol=protocol)).values()
    assert found == f"{name} (%)"


def test_other_similarities_and_mixtures():
    kendall = dataclasses.replace(PROTOCOLS["rsatoolbox"], method="tau-a")
    assert score_name(["v1"], [kendall]) == "score: τ-a of V1 ÷ ceiling"
    mixed = [PROTOCOLS["rsatoolbox"], PROTOCOLS["algonauts2019"]]
    assert score_name(["v1", "v2"], mixed) == "score: mean score of V1 and V2 ÷ mean ceiling"
    (found,) = names(study("a", "v1"), study("b", "v2")).values()
    assert found == "score: mean over each study's regions ÷ mean ceiling (%), mean over a and b"


def test_the_regions_of_ones_own_study_are_scored_together():
    """A region that is called IT does not make it the challenge's."""
    own = results(study("own", "v1", "it"))
    assert layer_scores(own) == {"": pytest.approx({"conv": 20, "fc": 40})}
    assert best_layers(own) == {"": "fc"}
    assert list(layer_scores(own + results(study("92", "evc", "it")))) == ["", "fmri"]


def test_the_best_layer_of_ones_own_study_is_in_the_table_of_a_store(tmp_path):
    """Its region IT is not the challenge's, and its rows are not left out."""
    from fastrdm.cli.sample import write_sample
    from fastrdm.scoring import Store, sweep
    from fastrdm.studies import open_studies

    sample = write_sample(tmp_path / "sample")
    (opened,) = open_studies(sample)
    own = dataclasses.replace(
        opened, targets={"v1": opened.targets["evc"], "it": opened.targets["it"]}
    )
    sweep([sample / "network.onnx"], (), own, store=tmp_path / "s.db", engine="in-process")
    with Store(tmp_path / "s.db") as store:
        table = store.table(best=True)
        found = [dict(zip(table.columns, row, strict=True)) for row in table.rows()]
    assert {row["region"] for row in found} == {"it", "v1"}
    assert {row["layer"] for row in found} == {"fc"} and len({row["score"] for row in found}) == 1
