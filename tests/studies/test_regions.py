import json
import re

import numpy as np
import pytest

from fastrdm import Target
from fastrdm.cli import main
from fastrdm.cli.sample import write_sample
from fastrdm.scoring import Store
from fastrdm.studies import Study, collect_studies, open_studies


def study(name, *regions):
    rng = np.random.default_rng(0)
    targets = {r: Target(rng.random((4, 21)) + rng.random(21), name=r) for r in regions}
    return Study(name, (), targets)


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    return write_sample(tmp_path_factory.mktemp("regions") / "study")


def test_only_the_regions_chosen_are_kept_in_the_order_given(sample):
    every = [study("a", "v1", "v2", "IT"), study("b", "V1", "it")]
    chosen = collect_studies(every, regions=["it", "v1"])
    assert [list(each.targets) for each in chosen] == [["IT", "v1"], ["it", "V1"]]
    assert chosen[0].targets["v1"] is every[0].targets["v1"]
    assert [list(each.targets) for each in collect_studies(every)] == [
        ["v1", "v2", "IT"],
        ["V1", "it"],
    ]
    (opened,) = open_studies(sample, regions=["it"])
    assert list(opened.targets) == ["it"]


def test_an_exact_name_is_preferred_to_one_in_another_case():
    chosen = collect_studies(study("a", "V1", "v1", "it"), regions=["v1"])
    assert [list(each.targets) for each in chosen] == [["v1"]]
    with pytest.raises(ValueError, match="no region 'vV'"):
        collect_studies(study("a", "V1", "v1"), regions=["vV"])


def test_an_unknown_region_is_refused_with_those_present_and_the_nearest():
    every = [study("a", "v1", "LOC"), study("b", "it")]
    match = re.escape("no region 'LO' in a, b; present: v1, LOC, it; the nearest is LOC")
    with pytest.raises(ValueError, match=match):
        collect_studies(every, regions=["it", "LO"])
    match = "no region 'early' in a; present: evc, it; the challenge's early needs the modality meg"
    with pytest.raises(ValueError, match=match):
        collect_studies(study("a", "evc", "it"), regions=["early"])
    for regions in ("it", []):
        with pytest.raises(ValueError, match="regions must be a list of names"):
            collect_studies(every, regions=regions)


def test_a_study_without_the_regions_is_left_out_with_a_warning_unless_it_is_named():
    every = [study("a", "v1"), study("b", "it")]
    with pytest.warns(
        RuntimeWarning, match="'a' has no region 'it', only 'v1'; the study is left out"
    ):
        assert [each.name for each in collect_studies(every, regions=["it"])] == ["b"]
    with pytest.raises(ValueError, match="the study 'a' has no region 'it', only 'v1'$"):
        collect_studies(every, ["a", "b"], regions=["it"])


def test_score_and_sweep_take_regions(sample, tmp_path, capsys):
    network = str(sample / "network.onnx")
    arguments = [network, "--data", str(sample), "--regions", "IT"]
    assert main(["score", *arguments, "--json", "--quiet"]) == 0
    rows = json.loads(capsys.readouterr().out)["results"]
    assert len(rows) == 5 and {row["region"] for row in rows} == {"it"}
    store = str(tmp_path / "s.db")
    options = ["--store", store, "--engine", "in-process"]
    assert main(["sweep", *arguments, *options]) == 0
    with Store(store) as opened:
        at = list(opened.columns()).index("region")
        assert {row[at] for row in opened.rows()} == {"it"}
    for command in (["score"], ["sweep", "--store", store]):
        assert main([*command, *arguments[:-1], "ITC"]) == 1
        assert (
            "no region 'ITC' in sample; present: evc, it; the nearest is it"
            in capsys.readouterr().err
        )
