"""Scores of a network in memory, kept under the files of its weights as by a sweep."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import small_sweep
import torch

import fastrdm
from fastrdm import Store, TorchModel
from fastrdm.scoring import (
    CheckpointStore,
    LayerScoring,
    Pipeline,
    RunOptions,
    results_of,
    scorers_of,
)
from fastrdm.scoring.jobs import Job, Scored, Stamp
from fastrdm.scoring.records import StoreError
from fastrdm.studies import Study, collect_studies

PIPELINE = Pipeline("net", "fingerprint", '{"size": [16, 16]}', "fp32", "kernels", "conv")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return small_sweep.make(tmp_path_factory.mktemp("live"), 3, "pth")


@pytest.fixture(autouse=True)
def _here(place, monkeypatch):
    monkeypatch.chdir(place)


@pytest.fixture(scope="module")
def study(place):
    studies = collect_studies(place / "study")
    return studies, scorers_of(studies)


@pytest.fixture
def stored(study, tmp_path):
    return CheckpointStore(tmp_path / "scores.db", PIPELINE, *study, "torch:cpu")


@pytest.fixture(scope="module")
def scores(study, place):
    """The scores of a checkpoint, by its number."""
    names = {}
    exec(small_sweep.NETWORK, names)
    scoring = LayerScoring(*study, RunOptions(), {})

    def score(number):
        network = names["build"]()
        network.load_state_dict(torch.load(place / f"runs/epoch{number:02d}.pth"))
        found = scoring.scores(TorchModel(network))
        return results_of(Scored(Job("", 0), Stamp(), "", **found), study[1], n_draws=0)

    return score


def table(path, **options):
    with Store(path) as store:
        names = list(store.columns(**options))
        return [dict(zip(names, row, strict=True)) for row in store.rows(**options)]


def test_rows_are_those_of_a_sweep(stored, scores, tmp_path):
    files = [f"runs/epoch{i:02d}.pth" for i in range(3)]
    for i, file in enumerate(files):
        stored.add(file, scores(i), {"epoch": f"{i:02d}"})
    swept = tmp_path / "swept.db"
    fastrdm.sweep(
        files, "net.onnx", "study", store=swept, labels=r"epoch(?P<epoch>\d+)", engine="in-process"
    )
    ours, theirs = table(stored.path, subjects=True), table(swept, subjects=True)
    assert len(ours) == len(theirs) == 9
    assert list(ours[0]) == list(theirs[0])
    for mine, other in zip(ours, theirs, strict=True):
        for name, value in mine.items():
            if name in {"arch", "taps", "settings", "preprocessing", "kernels", "provider"}:
                continue
            if isinstance(value, float):
                assert value == pytest.approx(other[name], rel=1e-5, nan_ok=True), name
            else:
                assert value == other[name], name
    assert {row["provider"] for row in ours} == {"torch:cpu"}
    assert [row["epoch"] for row in stored.rows()] == [0, 1, 2]
    with Store(stored.path) as store:
        assert store.check().problems == ()


def test_known_weights_are_recognised_by_content(stored, scores, tmp_path, study):
    copy = shutil.copy("runs/epoch00.pth", tmp_path / "copy.pth")
    assert not stored.recognise(copy, {})
    stored.add("runs/epoch00.pth", scores(0), {})
    assert stored.recognise("runs/epoch00.pth", {}) and stored.recognise(copy, {"epoch": "7"})
    assert {row["epoch"] for row in stored.rows()} == {None, 7}
    shutil.copy("runs/epoch01.pth", copy)
    assert not stored.recognise(copy, {})
    stored.add(copy, scores(1), {"epoch": "8"})
    assert {row["epoch"] for row in stored.rows()} == {None, 8}
    studies, scorers = study
    for other in (replace(PIPELINE, graph="other"), replace(PIPELINE, precision="bf16")):
        again = CheckpointStore(stored.path, other, studies, scorers, "torch:cpu")
        assert not again.recognise(copy, {}) and again.rows() == []


def test_a_failure_is_listed_until_the_file_is_scored(stored, scores):
    try:
        raise ValueError("the layer 'conv' has NaN")
    except ValueError as error:
        stored.fail("runs/epoch02.pth", error, {})
    with Store(stored.path) as store:
        (failure,) = store.failures()
    assert failure["error"] == "the layer 'conv' has NaN"
    assert "ValueError" in failure["traceback"]
    assert not stored.recognise("runs/epoch02.pth", {})
    stored.add("runs/epoch02.pth", scores(2), {})
    with Store(stored.path) as store:
        assert store.failures() == []


def test_results_of_other_regions_are_refused(stored, scores):
    results = [replace(each, region="v1") for each in scores(0)]
    with pytest.raises(ValueError, match=r"is open for study/it/rsa, but .* results of study/v1"):
        stored.add("runs/epoch00.pth", results, {})
    assert stored.rows() == []


def test_seconds_and_warnings_are_kept(stored, scores):
    stored.add("runs/epoch00.pth", scores(0), {}, seconds=2.5, warnings=[RuntimeWarning("odd")])
    with Store(stored.path) as store:
        assert store.query("SELECT seconds, warnings FROM scored") == [(2.5, '["odd"]')]


def test_time_points_have_rows(tmp_path, place):
    rdms = np.random.default_rng(0).random((3, 4, 15))
    stimuli = tuple(sorted((place / "study/stimuli").iterdir()))
    target = fastrdm.Target(rdms, over_time="each", times=[0.0, 0.1, 0.2, 0.4], name="early")
    studies = [Study("meg", stimuli, {"early": target})]
    scorers = scorers_of(studies)
    names = {}
    exec(small_sweep.NETWORK, names)
    found = LayerScoring(studies, scorers, RunOptions(), {}).scores(TorchModel(names["build"]()))
    results = results_of(Scored(Job("", 0), Stamp(), "", **found), scorers, n_draws=0)
    stored = CheckpointStore(tmp_path / "scores.db", PIPELINE, studies, scorers, "torch:cpu")
    stored.add("runs/epoch00.pth", results, {})
    rows = stored.rows()
    assert [row["time"] for row in rows] == [0.0, 0.1, 0.2, 0.4]
    assert [row["percent_nc"] for row in rows] == [each.percent_nc for each in results]
    with Store(stored.path) as store:
        assert store.check().problems == ()


def test_another_file_is_refused(tmp_path, study):
    (tmp_path / "scores.db").write_text("epoch,score\n1,2\n")
    with pytest.raises(StoreError, match="is not an SQLite file"):
        CheckpointStore(tmp_path / "scores.db", PIPELINE, *study, "torch:cpu")


def test_a_ceiling_of_nan_is_refused_before_a_store_is_made(tmp_path, place):
    rdms = np.random.default_rng(0).random((3, 15))
    rdms[0] = np.nan
    stimuli = tuple(sorted((place / "study/stimuli").iterdir()))
    target = fastrdm.Target(rdms, nan_policy="propagate")
    studies = [Study("holes", stimuli, {"it": target})]
    with pytest.raises(ValueError, match=r"ceiling of it of the study 'holes' is NaN"):
        CheckpointStore(tmp_path / "scores.db", PIPELINE, studies, scorers_of(studies), "torch:cpu")
    assert not (tmp_path / "scores.db").exists()
